//! Gradients kept within bounds, element by element or by their norm over all tensors.

use super::super::norm::global_square;
use super::super::settings;
use crate::Result;
use crate::optimizer::{OptState, Optimizer};
use crate::params::Params;

/// `g ← clip(g, −c, c)` for every element; a NaN stays one (`GradientClipOptimizer` of the
/// reference's `optimizers/base.py`).
#[derive(Debug)]
pub struct GradientClip {
    inner: Box<dyn Optimizer>,
    bound: f32,
}

impl GradientClip {
    /// Shows `inner` gradients whose elements are at most `grad_clip` in magnitude.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] if the bound is not positive and finite.
    pub fn new(inner: Box<dyn Optimizer>, grad_clip: f64) -> Result<Self> {
        settings::positive("grad_clip", grad_clip)?;
        Ok(Self { inner, bound: grad_clip as f32 })
    }
}

impl Optimizer for GradientClip {
    fn name(&self) -> &'static str {
        "gradient_clip"
    }

    fn inner(&self) -> Vec<&dyn Optimizer> {
        vec![self.inner.as_ref()]
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
        self.inner.init(params, horizon)
    }

    fn update(&self, state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        state.check_gradients(grads, losses)?;
        let mut clipped = grads.clone();
        for index in 0..clipped.layout().len() {
            clipped.tensor_mut(index).iter_mut().for_each(|g| *g = g.clamp(-self.bound, self.bound));
        }
        self.inner.update(state, &clipped, losses)
    }

    fn observe_validation(&self, state: OptState, losses: &[f32]) -> Result<OptState> {
        self.inner.observe_validation(state, losses)
    }

    fn with_learning_rate(&self, learning_rate: f64) -> Option<Box<dyn Optimizer>> {
        let inner = self.inner.with_learning_rate(learning_rate)?;
        Some(Box::new(Self { inner, ..*self }))
    }
}

/// `g ← g / ‖g‖ · max` where the norm over all tensors of a lane is not below `max` (Pascanu et al.,
/// arXiv 1211.5063, Algorithm 1; optax 0.2.8 `clip_by_global_norm`). The norm is Euclidean.
///
/// A lane with a NaN, or with an infinite norm, is clipped too, to what these quotients are: NaN, or zeros beside NaN.
#[derive(Debug)]
pub struct GlobalNormClip {
    inner: Box<dyn Optimizer>,
    max_norm: f32,
}

impl GlobalNormClip {
    /// Shows `inner` gradients of a norm of at most `max_norm`.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] if the norm is not positive and finite.
    pub fn new(inner: Box<dyn Optimizer>, max_norm: f64) -> Result<Self> {
        settings::positive("max_norm", max_norm)?;
        Ok(Self { inner, max_norm: max_norm as f32 })
    }
}

impl Optimizer for GlobalNormClip {
    fn name(&self) -> &'static str {
        "global_norm_clip"
    }

    fn inner(&self) -> Vec<&dyn Optimizer> {
        vec![self.inner.as_ref()]
    }

    fn init(&self, params: Params, horizon: &[u32]) -> Result<OptState> {
        self.inner.init(params, horizon)
    }

    fn update(&self, state: OptState, grads: &Params, losses: &[f32]) -> Result<OptState> {
        state.check_gradients(grads, losses)?;
        let mut clipped = grads.clone();
        for lane in 0..grads.lanes() {
            let norm = global_square(grads, lane).sqrt() as f32;
            if norm < self.max_norm {
                continue;
            }
            for index in 0..grads.layout().len() {
                clipped.lane_mut(index, lane).iter_mut().for_each(|g| *g = *g / norm * self.max_norm);
            }
        }
        self.inner.update(state, &clipped, losses)
    }

    fn observe_validation(&self, state: OptState, losses: &[f32]) -> Result<OptState> {
        self.inner.observe_validation(state, losses)
    }

    fn with_learning_rate(&self, learning_rate: f64) -> Option<Box<dyn Optimizer>> {
        let inner = self.inner.with_learning_rate(learning_rate)?;
        Some(Box::new(Self { inner, ..*self }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::{OptimizerConfig, Sgd};
    use crate::{Error, Layout, TensorSpec};

    fn sgd() -> Box<dyn Optimizer> {
        OptimizerConfig::Sgd(Sgd { learning_rate: 1.0.into() }).build().unwrap()
    }

    /// What is left of gradients after clipping: the negative parameters after one step of rate 1 from zero.
    fn seen(clip: &dyn Optimizer, grads: Vec<Vec<f32>>, lanes: usize) -> Vec<Vec<f32>> {
        let layout = Layout::new(vec![TensorSpec::new("b", [2]), TensorSpec::new("a", [])]).unwrap();
        let state = clip.init(Params::zeros(&layout, lanes), &vec![9; lanes]).unwrap();
        let grads = Params::from_tensors(&layout, lanes, grads).unwrap();
        let state = clip.update(state, &grads, &vec![1.0; lanes]).unwrap();
        (0..2).map(|index| state.params.tensor(index).iter().map(|p| -p).collect()).collect()
    }

    #[test]
    fn elements_are_clipped_and_nan_is_not() {
        let clip = GradientClip::new(sgd(), 3.0).unwrap();
        let seen = seen(&clip, vec![vec![-5.0, 2.5], vec![f32::NAN]], 1);
        assert_eq!(seen[0], [-3.0, 2.5]);
        assert!(seen[1][0].is_nan());
    }

    #[test]
    fn a_norm_is_of_all_tensors_of_one_lane() {
        let clip = GlobalNormClip::new(sgd(), 6.0).unwrap();
        let seen = seen(&clip, vec![vec![4.0, 8.0, 1.0, 2.0], vec![8.0, 3.0]], 2);
        assert_eq!(seen, [[2.0, 4.0, 1.0, 2.0].to_vec(), [4.0, 3.0].to_vec()], "12 is halved, √14 is not");
    }

    #[test]
    fn bounds_are_positive() {
        for bound in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(
                matches!(GradientClip::new(sgd(), bound), Err(Error::Setting { field, .. }) if field == "grad_clip")
            );
            assert!(
                matches!(GlobalNormClip::new(sgd(), bound), Err(Error::Setting { field, .. }) if field == "max_norm")
            );
        }
    }
}
