//! Adam with the learning-rate schedules of the reference's baselines, under their names there.
//!
//! Each is [`Adam`] with one kind of [`Schedule`]: what can be named can be swept.

use serde::{Deserialize, Serialize};

use super::{Adam, Schedule};

/// [`Adam`] whose learning rate is interpolated between points: the reference's `PiecewiseLinearAdam`
/// (`optimizers/optax_opts.py`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PiecewiseLinearAdam {
    /// Steps of the points, ascending; 10 000 and 20 000.
    pub times: Vec<u64>,
    /// Learning rates there; 1e-4 and 1e-5.
    pub lrs: Vec<f64>,
    /// Decay of the first moment; 0.9.
    #[serde(alias = "b1")]
    pub beta1: f64,
    /// Decay of the second moment; 0.999.
    #[serde(alias = "b2")]
    pub beta2: f64,
    /// Added to the root; 1e-8.
    #[serde(alias = "eps")]
    pub epsilon: f64,
    /// Added inside the root; 1e-8.
    #[serde(alias = "eps_root")]
    pub epsilon_root: f64,
}

impl Default for PiecewiseLinearAdam {
    fn default() -> Self {
        let Adam { beta1, beta2, epsilon, epsilon_root, .. } = Adam::default();
        Self { times: vec![10_000, 20_000], lrs: vec![1e-4, 1e-5], beta1, beta2, epsilon, epsilon_root }
    }
}

impl From<PiecewiseLinearAdam> for Adam {
    fn from(settings: PiecewiseLinearAdam) -> Self {
        let PiecewiseLinearAdam { times, lrs, beta1, beta2, epsilon, epsilon_root } = settings;
        let learning_rate = Schedule::PiecewiseLinear { times, values: lrs };
        Self { learning_rate, beta1, beta2, epsilon, epsilon_root }
    }
}

/// [`Adam`] with 1000 steps of warm-up and then an inverse square root: `lr · min(s/1000, √(1000/s))`, `s = max(t, 1)`
/// at step t from 0. The reference's `AdamSqrtDecayLR`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamSqrtDecayLr {
    /// Largest learning rate; 0.01.
    pub learning_rate: f64,
}

impl Default for AdamSqrtDecayLr {
    fn default() -> Self {
        Self { learning_rate: 0.01 }
    }
}

impl From<AdamSqrtDecayLr> for Adam {
    fn from(AdamSqrtDecayLr { learning_rate }: AdamSqrtDecayLr) -> Self {
        Self::new(Schedule::InverseSqrt { peak_value: learning_rate, warmup_steps: 1000 })
    }
}

/// [`Adam`] with an exponentially falling learning rate: `lr · (1 − 7e-5)^t` at step t from 0. The reference's
/// `AdamExpDecayLR`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamExpDecayLr {
    /// First learning rate; 0.01.
    pub learning_rate: f64,
}

impl Default for AdamExpDecayLr {
    fn default() -> Self {
        Self { learning_rate: 0.01 }
    }
}

impl From<AdamExpDecayLr> for Adam {
    fn from(AdamExpDecayLr { learning_rate }: AdamExpDecayLr) -> Self {
        // The reference takes the power of the f32: after 100 000 steps that is 0.1 % away from the f64's.
        let rate = f64::from((1.0 - 7e-5) as f32);
        Self::new(Schedule::Exponential {
            init_value: learning_rate,
            rate,
            steps: 1,
            staircase: false,
            end_value: None,
        })
    }
}
