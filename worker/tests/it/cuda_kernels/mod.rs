//! The CUDA kernels, run on the host and compared with what the CPU computes.
//!
//! The emulator compiles the very sources that a device's compiler gets; what it cannot show is that a device's compiler
//! and a device agree with it. See `docs/cuda.md`.

mod emulator;
mod feed_forward;
mod hyper_v2;
mod noise;
mod pairs;
mod update;
mod window;
