//! Softmax cross-entropy with integer labels: one mean loss a lane, over examples or over tokens.
//!
//! Token sequences of a batch have different lengths and are filled up with a padding label, whose places do not count:
//!
//! ```text
//!  labels   17  4  9  0  0        mean over the three places that count,
//!  counted   ■  ■  ■  ·  ·        gradient 0 at the two others
//! ```

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::real::Real;
use super::{Tape, by_type, host, tensor};

/// Mean over the batch of `ln Σ exp(logits) − logits[label]`: `logits` is `[lanes, batch, classes]`, `labels`
/// `[lanes | 1, batch]` row by row, the result `[lanes]`.
///
/// # Errors
/// If shapes or types do not fit, or a label names no class.
pub fn cross_entropy(tape: &mut Tape, logits: &Tensor, labels: &Arc<Vec<u32>>) -> Result<Tensor> {
    logits.dims3()?;
    token_cross_entropy(tape, logits, labels, None)
}

/// As [`cross_entropy`] over all places of `logits` `[lanes, …, classes]` but those whose label is `padding`: `labels`
/// `[lanes | 1, …]` has one a place. A lane without any place that counts has loss 0 and gradient 0: there is nothing
/// to learn from its batch, which is no reason to stop the other lanes.
///
/// # Errors
/// As [`cross_entropy`].
pub fn token_cross_entropy(
    tape: &mut Tape,
    logits: &Tensor,
    labels: &Arc<Vec<u32>>,
    padding: Option<u32>,
) -> Result<Tensor> {
    let sizes = Sizes::of(logits, labels, padding)?;
    // The softmax is kept for the backward pass: the exponentials are most of the work.
    let (losses, probabilities) = by_type!("cross entropy", logits.dtype(), forward::<_>(sizes, logits, labels))?;
    let (dtype, labels) = (logits.dtype(), Arc::clone(labels));
    let kept = probabilities.clone();
    Ok(tape.record_keeping("cross entropy", &[logits], losses, &[&kept], move |grad, _| {
        by_type!("cross entropy", dtype, backward::<_>(sizes, &labels, &probabilities, grad))
            .map(|gradient| vec![Some(gradient)])
    }))
}

/// Of each lane, how many places of `[lanes, …, classes]` are classified right, and how many count: all but those whose
/// label is `padding`. Right is a place where the label's logit is the largest, and the first of equals; one with a NaN
/// logit is wrong.
///
/// # Errors
/// As [`cross_entropy`].
pub fn correct(logits: &Tensor, labels: &Arc<Vec<u32>>, padding: Option<u32>) -> Result<Vec<(usize, usize)>> {
    let sizes = Sizes::of(logits, labels, padding)?;
    by_type!("accuracy", logits.dtype(), count_correct::<_>(sizes, logits, labels))
}

#[derive(Clone, Copy, Debug)]
struct Sizes {
    lanes: usize,
    /// Places of a lane: examples or tokens.
    batch: usize,
    classes: usize,
    /// Whether all lanes have the same labels.
    shared: bool,
    /// The label of places that do not count.
    padding: Option<u32>,
}

impl Sizes {
    fn of(logits: &Tensor, labels: &[u32], padding: Option<u32>) -> Result<Self> {
        let [lanes, places @ .., classes] = logits.dims() else {
            bail!("cross entropy: logits {:?} have no classes", logits.shape());
        };
        let (lanes, batch, classes) = (*lanes, places.iter().product::<usize>(), *classes);
        if batch == 0 || (labels.len() != batch && labels.len() != lanes * batch) {
            bail!("cross entropy: {} labels do not fit logits {:?}", labels.len(), logits.shape());
        }
        // A padding label may be one that no class has.
        if let Some(label) = labels.iter().find(|&&label| label as usize >= classes && Some(label) != padding) {
            bail!("cross entropy: label {label} of {classes} classes");
        }
        Ok(Self { lanes, batch, classes, shared: labels.len() == batch, padding })
    }

