//! Numbers that change while something trains: learning rates, and whatever else follows a plan.
//!
//! ```text
//!  warmup_cosine        inverse_sqrt          piecewise_linear       nadamw_cosine
//!   peak ╭──╮            peak ╱╲_              ╲                        ____
//!       ╱    ╲               ╱   ‾‾──____       ╲______                ╱    ╲
//!  init╱      ╲__ end       ╱                          ╲____          ╱      ╲__ min
//! ```
//!
//! A schedule is a pure function of the step and the planned number of steps. In a recipe it is a plain number, or a
//! table whose `kind` names the curve; settings are named as in optax, and in `learning_rate_schedules.py` of the JAX
//! reference (google/learned_optimization @ 32186aa4).
//!
//! Every kind gives the same bits on every host: only `+ − · / √` are used, which IEEE 754 rounds one way. The cosine
//! is a series, and a power with a fractional exponent is built from square roots.

use serde::{Deserialize, Serialize};

use super::cosine::half_cosine;
use super::power::{fractional_power, whole_power};

mod validate;
mod written;

/// A value for every step, from 0: a learning rate for every inner step, say, or a length for every outer step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields, remote = "Self")]
pub enum Schedule {
    /// Always `value`; written as a plain number.
    Constant {
        /// The value.
        value: f64,
    },
    /// A straight line, then constant (optax `linear_schedule`).
    Linear {
        /// Value at step 0.
        init_value: f64,
        /// Value from step `steps` on.
        end_value: f64,
        /// Steps between the two; at least 1.
        steps: u64,
    },
    /// A linear warm-up and half a cosine down (optax `warmup_cosine_decay_schedule`).
    WarmupCosine {
        /// Value at step 0, if there is a warm-up.
        #[serde(default)]
        init_value: f64,
        /// Value at step `warmup_steps`.
        peak_value: f64,
        /// Steps from `init_value` to `peak_value`; 0: no warm-up.
        #[serde(default)]
        warmup_steps: u64,
        /// Step at which `end_value` is reached, the warm-up included; more than `warmup_steps`. Absent: the planned
        /// number of steps.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decay_steps: Option<u64>,
        /// Value from step `decay_steps` on.
        #[serde(default)]
        end_value: f64,
    },
    /// NAdamW's schedule, relative to the planned number of steps T (the reference's `CosineLearningRateSchedule`):
    /// constant, then half a cosine down to `min_learning_rate_mult · learning_rate` at T.
    ///
    /// As in the reference a warm-up of any length above 0 lasts at least the whole constant phase, which therefore
    /// begins at 0 and is a ramp. Unlike there, `constant_fraction` 1 is constant to the end, not NaN.
    NadamwCosine {
        /// Value of the constant phase.
        learning_rate: f64,
        /// Share of it that is left at the end; 0.
        #[serde(default)]
        min_learning_rate_mult: f64,
        /// Share of T before the cosine begins, in `[0, 1]`; 0.5.
        #[serde(default = "half")]
        constant_fraction: f64,
        /// Share of T that is warm-up, in `[0, 1]`; 0.01.
        #[serde(default = "hundredth")]
        warmup_fraction: f64,
    },
    /// `peak_value · min(s/w, √(w/s))` with `s = max(step, 1)`: a linear warm-up, then the inverse square root (the
    /// reference's `LinearRampupSqrtDecay`).
    InverseSqrt {
        /// Value at step `warmup_steps`.
        peak_value: f64,
        /// Steps of the ramp, w; at least 1.
        warmup_steps: u64,
    },
    /// `init_value · rate^(step / steps)` (optax `exponential_decay`).
    Exponential {
        /// Value at step 0.
        init_value: f64,
        /// Factor that `steps` steps come to; positive.
        rate: f64,
        /// Steps of one factor, at least 1; 1.
        #[serde(default = "one")]
        steps: u64,
        /// Whether the exponent is rounded down: the value then stands still between multiples of `steps`.
        #[serde(default)]
        staircase: bool,
        /// Bound that is not passed: the least value if `rate` is below 1, else the largest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        end_value: Option<f64>,
    },
    /// Straight lines between points, constant outside (the reference's `PiecewiseLinear`).
    PiecewiseLinear {
        /// Steps of the points, ascending; at least one.
        times: Vec<u64>,
        /// Values there, one a point.
        values: Vec<f64>,
    },
    /// Steps (optax `piecewise_constant_schedule`): from step `boundaries[i]` on the value is multiplied by
    /// `scales[i]`.
    PiecewiseConstant {
        /// Value before the first boundary.
        init_value: f64,
        /// Steps at which the value changes, ascending.
        boundaries: Vec<u64>,
        /// Factor at each of them, one a boundary.
        scales: Vec<f64>,
    },
}

