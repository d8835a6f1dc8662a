//! The mean of some gradients instead of each: large batches in small memory, or fewer steps of an optimizer that was
//! trained on short horizons.

use super::{counter, prefix, take_own};
use crate::optimizer::{OptState, Optimizer, Slot};
use crate::params::Params;
use crate::{Error, Result};

/// Sums gradients and losses; every `k`-th call updates the inner optimizer with both sums over `k` (the reference's
/// `GradientAccumulator`).
///
/// ```text
///  call            1    2    3    4    5    6          k = 3, a lane
///  sum             g1  +g2  +g3   g4  +g5  +g6
///  inner update               ▲              ▲         horizon of the inner optimizer: ⌊horizon / 3⌋
/// ```
///
/// Between updates parameters and the inner state are left as they are. Slots: `accumulation/grad/NAME`,
/// `accumulation/loss` \[\] and `accumulation/count` \[2\].
#[derive(Debug)]
pub struct GradientAccumulation {
    inner: Box<dyn Optimizer>,
    steps: u32,
}

impl GradientAccumulation {
    /// Updates `inner` once in `steps` calls.
    ///
    /// # Errors
    /// [`Error::Setting`] if `steps` is 0.
    pub fn new(inner: Box<dyn Optimizer>, steps: u32) -> Result<Self> {
        match steps {
            0 => Err(Error::setting("steps", "must be at least 1", steps)),
            _ => Ok(Self { inner, steps }),
        }
    }
}

/// Adds this call's gradients and losses to the sums. Returns the counts with this call, a lane.
fn add(sums: &mut Sums<'_>, grads: &Params, losses: &[f32]) -> Vec<u32> {
    for (index, sum) in sums.grads.iter_mut().enumerate() {
        for (sum, g) in sum.values.iter_mut().zip(grads.tensor(index)) {
            *sum += g;
        }
    }
    for (sum, loss) in sums.loss.values.iter_mut().zip(losses) {
        *sum += loss;
    }
    (0..losses.len()).map(|lane| counter::read(sums.count, lane).saturating_add(1)).collect()
}

/// The wrapper's own slots.
struct Sums<'a> {
    grads: &'a mut [Slot],
    loss: &'a mut Slot,
    count: &'a mut Slot,
}

impl<'a> Sums<'a> {
    fn of(own: &'a mut [Slot]) -> Self {
        let [grads @ .., loss, count] = own else { unreachable!("at least two slots of its own") };
        Self { grads, loss, count }
    }

    /// Forgets what one lane has summed.
    fn clear(&mut self, lane: usize) {
        for slot in self.grads.iter_mut().chain([&mut *self.loss]) {
            slot.lane_mut(lane).fill(0.0);
        }
    }
}

impl Optimizer for GradientAccumulation {
    fn name(&self) -> &'static str {
        "gradient_accumulation"
    }

    fn inner(&self) -> Vec<&dyn Optimizer> {
        vec![self.inner.as_ref()]
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
        let (layout, lanes) = (params.layout().clone(), params.lanes());
        let horizon: Vec<u32> = horizon.iter().map(|steps| steps / self.steps).collect();
        let mut state = self.inner.init(params, &horizon)?;
        let prefix = prefix("accumulation", &state.slots);
        let sum = |name: String, shape: &[usize]| Slot::filled(format!("{prefix}/{name}"), shape, lanes, 0.0);
        let tensors = layout.tensors().iter();
        let own = tensors.map(|tensor| sum(format!("grad/{}", tensor.name()), tensor.shape()));
        state.slots.extend(own.chain([sum("loss".into(), &[])]));
        state.slots.push(counter::slot(format!("{prefix}/count"), &vec![0; lanes]));
        Ok(state)
    }

    fn update(&self, mut state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        state.check_gradients(grads, losses)?;
        let sizes = grads.layout().tensors().iter().map(|tensor| tensor.size());
        let sizes: Vec<usize> = sizes.chain([1, counter::SIZE]).collect();
        let mut own = take_own(&mut state, self.name(), &sizes)?;
        let mut sums = Sums::of(&mut own);
        let counts = add(&mut sums, grads, losses);
        let (due, waiting): (Vec<usize>, Vec<usize>) = (0..state.lanes()).partition(|&lane| counts[lane] >= self.steps);
        if !due.is_empty() {
            let number = self.steps as f32;
            let mean = |slot: &Slot| slot.values.iter().map(|sum| sum / number).collect();
            let grads = Params::from_tensors(grads.layout(), state.lanes(), sums.grads.iter().map(mean).collect())?;
            let losses: Vec<f32> = mean(sums.loss);
            // The inner optimizer may be bound to one theta a lane, so it is given all lanes; those that wait are put
            // back to where they were.
            let before = (!waiting.is_empty()).then(|| state.clone());
            state = self.inner.update(state, &grads, &losses)?;
            if let Some(before) = before {
                waiting.iter().for_each(|&lane| state.copy_lane(&before, lane));
            }
        }
        for lane in waiting {
            counter::write(sums.count, lane, counts[lane]);
        }
        for lane in due {
            sums.clear(lane);
            counter::write(sums.count, lane, 0);
        }
        state.slots.append(&mut own);
        Ok(state)
    }

    fn learning_rate(&self, step: u32, horizon: u32) -> Option<f64> {
        self.inner.learning_rate(step / self.steps, horizon / self.steps)
    }

    fn with_learning_rate(&self, learning_rate: f64) -> Option<Box<dyn Optimizer>> {
        let inner = self.inner.with_learning_rate(learning_rate)?;
        Some(Box::new(Self { inner, ..*self }))
    }
}
