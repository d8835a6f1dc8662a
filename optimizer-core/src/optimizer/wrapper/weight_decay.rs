//! An L2 penalty that any optimizer sees, learned ones too.

use super::super::norm::global_square;
use super::super::settings;
use crate::Result;
use crate::optimizer::{OptState, Optimizer};
use crate::params::Params;

/// `loss ← loss + w Σ p²` and `g ← g + w p`, over all tensors (`WeightDecayWrapper` of the reference's
/// `optimizers/optimizer_wrappers.py`).
///
/// The gradient is half of what the penalised loss has; the reference has the two so.
#[derive(Debug)]
pub struct WeightDecay {
    inner: Box<dyn Optimizer>,
    weight: f32,
    add_to_loss: bool,
}

impl WeightDecay {
    /// Penalises the parameters of `inner` with weight `weight_decay`; its loss contains the penalty if `add_to_loss`.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] if the weight is negative or not finite.
    pub fn new(inner: Box<dyn Optimizer>, weight_decay: f64, add_to_loss: bool) -> Result<Self> {
        settings::non_negative("weight_decay", weight_decay)?;
        Ok(Self { inner, weight: weight_decay as f32, add_to_loss })
    }
}

impl WeightDecay {
    /// Losses of each lane with the penalty, where it is added.
    fn penalised(&self, params: &Params, losses: &[f32]) -> Vec<f32> {
        let mut losses = losses.to_vec();
        if self.add_to_loss {
            for (lane, loss) in losses.iter_mut().enumerate() {
                let penalty = f64::from(self.weight) * global_square(params, lane);
                *loss = (f64::from(*loss) + penalty) as f32;
            }
        }
        losses
    }
}

impl Optimizer for WeightDecay {
    fn name(&self) -> &'static str {
        "weight_decay"
    }

    fn inner(&self) -> Vec<&dyn Optimizer> {
        vec![self.inner.as_ref()]
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
        self.inner.init(params, horizon)
    }

    fn update(&self, state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        state.check_gradients(grads, losses)?;
        let mut penalised = grads.clone();
        for index in 0..grads.layout().len() {
            for (g, p) in penalised.tensor_mut(index).iter_mut().zip(state.params.tensor(index)) {
                *g += self.weight * p;
            }
        }
        let losses = self.penalised(&state.params, losses);
        self.inner.update(state, &penalised, &losses)
    }

    fn observe_validation(&self, state: OptState, losses: &[f32]) -> Result<OptState> {
        state.check_losses(losses)?;
        let losses = self.penalised(&state.params, losses);
        self.inner.observe_validation(state, &losses)
    }

    fn with_learning_rate(&self, learning_rate: f64) -> Option<Box<dyn Optimizer>> {
        let inner = self.inner.with_learning_rate(learning_rate)?;
        Some(Box::new(Self { inner, ..*self }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{Layout, TensorSpec};

    /// Gradients and losses, call by call.
    type Seen = Arc<Mutex<Vec<(Params, Vec<f32>)>>>;

    /// Stands still and writes down what it sees.
    #[derive(Debug)]
    struct Witness(Seen);

    impl Optimizer for Witness {
        fn name(&self) -> &'static str {
            "witness"
        }

        fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
            OptState::new(params, horizon, vec![])
        }

        fn update(&self, state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
            self.0.lock().unwrap().push((grads.clone(), losses.to_vec()));
            Ok(state)
        }
    }

    #[test]
    fn the_loss_gains_twice_what_the_gradient_does() {
        let layout = Layout::new(vec![TensorSpec::new("a", []), TensorSpec::new("b", [2])]).unwrap();
        let params = Params::from_tensors(&layout, 2, vec![vec![2.0, 0.0], vec![1.0, -4.0, 0.0, 3.0]]).unwrap();
        let grads = Params::from_tensors(&layout, 2, vec![vec![0.5, 0.5], vec![0.0, 1.0, -1.0, 0.0]]).unwrap();
        let seen = Seen::default();
        for add_to_loss in [true, false] {
            let decay = WeightDecay::new(Box::new(Witness(Arc::clone(&seen))), 0.5, add_to_loss).unwrap();
            let state = decay.init(params.clone(), &[9, 9]).unwrap();
            decay.update(state, &grads, &[1.0, 2.0]).unwrap();
        }
        let seen = seen.lock().unwrap();
        for (grads, _) in seen.iter() {
            assert_eq!(grads.tensor(0), [1.5, 0.5]);
            assert_eq!(grads.tensor(1), [0.5, -1.0, -1.0, 1.5]);
        }
        assert_eq!(seen[0].1, [1.0 + 10.5, 2.0 + 4.5]);
        assert_eq!(seen[1].1, [1.0, 2.0]);
    }
}