fn half() -> f64 {
    0.5
}

fn hundredth() -> f64 {
    0.01
}

fn one() -> u64 {
    1
}

impl Schedule {
    /// The value at `step` (0 is the first) of something planned to take `horizon` steps.
    ///
    /// # Panics
    /// Possibly, if [`Schedule::validate`] refuses the settings (a piecewise curve without points, say).
    pub fn value(&self, step: u64, horizon: u64) -> f64 {
        match *self {
            Self::Constant { value } => value,
            Self::Linear { init_value, end_value, steps } => mix(init_value, end_value, share(step, steps)),
            Self::WarmupCosine { init_value, peak_value, warmup_steps, decay_steps, end_value } => {
                if step < warmup_steps {
                    return mix(init_value, peak_value, share(step, warmup_steps));
                }
                let decay = decay_steps.unwrap_or(horizon).saturating_sub(warmup_steps).max(1);
                mix(end_value, peak_value, half_cosine(share(step - warmup_steps, decay)))
            }
            Self::NadamwCosine { learning_rate, min_learning_rate_mult, constant_fraction, warmup_fraction } => {
                let total = horizon as f64;
                let now = step.min(horizon) as f64;
                let ramp = if warmup_fraction > 0.0 { total * warmup_fraction.max(constant_fraction) } else { 0.0 };
                if now < ramp {
                    return learning_rate * (now / ramp);
                }
                let constant = total * constant_fraction;
                let decay = total - constant;
                let progress = if decay > 0.0 { (now.max(constant) - constant) / decay } else { 0.0 };
                mix(min_learning_rate_mult * learning_rate, learning_rate, half_cosine(progress))
            }
            Self::InverseSqrt { peak_value, warmup_steps } => {
                let (step, warmup) = (step.max(1) as f64, warmup_steps as f64);
                peak_value * (step / warmup).min((warmup / step).sqrt())
            }
            Self::Exponential { init_value, rate, steps, staircase, end_value } => {
                let fraction = if staircase { 0.0 } else { (step % steps) as f64 / steps as f64 };
                let value = init_value * whole_power(rate, step / steps) * fractional_power(rate, fraction);
                match end_value {
                    Some(end) if rate < 1.0 => value.max(end),
                    Some(end) => value.min(end),
                    None => value,
                }
            }
            Self::PiecewiseLinear { ref times, ref values } => {
                let after = times.partition_point(|&time| time <= step);
                if after == 0 || after == times.len() {
                    return values[after.saturating_sub(1)];
                }
                let (from, to) = (times[after - 1], times[after]);
                mix(values[after - 1], values[after], share(step - from, to - from))
            }
            Self::PiecewiseConstant { init_value, ref boundaries, ref scales } => {
                let passed = boundaries.partition_point(|&boundary| boundary <= step);
                scales[..passed].iter().fold(init_value, |value, scale| value * scale)
            }
        }
    }
}

/// `step / steps`, at most 1.
fn share(step: u64, steps: u64) -> f64 {
    if step >= steps { 1.0 } else { step as f64 / steps as f64 }
}

/// From `start` at 0 to `end` at 1, exact at both ends.
fn mix(start: f64, end: f64, share: f64) -> f64 {
    start * (1.0 - share) + end * share
}

impl From<f64> for Schedule {
    fn from(value: f64) -> Self {
        Self::Constant { value }
    }
}