    fn labels<'a>(&self, labels: &'a [u32], lane: usize) -> &'a [u32] {
        if self.shared { labels } else { &labels[lane * self.batch..(lane + 1) * self.batch] }
    }

    fn counts(&self, label: u32) -> bool {
        Some(label) != self.padding
    }

    /// How many places of a lane count.
    fn counted(&self, labels: &[u32], lane: usize) -> usize {
        self.labels(labels, lane).iter().filter(|&&label| self.counts(label)).count()
    }
}

/// Places whose softmax is computed at a time, side by side: no sum over few classes waits for its own last addition.
const SIDE_BY_SIDE: usize = 16;

/// Mean losses, and the softmax of the logits.
fn forward<T: Real>(sizes: Sizes, logits: &Tensor, labels: &[u32]) -> Result<(Tensor, Tensor)> {
    let guard = logits.storage_and_layout();
    let mut probabilities = host::<T>(&guard)?.to_vec();
    let mut losses = Vec::with_capacity(sizes.lanes);
    for (lane, rows) in probabilities.chunks_exact_mut(sizes.batch * sizes.classes).enumerate() {
        // In f64 whatever the layers compute in: a mean over a batch is a statistic.
        let mut sum = 0.0;
        let of_lane = sizes.labels(labels, lane);
        for (rows, labels) in rows.chunks_mut(SIDE_BY_SIDE * sizes.classes).zip(of_lane.chunks(SIDE_BY_SIDE)) {
            let losses = softmax_and_losses(rows, labels, sizes.classes);
            let counted = losses.into_iter().zip(labels).filter(|&(_, &label)| sizes.counts(label));
            counted.for_each(|(loss, _)| sum += loss.to_f64());
        }
        // At least 1: a lane of padding alone has loss 0, not 0/0.
        losses.push(T::from_f64(sum / sizes.counted(labels, lane).max(1) as f64));
    }
    Ok((tensor(losses, &[sizes.lanes])?, tensor(probabilities, logits.dims())?))
}

/// Turns at most [`SIDE_BY_SIDE`] rows of logits into their softmax; each row's cross-entropy, without meaning where the
/// label names no class.
fn softmax_and_losses<T: Real>(rows: &mut [T], labels: &[u32], classes: usize) -> [T; SIDE_BY_SIDE] {
    T::with_scratch(SIDE_BY_SIDE * classes, |scratch| {
        let columns = scratch.as_chunks_mut::<SIDE_BY_SIDE>().0;
        // Where there are fewer rows, the last one again: its numbers are as good as any.
        let places = std::array::from_fn(|row| row.min(labels.len() - 1) * classes);
        for (class, column) in columns.iter_mut().enumerate() {
            *column = places.map(|row| rows[row + class]);
        }
        let mut largest = columns[0];
        for column in &columns[1..] {
            for (largest, &value) in largest.iter_mut().zip(column) {
                *largest = if value > *largest { value } else { *largest };
            }
        }
        for column in &mut *columns {
            column.iter_mut().zip(&largest).for_each(|(value, &largest)| *value -= largest);
        }
        let mut losses = [T::zero(); SIDE_BY_SIDE];
        for (row, (loss, &label)) in losses.iter_mut().zip(labels).enumerate() {
            *loss = columns.get(label as usize).map_or(T::zero(), |column| -column[row]);
        }
        T::exp_all(columns.as_flattened_mut());
        let mut totals = [T::zero(); SIDE_BY_SIDE];
        for column in &*columns {
            totals.iter_mut().zip(column).for_each(|(total, &value)| *total += value);
        }
        for (class, column) in columns.iter_mut().enumerate() {
            column.iter_mut().zip(&totals).for_each(|(value, &total)| *value /= total);
            rows.iter_mut().skip(class).step_by(classes).zip(column).for_each(|(to, value)| *to = *value);
        }
        losses.iter_mut().zip(totals).take(labels.len()).for_each(|(loss, total)| *loss += total.ln());
        losses
    })
}

fn backward<T: Real>(sizes: Sizes, labels: &[u32], probabilities: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (kept, grad_guard) = (probabilities.storage_and_layout(), grad.storage_and_layout());
    let mut values = host::<T>(&kept)?.to_vec();
    let grads = host::<T>(&grad_guard)?;
    for (lane, rows) in values.chunks_exact_mut(sizes.batch * sizes.classes).enumerate() {
        for (row, &label) in rows.chunks_exact_mut(sizes.classes).zip(sizes.labels(labels, lane)) {
            if sizes.counts(label) {
                row[label as usize] -= T::one();
            } else {
                row.fill(T::zero());
            }
        }
        let scale = grads[lane] / T::from_f64(sizes.counted(labels, lane).max(1) as f64);
        rows.iter_mut().for_each(|value| *value *= scale);
    }
    tensor(values, probabilities.dims())
}

