//! Devices by name, chosen at run time among those that were compiled in.

mod spec;

pub use spec::DeviceSpec;

use crate::error::ConfigError;
use burn::module::Module;
use burn::tensor::Device;

/// Finds the device that a name stands for, ready for training (with autodiff).
///
/// | name                        | device                                         | feature  |
/// |-----------------------------|------------------------------------------------|----------|
/// | `cpu`                       | the CPU                                        | `flex`   |
/// | `cuda`, `cuda:1`            | an NVIDIA GPU, the first or the second         | `cuda`   |
/// | `wgpu`, `vulkan`, `metal`   | the best GPU through that API                  | the same |
/// | `wgpu:1`, `vulkan:1` …      | the second device that this API lists          | the same |
///
/// # Errors
///
/// [`ConfigError::Device`] if the name is unknown or stands for several devices, if its feature was not compiled in,
/// or if this machine has no such device; the text says what would work.
///
/// # Examples
///
/// ```
/// let device = bdh::device("cpu")?;
/// assert!(bdh::device("gpu").is_err());
/// # Ok::<(), bdh::ConfigError>(())
/// ```
pub fn device(name: &str) -> Result<Device, ConfigError> {
    let mut found = devices(name)?;
    match found.pop() {
        Some(device) if found.is_empty() => Ok(device),
        _ => Err(ConfigError::Device(format!(
            "`{name}` is {} devices where one is expected; `bdh::devices` gives them all, for \
             `Trainer::builder(…).devices(…)`",
            found.len() + 1
        ))),
    }
}

/// Finds the devices that a name stands for: `cuda:0-7`, `cuda:0,2,5`, or one as for [`device()`].
///
/// They are for [`TrainerBuilder::devices`](crate::TrainerBuilder::devices), which trains a replica of the model on each.
/// `cpu:0-3` stands for the CPU four times: replicas that share it, for tests.
///
/// # Errors
///
/// As [`device()`], but for several devices.
///
/// # Examples
///
/// ```
/// assert_eq!(bdh::devices("cpu:0-3")?.len(), 4);
/// # Ok::<(), bdh::ConfigError>(())
/// ```
pub fn devices(names: &str) -> Result<Vec<Device>, ConfigError> {
    names.parse::<DeviceSpec>()?.open()
}

/// Whether all of these are NVIDIA's GPUs, each another one.
pub(crate) fn are_cuda(devices: &[Device]) -> bool {
    #[cfg(feature = "cuda")]
    {
        use burn::tensor::DeviceType;
        let cuda = Device::enumerate(DeviceType::Cuda);
        let is_new = |(at, device): (usize, &Device)| !devices[..at].contains(device);
        devices.iter().all(|device| cuda.contains(device)) && devices.iter().enumerate().all(is_new)
    }
    #[cfg(not(feature = "cuda"))]
    {
        let _ = devices;
        false
    }
}

/// The device that a model's parameters are on.
pub(crate) fn of<M: Module>(model: &M) -> Device {
    model.devices().into_iter().next().unwrap_or_default()
}
