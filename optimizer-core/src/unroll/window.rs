//! Which places of a window train what, and what they leave in the report.

use crate::estimator::EstimatorConfig;
use crate::estimator::windowed::WindowLosses;
use crate::schedule::{Trajectory, Window};
use crate::{Error, Result};

/// The places of a window: first steps of the current trajectory, then perhaps a reset and steps of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Inner steps of the current trajectory.
    pub(super) before_reset: u32,
    /// The next trajectory and its inner steps, if the reset falls in this window.
    pub(super) after_reset: Option<(Trajectory, u32)>,
}

impl Plan {
    pub(super) fn new(estimator: &EstimatorConfig, window: &Window) -> Result<Self> {
        let width = width(estimator)?;
        let Window { current, next } = *window;
        let left = current.length().checked_sub(current.inner_step).ok_or_else(|| {
            let reason = format!("must not exceed the trajectory's length {}", current.length());
            Error::setting("window.current.inner_step", reason, current.inner_step)
        })?;
        if width <= left {
            return Ok(Self { before_reset: width, after_reset: None });
        }
        let next = next.ok_or_else(|| {
            let reason = format!("must be there: the current trajectory has {left} steps left of a window of {width}");
            Error::setting("window.next", reason, "none")
        })?;
        Ok(Self { before_reset: left, after_reset: Some((next, width - left - 1)) })
    }
}

/// One window of a trajectory before now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlierWindow {
    /// Its outer step: the version of theta and the perturbation it ran under.
    pub outer_step: u64,
    /// Where the trajectory stood before it.
    pub standing: Trajectory,
    /// Inner steps it trained of the trajectory.
    pub steps: u32,
}

/// The windows of `trajectory`, as it stands before `outer_step`, in earlier outer steps: whole ones, but for the first,
/// which may hold a reset and the end of another trajectory. None if it stands at its first step.
///
/// # Errors
/// [`Error::Setting`] if the trajectory cannot stand there, or if the estimator runs no windows.
pub fn earlier_windows(
    estimator: &EstimatorConfig,
    trajectory: &Trajectory,
    outer_step: u64,
) -> Result<impl DoubleEndedIterator<Item = EarlierWindow> + use<>> {
    let width = width(estimator)?;
    let Trajectory { began, inner_step, .. } = *trajectory;
    let windows = if inner_step == 0 { 0 } else { outer_step.saturating_sub(began) };
    let whole = windows.saturating_sub(1).saturating_mul(u64::from(width));
    let first = u64::from(inner_step).saturating_sub(whole) as u32;
    if inner_step > 0 && (windows == 0 || !(1..=width).contains(&first)) {
        let reason = format!(
            "must fit a trajectory at inner step {inner_step} before outer step {outer_step}, in windows of {width}"
        );
        return Err(Error::setting("window.current.began", reason, began));
    }
    let trajectory = *trajectory;
    Ok((began..began + windows).map(move |outer_step| {
        let trained = match outer_step - began {
            0 => 0,
            // Below the trajectory's inner step, so it fits.
            windows => first + (windows as u32 - 1) * width,
        };
        let steps = if outer_step == began { first } else { width };
        EarlierWindow { outer_step, standing: Trajectory { inner_step: trained, ..trajectory }, steps }
    }))
}

fn width(estimator: &EstimatorConfig) -> Result<u32> {
    match estimator.window() {
        Some(width) if width > 0 => Ok(width),
        Some(width) => Err(Error::setting("estimator.window", "a window has at least one place", width)),
        None => Err(Error::setting("estimator.kind", "must run windows: pes, gpes, nres or truncated_es", "full_es")),
    }
}

/// What happened to one lane at each place of a window.
#[derive(Clone, Debug, Default)]
pub(super) struct LaneTrace {
    pub(super) losses: Vec<f64>,
    live: Vec<bool>,
    done: Vec<bool>,
}

impl LaneTrace {
    /// A place that trained a step.
    pub(super) fn step(&mut self, loss: f64) {
        self.place(loss, true);
    }

    /// The loss of the last place, recomputed.
    pub(super) fn replace_last(&mut self, loss: f64) {
        self.losses.pop();
        self.losses.push(loss);
    }

    /// A place that replaced the trajectory.
    pub(super) fn reset(&mut self) {
        self.place(0.0, false);
    }

    fn place(&mut self, loss: f64, live: bool) {
        self.losses.push(loss);
        self.live.push(live);
        self.done.push(!live);
    }

    /// Inner steps trained.
    pub(super) fn inner_steps(&self) -> u64 {
        self.live.iter().filter(|live| **live).count() as u64
    }
}

/// The losses of a pair of lanes, + and −, which train and reset at the same places.
pub(super) fn pair_losses<'t>(plus: &'t LaneTrace, minus: &'t LaneTrace) -> WindowLosses<'t> {
    WindowLosses { plus: &plus.losses, minus: &minus.losses, live: &plus.live, done: &plus.done }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;
    use crate::estimator::EstimatorKind;
    use crate::schedule::{HorizonSchedule, SlotSequence};

    fn estimator(window: u32) -> EstimatorConfig {
        let horizon = HorizonSchedule::LogUniform { min: 8, max: 60 };
        EstimatorConfig::new(EstimatorKind::Pes { window }, 0.1, horizon)
    }

    #[test]
    fn earlier_windows_are_those_the_sequence_ran() {
        for width in [2, 3, 7] {
            let estimator = EstimatorConfig { initial_offset: 60, ..estimator(width) };
            let mut sequence = SlotSequence::new(Seed::new(8), 1, &estimator, 200, &[1.0]).unwrap();
            // What each outer step trained, by trajectory.
            let mut ran: Vec<(u64, u64, u32)> = vec![];
            for outer_step in 0..200 {
                let window = sequence.window();
                let current = window.current;
                let mut trained = 0;
                let expected: Vec<EarlierWindow> = ran
                    .iter()
                    .filter(|(_, index, steps)| *index == current.index && *steps > 0)
                    .map(|&(outer_step, _, steps)| {
                        let standing = Trajectory { inner_step: trained, ..current };
                        trained += steps;
                        EarlierWindow { outer_step, standing, steps }
                    })
                    .collect();
                assert_eq!(trained, current.inner_step);
                let got: Vec<_> = earlier_windows(&estimator, &current, outer_step).unwrap().collect();
                assert_eq!(got, expected, "{current:?}");
                let plan = Plan::new(&estimator, &window).unwrap();
                ran.push((outer_step, current.index, plan.before_reset));
                if let Some((next, steps)) = plan.after_reset {
                    ran.push((outer_step, next.index, steps));
                }
                sequence.advance();
            }
        }
    }

    #[test]
    fn windows_that_do_not_fit_are_refused() {
        let current = Trajectory { horizon: 10, began: 3, inner_step: 8, ..Trajectory::default() };
        let window = |current| Window { current, next: None };
        assert!(Plan::new(&estimator(2), &window(current)).is_ok());
        for (estimator, current) in
            [(estimator(3), current), (estimator(2), Trajectory { inner_step: 11, ..current }), (estimator(0), current)]
        {
            assert!(matches!(Plan::new(&estimator, &window(current)), Err(Error::Setting { .. })));
        }
        for (began, outer_step) in [(3, 3), (4, 3), (3, 4), (3, 9)] {
            let trajectory = Trajectory { began, ..current };
            assert!(earlier_windows(&estimator(2), &trajectory, outer_step).is_err(), "{began} {outer_step}");
        }
        assert!(earlier_windows(&estimator(2), &current, 7).is_ok());
    }
}
