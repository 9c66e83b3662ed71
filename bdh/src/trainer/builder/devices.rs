//! Whether devices can share a run, and how they exchange gradients and weights.

use super::TrainerConfig;
use crate::device;
use crate::error::ConfigError;
use crate::params::{self, ParamInfo, ParamTable};
use crate::replicas::Transport;
use crate::task::Task;

impl<T: Task> TrainerConfig<T> {
    /// Whether the devices can share a step, and the model is where it is expected.
    pub(super) fn check_devices(&self) -> Result<(), ConfigError> {
        let count = self.devices.len().max(1);
        let invalid = |field, value, expected| {
            Err(ConfigError::Invalid {
                field,
                value,
                expected,
            })
        };
        if !self.grad_accum_steps.is_multiple_of(count) {
            let whole = self.grad_accum_steps.next_multiple_of(count);
            let expected = format!(
                "which {count} devices cannot share evenly; {whole} would be {} for each",
                whole / count
            );
            return invalid(
                "grad_accum_steps",
                self.grad_accum_steps.to_string(),
                expected,
            );
        }
        if let Some(device) = self.devices.iter().find(|device| !device.is_autodiff()) {
            let expected = "a device without autodiff; `bdh::devices` gives those to train on";
            return invalid("devices", format!("{device:?}"), expected.to_owned());
        }
        let running = |param: &&ParamInfo| param.name.ends_with("running_mean");
        if let Some(param) = ParamTable::with_frozen(&self.model)
            .iter()
            .find(running)
            .filter(|_| count > 1)
        {
            let value = format!("{count}, and the model has `{}`", param.name);
            let expected = "which each replica would count by itself; use a norm without memory, or one device";
            return invalid("devices", value, expected.to_owned());
        }
        match self.devices.first() {
            Some(first) if *first != device::of(&self.model) => {
                let expected = "the device that the model is on; make it on the first of them";
                invalid(
                    "devices",
                    format!("beginning with {first:?}"),
                    expected.to_owned(),
                )
            }
            _ => Ok(()),
        }
    }

    /// NCCL between NVIDIA's GPUs, the host otherwise.
    pub(super) fn transport(&self) -> Transport {
        let devices = &self.devices;
        if devices.len() < 2
            || self.exchange_on_host
            || !device::are_cuda(devices)
            || !params::are_f32(&self.model)
        {
            return Transport::Host;
        }
        Transport::Nccl(
            devices
                .iter()
                .map(|device| device.clone().inner())
                .collect(),
        )
    }
}
