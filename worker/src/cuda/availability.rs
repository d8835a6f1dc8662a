//! Whether a device can be used, and if not, what to do about it.

use std::fmt;
use std::sync::Arc;

use paceline_optimizer_core::unroll::LaneTrainer;

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The vendor's name of it.
    pub name: String,
    /// Compute capability, major and minor.
    pub capability: (u32, u32),
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of memory that are free now.
    pub free: u64,
    /// Bytes of memory.
    pub total: u64,
    /// Most bytes of shared memory a block may ask for.
    pub shared: u64,
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        let Self { name, capability: (major, minor), multiprocessors, free, total, shared } = self;
        write!(
            f,
            "{name}, compute capability {major}.{minor}, {multiprocessors} multiprocessors of {} KiB, {:.1} of {:.1} \
             GiB free",
            shared / 1024,
            gib(*free),
            gib(*total)
        )
    }
}

/// Why a CUDA device cannot be used, with the cure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// The feature is off.
    #[error("this build computes on the CPU only: build it with `--features cuda` (docs/cuda.md)")]
    NotBuilt,
    /// No `libcuda`.
    #[error(
        "there is no CUDA driver (libcuda.so.1) on this machine: install NVIDIA's driver, or start the container with \
         its devices (`--gpus all`)"
    )]
    NoDriver,
    /// The driver has no device.
    #[error("the CUDA driver sees no device: look at `nvidia-smi` and at CUDA_VISIBLE_DEVICES")]
    NoDevice,
    /// There are devices, but not this one.
    #[error("there is no such device: the CUDA driver counts {count}, so the last is cuda:{}", count - 1)]
    NoSuchDevice {
        /// Devices there are; at least one.
        count: u32,
    },
    /// The device lacks instructions the kernels are compiled for.
    #[error("its compute capability {}.{} is below 8.0, the oldest the kernels are compiled for", got.0, got.1)]
    TooOld {
        /// What it has.
        got: (u32, u32),
    },
    /// No `libnvrtc`.
    #[error(
        "there is no NVRTC (libnvrtc.so.13 or .12), which compiles the kernels: install the CUDA toolkit's, or the \
         PyPI package nvidia-cuda-nvrtc with its folder on LD_LIBRARY_PATH"
    )]
    NoCompiler,
    /// A call to the driver failed.
    #[error("the CUDA driver failed to {doing}: {why}")]
    Driver {
        /// What was asked of it.
        doing: &'static str,
        /// Its answer.
        why: String,
    },
    /// A kernel does not compile.
    #[error("NVRTC does not compile {unit}: {why}")]
    Compilation {
        /// The file.
        unit: &'static str,
        /// The compiler's messages.
        why: String,
    },
    /// The device computes other noise than the CPU.
    #[error(
        "its {noise} noise differs from the CPU's at number {at}: results would not be those of their seeds, so the \
         device must not be used; this is a bug of the kernels or of the driver, please report both versions"
    )]
    OtherNoise {
        /// Its kind.
        noise: &'static str,
        /// First place that differs.
        at: u64,
    },
}

/// Looks for device `ordinal`, and for what computing there takes: driver, compiler, and kernels that make the CPU's
/// noise to the bit.
///
/// # Errors
/// [`Unavailable`].
pub fn find(ordinal: u32) -> Result<Facts, Unavailable> {
    #[cfg(feature = "cuda")]
    return super::CudaDevice::open(ordinal).and_then(|device| device.check().and_then(|()| device.facts()));
    #[cfg(not(feature = "cuda"))]
    {
        let _ = ordinal;
        Err(Unavailable::NotBuilt)
    }
}

/// What trains lanes on device `ordinal`, found as [`find`] does.
///
/// # Errors
/// [`Unavailable`].
pub(crate) fn trainer(ordinal: u32) -> Result<Arc<dyn LaneTrainer>, Unavailable> {
    #[cfg(feature = "cuda")]
    {
        let device = super::CudaDevice::open(ordinal)?;
        device.check()?;
        tracing::info!("computing on {}", device.facts()?);
        Ok(Arc::new(super::WindowTrainer(device)))
    }
    #[cfg(not(feature = "cuda"))]
    {
        let _ = ordinal;
        Err(Unavailable::NotBuilt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_name_their_cure() {
        for (reason, cure) in [
            (Unavailable::NotBuilt, "--features cuda"),
            (Unavailable::NoDriver, "--gpus all"),
            (Unavailable::NoDevice, "CUDA_VISIBLE_DEVICES"),
            (Unavailable::NoSuchDevice { count: 2 }, "cuda:1"),
            (Unavailable::TooOld { got: (7, 5) }, "7.5 is below 8.0"),
            (Unavailable::NoCompiler, "nvidia-cuda-nvrtc"),
            (
                Unavailable::OtherNoise { noise: "low_rank", at: 7 },
                "its low_rank noise differs from the CPU's at number 7",
            ),
        ] {
            assert!(reason.to_string().contains(cure), "{reason}");
        }
    }

    #[test]
    fn facts_are_told_in_one_line() {
        let facts = Facts {
            name: "A card".into(),
            capability: (9, 0),
            multiprocessors: 132,
            free: 70 << 30,
            total: 80 << 30,
            shared: 227 << 10,
        };
        let told = "A card, compute capability 9.0, 132 multiprocessors of 227 KiB, 70.0 of 80.0 GiB free";
        assert_eq!(facts.to_string(), told);
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_build_without_the_feature_says_so() {
        assert_eq!(find(0), Err(Unavailable::NotBuilt));
    }
}
