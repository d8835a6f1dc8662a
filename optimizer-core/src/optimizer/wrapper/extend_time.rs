//! Another time for an optimizer that knows the time: a run longer than it was trained for, or one that begins late.

use serde::{Deserialize, Serialize};

use super::super::settings;
use super::{counter, prefix, take_own};
use crate::Result;
use crate::optimizer::{OptState, Optimizer, Schedule, Slot};
use crate::params::Params;

/// A function of the time: `f(step)`, in steps from 0, cut to a whole number.
///
/// In a recipe, a plain number is a factor and a table is a [`Schedule`] whose value is the time shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Schedule", into = "Schedule")]
pub enum Warp {
    /// So many steps shown a step.
    Factor(f64),
    /// The step shown at every step.
    Curve(Schedule),
}

impl Warp {
    /// The step shown at `step` of `horizon`.
    fn of(&self, step: u32, horizon: u32) -> u32 {
        let shown = match self {
            Self::Factor(factor) => f64::from(step) * factor,
            Self::Curve(curve) => curve.value(step.into(), horizon.into()),
        };
        // A cast rounds towards 0 and stops at the ends.
        shown as u32
    }
}

impl From<Schedule> for Warp {
    fn from(schedule: Schedule) -> Self {
        match schedule {
            Schedule::Constant { value } => Self::Factor(value),
            curve => Self::Curve(curve),
        }
    }
}

impl From<Warp> for Schedule {
    fn from(warp: Warp) -> Self {
        match warp {
            Warp::Factor(factor) => factor.into(),
            Warp::Curve(curve) => curve,
        }
    }
}

/// Shows the inner optimizer step `f(t)` at step t, and horizon `f(horizon)` (`ExtendTimeWrapper` of the
/// reference's `optimizers/optimizer_wrappers.py`).
///
/// Everything the inner optimizer takes from its step is warped: time features, schedules, and the bias corrections of
/// hand-designed ones. A wrapper inside that counts for itself, as accumulation does, should rather be outside. Slots:
/// `extend_time/step` and `extend_time/horizon`, \[2\] each.
#[derive(Debug)]
pub struct ExtendTime {
    inner: Box<dyn Optimizer>,
    warp: Warp,
}

impl ExtendTime {
    /// Shows `inner` the time `warp` says.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] if the warp is negative, not finite or no schedule.
    pub fn new(inner: Box<dyn Optimizer>, warp: Warp) -> Result<Self> {
        match &warp {
            Warp::Factor(factor) => settings::non_negative("warp", *factor)?,
            Warp::Curve(curve) => curve.validate("warp")?,
        }
        Ok(Self { inner, warp })
    }
}

impl ExtendTime {
    /// Sets the inner optimizer's step to the warped one; returns the wrapper's slots.
    fn show_time(&self, state: &mut OptState) -> Result<Vec<Slot>> {
        let own = take_own(state, self.name(), &[counter::SIZE; 2])?;
        for lane in 0..state.lanes() {
            state.step[lane] = self.warp.of(counter::read(&own[0], lane), counter::read(&own[1], lane));
        }
        Ok(own)
    }
}

/// The state with the wrapper's slots behind it.
fn state_with(mut state: OptState, mut own: Vec<Slot>) -> OptState {
    state.slots.append(&mut own);
    state
}

/// The same after one more step in every lane.
fn count(state: OptState, mut own: Vec<Slot>) -> OptState {
    for lane in 0..state.lanes() {
        let step = counter::read(&own[0], lane).saturating_add(1);
        counter::write(&mut own[0], lane, step);
    }
    state_with(state, own)
}

