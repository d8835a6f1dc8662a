//! Grafting: how far one optimizer would go, in the direction another would take (Agarwal et al.,
//! <https://openreview.net/forum?id=FpKgG31Z_i9>).

use super::super::norm::global_square;
use super::{counter, take_own};
use crate::optimizer::{OptState, Optimizer, Slot};
use crate::params::Params;
use crate::{Error, Result};

/// Grafting (Agarwal et al., <https://openreview.net/forum?id=FpKgG31Z_i9>; `GraftedOptimizer` of the reference's
/// `optimizers/base.py`): `p ← p + Δ_direction · ‖Δ_magnitude‖/‖Δ_direction‖`, Euclidean norms over all tensors of a
/// lane. Both optimizers step from the same parameters and receive the new ones.
///
/// A direction that stands still leaves the parameters where they are; the reference divides 0 by 0. Slots:
/// `magnitude/…`, then `direction/…`, then the magnitude's `graft/step` and `graft/horizon`, \[2\] each; `step` and
/// `horizon` of the state are the direction's.
#[derive(Debug)]
pub struct Graft {
    magnitude: Box<dyn Optimizer>,
    direction: Box<dyn Optimizer>,
}

const MAGNITUDE: &str = "magnitude/";
const DIRECTION: &str = "direction/";

impl Graft {
    /// Steps as long as those of `magnitude`, along those of `direction`.
    pub fn new(magnitude: Box<dyn Optimizer>, direction: Box<dyn Optimizer>) -> Self {
        Self { magnitude, direction }
    }
}

/// Both states as one.
fn join(magnitude: OptState, direction: OptState) -> OptState {
    let named = |slots: Vec<Slot>, prefix: &'static str| {
        slots.into_iter().map(move |slot| Slot { name: format!("{prefix}{}", slot.name), ..slot })
    };
    let mut slots: Vec<Slot> = named(magnitude.slots, MAGNITUDE).collect();
    slots.extend(named(direction.slots, DIRECTION));
    slots.push(counter::slot("graft/step".into(), &magnitude.step));
    slots.push(counter::slot("graft/horizon".into(), &magnitude.horizon));
    OptState { slots, ..direction }
}

/// One state as both, with the same parameters.
fn split(mut state: OptState) -> Result<(OptState, OptState)> {
    let own = take_own(&mut state, "graft", &[counter::SIZE; 2])?;
    let counts = |slot: &Slot| (0..state.params.lanes()).map(|lane| counter::read(slot, lane)).collect();
    let (step, horizon) = (counts(&own[0]), counts(&own[1]));
    let mut magnitude = Vec::new();
    let mut direction = Vec::new();
    for mut slot in std::mem::take(&mut state.slots) {
        let (name, side) = match (slot.name.strip_prefix(MAGNITUDE), slot.name.strip_prefix(DIRECTION)) {
            (Some(name), _) => (name, &mut magnitude),
            (_, Some(name)) => (name, &mut direction),
            _ => {
                let what = format!("state slot {} of graft, which is neither optimizer's", slot.name);
                return Err(Error::Length { what, expected: 0, got: slot.values.len() });
            }
        };
        slot.name = name.to_owned();
        side.push(slot);
    }
    let magnitude = OptState { params: state.params.clone(), step, horizon, slots: magnitude };
    Ok((magnitude, OptState { slots: direction, ..state }))
}

/// `to − from`; 0 where nothing moved, a NaN or an infinity that stayed included.
fn moved(from: &Params, to: &Params) -> Params {
    let mut step = to.clone();
    for index in 0..step.layout().len() {
        for (step, from) in step.tensor_mut(index).iter_mut().zip(from.tensor(index)) {
            *step = if step.to_bits() == from.to_bits() { 0.0 } else { *step - from };
        }
    }
    step
}

