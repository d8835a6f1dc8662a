//! The mean of some gradients instead of each: large batches in small memory, or fewer steps of an optimizer that was
//! trained on short horizons.

use super::{counter, prefix, take_own};
use crate::optimizer::{OptState, Optimizer, Slot};
use crate::params::Params;
use crate::{Error, Result};

/// Sums gradients and losses; every `k`-th call updates the inner optimizer with both sums over `k` (the reference's
/// `GradientAccumulator`, `optimizers/gradient_accumulator.py`).
///
/// ```text
///  call            1    2    3    4    5    6          k = 3, a lane
///  sum             g1  +g2  +g3   g4  +g5  +g6
///  inner update               ▲              ▲         horizon of the inner optimizer: ⌊horizon / 3⌋
/// ```
///
/// Between updates parameters and the inner state are left as they are. Slots: `accumulation/grad/NAME`,
/// as the tensor, `accumulation/loss` \[\] and `accumulation/count` \[2\].
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

impl GradientAccumulation {
    /// The wrapper's slots of a state.
    fn take_own(&self, state: &mut OptState) -> Result<Vec<Slot>> {
        let sizes = state.params.layout().tensors().iter().map(|tensor| tensor.size());
        let sizes: Vec<usize> = sizes.chain([1, counter::SIZE]).collect();
        take_own(state, self.name(), &sizes)
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
        let mut own = self.take_own(&mut state)?;
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

    /// Validation losses are told as they come: they are not part of the mean.
    fn observe_validation(&self, mut state: OptState, losses: &[f32]) -> Result<OptState> {
        let mut own = self.take_own(&mut state)?;
        let mut state = self.inner.observe_validation(state, losses)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::{Adam, OptimizerConfig, Sgd};
    use crate::{Layout, TensorSpec};

    fn sgd(steps: u32) -> GradientAccumulation {
        let sgd = OptimizerConfig::Sgd(Sgd { learning_rate: 1.0.into() }).build().unwrap();
        GradientAccumulation::new(sgd, steps).unwrap()
    }

    fn params(values: &[f32]) -> Params {
        let layout = Layout::new(vec![TensorSpec::new("x", [])]).unwrap();
        Params::from_tensors(&layout, values.len(), vec![values.to_vec()]).unwrap()
    }

    #[test]
    fn every_third_call_steps_by_the_mean() {
        let optimizer = sgd(3);
        let mut state = optimizer.init(params(&[10.0]), &[11]).unwrap();
        assert_eq!(state.horizon, [3], "⌊11/3⌋");
        let mut seen = vec![];
        for g in [1.0, 2.0, 6.0, 3.0, 3.0, 3.0, 9.0] {
            state = optimizer.update(state, &params(&[g]), &[g]).unwrap();
            seen.push((state.params.tensor(0)[0], state.step[0]));
        }
        assert_eq!(seen, [(10.0, 0), (10.0, 0), (7.0, 1), (7.0, 1), (7.0, 1), (4.0, 2), (4.0, 2)]);
        let names: Vec<&str> = state.slots.iter().map(|slot| slot.name.as_str()).collect();
        assert_eq!(names, ["accumulation/grad/x", "accumulation/loss", "accumulation/count"]);
        assert_eq!((state.slots[0].values[0], state.slots[1].values[0]), (9.0, 9.0));
    }

    #[test]
    fn a_lane_that_diverged_waits_as_it_is() {
        let optimizer = sgd(2);
        let mut state = optimizer.init(params(&[f32::NAN, f32::INFINITY, 1.0]), &[9; 3]).unwrap();
        // A payload shows whether anything was computed with it.
        let strange = f32::from_bits(0x7fc0_1234);
        state.params.tensor_mut(0)[0] = strange;
        let waiting = optimizer.update(state, &params(&[f32::NAN, 1.0, 1.0]), &[f32::NAN; 3]).unwrap();
        assert_eq!(waiting.params.tensor(0)[0].to_bits(), strange.to_bits());
        assert_eq!(waiting.params.tensor(0)[1..], [f32::INFINITY, 1.0]);
        let moved = optimizer.update(waiting, &params(&[1.0, 1.0, 2.0]), &[1.0; 3]).unwrap();
        assert!(moved.params.tensor(0)[0].is_nan());
        assert_eq!(moved.params.tensor(0)[1..], [f32::INFINITY, -0.5]);
    }

    #[test]
    fn an_accumulator_within_an_accumulator_counts_for_itself() {
        let adam = OptimizerConfig::Adam(Adam::new(0.1)).build().unwrap();
        let inner = GradientAccumulation::new(adam, 2).unwrap();
        let outer = GradientAccumulation::new(Box::new(inner), 3).unwrap();
        let mut state = outer.init(params(&[1.0]), &[60]).unwrap();
        assert_eq!(state.horizon, [10]);
        for call in 1..=12 {
            state = outer.update(state, &params(&[1.0]), &[1.0]).unwrap();
            assert_eq!(state.step[0], call / 6, "call {call}");
        }
        let names: Vec<&str> = state.slots.iter().map(|slot| slot.name.as_str()).collect();
        assert_eq!(names[4], "accumulation/count");
        assert_eq!(names[5..], ["outer_accumulation/grad/x", "outer_accumulation/loss", "outer_accumulation/count"]);
    }
}
