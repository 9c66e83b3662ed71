//! Checks of the devices that share a run, and the way they exchange gradients and weights.

use super::TrainerConfig;
use crate::device;
use crate::error::ConfigError;
use crate::params::{self, ParamTable};
use crate::replicas::Transport;
use crate::task::Task;

impl<T: Task> TrainerConfig<T> {
    /// Checks that the devices can share a step, and that the model is on the first one.
    pub(super) fn check_devices(&self) -> Result<(), ConfigError> {
        let count = self.devices.len().max(1);
        self.check_shares(count)?;
        self.check_autodiff()?;
        self.check_running_means(count)?;
        self.check_model_device()
    }

    fn check_autodiff(&self) -> Result<(), ConfigError> {
        if let Some(device) = self.devices.iter().find(|device| !device.is_autodiff()) {
            let problem = "it records no gradients; `bdh::devices` returns devices to train on";
            let value = format!("{device:?}");
            return Err(ConfigError::invalid("devices", value, problem));
        }
        Ok(())
    }

    /// Refuses a model with running means on several devices.
    fn check_running_means(&self, count: usize) -> Result<(), ConfigError> {
        if count > 1
            && let Some(param) = running_mean(&ParamTable::with_frozen(&self.model))
        {
            let value = format!("{count}, and the model has `{param}`");
            let problem = "each replica would keep a running mean of its own; use a norm without one, or one device";
            return Err(ConfigError::invalid("devices", value, problem));
        }
        Ok(())
    }

    /// Checks that the model is on the first device.
    fn check_model_device(&self) -> Result<(), ConfigError> {
        if let Some(first) = self.devices.first()
            && *first != device::of(&self.model)
        {
            let value = format!("beginning with {first:?}");
            let problem = "the model is on another device; create it on the first of them";
            return Err(ConfigError::invalid("devices", value, problem));
        }
        Ok(())
    }

    /// Checks that each device gets the same number of micro-batches.
    fn check_shares(&self, count: usize) -> Result<(), ConfigError> {
        let steps = self.grad_accum_steps;
        if steps.is_multiple_of(count) {
            return Ok(());
        }
        let even = steps.next_multiple_of(count);
        let each = even / count;
        let problem = format!(
            "{count} devices cannot share these micro-batches evenly; use {even}, {each} for each device"
        );
        Err(ConfigError::invalid("grad_accum_steps", steps, problem))
    }

    /// Returns the transport between the devices: NCCL between NVIDIA GPUs, host memory otherwise.
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

/// Returns the name of a running mean, such as that of a batch norm.
fn running_mean(table: &ParamTable) -> Option<&str> {
    let mut names = table.iter().map(|param| param.name.as_str());
    names.find(|name| name.ends_with("running_mean"))
}
