//! Softmax cross-entropy with integer labels: one mean loss a lane.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::real::Real;
use super::{Tape, by_type, host, tensor};
use crate::cost;

/// Mean over the batch of `ln Σ exp(logits) − logits[label]`: `logits` is `[lanes, batch, classes]`, `labels`
/// `[lanes | 1, batch]` row by row, the result `[lanes]`.
///
/// # Errors
/// If shapes or types do not fit, or a label names no class.
pub fn cross_entropy(tape: &mut Tape, logits: &Tensor, labels: &Arc<Vec<u32>>) -> Result<Tensor> {
    let sizes = Sizes::of(logits, labels)?;
    // The softmax is kept for the backward pass: the exponentials are most of the work.
    let (losses, probabilities) = by_type!("cross entropy", logits.dtype(), forward::<_>(sizes, logits, labels))?;
    let (dtype, labels) = (logits.dtype(), Arc::clone(labels));
    let kept = (probabilities.elem_count() * dtype.size_in_bytes()) as f64;
    if tape.tracks(logits) {
        cost::hold(kept);
    }
    Ok(tape.record("cross entropy", &[logits], losses, move |grad, _| {
        cost::hold(-kept);
        by_type!("cross entropy", dtype, backward::<_>(sizes, &labels, &probabilities, grad))
            .map(|gradient| vec![Some(gradient)])
    }))
}

/// How many examples of each lane are classified right: the label's logit is the largest, and the first of equals.
/// An example with a NaN logit is wrong.
///
/// # Errors
/// As [`cross_entropy`].
pub fn correct(logits: &Tensor, labels: &Arc<Vec<u32>>) -> Result<Vec<usize>> {
    let sizes = Sizes::of(logits, labels)?;
    by_type!("accuracy", logits.dtype(), count_correct::<_>(sizes, logits, labels))
}

#[derive(Clone, Copy, Debug)]
struct Sizes {
    lanes: usize,
    batch: usize,
    classes: usize,
    /// Whether all lanes have the same labels.
    shared: bool,
}

impl Sizes {
    fn of(logits: &Tensor, labels: &[u32]) -> Result<Self> {
        let (lanes, batch, classes) = logits.dims3()?;
        if batch == 0 || (labels.len() != batch && labels.len() != lanes * batch) {
            bail!("cross entropy: {} labels do not fit logits {:?}", labels.len(), logits.shape());
        }
        if let Some(label) = labels.iter().find(|&&label| label as usize >= classes) {
            bail!("cross entropy: label {label} of {classes} classes");
        }
        Ok(Self { lanes, batch, classes, shared: labels.len() == batch })
    }

    fn labels<'a>(&self, labels: &'a [u32], lane: usize) -> &'a [u32] {
        if self.shared { labels } else { &labels[lane * self.batch..(lane + 1) * self.batch] }
    }
}

/// Mean losses, and the softmax of the logits.
fn forward<T: Real>(sizes: Sizes, logits: &Tensor, labels: &[u32]) -> Result<(Tensor, Tensor)> {
    let guard = logits.storage_and_layout();
    let mut probabilities = host::<T>(&guard)?.to_vec();
    let mut losses = Vec::with_capacity(sizes.lanes);
    for (lane, rows) in probabilities.chunks_exact_mut(sizes.batch * sizes.classes).enumerate() {
        // In f64 whatever the layers compute in: a mean over a batch is a statistic.
        let mut sum = 0.0;
        for (row, &label) in rows.chunks_exact_mut(sizes.classes).zip(sizes.labels(labels, lane)) {
            let largest = row.iter().copied().fold(row[0], |a, b| if b > a { b } else { a });
            let of_label = row[label as usize] - largest;
            let mut total = T::zero();
            for value in row.iter_mut() {
                *value = (*value - largest).exp();
                total += *value;
            }
            row.iter_mut().for_each(|value| *value /= total);
            sum += (total.ln() - of_label).to_f64();
        }
        losses.push(T::from_f64(sum / sizes.batch as f64));
    }
    Ok((tensor(losses, &[sizes.lanes])?, tensor(probabilities, logits.dims())?))
}

fn backward<T: Real>(sizes: Sizes, labels: &[u32], probabilities: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (kept, grad_guard) = (probabilities.storage_and_layout(), grad.storage_and_layout());
    let mut values = host::<T>(&kept)?.to_vec();
    let grads = host::<T>(&grad_guard)?;
    for (lane, rows) in values.chunks_exact_mut(sizes.batch * sizes.classes).enumerate() {
        let scale = grads[lane] / T::from_f64(sizes.batch as f64);
        for (row, &label) in rows.chunks_exact_mut(sizes.classes).zip(sizes.labels(labels, lane)) {
            row[label as usize] -= T::one();
            row.iter_mut().for_each(|value| *value *= scale);
        }
    }
    tensor(values, probabilities.dims())
}

fn count_correct<T: Real>(sizes: Sizes, logits: &Tensor, labels: &[u32]) -> Result<Vec<usize>> {
    let guard = logits.storage_and_layout();
    let values = host::<T>(&guard)?;
    let lanes = values.chunks_exact(sizes.batch * sizes.classes).enumerate();
    Ok(lanes
        .map(|(lane, rows)| {
            let examples = rows.chunks_exact(sizes.classes).zip(sizes.labels(labels, lane));
            examples.filter(|&(row, &label)| is_first_largest(row, label as usize)).count()
        })
        .collect())
}

fn is_first_largest<T: Real>(row: &[T], label: usize) -> bool {
    let best = row[label];
    row[..label].iter().all(|&other| other < best) && row[label..].iter().all(|&other| other <= best)
}
