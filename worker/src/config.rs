//! How a worker runs, and where it computes.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use paceline_optimizer_core::unroll::LaneTrainer;
use paceline_proto::client::Access;
use paceline_proto::model::WorkerId;

use crate::cuda::{Unavailable, find, trainer};

/// How a worker runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// `http://host:port` of the coordinator, or `https://host:port`.
    pub coordinator: String,
    /// What it trusts and shows there.
    pub access: Access,
    /// Its id.
    pub worker: WorkerId,
    /// Threads that compute; 0 counts as 1.
    pub threads: usize,
    /// Where real data is.
    pub data_dir: Option<PathBuf>,
    /// Where it computes.
    pub device: Device,
}

/// Where a worker computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// A CUDA device, by its ordinal; without it the worker refuses to start.
    Cuda(u32),
    /// The first CUDA device if it can be used, the processor if not: the only way to fall back.
    Auto,
}

/// A text that names no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("device {got:?}: write cpu, cuda:N with the number of the device, or auto")]
pub struct InvalidDevice {
    /// The text given.
    pub got: String,
}

/// A device that cannot be computed on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("device {device} cannot be used: {reason}; to compute on the CPU, start it with --device cpu or --device auto")]
pub struct DeviceUnavailable {
    /// The device asked for.
    pub device: Device,
    /// Why.
    pub reason: Unavailable,
}

impl Device {
    /// Where workers would compute, without one: to refuse a device before anything else is begun.
    ///
    /// # Errors
    /// [`DeviceUnavailable`].
    pub fn choose(self) -> Result<Self, DeviceUnavailable> {
        self.open_with(find).map(|(device, _)| device)
    }

    /// Where to compute and what computes there, opened before anything is connected: the device asked for, or, for
    /// [`Device::Auto`], the processor with the reason in the log. The processor needs no trainer of its own.
    pub(crate) fn open(self) -> Result<(Self, Option<Arc<dyn LaneTrainer>>), DeviceUnavailable> {
        self.open_with(trainer)
    }

    fn open_with<T>(
        self,
        open: impl Fn(u32) -> Result<T, Unavailable>,
    ) -> Result<(Self, Option<T>), DeviceUnavailable> {
        match self {
            Self::Cpu => Ok((Self::Cpu, None)),
            Self::Cuda(ordinal) => match open(ordinal) {
                Ok(opened) => Ok((self, Some(opened))),
                Err(reason) => Err(DeviceUnavailable { device: self, reason }),
            },
            Self::Auto => match open(0) {
                Ok(opened) => Ok((Self::Cuda(0), Some(opened))),
                Err(reason) => {
                    tracing::info!("computing on the CPU: cuda:0 cannot be used: {reason}");
                    Ok((Self::Cpu, None))
                }
            },
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

impl FromStr for Device {
    type Err = InvalidDevice;

    fn from_str(text: &str) -> Result<Self, InvalidDevice> {
        let invalid = || InvalidDevice { got: text.to_owned() };
        match text.strip_prefix("cuda:") {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "auto" => Ok(Self::Auto),
            None => Err(invalid()),
            Some(ordinal) => ordinal.parse().map(Self::Cuda).map_err(|_| invalid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn device_names_round_trip() {
        for name in ["cpu", "cuda:0", "cuda:7", "auto"] {
            assert_eq!(name.parse::<Device>().unwrap().to_string(), name);
        }
        for name in ["", "gpu", "cuda", "cuda:", "cuda:-1", "CPU"] {
            assert_eq!(name.parse::<Device>(), Err(InvalidDevice { got: name.into() }));
        }
    }

    #[test]
    fn a_device_that_cannot_be_used_is_refused_with_reason_and_cure() {
        for reason in [Unavailable::NotBuilt, Unavailable::NoDriver, Unavailable::NoSuchDevice { count: 1 }] {
            let refused = Device::Cuda(1).open_with(|_| Err::<(), _>(reason.clone())).unwrap_err().to_string();
            assert!(refused.contains("cuda:1") && refused.contains("--device cpu"), "{refused}");
            assert!(refused.contains(&reason.to_string()), "{refused}");
        }
    }

    #[test]
    fn only_auto_falls_back() {
        let none = |_| Err::<(), _>(Unavailable::NoDevice);
        assert_eq!(Device::Auto.open_with(none), Ok((Device::Cpu, None)));
        assert_eq!(
            Device::Cpu.open_with(|_| -> Result<(), _> { panic!("nobody asked for it") }),
            Ok((Device::Cpu, None))
        );
        assert!(Device::Cuda(0).open_with(none).is_err());
    }

    #[test]
    fn a_usable_device_is_opened_once_and_used() {
        let opened = Cell::new(0);
        let open = |ordinal| {
            opened.set(opened.get() + 1);
            Ok(ordinal)
        };
        assert_eq!(Device::Auto.open_with(open), Ok((Device::Cuda(0), Some(0))));
        assert_eq!(Device::Cuda(3).open_with(open), Ok((Device::Cuda(3), Some(3))));
        assert_eq!(opened.get(), 2);
    }
}
