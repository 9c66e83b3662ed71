//! How busy the CPU and the GPUs are.
//!
//! | key                                   | unit          | recorded on every due step                     |
//! |---------------------------------------|---------------|------------------------------------------------|
//! | `system/cpu_process`                  | busy cores    | of this process                                |
//! | `system/cpu_machine`                  | share, 0 to 1 | of all cores, by all processes together        |
//! | `system/gpu.<n>.gpu`                  | %             | of the time, in which something ran on the GPU |
//! | `system/gpu.<n>.memoryAllocated`      | %             | of the GPU's memory, by all processes together |
//! | `system/gpu.<n>.memoryAllocatedBytes` | bytes         | the same                                       |
//!
//! The figures of the CPU are means since the last due step, over 200 ms at least: the system counts in coarse steps. NaN
//! before the first 200 ms are over.
//!
//! GPUs are those that NVIDIA's driver lists, by the numbers of `nvidia-smi` and whichever of them the run uses; where the
//! driver is not installed or finds none, those of AMD's driver on Linux; where there are neither, nothing is recorded. Names
//! and units are those that W&B gives its own measurements. The figures are up to 2 s old, and the first come once the
//! driver has been opened. A GPU on which one small kernel after the other runs is busy too: `train/mfu` of
//! [`Throughput`](crate::Throughput) is the better figure.

mod gpus;

use crate::host::Host;
use bdh::{
    Cadence, Callback, ConfigError, FitEnd, FitStart, HookResult, StepEnd, callback, every, last,
};
use derive_builder::Builder;
use gpus::{Gpu, Gpus};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};
use sysinfo::MINIMUM_CPU_UPDATE_INTERVAL;

/// Records how busy the process and the machine keep the CPU, and how busy the GPUs are.
///
/// Asks the system on a due step, if the last look is more than 200 ms ago. GPUs are watched by a thread of its own for as
/// long as the run takes.
///
/// # Examples
///
/// ```
/// use bdh::every;
/// use bdh_callbacks::System;
///
/// let system = System::builder().cadence(every(50)).build()?;
/// # Ok::<(), bdh::ConfigError>(())
/// ```
#[derive(Debug, Clone, Builder, Deserialize, Serialize)]
#[builder(
    pattern = "owned",
    default,
    setter(into),
    build_fn(error = "ConfigError")
)]
#[builder_struct_attr(must_use = "a builder does nothing until `build` is called")]
#[serde(default, deny_unknown_fields)]
pub struct System {
    /// Steps on which to look. Defaults to every 10 steps and the last one.
    cadence: Cadence,
    /// The look that the next mean begins with.
    #[builder(setter(skip))]
    #[serde(skip)]
    from: Option<Look>,
    /// Cores and share, as last measured.
    #[builder(setter(skip))]
    #[serde(skip)]
    load: Option<(f64, f64)>,
    /// While the run goes on.
    #[builder(setter(skip))]
    #[serde(skip)]
    gpus: Option<Arc<Gpus>>,
}

impl Default for System {
    fn default() -> Self {
        Self {
            cadence: every(10) | last(),
            from: None,
            load: None,
            gpus: None,
        }
    }
}

/// Processor time of the process at one instant; the machine's is kept by the host.
#[derive(Debug, Clone)]
struct Look {
    host: Host,
    when: Instant,
    process: Duration,
}

impl Look {
    fn now(host: Host) -> Option<(f64, Self)> {
        let machine = host.busy_share();
        let process = host.cpu_time()?;
        Some((
            machine,
            Self {
                host,
                when: Instant::now(),
                process,
            },
        ))
    }
}

impl System {
    /// Begins with the defaults.
    pub fn builder() -> SystemBuilder {
        SystemBuilder::default()
    }

    /// Busy cores of the process and busy share of the machine, measured anew if the last look is long enough ago.
    fn load(&mut self) -> Option<(f64, f64)> {
        let from = self.from.as_ref()?;
        if from.when.elapsed() >= MINIMUM_CPU_UPDATE_INTERVAL
            && let Some((machine, now)) = Look::now(from.host.clone())
        {
            let process = now.process.saturating_sub(from.process);
            let cores = process.div_duration_f64(now.when - from.when);
            (self.load, self.from) = (Some((cores, machine)), Some(now));
        }
        Some(self.load.unwrap_or((f64::NAN, f64::NAN)))
    }
}

/// What is known of a GPU, under W&B's names.
fn log_gpu(at: &StepEnd<'_>, index: usize, gpu: Gpu) {
    let share = gpu
        .used
        .zip(gpu.total)
        .map(|(used, total)| 100.0 * used / total);
    let values = [
        ("gpu", gpu.busy),
        ("memoryAllocated", share),
        ("memoryAllocatedBytes", gpu.used),
    ];
    for (name, value) in values {
        if let Some(value) = value {
            at.log(format!("system/gpu.{index}.{name}"), value);
        }
    }
}

#[callback("system")]
impl Callback for System {
    fn config(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn cadence(&self) -> Cadence {
        self.cadence.clone()
    }

    fn keys(&self) -> Vec<String> {
        vec!["system/*".to_owned()] // which GPUs there are is known when the run begins
    }

    fn on_fit_start(&mut self, _: &FitStart<'_>) -> HookResult {
        self.from = Host::open().and_then(Look::now).map(|(_, look)| look);
        self.gpus = Some(Arc::new(Gpus::watch()));
        Ok(())
    }

    fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
        if let Some((process, machine)) = self.load() {
            at.log("system/cpu_process", process);
            at.log("system/cpu_machine", machine);
        }
        for (index, gpu) in self.gpus.iter().flat_map(|gpus| gpus.now()) {
            log_gpu(at, index, gpu);
        }
        Ok(())
    }

    fn on_fit_end(&mut self, _: &FitEnd<'_>) -> HookResult {
        self.gpus = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_counted_between_looks_that_are_far_enough_apart() {
        let began = Instant::now();
        let look = Host::open()
            .and_then(Look::now)
            .map(|(_, look)| look)
            .expect("a known system");
        let mut system = System {
            from: Some(look),
            ..System::default()
        };
        let (cores, share) = system.load().expect("a first look");
        if began.elapsed() < MINIMUM_CPU_UPDATE_INTERVAL {
            assert!(cores.is_nan() && share.is_nan(), "{cores} and {share}");
        }
        while began.elapsed() < 2 * MINIMUM_CPU_UPDATE_INTERVAL {
            std::hint::spin_loop();
        }
        let second = system.load().expect("a second look");
        assert!(
            second.0 > 0.0 && (0.0..=1.0).contains(&second.1),
            "{second:?}"
        );
        let looked = Instant::now();
        let third = system.load().expect("the second look again");
        if looked.elapsed() < MINIMUM_CPU_UPDATE_INTERVAL {
            assert_eq!(third, second);
        }
    }
}
