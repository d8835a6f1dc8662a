//! Computing on a CUDA device.
//!
//! ```text
//!  kernels/*.cu ─ include_str! ─► source ─ NVRTC, at run time ─► PTX ─► driver ─► device
//!                                   └──── c++, in tests ──────────────► emulator on the host
//!  device N there? driver, compiler, capability ─► Facts, or Unavailable with the cure
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
mod source;

pub use availability::{Facts, Unavailable, find};
#[cfg(feature = "cuda")]
pub use driver::CudaDevice;
pub use source::{UNITS, source};
