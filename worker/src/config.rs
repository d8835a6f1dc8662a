//! How a worker runs, and where it computes.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use paceline_proto::model::WorkerId;

use crate::cuda::{Facts, Unavailable, find};

/// How a worker runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// `http://host:port` of the coordinator.
    pub coordinator: String,
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
    /// Where to compute, decided before anything is connected: the device asked for, or, for [`Device::Auto`], the
    /// processor with the reason in the log.
    ///
    /// # Errors
    /// [`DeviceUnavailable`].
    pub fn choose(self) -> Result<Self, DeviceUnavailable> {
        self.choose_among(find)
    }

    fn choose_among(self, find: impl Fn(u32) -> Result<Facts, Unavailable>) -> Result<Self, DeviceUnavailable> {
        match self {
            Self::Cpu => Ok(Self::Cpu),
            Self::Cuda(ordinal) => match find(ordinal) {
                Ok(_) => Ok(self),
                Err(reason) => Err(DeviceUnavailable { device: self, reason }),
            },
            Self::Auto => match find(0) {
                Ok(_) => Ok(Self::Cuda(0)),
                Err(reason) => {
                    tracing::info!("computing on the CPU: cuda:0 cannot be used: {reason}");
                    Ok(Self::Cpu)
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
            let refused = Device::Cuda(1).choose_among(|_| Err(reason.clone())).unwrap_err().to_string();
            assert!(refused.contains("cuda:1") && refused.contains("--device cpu"), "{refused}");
            assert!(refused.contains(&reason.to_string()), "{refused}");
        }
    }

    #[test]
    fn only_auto_falls_back() {
        let none = |_| Err(Unavailable::NoDevice);
        assert_eq!(Device::Auto.choose_among(none), Ok(Device::Cpu));
        assert_eq!(Device::Cpu.choose_among(|_| panic!("nobody asked for a device")), Ok(Device::Cpu));
        assert!(Device::Cuda(0).choose_among(none).is_err());
    }

    #[test]
    fn a_usable_device_is_used() {
        let facts = Facts { name: "A".into(), capability: (9, 0), multiprocessors: 1, free: 1, total: 1, shared: 1 };
        let found = |_| Ok(facts.clone());
        assert_eq!(Device::Auto.choose_among(found), Ok(Device::Cuda(0)));
        assert_eq!(Device::Cuda(3).choose_among(found), Ok(Device::Cuda(3)));
    }
}
