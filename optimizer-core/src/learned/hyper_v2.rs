//! HyperV2.
use super::{LearnedOptimizer, LearnedOptimizerConfig};
use crate::optimizer::Optimizer;
use crate::params::Layout;
use crate::{Result, Seed, Theta};
use std::sync::Arc;
/// Settings.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HyperV2Config {}
/// HyperV2.
#[derive(Clone, Debug)]
pub struct HyperV2 {
    layout: Arc<Layout>,
}
impl HyperV2 {
    /// Builds it.
    ///
    /// # Errors
    /// [`crate::Error::Setting`].
    pub fn new(_config: HyperV2Config) -> Result<Self> {
        Ok(Self { layout: Layout::new(vec![])? })
    }
}
impl LearnedOptimizer for HyperV2 {
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
