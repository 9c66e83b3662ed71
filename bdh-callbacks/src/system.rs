//! Utilization of the CPU and the GPUs.
//!
//! | key                                   | unit          | recorded on every due step                     |
//! |---------------------------------------|---------------|------------------------------------------------|
//! | `system/cpu_process`                  | busy cores    | by this process                                |
//! | `system/cpu_machine`                  | share, 0 to 1 | of all cores, by all processes                 |
//! | `system/gpu.<n>.gpu`                  | %             | of the time a kernel was running               |
//! | `system/gpu.<n>.memoryAllocated`      | %             | of the GPU's memory, by all processes          |
//! | `system/gpu.<n>.memoryAllocatedBytes` | bytes         | of the GPU's memory, by all processes          |
//!
//! CPU values are means since the last due step, over at least 200 ms, since the system counts coarsely. They are NaN
//! during the first 200 ms.
//!
//! GPUs are those that NVIDIA's driver lists, by their numbers in `nvidia-smi`, used by the run or not. Without that driver
//! or its GPUs, they are those of AMD's driver on Linux. Without either, nothing is recorded. Names and units are those of
//! W&B's own system metrics. Values are up to 2 s old, and the first come once the driver has been opened. A GPU that runs
//! small kernels one after the other counts as busy too: `train/mfu` of [`Throughput`](crate::Throughput) is the better
//! measure.

mod gpus;

use crate::host::Host;
use bdh::cadence::{every, last};
use bdh::hooks::{FitEnd, FitStart, StepEnd};
use bdh::{Cadence, Callback, HookResult, callback};
use derive_setters::Setters;
use gpus::{Gpu, Gpus};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};
use sysinfo::MINIMUM_CPU_UPDATE_INTERVAL;

/// Records the CPU load of the process and the machine, and the load and memory of the GPUs.
///
/// Costs no device read. A due step queries the operating system if the last measurement is more than 200 ms old. A
/// thread of its own polls the GPUs during the run.
///
/// # Examples
///
/// ```
/// use bdh::cadence::every;
/// use bdh_callbacks::SystemMonitor;
///
/// let system = SystemMonitor::default().on(every(50));
/// ```
#[derive(Debug, Clone, Setters, Deserialize, Serialize)]
#[setters(into)]
#[serde(default, deny_unknown_fields)]
pub struct SystemMonitor {
    /// Steps on which to record. Defaults to every 10 steps and the last.
    on: Cadence,
    /// Start of the interval that the next mean covers.
    #[setters(skip)]
    #[serde(skip)]
    from: Option<Reading>,
    /// Last load that was measured.
    #[setters(skip)]
    #[serde(skip)]
    load: Option<Load>,
    /// Thread that polls the GPUs, while the run is running.
    #[setters(skip)]
    #[serde(skip)]
    gpus: Option<Arc<Gpus>>,
}

impl Default for SystemMonitor {
    fn default() -> Self {
        Self {
            on: every(10) | last(),
            from: None,
            load: None,
            gpus: None,
        }
    }
}

/// Load of the CPU over an interval.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Load {
    /// Busy cores of the process.
    process: f64,
    /// Busy share of all cores, 0 to 1.
    machine: f64,
}

/// Counters of the CPU at one instant.
#[derive(Debug, Clone)]
struct Reading {
    host: Host,
    when: Instant,
    /// Processor time of the process.
    process: Duration,
    /// Busy share of all cores since the previous reading, 0 to 1; the host remembers that one.
    machine: f64,
}

impl Reading {
    fn now(host: Host) -> Option<Self> {
        let machine = host.busy_share();
        let process = host.cpu_time()?;
        Some(Self {
            host,
            when: Instant::now(),
            process,
            machine,
        })
    }

    fn load_since(&self, from: &Self) -> Load {
        let process = self.process.saturating_sub(from.process);
        Load {
            process: process.div_duration_f64(self.when - from.when),
            machine: self.machine,
        }
    }
}

impl SystemMonitor {
    /// Returns the load, measured again if the last reading is old enough, and NaN before the first measurement.
    fn load(&mut self) -> Option<Load> {
        let from = self.from.as_ref()?;
        if from.when.elapsed() >= MINIMUM_CPU_UPDATE_INTERVAL
            && let Some(now) = Reading::now(from.host.clone())
        {
            self.load = Some(now.load_since(from));
            self.from = Some(now);
        }
        Some(self.load.unwrap_or(Load {
            process: f64::NAN,
            machine: f64::NAN,
        }))
    }
}

/// Records the values of a GPU under W&B's names.
fn log_gpu(ctx: &StepEnd<'_>, index: usize, gpu: Gpu) {
    let values = [
        ("gpu", gpu.busy),
        ("memoryAllocated", gpu.used_percent()),
        ("memoryAllocatedBytes", gpu.used),
    ];
    for (name, value) in values {
        if let Some(value) = value {
            ctx.log(format!("system/gpu.{index}.{name}"), value);
        }
    }
}

#[callback("system", on)]
impl Callback for SystemMonitor {
    fn keys(&self) -> Vec<String> {
        vec!["system/*".to_owned()] // the GPUs are found when the run begins
    }

    fn on_fit_start(&mut self, _: &FitStart<'_>) -> HookResult {
        self.from = Host::open().and_then(Reading::now);
        self.gpus = Some(Arc::new(Gpus::watch()));
        Ok(())
    }

    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        if let Some(load) = self.load() {
            ctx.log("system/cpu_process", load.process);
            ctx.log("system/cpu_machine", load.machine);
        }
        if let Some(gpus) = &self.gpus {
            for (index, gpu) in gpus.latest() {
                log_gpu(ctx, index, gpu);
            }
        }
        Ok(())
    }

    fn on_fit_end(&mut self, _: &FitEnd<'_>) -> HookResult {
        self.gpus = None; // ends the thread
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_measured_between_readings_far_enough_apart() {
        let began = Instant::now();
        let first = Host::open().and_then(Reading::now);
        let mut system = SystemMonitor {
            from: Some(first.expect("a known system")),
            ..SystemMonitor::default()
        };
        let load = system.load().expect("a first reading");
        if began.elapsed() < MINIMUM_CPU_UPDATE_INTERVAL {
            assert!(load.process.is_nan() && load.machine.is_nan(), "{load:?}");
        }
        while began.elapsed() < 2 * MINIMUM_CPU_UPDATE_INTERVAL {
            std::hint::spin_loop();
        }
        let second = system.load().expect("a second reading");
        assert!(
            second.process > 0.0 && (0.0..=1.0).contains(&second.machine),
            "{second:?}"
        );
        let read_at = Instant::now();
        let third = system.load().expect("the second reading again");
        if read_at.elapsed() < MINIMUM_CPU_UPDATE_INTERVAL {
            assert_eq!(third, second);
        }
    }
}
