//! Context of a loss: the progress of the run, a probe for activations, and a log.

use crate::deferred::Deferred;
use crate::device_read::{self, DeviceError};
use crate::probe::{Probe, Tap};
use bdh_ops::upcast_f32;
use burn::tensor::{Device, Tensor};
use std::cell::RefCell;

/// Progress of the run, a probe for activations and a log for further numbers, while a task computes a loss.
///
/// # Examples
///
/// ```
/// use bdh::LossContext;
/// use bdh::burn::tensor::Tensor;
///
/// /// Adds a penalty whose weight grows over the run, and records both parts.
/// fn with_penalty(loss: Tensor<1>, penalty: Tensor<1>, step: &LossContext<'_>) -> Tensor<1> {
///     step.log("loss/fit", loss.clone());
///     step.log("loss/penalty", penalty.clone());
///     loss + penalty * (0.1 * step.share())
/// }
/// ```
#[derive(Debug)]
pub struct LossContext<'a> {
    step: u64,
    share: f64,
    probe: Probe<'a>,
    logged: Option<&'a RefCell<LossLog>>,
}

impl LossContext<'static> {
    /// Returns the context of a loss outside a training step, such as in an eval or a test: it keeps nothing.
    #[must_use]
    pub fn off() -> Self {
        Self {
            step: 0,
            share: 0.0,
            probe: Probe::off(),
            logged: None,
        }
    }
}

impl<'a> LossContext<'a> {
    pub(crate) fn new(
        step: u64,
        share: f64,
        taps: Option<&'a RefCell<Vec<Tap>>>,
        logged: &'a RefCell<LossLog>,
    ) -> Self {
        let probe = match taps {
            Some(taps) => Probe::into_taps(taps),
            None => Probe::off(),
        };
        Self {
            step,
            share,
            probe,
            logged: Some(logged),
        }
    }

    /// Returns the number of the step under way; 1 is the first. 0 outside a training step.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Returns the share of the run that was done before this step, from 0 to 1. 0 outside a training step.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.share
    }

    /// Returns the probe to which a model offers its activations.
    #[must_use]
    pub fn probe(&self) -> &Probe<'a> {
        &self.probe
    }

    /// Records a number, `[1]`, as `train/<name>`: a part of the loss, or a metric of the training batch.
    ///
    /// The record has its mean over the micro-batches of the step that logged it, on all devices. It is recorded with
    /// the loss, on the steps of [`log`](crate::TrainerBuilder::log), and costs no device read of its own; a step of
    /// several devices reads it once on each.
    ///
    /// The key is the trainer's: a callback cannot record it too. The names `loss` and `skipped` are taken by the
    /// trainer's own values; numbers of these names are left out, with a warning.
    pub fn log(&self, name: impl Into<String>, value: Tensor<1>) {
        if let Some(logged) = self.logged {
            logged.borrow_mut().add(name.into(), value.inner(), 1);
        }
    }
}

/// Sums of the numbers that losses logged in one step.
#[derive(Debug, Default)]
pub(crate) struct LossLog(Vec<LossPart>);

#[derive(Debug)]
struct LossPart {
    name: String,
    /// `[1]`, in f32.
    sum: Tensor<1>,
    /// Number of micro-batches that logged it.
    count: usize,
}

impl LossLog {
    fn add(&mut self, name: String, sum: Tensor<1>, count: usize) {
        let sum = upcast_f32(sum);
        match self.0.iter_mut().find(|part| part.name == name) {
            Some(part) => {
                part.sum = part.sum.clone() + sum;
                part.count += count;
            }
            None => self.0.push(LossPart { name, sum, count }),
        }
    }

    /// Adds the sums of further micro-batches.
    pub(crate) fn merge(&mut self, more: Self) {
        for LossPart { name, sum, count } in more.0 {
            self.add(name, sum, count);
        }
    }

    /// Adds sums of another device, which were read to the host.
    pub(crate) fn merge_read(&mut self, more: Vec<(String, f32, usize)>, device: &Device) {
        let device = device.clone().inner();
        for (name, sum, count) in more {
            self.add(name, Tensor::from_floats([sum], &device), count);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the sums to the host, in one device read.
    pub(crate) fn read(self) -> Result<Vec<(String, f32, usize)>, DeviceError> {
        let sums = device_read::vectors(self.0.iter().map(|part| part.sum.clone()))?;
        let mut parts = Vec::new();
        for (LossPart { name, count, .. }, sum) in self.0.into_iter().zip(sums) {
            let sum = sum.iter::<f32>().next().unwrap_or(f32::NAN);
            parts.push((name, sum, count));
        }
        Ok(parts)
    }

    /// Returns the mean of each number.
    pub(crate) fn means(self) -> Vec<(String, Deferred)> {
        let mut means = Vec::new();
        for LossPart { name, sum, count } in self.0 {
            means.push((name, Deferred::from(sum) / count as f64));
        }
        means
    }
}