impl Optimizer for Graft {
    fn name(&self) -> &'static str {
        "graft"
    }

    fn inner(&self) -> Vec<&dyn Optimizer> {
        vec![self.magnitude.as_ref(), self.direction.as_ref()]
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
        Ok(join(self.magnitude.init(params.clone(), horizon)?, self.direction.init(params, horizon)?))
    }

    fn update(&self, state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        state.check_gradients(grads, losses)?;
        let (magnitude, direction) = split(state)?;
        let mut params = direction.params.clone();
        let magnitude = self.magnitude.update(magnitude, grads, losses)?;
        let direction = self.direction.update(direction, grads, losses)?;
        let (long, along) = (moved(&params, &magnitude.params), moved(&params, &direction.params));
        for lane in 0..params.lanes() {
            let (length, unit) = (global_square(&long, lane).sqrt(), global_square(&along, lane).sqrt());
            if unit == 0.0 {
                continue;
            }
            let ratio = length as f32 / unit as f32;
            for index in 0..params.layout().len() {
                for (p, step) in params.lane_mut(index, lane).iter_mut().zip(along.lane(index, lane)) {
                    *p += step * ratio;
                }
            }
        }
        Ok(join(magnitude, OptState { params, ..direction }))
    }

    fn observe_validation(&self, state: OptState, losses: &[f32]) -> Result<OptState> {
        let (magnitude, direction) = split(state)?;
        let magnitude = self.magnitude.observe_validation(magnitude, losses)?;
        Ok(join(magnitude, self.direction.observe_validation(direction, losses)?))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::optimizer::{OptimizerConfig, Sgd, Sgdm};
    use crate::{Layout, TensorSpec};

    fn sgd(learning_rate: f64) -> Box<dyn Optimizer> {
        OptimizerConfig::Sgd(Sgd { learning_rate: learning_rate.into() }).build().unwrap()
    }

    fn layout() -> Arc<Layout> {
        Layout::new(vec![TensorSpec::new("a", [2]), TensorSpec::new("b", [])]).unwrap()
    }

    fn params(a: [f32; 2], b: f32) -> Params {
        Params::from_tensors(&layout(), 1, vec![a.to_vec(), vec![b]]).unwrap()
    }

    #[test]
    fn as_long_as_the_one_and_along_the_other() {
        let momentum = OptimizerConfig::Sgdm(Sgdm { learning_rate: 1.0.into(), momentum: 0.5 }).build().unwrap();
        let graft = Graft::new(sgd(1.0), momentum);
        let state = graft.init(params([0.0, 0.0], 0.0), &[9]).unwrap();
        let state = graft.update(state, &params([3.0, 0.0], 4.0), &[1.0]).unwrap();
        assert_eq!(state.params, params([-3.0, 0.0], -4.0), "the first steps are equal");
        // Gradient (0, 6, 0) is 6 long; the trace is (1.5, 6, 2), which is 6.5 long.
        let state = graft.update(state, &params([0.0, 6.0], 0.0), &[1.0]).unwrap();
        let ratio = 6.0 / 6.5;
        for (got, expected) in [(0, -3.0 - 1.5 * ratio), (1, -6.0 * ratio)] {
            assert!((state.params.tensor(0)[got] - expected).abs() < 1e-6);
        }
        assert!((state.params.tensor(1)[0] - (-4.0 - 2.0 * ratio)).abs() < 1e-6);
        let names: Vec<&str> = state.slots.iter().map(|slot| slot.name.as_str()).collect();
        assert_eq!(names, ["direction/trace/a", "direction/trace/b", "graft/step", "graft/horizon"]);
        assert_eq!((state.slots[2].values.clone(), state.step.clone()), (vec![0.0, 2.0], vec![2]));
    }

    #[test]
    fn what_does_not_move_stays_even_if_it_is_no_number() {
        let graft = Graft::new(sgd(1.0), sgd(0.0));
        let strange = f32::from_bits(0x7fc0_1234);
        let state = graft.init(params([1.0, f32::INFINITY], strange), &[9]).unwrap();
        // A learning rate of 0 leaves finite parameters as they are.
        let state = graft.update(state, &params([3.0, 0.0], 0.0), &[1.0]).unwrap();
        assert_eq!(state.params.tensor(0), [1.0, f32::INFINITY]);
        assert_eq!(state.params.tensor(1)[0].to_bits(), strange.to_bits());
        let still = Graft::new(sgd(0.0), sgd(1.0));
        let state = still.init(params([1.0, 2.0], 3.0), &[9]).unwrap();
        let state = still.update(state, &params([3.0, 0.0], 0.0), &[1.0]).unwrap();
        assert_eq!(state.params, params([1.0, 2.0], 3.0), "no length, no step");
    }
}
