//! LearnableAdam.
use super::{LearnedOptimizer, LearnedOptimizerConfig};
use crate::optimizer::Optimizer;
use crate::params::Layout;
use crate::{Result, Seed, Theta};
use std::sync::Arc;
/// LearnableAdam.
#[derive(Clone, Debug)]
pub struct LearnableAdam {
    layout: Arc<Layout>,
}
impl LearnableAdam {
    /// Builds it.
    ///
    /// # Errors
    /// [`crate::Error::Setting`].
    pub fn new() -> Result<Self> {
        Ok(Self { layout: Layout::new(vec![])? })
    }
}
impl LearnedOptimizer for LearnableAdam {
    fn config(&self) -> LearnedOptimizerConfig {
        unimplemented!()
    }
    fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }
    fn init_theta(&self, _seed: Seed) -> Theta {
        unimplemented!()
    }
    fn bind(&self, _theta: Theta) -> Result<Box<dyn Optimizer>> {
        unimplemented!()
    }
}
