//! How a worker runs, and where it computes.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use paceline_proto::model::WorkerId;

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
    /// A CUDA device, by its ordinal.
    Cuda(u32),
}

/// A text that names no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("device {got:?}: write cpu, or cuda:N with the number of the device")]
pub struct InvalidDevice {
    /// The text given.
    pub got: String,
}

/// A device that this build cannot compute on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "device {device} cannot be used: this build of paceline-worker computes on the CPU only: start it with --device cpu"
)]
pub struct DeviceUnavailable {
    /// The device asked for.
    pub device: Device,
}

impl Device {
    /// Checks that this build can compute here, before anything is connected.
    ///
    /// # Errors
    /// [`DeviceUnavailable`].
    pub fn check(self) -> Result<(), DeviceUnavailable> {
        match self {
            Self::Cpu => Ok(()),
            Self::Cuda(_) => Err(DeviceUnavailable { device: self }),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl FromStr for Device {
    type Err = InvalidDevice;

    fn from_str(text: &str) -> Result<Self, InvalidDevice> {
        let invalid = || InvalidDevice { got: text.to_owned() };
        match text.strip_prefix("cuda:") {
            None if text == "cpu" => Ok(Self::Cpu),
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
        for name in ["cpu", "cuda:0", "cuda:7"] {
            assert_eq!(name.parse::<Device>().unwrap().to_string(), name);
        }
        for name in ["", "gpu", "cuda", "cuda:", "cuda:-1", "CPU"] {
            assert_eq!(name.parse::<Device>(), Err(InvalidDevice { got: name.into() }));
        }
    }

    #[test]
    fn cuda_is_refused_with_its_cure() {
        assert_eq!(Device::Cpu.check(), Ok(()));
        let refused = Device::Cuda(1).check().unwrap_err().to_string();
        assert!(refused.contains("cuda:1") && refused.contains("--device cpu"), "{refused}");
    }
}
