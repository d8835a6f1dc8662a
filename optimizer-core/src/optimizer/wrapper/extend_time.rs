//! Another time for an optimizer that knows the time: a run longer than it was trained for, or one that begins late.

use serde::{Deserialize, Serialize};

use super::super::settings;
use super::{counter, prefix, take_own};
use crate::Result;
use crate::optimizer::{OptState, Optimizer, Schedule};
use crate::params::Params;

/// A function of the time: `f(step)`, cut to a whole number.
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

/// Shows the inner optimizer step `f(t)` at step t, and horizon `f(horizon)` (the reference's `ExtendTimeWrapper`).
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
        let mut own = take_own(&mut state, self.name(), &[counter::SIZE; 2])?;
        for lane in 0..state.lanes() {
            let step = counter::read(&own[0], lane);
            state.step[lane] = self.warp.of(step, counter::read(&own[1], lane));
            counter::write(&mut own[0], lane, step.saturating_add(1));
        }
        let mut state = self.inner.update(state, grads, losses)?;
        state.slots.append(&mut own);
        Ok(state)
    }

    fn learning_rate(&self, step: u32, horizon: u32) -> Option<f64> {
        self.inner.learning_rate(self.warp.of(step, horizon), self.warp.of(horizon, horizon))
    }

    fn with_learning_rate(&self, learning_rate: f64) -> Option<Box<dyn Optimizer>> {
        let inner = self.inner.with_learning_rate(learning_rate)?;
        Some(Box::new(Self { inner, warp: self.warp.clone() }))
    }
}
