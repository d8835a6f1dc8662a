//! Computing on a CUDA device.
//!
//! ```text
//!  kernels/*.cu ─ include_str! ─► source ─ NVRTC, at run time ─► PTX ─► driver ─► device
//!                                   └──── c++, in tests ──────────────► emulator on the host
//!  device N there? driver, compiler, capability ─► Facts, or Unavailable with the cure
//!  theta, seeds ─► thetas ─► a theta a lane, on the device
//!  memory of the device ─► budget ─► how many lanes at a time
//! ```
//!
//! Everything but the calls to the device itself is compiled in every build, so that it is tested on machines without
//! one; those calls are behind the feature `cuda`, and load the driver and the compiler when they are first needed. A
//! binary with the feature starts on any machine. What was verified where: `docs/cuda.md`.

mod availability;
pub mod budget;
#[cfg(feature = "cuda")]
mod driver;
pub mod feed_forward;
pub mod layout;
mod probe;
mod rule;
mod source;
pub mod thetas;
mod trainer;
pub mod window;

pub(crate) use availability::trainer;
pub use availability::{Facts, Unavailable, find};
#[cfg(feature = "cuda")]
pub use driver::CudaDevice;
pub use probe::DeviceProbe;
pub use rule::{DeviceRule, Kept};
pub use source::{UNITS, source};
pub use thetas::ThetaJob;
pub use trainer::{WindowJob, WindowKernel, WindowTrainer};

/// Why something is computed on the CPU although there is a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOnDevice {
    /// A learned optimizer without a kernel.
    #[error("the optimizer: {why}")]
    Optimizer {
        /// What the kernels know instead.
        why: &'static str,
    },
    /// A task without a kernel.
    #[error("the task: {why}")]
    Task {
        /// What the kernels know instead.
        why: &'static str,
    },
    /// A tensor of a shape the kernels do not know.
    #[error("the tensor {name} of shape {shape:?}: the kernels know no tensors of several axes without values")]
    Shape {
        /// Its name.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A lane too large to be addressed.
    #[error("a lane of more than 2^30 numbers of optimizer state or of activations")]
    TooLarge,
}