fn count_correct<T: Real>(sizes: Sizes, logits: &Tensor, labels: &[u32]) -> Result<Vec<(usize, usize)>> {
    let guard = logits.storage_and_layout();
    let values = host::<T>(&guard)?;
    let lanes = values.chunks_exact(sizes.batch * sizes.classes).enumerate();
    Ok(lanes
        .map(|(lane, rows)| {
            let examples = rows.chunks_exact(sizes.classes).zip(sizes.labels(labels, lane));
            let right = |&(row, &label): &(&[T], &u32)| sizes.counts(label) && is_first_largest(row, label as usize);
            (examples.filter(right).count(), sizes.counted(labels, lane))
        })
        .collect())
}

fn is_first_largest<T: Real>(row: &[T], label: usize) -> bool {
    let best = row[label];
    row[..label].iter().all(|&other| other < best) && row[label..].iter().all(|&other| other <= best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::gradcheck::{check, close, lanes_are_independent, values};

    /// Logits of tokens `[lanes, 2, 3, 4]`, and labels where 0 is padding.
    fn tokens(lanes: usize) -> (Tensor, Arc<Vec<u32>>) {
        (values(&[lanes, 2, 3, 4], 0), Arc::new(vec![3, 0, 1, 2, 0, 0]))
    }

    #[test]
    fn gradients_are_those_of_differences_with_and_without_padding() {
        let (logits, shared) = tokens(2);
        let own = Arc::new(vec![3, 0, 1, 2, 0, 0, 1, 1, 2, 3, 1, 0]);
        for labels in [&shared, &own] {
            for padding in [None, Some(0)] {
                check("token cross entropy", std::slice::from_ref(&logits), |tape, x| {
                    token_cross_entropy(tape, &x[0], labels, padding)
                });
            }
        }
        lanes_are_independent(&[tokens(3).0], |tape, x| token_cross_entropy(tape, &x[0], &shared, Some(0)));
    }

    #[test]
    fn padding_counts_for_nothing() {
        let (logits, labels) = tokens(2);
        let got = token_cross_entropy(&mut Tape::default(), &logits, &labels, Some(0)).unwrap();
        // The places 0, 2 and 3 alone.
        let places = logits.reshape((2, 6, 4)).unwrap();
        let counted = Tensor::cat(&[places.narrow(1, 0, 1).unwrap(), places.narrow(1, 2, 2).unwrap()], 1).unwrap();
        let expected = cross_entropy(&mut Tape::default(), &counted, &Arc::new(vec![3, 1, 2])).unwrap();
        close("padded", &got, &expected, 1e-15);
        let expected = correct(&counted, &Arc::new(vec![3, 1, 2]), None).unwrap();
        assert!(expected.iter().all(|(_, counted)| *counted == 3));
        assert_eq!(correct(&logits, &labels, Some(0)).unwrap(), expected);
    }

    #[test]
    fn a_lane_of_padding_alone_learns_nothing_and_disturbs_nobody() {
        let (logits, _) = tokens(2);
        let labels = Arc::new([[0; 6], [3, 0, 1, 2, 0, 0]].concat());
        let mut tape = Tape::default();
        tape.variable(&logits);
        let losses = token_cross_entropy(&mut tape, &logits, &labels, Some(0)).unwrap();
        let gradient = tape.backward(&losses).unwrap().take(&logits).unwrap();
        let losses = losses.to_vec1::<f64>().unwrap();
        assert!(losses[0] == 0.0 && losses[1] > 0.0, "{losses:?}");
        close("gradient", &gradient.get(0).unwrap(), &gradient.get(0).unwrap().zeros_like().unwrap(), 0.0);
        assert_eq!(correct(&logits, &labels, Some(0)).unwrap()[0], (0, 0));
    }
}