impl Optimizer for ExtendTime {
    fn name(&self) -> &'static str {
        "extend_time"
    }

    fn inner(&self) -> Vec<&dyn Optimizer> {
        vec![self.inner.as_ref()]
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
        let shown: Vec<u32> = horizon.iter().map(|&steps| self.warp.of(steps, steps)).collect();
        let mut state = self.inner.init(params, &shown)?;
        let prefix = prefix("extend_time", &state.slots);
        state.slots.push(counter::slot(format!("{prefix}/step"), &vec![0; horizon.len()]));
        state.slots.push(counter::slot(format!("{prefix}/horizon"), horizon));
        Ok(state)
    }

    fn update(&self, mut state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        state.check_gradients(grads, losses)?;
        let own = self.show_time(&mut state)?;
        Ok(count(self.inner.update(state, grads, losses)?, own))
    }

    fn observe_validation(&self, mut state: OptState, losses: &[f32]) -> Result<OptState> {
        let before = state.step.clone();
        let own = self.show_time(&mut state)?;
        let shown = state.step.clone();
        let state = self.inner.observe_validation(state, losses)?;
        // An optimizer that listens counts a step, one that does not leaves the time where it was.
        Ok(if state.step == shown { state_with(OptState { step: before, ..state }, own) } else { count(state, own) })
    }

    fn learning_rate(&self, step: u32, horizon: u32) -> Option<f64> {
        self.inner.learning_rate(self.warp.of(step, horizon), self.warp.of(horizon, horizon))
    }

    fn with_learning_rate(&self, learning_rate: f64) -> Option<Box<dyn Optimizer>> {
        let inner = self.inner.with_learning_rate(learning_rate)?;
        Some(Box::new(Self { inner, warp: self.warp.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::{OptimizerConfig, Sgd};
    use crate::{Error, Layout, TensorSpec};

    /// Descent whose learning rate is the step it is shown: with gradients of −1, parameters add up the steps shown.
    fn counting() -> Box<dyn Optimizer> {
        let steps = Schedule::PiecewiseLinear { times: vec![0, 1000], values: vec![0.0, 1000.0] };
        OptimizerConfig::Sgd(Sgd { learning_rate: steps }).build().unwrap()
    }

    fn shown(warp: Warp, calls: usize) -> Vec<f32> {
        let optimizer = ExtendTime::new(counting(), warp).unwrap();
        let layout = Layout::new(vec![TensorSpec::new("x", [])]).unwrap();
        let params = |value| Params::from_tensors(&layout, 1, vec![vec![value]]).unwrap();
        let mut state = optimizer.init(params(0.0), &[100]).unwrap();
        let mut steps = vec![];
        for _ in 0..calls {
            let before = state.params.tensor(0)[0];
            state = optimizer.update(state, &params(-1.0), &[1.0]).unwrap();
            steps.push(state.params.tensor(0)[0] - before);
        }
        assert_eq!(state.slots[0].values, [0.0, calls as f32]);
        steps
    }

    #[test]
    fn a_factor_stretches_time_and_a_curve_bends_it() {
        assert_eq!(shown(Warp::Factor(0.5), 6), [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]);
        assert_eq!(shown(Warp::Factor(3.0), 4), [0.0, 3.0, 6.0, 9.0]);
        let late = Schedule::Linear { init_value: 10.0, end_value: 14.9, steps: 2 };
        assert_eq!(shown(Warp::Curve(late), 4), [10.0, 12.0, 14.0, 14.0]);
    }

    #[test]
    fn the_horizon_is_warped_too() {
        let optimizer = ExtendTime::new(counting(), Warp::Factor(0.25)).unwrap();
        let layout = Layout::new(vec![TensorSpec::new("x", [])]).unwrap();
        let state = optimizer.init(Params::zeros(&layout, 3), &[100, 3, u32::MAX]).unwrap();
        assert_eq!(state.horizon, [25, 0, u32::MAX / 4]);
    }

    #[test]
    fn a_warp_is_written_as_a_number_or_a_curve() {
        for (text, warp) in [
            ("0.5", Warp::Factor(0.5)),
            (r#"{"kind": "linear", "init_value": 1, "end_value": 2, "steps": 3}"#, {
                Warp::Curve(Schedule::Linear { init_value: 1.0, end_value: 2.0, steps: 3 })
            }),
        ] {
            assert_eq!(serde_json::from_str::<Warp>(text).unwrap(), warp);
            assert_eq!(serde_json::from_str::<Warp>(&serde_json::to_string(&warp).unwrap()).unwrap(), warp);
        }
        let error = ExtendTime::new(counting(), Warp::Factor(f64::NAN)).unwrap_err();
        assert!(matches!(error, Error::Setting { field, .. } if field == "warp"));
    }
}
