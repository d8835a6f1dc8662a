//! NAdamW: Nesterov Adam with decoupled weight decay (arXiv 2002.11887), as the reference's `nadamw.py` has it.
//!
//! ```text
//!  g ← g − l2 · p          m ← β1 m + (1−β1) g      v ← β2 v + (1−β2) g²      lr' = lr · √(1−β2ⁿ)/(1−β1ⁿ)
//!  p ← p − ( lr' · (β1 m + (1−β1) g) / (√v + eps) + lr' · wd · p )
//! ```
//!
//! Two things are odd and part of it: `l2_weight_decay` has the sign of growth, and the decoupled decay is scaled by
//! the bias-corrected learning rate. The schedule it was published with is [`Schedule::NadamwCosine`].

use serde::{Deserialize, Serialize};

use super::moments::{self, Averages};
use super::rule::{Buffer, Moment, Rule};
use super::{Schedule, settings};
use crate::Result;
use crate::params::TensorSpec;

/// NAdamW: Nesterov Adam (Dozat 2016) with decoupled weight decay, the baseline of Metz et al., arXiv 2002.11887; as
/// `NAdamW` of the reference's `nadamw.py`:
///
/// ```text
///  g ← g − l2 · p          m ← β1 m + (1−β1) g      v ← β2 v + (1−β2) g²      lr' = lr · √(1−β2ⁿ)/(1−β1ⁿ)
///  p ← p − ( lr' · (β1 m + (1−β1) g) / (√v + eps) + lr' · wd · p )
/// ```
///
/// Slots: `m/NAME` and `v/NAME`, as the tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NAdamW {
    /// Step size; 1e-4.
    pub learning_rate: Schedule,
    /// Decay of the first moment; 0.9.
    #[serde(alias = "b1")]
    pub beta1: f64,
    /// Decay of the second moment; 0.999.
    #[serde(alias = "b2")]
    pub beta2: f64,
    /// Added to the root; 1e-8.
    #[serde(alias = "eps")]
    pub epsilon: f64,
    /// Decay of parameters a step, times the bias-corrected learning rate; 0.
    pub adamw_weight_decay: f64,
    /// Times the parameters, subtracted from the gradient; 0.
    pub l2_weight_decay: f64,
    /// Whether the newest gradient counts twice in the direction; true.
    pub use_nesterov: bool,
}

impl Default for NAdamW {
    fn default() -> Self {
        Self {
            learning_rate: 1e-4.into(),
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            adamw_weight_decay: 0.0,
            l2_weight_decay: 0.0,
            use_nesterov: true,
        }
    }
}

impl Rule for NAdamW {
    /// The bias-corrected learning rate and the averages.
    type Numbers = (f32, Averages);

