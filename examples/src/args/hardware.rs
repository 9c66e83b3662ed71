//! Where a run computes, and how: the flags that all programs share.

use bdh::burn::tensor::Device;
use bdh::ops::Precision;
use bdh::{ConfigError, DeviceSpec, Task, TrainerBuilder};
use clap::error::ErrorKind;
use serde::Serialize;
use std::fmt;

use super::values::count;

/// The devices that a run is given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, clap::Args)]
pub struct Hardware {
    /// cpu, cuda, cuda:1, cuda:0-7, wgpu, vulkan or metal [default: the fastest built in]
    #[arg(
        long,
        value_name = "DEVICE",
        help_heading = "Run",
        visible_alias = "device-type"
    )]
    pub device: Option<DeviceSpec>,
    /// Devices that share the work, from --device on; each has a replica of the model [default: 1]
    #[arg(long, value_name = "COUNT", value_parser = count, help_heading = "Run")]
    pub devices: Option<usize>,
    /// Sends gradients and weights of several devices through the host, also where NCCL could carry them
    #[arg(long, help_heading = "Run")]
    pub exchange_on_host: bool,
    /// What is computed in: f32, or bf16 with weights and loss in f32 [default: bf16 on cuda, f32 elsewhere]
    #[arg(long, value_name = "PRECISION", help_heading = "Run")]
    pub precision: Option<Precision>,
    /// Computes cheap activations again in the backward pass, instead of keeping them
    #[arg(long, help_heading = "Run")]
    pub gradient_checkpointing: bool,
}

impl Hardware {
    /// What the two flags name together.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Device`] if they contradict each other.
    pub fn spec(&self) -> Result<DeviceSpec, ConfigError> {
        match self.devices {
            Some(count) => self.named().with_count(count),
            None => Ok(self.named()),
        }
    }

    /// The devices, ready for training.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Device`] if this program or this machine does not have them, or they do not have the precision.
    pub fn open(&self) -> Result<Vec<Device>, ConfigError> {
        let mut devices = self.spec()?.open()?;
        let dtype = self.precision().dtype();
        self.check_precision(devices.iter().all(|device| device.supports_dtype(dtype)))?;
        if self.gradient_checkpointing {
            devices = devices
                .into_iter()
                .map(Device::gradient_checkpointing)
                .collect();
        }
        Ok(devices)
    }

    /// Vulkan and WebGPU have no arithmetic in bf16: there a run would end in the middle of its first step.
    fn check_precision(&self, is_supported: bool) -> Result<(), ConfigError> {
        if is_supported {
            return Ok(());
        }
        let (device, precision) = (self.named(), self.precision());
        Err(ConfigError::Device(format!(
            "`{device}` does not compute in {precision}; give --precision f32, or a device that does: cuda or cpu"
        )))
    }

    /// What is computed in.
    #[must_use]
    pub fn precision(&self) -> Precision {
        let usual = if self.named().is_cuda() {
            Precision::Bf16
        } else {
            Precision::F32
        };
        self.precision.unwrap_or(usual)
    }

    /// Whether a run computes on the CPU.
    #[must_use]
    pub fn is_cpu(&self) -> bool {
        self.named().is_cpu()
    }

    /// What `--device` names, or the fastest device built in.
    fn named(&self) -> DeviceSpec {
        self.device.clone().unwrap_or_default()
    }

    /// Lets a run's devices share its steps.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn share<T: Task>(&self, run: TrainerBuilder<T>) -> Result<TrainerBuilder<T>, ConfigError> {
        Ok(run
            .devices(self.open()?)
            .exchange_on_host(self.exchange_on_host))
    }

    /// How many devices a run has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.spec().map_or(1, |spec| spec.count())
    }

    /// What the flags may be wrong about together, as clap says it.
    ///
    /// # Errors
    ///
    /// clap's.
    pub fn check(&self, command: impl FnOnce() -> clap::Command) -> Result<(), clap::Error> {
        let wrong = |error: ConfigError| command().error(ErrorKind::ArgumentConflict, error);
        self.spec().map(drop).map_err(wrong)
    }
}

impl fmt::Display for Hardware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} in {}",
            self.spec().unwrap_or_else(|_| self.named()),
            self.precision()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hardware(device: &str, devices: Option<usize>) -> Hardware {
        Hardware {
            device: Some(device.parse().expect("a device")),
            devices,
            ..Hardware::default()
        }
    }

    #[test]
    fn a_count_is_of_the_device_that_is_named() {
        assert_eq!(
            hardware("cuda", Some(8)).spec().expect("eight").to_string(),
            "cuda:0-7"
        );
        assert_eq!(hardware("cuda:0-3", None).count(), 4);
        assert_eq!(hardware("cpu", Some(2)).open().expect("the CPU").len(), 2);
        assert!(hardware("cuda:0-3", Some(8)).spec().is_err());
    }

    #[test]
    fn bf16_is_usual_on_cuda_alone() {
        let usual = |device| hardware(device, None).precision();
        assert_eq!(usual("cuda:0-7"), Precision::Bf16);
        assert!(
            ["cpu", "vulkan", "wgpu", "metal"]
                .map(usual)
                .iter()
                .all(|p| *p == Precision::F32)
        );
    }

    #[test]
    fn a_precision_that_a_device_lacks_is_one_sentence_with_what_would_work() {
        let asked = Hardware {
            precision: Some(Precision::Bf16),
            ..hardware("vulkan:1", None)
        };
        let error = asked
            .check_precision(false)
            .expect_err("not supported")
            .to_string();
        let expected = "`vulkan:1` does not compute in bf16; give --precision f32, or a device that does: cuda or cpu";
        assert_eq!(error, expected);
        let on_cpu = Hardware {
            precision: Some(Precision::Bf16),
            ..hardware("cpu", None)
        };
        assert_eq!(on_cpu.open().expect("the CPU has every precision").len(), 1);
    }
}
