//! Augmentations: the same problem, made harder to train, as wrappers around any family.
//!
//! ```text
//!  recipe   augment = [ reparam, es, half_precision, …, delay ]
//!                          │      │         │             │
//!  built    image_mlp ◄─ reparam ◄─ es ◄─ half_precision ◄─ … ◄─ delay ◄─ optimizer
//!           (innermost first: each sees parameters and gradients as the next one passes them on)
//! ```
//!
//! An optimizer that has met them works where gradients come late, coarse, noisy or at the wrong scale (Metz et al., VeLO,
//! arXiv 2211.09760). They are the wrappers of the reference's `tasks/task_augmentation.py` and `tasks/es_wrapper.py`
//! (google/learned_optimization @ 32186aa4), and gradient noise. A reduced batch is one of them in a recipe, but is made
//! by building the family with another `batch_size`.
//!
//! Two kinds of numbers are drawn. Those of a *member* (whether an augmentation applies, sigma, the number of pairs, the
//! level of a reparametrisation) are the same for all lanes that run together, by [`TaskFamily::draw`]; those of a *task*
//! (the scales, the directions and the noise of a step) come from the lane's seed, so lanes of equal seeds meet the same.
//!
//! [`TaskFamily::draw`]: paceline_optimizer_core::task::TaskFamily::draw

mod change;
mod delay;
mod directions;
mod es;
mod family;
mod gradient;
mod half;
mod numbers;
mod reparam;
mod settings;

pub(crate) use family::{Base, augmented};
pub use settings::{AugmentationInfo, augmentations};
pub(crate) use settings::{Entry, parse, written};