impl From<f32> for Schedule {
    fn from(value: f32) -> Self {
        Self::Constant { value: value.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Schedule {
        let schedule: Schedule = serde_json::from_str(text).unwrap();
        schedule.validate("learning_rate").unwrap();
        schedule
    }

    fn assert_values(schedule: &Schedule, horizon: u64, expected: &[(u64, f64)]) {
        for &(step, value) in expected {
            let got = schedule.value(step, horizon);
            assert!((got - value).abs() <= 1e-15 + 1e-13 * value.abs(), "step {step}: {got} for {value}");
        }
    }

    #[test]
    fn a_line_and_its_ends() {
        let line = read(r#"{"kind": "linear", "init_value": 0.1, "end_value": 0.7, "steps": 4}"#);
        assert_values(&line, 0, &[(1, 0.25), (2, 0.4), (3, 0.55)]);
        assert_eq!([0, 4, 5, u64::MAX].map(|step| line.value(step, 9)), [0.1, 0.7, 0.7, 0.7]);
    }

    #[test]
    fn a_warm_up_and_half_a_cosine() {
        let text = r#"{"kind": "warmup_cosine", "init_value": 0.1, "peak_value": 0.9, "warmup_steps": 4,
                       "decay_steps": 12, "end_value": 0.3}"#;
        let cosine = read(text);
        let quarter = 0.6 + 0.3 * 0.5_f64.sqrt();
        assert_values(&cosine, 1, &[(0, 0.1), (3, 0.7), (4, 0.9), (6, quarter), (8, 0.6), (12, 0.3), (99, 0.3)]);
        let over_all = read(r#"{"kind": "warmup_cosine", "peak_value": 2.0}"#);
        assert_values(&over_all, 10, &[(0, 2.0), (5, 1.0), (10, 0.0), (11, 0.0)]);
        assert_values(&over_all, 0, &[(0, 2.0), (1, 0.0)]);
    }

    #[test]
    fn nadamw_s_ramp_lasts_the_constant_phase() {
        let text = r#"{"kind": "nadamw_cosine", "learning_rate": 0.1, "min_learning_rate_mult": 0.1}"#;
        let published = [0.1, 0.0978, 0.09141, 0.08145, 0.06891, 0.055, 0.04109, 0.02855, 0.01859, 0.0122, 0.01];
        let schedule = read(text);
        for step in 0..10 {
            assert_values(&schedule, 20, &[(step, 0.01 * step as f64)]);
        }
        for (step, value) in (10..).zip(published) {
            assert!((schedule.value(step, 20) - value).abs() < 5e-6, "step {step}");
        }
        assert_eq!(schedule.value(21, 20), schedule.value(20, 20));
        let text = r#"{"kind": "nadamw_cosine", "learning_rate": 0.2, "warmup_fraction": 0, "constant_fraction": 1}"#;
        assert_values(&read(text), 20, &[(0, 0.2), (10, 0.2), (20, 0.2), (30, 0.2)]);
        let text = r#"{"kind": "nadamw_cosine", "learning_rate": 0.2, "warmup_fraction": 0, "constant_fraction": 0}"#;
        assert_values(&read(text), 4, &[(0, 0.2), (2, 0.1), (4, 0.0)]);
        assert_eq!(read(text).value(0, 0), 0.2, "nothing planned is not NaN");
    }

    #[test]
    fn the_inverse_square_root_peaks_at_the_end_of_its_ramp() {
        let schedule = read(r#"{"kind": "inverse_sqrt", "peak_value": 3, "warmup_steps": 100}"#);
        assert_values(&schedule, 0, &[(0, 0.03), (1, 0.03), (50, 1.5), (100, 3.0), (400, 1.5), (10_000, 0.3)]);
    }

    #[test]
    fn an_exponential_between_and_at_its_factors() {
        let schedule = read(r#"{"kind": "exponential", "init_value": 2, "rate": 0.25, "steps": 4}"#);
        assert_values(&schedule, 0, &[(0, 2.0), (1, 2.0 * 0.25_f64.powf(0.25)), (2, 1.0), (4, 0.5), (10, 0.0625)]);
        let stairs = r#"{"kind": "exponential", "init_value": 2, "rate": 0.5, "steps": 3, "staircase": true,
                         "end_value": 0.3}"#;
        assert_values(&read(stairs), 0, &[(2, 2.0), (3, 1.0), (5, 1.0), (8, 0.5), (9, 0.3), (900, 0.3)]);
        let grows = read(r#"{"kind": "exponential", "init_value": 1, "rate": 2, "end_value": 9}"#);
        assert_values(&grows, 0, &[(3, 8.0), (4, 9.0), (5000, 9.0)]);
        let slow = read(r#"{"kind": "exponential", "init_value": 1, "rate": 0.99993}"#);
        assert_values(&slow, 0, &[(100_000, 0.99993_f64.powi(100_000))]);
    }

    #[test]
    fn pieces() {
        let lines = read(r#"{"kind": "piecewise_linear", "times": [10, 20, 40], "values": [1, 3, 2]}"#);
        assert_values(&lines, 0, &[(0, 1.0), (10, 1.0), (15, 2.0), (20, 3.0), (30, 2.5), (40, 2.0), (99, 2.0)]);
        let point = read(r#"{"kind": "piecewise_linear", "times": [10], "values": [1]}"#);
        assert_values(&point, 0, &[(0, 1.0), (10, 1.0), (11, 1.0)]);
        let steps =
            read(r#"{"kind": "piecewise_constant", "init_value": 8, "boundaries": [3, 5], "scales": [0.5, 0.25]}"#);
        assert_values(&steps, 0, &[(0, 8.0), (2, 8.0), (3, 4.0), (4, 4.0), (5, 1.0), (99, 1.0)]);
    }
}
