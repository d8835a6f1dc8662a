//! Softmax cross-entropy with integer labels: one mean loss a lane.

use std::sync::{Arc, OnceLock};

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::real::Real;
use super::{by_type, host, operand, tensor};

/// Mean over the batch of `ln Σ exp(logits) − logits[label]`: `logits` is `[lanes, batch, classes]`, `labels`
/// `[lanes | 1, batch]` row by row, the result `[lanes]`.
///
/// # Errors
/// If shapes or types do not fit, or a label names no class.
pub fn cross_entropy(logits: &Tensor, labels: &Arc<Vec<u32>>) -> Result<Tensor> {
    logits.apply_op1(softmax_cross_entropy(logits, labels)?)
}

/// The op of [`cross_entropy`], for operands that were checked.
pub(super) fn softmax_cross_entropy(logits: &Tensor, labels: &Arc<Vec<u32>>) -> Result<CrossEntropy> {
    let sizes = Sizes::of(logits, labels)?;
    Ok(CrossEntropy { sizes, labels: Arc::clone(labels), probabilities: OnceLock::new() })
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

pub(super) struct CrossEntropy {
    sizes: Sizes,
    labels: Arc<Vec<u32>>,
    /// Softmax of the logits, kept from the forward pass: the exponentials are most of the work.
    probabilities: OnceLock<CpuStorage>,
}

fn forward<T: Real>(op: &CrossEntropy, logits: (&CpuStorage, &Layout)) -> Result<(CpuStorage, Shape)> {
    let sizes = op.sizes;
    let mut probabilities = operand::<T>(logits.0, logits.1)?.to_vec();
    let mut losses = Vec::with_capacity(sizes.lanes);
    for (lane, rows) in probabilities.chunks_exact_mut(sizes.batch * sizes.classes).enumerate() {
        // In f64 whatever the layers compute in: a mean over a batch is a statistic.
        let mut sum = 0.0;
        for (row, &label) in rows.chunks_exact_mut(sizes.classes).zip(sizes.labels(&op.labels, lane)) {
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
    let stored = op.probabilities.set(T::to_cpu_storage_owned(probabilities));
    debug_assert!(stored.is_ok(), "an op runs forward once");
    Ok((T::to_cpu_storage_owned(losses), Shape::from(sizes.lanes)))
}

fn backward<T: Real>(op: &CrossEntropy, logits: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
    let sizes = op.sizes;
    let Some(probabilities) = op.probabilities.get() else { bail!("cross entropy: backward before forward") };
    let mut values = T::cpu_storage_as_slice(probabilities)?.to_vec();
    let grad = grad.contiguous()?;
    let grad_guard = grad.storage_and_layout();
    let grads = host::<T>(&grad_guard)?;
    for (lane, rows) in values.chunks_exact_mut(sizes.batch * sizes.classes).enumerate() {
        let scale = grads[lane] / T::from_f64(sizes.batch as f64);
        for (row, &label) in rows.chunks_exact_mut(sizes.classes).zip(sizes.labels(&op.labels, lane)) {
            row[label as usize] -= T::one();
            row.iter_mut().for_each(|value| *value *= scale);
        }
    }
    Ok(Some(tensor(values, logits.dims())?))
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

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "lane-cross-entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_type!("cross entropy", logits.dtype(), forward::<_>(self, (logits, layout)))
    }

    fn bwd(&self, logits: &Tensor, _losses: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        by_type!("cross entropy", logits.dtype(), backward::<_>(self, logits, grad))
    }
}
