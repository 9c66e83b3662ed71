//! Flags of devices and precision, which all programs share.

use bdh::burn::tensor::Device;
use bdh::device::DeviceSpec;
use bdh::ops::Precision;
use bdh::{ConfigError, Task, TrainerBuilder};
use clap::error::ErrorKind;
use serde::Serialize;
use std::fmt;

use super::values::count;

/// Devices and precision of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, clap::Args)]
pub struct Hardware {
    /// Device: cpu, cuda, cuda:1, cuda:0-7, wgpu, vulkan or metal [default: the fastest of this build]
    #[arg(
        long,
        value_name = "DEVICE",
        help_heading = "Run",
        visible_alias = "device-type"
    )]
    pub device: Option<DeviceSpec>,
    /// Number of devices that share each step, starting with --device [default: 1]
    #[arg(long, value_name = "COUNT", value_parser = count, help_heading = "Run")]
    pub devices: Option<usize>,
    /// Exchanges gradients and weights of several devices through the host, even if NCCL is available
    #[arg(long, help_heading = "Run")]
    pub exchange_on_host: bool,
    /// Precision of activations: f32, or bf16 with weights and loss in f32 [default: bf16 on cuda, f32 elsewhere]
    #[arg(long, value_name = "PRECISION", help_heading = "Run")]
    pub precision: Option<Precision>,
    /// Recomputes cheap activations in the backward pass instead of keeping them, which saves memory
    #[arg(long, help_heading = "Run")]
    pub gradient_checkpointing: bool,
}

impl Hardware {
    /// Returns the devices of `--device` and `--devices`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Device`] if the flags contradict each other.
    pub fn spec(&self) -> Result<DeviceSpec, ConfigError> {
        match self.devices {
            Some(count) => self.named().with_count(count),
            None => Ok(self.named()),
        }
    }

    /// Opens the devices for training.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Device`] if a device is not in this build or on this machine, or does not support the precision.
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

    /// Checks the precision: Vulkan and WebGPU have no bf16, and a run would fail in its first step.
    fn check_precision(&self, is_supported: bool) -> Result<(), ConfigError> {
        if is_supported {
            return Ok(());
        }
        let (device, precision) = (self.named(), self.precision());
        Err(ConfigError::Device(format!(
            "`{device}` does not support {precision}: use --precision f32, or a device with {precision}: cuda or cpu"
        )))
    }

    /// Returns the precision of activations.
    #[must_use]
    pub fn precision(&self) -> Precision {
        match self.precision {
            Some(precision) => precision,
            None if self.named().is_cuda() => Precision::Bf16,
            None => Precision::F32,
        }
    }

    /// Returns whether a run uses the CPU.
    #[must_use]
    pub fn is_cpu(&self) -> bool {
        self.named().is_cpu()
    }

    /// Returns whether a run uses NVIDIA GPUs through CUDA.
    #[must_use]
    pub fn is_cuda(&self) -> bool {
        self.named().is_cuda()
    }

    /// Returns the device of `--device`, or the fastest device of this build.
    fn named(&self) -> DeviceSpec {
        self.device.clone().unwrap_or_default()
    }

    /// Adds the devices to a run.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Device`] if [`open`](Self::open) fails.
    pub fn share<T: Task>(&self, run: TrainerBuilder<T>) -> Result<TrainerBuilder<T>, ConfigError> {
        Ok(run
            .devices(self.open()?)
            .exchange_on_host(self.exchange_on_host))
    }

    /// Returns the number of devices.
    #[must_use]
    pub fn count(&self) -> usize {
        self.spec().map_or(1, |spec| spec.count())
    }

    /// Checks combinations of flags; `command` formats the error.
    ///
    /// # Errors
    ///
    /// An [`ErrorKind::ArgumentConflict`] if the flags contradict each other.
    pub fn check(&self, command: impl FnOnce() -> clap::Command) -> Result<(), clap::Error> {
        match self.spec() {
            Ok(_) => Ok(()),
            Err(error) => Err(command().error(ErrorKind::ArgumentConflict, error)),
        }
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
    fn count_applies_to_the_named_device() {
        assert_eq!(
            hardware("cuda", Some(8)).spec().expect("eight").to_string(),
            "cuda:0-7"
        );
        assert_eq!(hardware("cuda:0-3", None).count(), 4);
        assert_eq!(hardware("cpu", Some(2)).open().expect("the CPU").len(), 2);
        assert!(hardware("cuda:0-3", Some(8)).spec().is_err());
    }

    #[test]
    fn bf16_is_the_default_only_on_cuda() {
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
    fn error_of_an_unsupported_precision_suggests_devices() {
        let asked = Hardware {
            precision: Some(Precision::Bf16),
            ..hardware("vulkan:1", None)
        };
        let error = asked
            .check_precision(false)
            .expect_err("not supported")
            .to_string();
        let expected = "`vulkan:1` does not support bf16: use --precision f32, or a device with bf16: cuda or cpu";
        assert_eq!(error, expected);
        let on_cpu = Hardware {
            precision: Some(Precision::Bf16),
            ..hardware("cpu", None)
        };
        assert_eq!(on_cpu.open().expect("the CPU has every precision").len(), 1);
    }
}
