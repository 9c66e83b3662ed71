//! Memory of the process and the device, and a warning of leaks.
//!
//! | key                      | unit   | recorded                                                          |
//! |--------------------------|--------|-------------------------------------------------------------------|
//! | `memory/rss`             | MiB    | resident memory of the process, on every due step                 |
//! | `memory/leak`            | 0 or 1 | whether resident memory has only grown lately, on every due step  |
//! | `memory/device`          | MiB    | in use by tensors, on every due step, if the backend reports it   |
//! | `memory/device_reserved` | MiB    | held by the allocator, on every due step, if the backend reports it |
//!
//! CUDA and wgpu backends report device memory. The CPU backend does not; its tensors are part of `memory/rss`.

use crate::host::Host;
use crate::settings::within;
use bdh::cadence::{every, last};
use bdh::hooks::StepEnd;
use bdh::{BoxError, Cadence, Callback, Context, HookResult, Outlook, callback};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Records the memory of the process and of the device, and sends a notice when memory leaks.
///
/// Costs no device read: on a due step it queries the operating system and the device's allocator. A resumed run starts
/// a new window, since it is another process.
///
/// # Examples
///
/// ```
/// use bdh::cadence::every;
/// use bdh_callbacks::MemoryMonitor;
///
/// let memory = MemoryMonitor::default().on(every(50)).window(40).growth(0.1);
/// ```
#[derive(Debug, Clone, Setters, Deserialize, Serialize)]
#[setters(into)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryMonitor {
    /// Steps on which to measure. Defaults to every 10 steps and the last.
    on: Cadence,
    /// Measurements in a row that must not shrink for a leak. Defaults to 20.
    #[setters(into = false)]
    window: usize,
    /// Share by which memory must grow over the window for a leak. Defaults to 0.2.
    growth: f64,
    /// Counters of the operating system, opened on the first due step.
    #[setters(skip)]
    #[serde(skip)]
    host: Option<Host>,
    /// Last measurements of `memory/rss`, in MiB, oldest first.
    #[setters(skip)]
    #[serde(skip)]
    seen: VecDeque<f64>,
    #[setters(skip)]
    #[serde(skip)]
    was_leaking: bool,
}

impl Default for MemoryMonitor {
    fn default() -> Self {
        Self {
            on: every(10) | last(),
            window: 20,
            growth: 0.2,
            host: None,
            seen: VecDeque::new(),
            was_leaking: false,
        }
    }
}

impl MemoryMonitor {
    /// Adds a measurement. Returns whether memory never shrank over the window, and grew by more than `growth`.
    fn is_leaking(&mut self, rss: f64) -> bool {
        let window = self.window.max(2); // a single measurement cannot grow
        self.seen.push_back(rss);
        while self.seen.len() > window {
            self.seen.pop_front();
        }
        let is_full = self.seen.len() == window;
        let only_grows = self.seen.iter().is_sorted();
        is_full && only_grows && rss > self.seen[0] * (1.0 + self.growth)
    }

    fn log_rss(&mut self, ctx: &Context<'_>, rss: f64) {
        let is_leaking = self.is_leaking(rss);
        ctx.log("memory/rss", rss);
        ctx.log("memory/leak", f64::from(u8::from(is_leaking)));
        if is_leaking && !self.was_leaking {
            ctx.notice(format!(
                "memory may leak: it grew from {:.0} to {rss:.0} MiB over {} measurements",
                self.seen[0],
                self.seen.len()
            ));
        }
        self.was_leaking = is_leaking;
    }
}

const MIB: f64 = 1024.0 * 1024.0;

#[callback("memory", on)]
impl Callback for MemoryMonitor {
    fn check(&self, _: &Outlook<'_>) -> Result<(), BoxError> {
        let advice = "use 1 to 100000, such as 20";
        within("window", self.window, 1..=100_000, advice)?;
        within("growth", self.growth, 0.0.., "use a share, 0 or more")
    }

    fn keys(&self) -> Vec<String> {
        vec!["memory/*".to_owned()] // which keys exist depends on the system and the device
    }

    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        if self.host.is_none() {
            self.host = Host::open();
        }
        if let Some(bytes) = self.host.as_ref().and_then(Host::resident_bytes) {
            self.log_rss(ctx, bytes as f64 / MIB);
        }
        if let Some(pool) = ctx.device().memory_pool_usage() {
            ctx.log("memory/device", pool.bytes_in_use as f64 / MIB);
            ctx.log("memory/device_reserved", pool.bytes_reserved as f64 / MIB);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the indices of the measurements that report a leak.
    fn leaks(values: impl IntoIterator<Item = f64>) -> Vec<usize> {
        let mut memory = MemoryMonitor {
            window: 4,
            growth: 0.1,
            ..MemoryMonitor::default()
        };
        let seen = values.into_iter().enumerate();
        seen.filter(|(_, rss)| memory.is_leaking(*rss))
            .map(|(index, _)| index)
            .collect()
    }

    #[test]
    fn only_steady_growth_is_a_leak() {
        assert_eq!(leaks([100.0, 105.0, 110.0, 115.0, 120.0]), [3, 4]);
        assert_eq!(leaks([100.0, 150.0, 150.0, 150.0, 150.0, 150.0]), [3]); // settles after the jump
        assert_eq!(leaks([100.0, 110.0, 109.0, 120.0, 125.0]), [] as [usize; 0]);
        assert_eq!(leaks([100.0, 101.0, 102.0, 103.0]), [] as [usize; 0]);
    }
}
