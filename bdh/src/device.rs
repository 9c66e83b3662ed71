//! Devices by name, chosen at run time among the backends that were compiled in.

mod spec;

pub use spec::DeviceSpec;

use crate::error::ConfigError;
use burn::module::Module;
use burn::tensor::Device;

/// Opens the device of a name, for training (with autodiff).
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
/// [`ConfigError::Device`] if the name is unknown or names several devices, if its feature was not compiled in, or if
/// this machine has no such device.
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
            "`{name}` is {} devices, but one is expected; pass the result of `bdh::devices` to \
             `Trainer::builder(…).devices(…)` to use them all",
            found.len() + 1
        ))),
    }
}

/// Opens the devices of a name: `cuda:0-7`, `cuda:0,2,5`, or a name of one [`device()`].
///
/// [`TrainerBuilder::devices`](crate::TrainerBuilder::devices) trains a replica of the model on each. `cpu:0-3` is the CPU
/// four times, for tests of replicas.
///
/// # Errors
///
/// [`ConfigError::Device`] if the name is unknown, if its feature was not compiled in, or if this machine has no such
/// devices.
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

/// Returns whether all devices are NVIDIA GPUs, and all are different.
pub(crate) fn are_cuda(devices: &[Device]) -> bool {
    #[cfg(feature = "cuda")]
    {
        use burn::tensor::DeviceType;
        let cuda = Device::enumerate(DeviceType::Cuda);
        for (index, device) in devices.iter().enumerate() {
            if !cuda.contains(device) || devices[..index].contains(device) {
                return false;
            }
        }
        true
    }
    #[cfg(not(feature = "cuda"))]
    {
        let _ = devices;
        false
    }
}

/// Returns the device of a model's parameters.
pub(crate) fn of<M: Module>(model: &M) -> Device {
    model.devices().into_iter().next().unwrap_or_default()
}