    fn name(&self) -> &'static str {
        "nadamw"
    }

    fn schedule(&mut self) -> Option<&mut Schedule> {
        Some(&mut self.learning_rate)
    }

    fn validate(&self) -> Result<()> {
        self.learning_rate.validate("learning_rate")?;
        moments::validate(self.beta1, self.beta2)?;
        settings::non_negative("epsilon", self.epsilon)?;
        settings::non_negative("adamw_weight_decay", self.adamw_weight_decay)?;
        settings::non_negative("l2_weight_decay", self.l2_weight_decay)
    }

    fn buffers(&self, tensor: &TensorSpec) -> Vec<Buffer> {
        moments::buffers(tensor, 0.0)
    }

    fn numbers(&self, now: Moment) -> (f32, Averages) {
        let averages = Averages::at(now, self.beta1, self.beta2);
        let corrected = now.of(&self.learning_rate) * averages.collected2.sqrt() / averages.collected1;
        (corrected, averages)
    }

    fn update(
        &self,
        &(learning_rate, ref averages): &(f32, Averages),
        _: &TensorSpec,
        p: &mut [f32],
        g: &[f32],
        buffers: &mut [&mut [f32]],
    ) {
        let [m, v] = buffers else { unreachable!("two buffers a tensor") };
        let (eps, l2) = (self.epsilon as f32, self.l2_weight_decay as f32);
        let decay = learning_rate * self.adamw_weight_decay as f32;
        for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m.iter_mut()).zip(v.iter_mut()) {
            let g = g - *p * l2;
            *m = averages.first.mix(*m, g);
            *v = averages.second.mix(*v, g * g);
            let direction = if self.use_nesterov { averages.first.mix(*m, g) } else { *m };
            *p -= learning_rate * direction / (v.sqrt() + eps) + decay * *p;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::rule::Tensorwise;
    use crate::optimizer::{OptState, Optimizer};
    use crate::{Layout, Params};

    /// The formulas of the module, in f64.
    fn by_hand(settings: &NAdamW, rate: impl Fn(i32) -> f64, mut p: f64, grads: &[f64]) -> f64 {
        let (b1, b2) = (settings.beta1, settings.beta2);
        let (mut m, mut v) = (0.0, 0.0);
        for (n, g) in (1..).zip(grads) {
            let g = g - settings.l2_weight_decay * p;
            m = b1 * m + (1.0 - b1) * g;
            v = b2 * v + (1.0 - b2) * g * g;
            let rate = rate(n - 1) * (1.0 - b2.powi(n)).sqrt() / (1.0 - b1.powi(n));
            let numerator = if settings.use_nesterov { b1 * m + (1.0 - b1) * g } else { m };
            p -= rate * numerator / (v.sqrt() + settings.epsilon) + rate * settings.adamw_weight_decay * p;
        }
        p
    }

    fn run(settings: NAdamW, horizon: u32, p: f32, grads: &[f64]) -> OptState {
        let optimizer = Tensorwise::new(settings).unwrap();
        let layout = Layout::new(vec![TensorSpec::new("x", [])]).unwrap();
        let params = |value| Params::from_tensors(&layout, 1, vec![vec![value]]).unwrap();
        let mut state = optimizer.init(params(p), &[horizon]).unwrap();
        for &g in grads {
            state = optimizer.update(state, &params(g as f32), &[1.0]).unwrap();
        }
        state
    }

    const GRADS: [f64; 6] = [0.5, -2.0, 0.0, 1.5, 100.0, 0.25];

    #[test]
    fn l2_grows_and_nesterov_can_be_off() {
        for use_nesterov in [true, false] {
            let settings = NAdamW {
                learning_rate: 0.02.into(),
                beta1: 0.8,
                beta2: 0.95,
                epsilon: 1e-3,
                adamw_weight_decay: 0.3,
                l2_weight_decay: 0.7,
                use_nesterov,
            };
            let expected = by_hand(&settings, |_| 0.02, 1.5, &GRADS);
            let got = run(settings, 9, 1.5, &GRADS).params.tensor(0)[0];
            assert!((f64::from(got) - expected).abs() < 5e-7, "{got} for {expected}");
        }
    }

    /// The first entry of the reference's list of a thousand (`opt_list.json`), where T = 8.
    #[test]
    fn the_published_schedule_follows_the_horizon() {
        let text = r#"{"learning_rate": {"kind": "nadamw_cosine", "learning_rate": 0.0011948335721160095,
            "min_learning_rate_mult": 0, "constant_fraction": 0.747304046223346, "warmup_fraction": 0},
            "beta1": 0.9360043452616368, "beta2": 0.9989497406214962, "epsilon": 5.875814422073298e-06,
            "use_nesterov": false, "adamw_weight_decay": 0.010141964334059882, "l2_weight_decay": 0}"#;
        let settings: NAdamW = serde_json::from_str(text).unwrap();
        let rate = |t: i32| {
            let (constant, t) = (8.0 * 0.747304046223346, f64::from(t));
            let progress = (t.max(constant) - constant) / (8.0 - constant);
            0.0011948335721160095 * (0.5 + 0.5 * (std::f64::consts::PI * progress).cos())
        };
        let grads = [GRADS, GRADS].concat();
        let expected = by_hand(&settings, |t| rate(t.min(8)), 0.25, &grads);
        let got = run(settings, 8, 0.25, &grads).params.tensor(0)[0];
        assert!((f64::from(got) - expected).abs() < 1e-7, "{got} for {expected}");
    }
}
