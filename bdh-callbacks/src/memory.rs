//! How much memory the run takes, and whether that only ever grows.
//!
//! | key                      | unit   | recorded                                                          |
//! |--------------------------|--------|-------------------------------------------------------------------|
//! | `memory/rss`             | MiB    | resident memory of the process, on every due step                 |
//! | `memory/leak`            | 0 or 1 | whether that has only grown of late, on every due step            |
//! | `memory/device`          | MiB    | what tensors take up on the device, where the backend tells       |
//! | `memory/device_reserved` | MiB    | what the allocator holds there, the former included               |
//!
//! Backends on CUDA and wgpu tell; the CPU's does not, and its tensors are in `memory/rss`.

use crate::host::Host;
use crate::settings::within;
use bdh::{
    BoxError, Cadence, Callback, ConfigError, Cx, HookResult, Outlook, StepEnd, callback, every,
    last,
};
use derive_builder::Builder;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Records the memory of the process and of the device, and warns of a leak.
///
/// Asks the system about this process on a due step, and asks the device's allocator, not the device. What it
/// knows of the past is that of the process: a resumed run begins anew.
///
/// # Examples
///
/// ```
/// use bdh::every;
/// use bdh_callbacks::Memory;
///
/// let memory = Memory::builder().cadence(every(50)).window(40).growth(0.1).build()?;
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
pub struct Memory {
    /// Steps on which to look. Defaults to every 10 steps and the last one.
    cadence: Cadence,
    /// Looks over which the memory must never have shrunk for it to be a leak. Defaults to 20.
    #[builder(setter(into = false))]
    window: usize,
    /// The share by which it must have grown over them. Defaults to 0.2.
    growth: f64,
    /// Opened on the first due step.
    #[builder(setter(skip))]
    #[serde(skip)]
    host: Option<Host>,
    /// The last looks, oldest first.
    #[builder(setter(skip))]
    #[serde(skip)]
    seen: VecDeque<f64>,
    #[builder(setter(skip))]
    #[serde(skip)]
    was_leaking: bool,
}

impl Default for Memory {
    fn default() -> Self {
        let (cadence, seen) = (every(10) | last(), VecDeque::new());
        Self {
            cadence,
            window: 20,
            growth: 0.2,
            host: None,
            seen,
            was_leaking: false,
        }
    }
}

impl Memory {
    /// Begins with the defaults.
    pub fn builder() -> MemoryBuilder {
        MemoryBuilder::default()
    }

    /// Takes a look in; tells whether memory has only grown over the window, and by more than the share.
    fn is_leaking(&mut self, rss: f64) -> bool {
        self.seen.push_back(rss);
        while self.seen.len() > self.window.max(2) {
            self.seen.pop_front();
        }
        let is_full = self.seen.len() == self.window.max(2);
        let only_grows = self.seen.iter().is_sorted();
        is_full && only_grows && rss > self.seen[0] * (1.0 + self.growth)
    }

    fn watch(&mut self, at: &Cx<'_>, rss: f64) {
        let is_leaking = self.is_leaking(rss);
        at.log("memory/rss", rss);
        at.log("memory/leak", f64::from(u8::from(is_leaking)));
        if is_leaking && !self.was_leaking {
            let (from, looks) = (self.seen[0], self.seen.len());
            at.remark(format!(
                "memory only grows: from {from:.0} to {rss:.0} MiB in {looks} looks"
            ));
        }
        self.was_leaking = is_leaking;
    }
}

const MIB: f64 = 1024.0 * 1024.0;

#[callback("memory")]
impl Callback for Memory {
    fn config(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn cadence(&self) -> Cadence {
        self.cadence.clone()
    }

    fn check(&self, _: &Outlook<'_>) -> Result<(), BoxError> {
        within(
            "window",
            self.window,
            1..=100_000,
            "use 1 to 100000, such as 20",
        )?;
        within("growth", self.growth, 0.0.., "use a share, 0 or more")
    }

    fn keys(&self) -> Vec<String> {
        vec!["memory/*".to_owned()] // which ones there are depends on the system and on the device
    }

    fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
        if self.host.is_none() {
            self.host = Host::open();
        }
        if let Some(bytes) = self.host.as_ref().and_then(Host::resident_bytes) {
            self.watch(at, bytes as f64 / MIB);
        }
        if let Some(pool) = at.device().memory_pool_usage() {
            at.log("memory/device", pool.bytes_in_use as f64 / MIB);
            at.log("memory/device_reserved", pool.bytes_reserved as f64 / MIB);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The looks at which a leak is seen.
    fn leaks(values: impl IntoIterator<Item = f64>) -> Vec<usize> {
        let mut memory = Memory {
            window: 4,
            growth: 0.1,
            ..Memory::default()
        };
        let seen = values.into_iter().enumerate();
        seen.filter(|(_, rss)| memory.is_leaking(*rss))
            .map(|(index, _)| index)
            .collect()
    }

    #[test]
    fn what_only_grows_is_a_leak_and_what_settles_or_shrinks_is_none() {
        assert_eq!(leaks([100.0, 105.0, 110.0, 115.0, 120.0]), [3, 4]);
        assert_eq!(leaks([100.0, 150.0, 150.0, 150.0, 150.0, 150.0]), [3]); // then it has settled
        assert_eq!(leaks([100.0, 110.0, 109.0, 120.0, 125.0]), [] as [usize; 0]);
        assert_eq!(leaks([100.0, 101.0, 102.0, 103.0]), [] as [usize; 0]);
    }
}
