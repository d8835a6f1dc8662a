//! Celo2 (arXiv:2602.19142): a learned rule that says where to go, and leaves how far to a learning rate.
//!
//! ```text
//!  g, p, m, rms, factored moments ─► normalise each matrix ─► 30-8-8-3 ─► Newton–Schulz ─► RMS 1 ─► direction s
//!                                                                                                      │
//!  base      all tensors                  p ← p − η s − λ p η                   η a constant        ◄──┤
//!  meta      what no pattern names        the same;  the others by Adam*                            ◄──┤
//!  shipped   what is no vector            p ← p − lr(t) (s + λ p);  the others by AdamW             ◄──┘
//! ```
//!
//! There is no scheduler, no loss and no horizon in the rule. It comes in three forms that differ in what they do with
//! a direction, so each is a type of its own: [`Celo2Base`] and [`Celo2Meta`] are the classes that meta-training uses
//! (`Celo2Base`, `Celo2` of `celo/optimizers/celo2.py`, `amoudgl/celo` @ 66d9761), [`Celo2`] is what its users are told
//! to run (`scale_by_celo2` in a chain of optax). All three have the same theta.
//!
//! The rule never rests: as its output is normalised, a tensor without a gradient still moves by the full step.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::form::Form;
use self::rule::Rule;
use super::initial::InitialTheta;
use super::{LearnedOptimizer, LearnedOptimizerConfig, check_theta, init_unperturbed};
use crate::optimizer::{OptState, Optimizer};
use crate::params::{Layout, Params};
use crate::perturbation::Antithetic;
use crate::{Result, Seed, Theta};

mod form;
mod rule;
mod rule_settings;
mod settings;
mod update;

pub use rule_settings::Celo2Rule;
pub use settings::{Celo2, Celo2AdamW, Celo2Base, Celo2Meta, Celo2Vectors};

/// A form of Celo2 (arXiv 2602.19142; `amoudgl/celo` @ 66d9761, `celo/optimizers/celo2.py`) with its settings; in a
/// recipe `form` names it, and settings of another form are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "snake_case")]
pub enum Celo2Config {
    /// One constant step size, the learned rule for all tensors.
    Base(Celo2Base),
    /// One constant step size, Adam* for the tensors that a pattern names.
    Meta(Celo2Meta),
    /// A scheduled learning rate, AdamW for vectors and embeddings.
    Shipped(Celo2),
}

impl Celo2Config {
    /// The rule that makes directions, and how they are applied.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] if a setting is out of its range.
    fn check(&self) -> Result<(Rule, Form)> {
        match self {
            Self::Base(base) => Ok((base.rule.check(base.orthogonalize)?, base.form()?)),
            Self::Meta(meta) => Ok((meta.rule.check(meta.orthogonalize)?, meta.form()?)),
            Self::Shipped(shipped) => Ok((shipped.rule.check(shipped.orthogonalize)?, shipped.form()?)),
        }
    }
}

/// The learned optimizer of any form. Theta is the per-parameter network: `ff_mod_stack/~/w0__0` … `w0__13`
/// \[channels, 8\], `w1` \[8, 8\], `w2` \[8, 3\] and `b0`, `b1`, `b2`; 347 numbers by default.
#[derive(Debug)]
pub(super) struct Family {
    config: Celo2Config,
    rule: Rule,
    form: Form,
    theta: InitialTheta,
}

impl Family {
    /// The learned optimizer these settings describe.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] if a setting is out of its range.
    pub(super) fn new(config: Celo2Config) -> Result<Self> {
        let (rule, form) = config.check()?;
        let theta = InitialTheta::new(rule.shape.tensors(None))?;
        Ok(Self { config, rule, form, theta })
    }
}

impl LearnedOptimizer for Family {
    fn config(&self) -> Option<LearnedOptimizerConfig> {
        Some(LearnedOptimizerConfig::Celo2(self.config.clone()))
    }

    fn layout(&self) -> &Arc<Layout> {
        self.theta.layout()
    }

    fn init_theta(&self, seed: Seed) -> Theta {
        self.theta.draw(seed)
    }

    fn bind(&self, theta: Theta) -> Result<Box<dyn Optimizer>> {
        check_theta(self.layout(), &theta)?;
        Ok(Box::new(update::Bound::new(self.rule.clone(), self.form.clone(), theta)))
    }

    /// Nothing of theta enters the state.
    fn init_pairs(&self, lanes: &Antithetic, params: Params, horizon: &[u32]) -> Result<OptState> {
        init_unperturbed(self, lanes, params, horizon)
    }
}
