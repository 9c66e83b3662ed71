//! Devices by name, chosen at run time among those that were compiled in.

use crate::ConfigError;
use burn::module::Module;
use burn::tensor::Device;

/// Finds the device that a name stands for, ready for training (with autodiff).
///
/// | name                        | device                                   | feature  |
/// |-----------------------------|------------------------------------------|----------|
/// | `cpu`, `flex`               | the CPU                                  | `flex`   |
/// | `cuda`, `cuda:1`            | an NVIDIA GPU, the first or the second   | `cuda`   |
/// | `wgpu`, `vulkan`, `metal`   | the best GPU through that API            | the same |
/// | `wgpu:1`, `vulkan:1` …      | the second discrete GPU through that API | the same |
///
/// # Errors
///
/// [`ConfigError::Device`] if the name is unknown, or its feature was not compiled in; the text says
/// which build has it.
///
/// # Examples
///
/// ```
/// let device = bdh::device("cpu")?;
/// assert!(bdh::device("gpu").is_err());
/// # Ok::<(), bdh::ConfigError>(())
/// ```
pub fn device(name: &str) -> Result<Device, ConfigError> {
    let (kind, index) = match name.split_once(':') {
        None => (name, None),
        Some((kind, index)) => {
            let index = index.parse::<usize>().map_err(|_| unknown(name))?;
            (kind, Some(index))
        }
    };
    match (kind, index) {
        ("cpu" | "flex", None) => flex(),
        ("cuda", index) => cuda(index.unwrap_or(0)),
        ("wgpu", index) => wgpu(index),
        ("vulkan", index) => vulkan(index),
        ("metal" | "mps", index) => metal(index),
        _ => Err(unknown(name)),
    }
    .map(Device::autodiff)
}

/// The device that a model's parameters are on.
pub(crate) fn of<M: Module>(model: &M) -> Device {
    model.devices().into_iter().next().unwrap_or_default()
}

fn unknown(name: &str) -> ConfigError {
    ConfigError::Device(format!(
        "unknown device `{name}`; use cpu, cuda, cuda:1, wgpu, vulkan or metal"
    ))
}

/// Writes the function that makes a device, or says which feature is missing.
macro_rules! behind_feature {
    ($name:ident, $feature:literal, ($($argument:ident: $type:ty)?), $make:expr) => {
        #[cfg(feature = $feature)]
        fn $name($($argument: $type)?) -> Result<Device, ConfigError> {
            Ok($make)
        }

        #[cfg(not(feature = $feature))]
        fn $name($(_: $type)?) -> Result<Device, ConfigError> {
            Err(ConfigError::Device(format!(
                "this program was built without `{0}`; build it with `--features {0}`",
                $feature
            )))
        }
    };
}

behind_feature!(flex, "flex", (), Device::flex());
behind_feature!(cuda, "cuda", (index: usize), Device::cuda(index));
behind_feature!(wgpu, "wgpu", (index: Option<usize>), Device::wgpu(gpu(index)));
behind_feature!(vulkan, "vulkan", (index: Option<usize>), Device::vulkan(gpu(index)));
behind_feature!(metal, "metal", (index: Option<usize>), Device::metal(gpu(index)));

#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal"))]
fn gpu(index: Option<usize>) -> burn::tensor::DeviceKind {
    use burn::tensor::DeviceKind;
    index.map_or(DeviceKind::DefaultDevice, DeviceKind::DiscreteGpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_lists_those_that_work() {
        for name in ["gpu", "cuda:x", "cpu:1", "", "tpu:0"] {
            let error = device(name).expect_err("unknown").to_string();
            assert!(error.contains(name) && error.contains("use cpu, cuda"), "{error}");
        }
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_device_that_is_not_compiled_in_names_its_feature() {
        let error = device("cuda:0").expect_err("not compiled in").to_string();
        assert!(error.contains("--features cuda"), "{error}");
    }
}
