//! How busy the CPU and the GPUs are.
//!
//! | key                                   | unit          | recorded on every due step                     |
//! |---------------------------------------|---------------|------------------------------------------------|
//! | `system/cpu_process`                  | busy cores    | of this process (Linux)                        |
//! | `system/cpu_machine`                  | share, 0 to 1 | of all cores, whoever keeps them busy (Linux)  |
//! | `system/gpu.<n>.gpu`                  | %             | of the time, in which something ran on the GPU |
//! | `system/gpu.<n>.memoryAllocated`      | %             | of the GPU's memory, by whatever process       |
//! | `system/gpu.<n>.memoryAllocatedBytes` | bytes         | the same                                       |
//!
//! Those of the CPU are means since the last look, or over 100 ms where that is longer ago: the system counts in steps
//! of 10 ms. NaN before the first 100 ms are over.
//!
//! GPUs are those that `nvidia-smi` lists, by its numbers and whichever of them the run uses; where it is not
//! installed or finds none, those of AMD's driver on Linux; where there are neither, nothing is recorded. Names and
//! units are those that W&B gives its own measurements. The figures are up to 2 s old, and the first take about as
//! long to come. A GPU on which one small kernel after the other runs is busy too: `train/mfu` of
//! [`Throughput`](crate::Throughput) is the better figure.

mod gpus;

use bdh::{
    Cadence, Callback, ConfigError, FitEnd, FitStart, HookResult, StepEnd, callback, every, last,
};
use derive_builder::Builder;
use gpus::{Gpu, Gpus};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Records how busy the process and the machine keep the CPU, and how busy the GPUs are.
///
/// Reads two files of the system on a due step, if the last look is more than 100 ms ago: 0.2 ms each time. GPUs are
/// watched by a thread of its own, with a process of `nvidia-smi` beside it for as long as the run takes.
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
#[builder(pattern = "owned", default, setter(into), build_fn(error = "ConfigError"))]
#[builder_struct_attr(must_use = "a builder does nothing until `build` is called")]
#[serde(default, deny_unknown_fields)]
pub struct System {
    /// Steps on which to look. Defaults to every 10 steps and the last one.
    cadence: Cadence,
    /// The look that the next mean begins with, and when it was.
    #[builder(setter(skip))]
    #[serde(skip)]
    from: Option<(Instant, Ticks)>,
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
        Self { cadence: every(10) | last(), from: None, load: None, gpus: None }
    }
}

/// The least time between two looks: ten of the system's ticks.
const SOONEST: Duration = Duration::from_millis(100);

/// Time spent so far, in hundredths of a second.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ticks {
    /// By this process, over all its threads.
    process: u64,
    /// By the machine, over all its cores.
    busy: u64,
    idle: u64,
    cores: usize,
}

impl Ticks {
    /// `None` where there is no `/proc`.
    fn now() -> Option<Self> {
        let read = |path| std::fs::read_to_string(path).ok();
        Self::parse(&read("/proc/self/stat")?, &read("/proc/stat")?)
    }

    /// Source: proc_pid_stat(5), fields 14 and 15; proc_stat(5).
    fn parse(process: &str, machine: &str) -> Option<Self> {
        // The second field is the program's name in parentheses, which may hold anything.
        let fields: Vec<_> = process.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let all = machine.lines().next()?.strip_prefix("cpu ")?;
        let all: Vec<u64> = all.split_whitespace().map_while(|time| time.parse().ok()).collect();
        let [user, nice, system, idle, wait, irq, soft, steal, ..] = all[..] else { return None };
        let is_core = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
        Some(Self {
            process: field(14)? + field(15)?,
            busy: user + nice + system + irq + soft + steal,
            idle: idle + wait,
            cores: machine.lines().filter(is_core).count(),
        })
    }

    /// Busy cores of the process and busy share of the machine since an earlier look.
    fn since(&self, from: &Self) -> Option<(f64, f64)> {
        let busy = self.busy.saturating_sub(from.busy) as f64;
        let all = busy + self.idle.saturating_sub(from.idle) as f64;
        let per_core = all / self.cores.max(1) as f64;
        let process = self.process.saturating_sub(from.process) as f64;
        (per_core >= 10.0).then(|| (process / per_core, busy / all))
    }
}

impl System {
    /// Begins with the defaults.
    pub fn builder() -> SystemBuilder {
        SystemBuilder::default()
    }

    fn log_cpu(&mut self, at: &StepEnd<'_>) {
        let Some((looked, from)) = self.from else { return };
        // The machine's file takes the system a fifth of a millisecond to write.
        let now = if looked.elapsed() >= SOONEST { Ticks::now() } else { None };
        if let Some((now, load)) = now.and_then(|now| Some((now, now.since(&from)?))) {
            (self.load, self.from) = (Some(load), Some((Instant::now(), now)));
        }
        let (process, machine) = self.load.unwrap_or((f64::NAN, f64::NAN));
        at.log("system/cpu_process", process);
        at.log("system/cpu_machine", machine);
    }
}

/// What is known of a GPU, under W&B's names.
fn log_gpu(at: &StepEnd<'_>, index: usize, gpu: Gpu) {
    let share = gpu.used.zip(gpu.total).map(|(used, total)| 100.0 * used / total);
    let values =
        [("gpu", gpu.busy), ("memoryAllocated", share), ("memoryAllocatedBytes", gpu.used)];
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
        self.from = Ticks::now().map(|now| (Instant::now(), now));
        self.gpus = Some(Arc::new(Gpus::watch()));
        Ok(())
    }

    fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
        self.log_cpu(at);
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

    const PROCESS: &str =
        "2134 (a (very) odd) name) R 1 2 3 0 -1 4 8 0 1 0 730 70 0 0 20 0 1 0 9 8 7";
    const MACHINE: &str = "cpu  1000 10 200 5000 50 1 2 3 0 0\ncpu0 1 2 3\ncpu1 1 2 3\nintr 7\n";

    #[test]
    fn the_systems_files_are_read_as_they_are() {
        let ticks = Ticks { process: 800, busy: 1_216, idle: 5_050, cores: 2 };
        assert_eq!(Ticks::parse(PROCESS, MACHINE), Some(ticks));
        assert_eq!(Ticks::parse("", MACHINE), None);
        assert_eq!(Ticks::parse(PROCESS, "cpu  1 2"), None);
    }

    #[test]
    fn load_is_counted_between_looks_that_are_far_enough_apart() {
        let from = Ticks { process: 0, busy: 0, idle: 0, cores: 2 };
        let second = Ticks { process: 150, busy: 180, idle: 20, cores: 2 };
        assert_eq!(second.since(&from), Some((1.5, 0.9)));
        assert_eq!(Ticks { busy: 9, idle: 10, ..from }.since(&from), None);
    }
}
