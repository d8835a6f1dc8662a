//! Grafting: how far one optimizer would go, in the direction another would take (Agarwal et al.,
//! <https://openreview.net/forum?id=FpKgG31Z_i9>).

use super::super::norm::global_square;
use super::{counter, take_own};
use crate::optimizer::{OptState, Optimizer, Slot};
use crate::params::Params;
use crate::{Error, Result};

/// `p ← p + Δ_direction · ‖Δ_magnitude‖/‖Δ_direction‖`, norms over all tensors; both optimizers step from the same
/// parameters and receive the new ones (the reference's `GraftedOptimizer`).
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
}
