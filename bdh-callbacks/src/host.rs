//! Memory and processor time of this process, and the load of the machine.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// The operating system's counters of this process and this machine.
///
/// Clones share the counters. On Linux the first reading raises the process's soft limit of open files to the hard one.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// Locked, since clones share it: a callback is `Send` and `Clone`.
    system: Arc<Mutex<System>>,
    pid: Pid,
}

impl Host {
    /// Opens the counters; `None` where `sysinfo` does not know the system.
    pub(crate) fn open() -> Option<Self> {
        let pid = sysinfo::get_current_pid().ok()?;
        Some(Self {
            system: Arc::new(Mutex::new(System::new())),
            pid,
        })
    }

    /// Returns the resident memory of the process, in bytes.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        let mut system = self.lock();
        self.refresh(&mut system, ProcessRefreshKind::nothing().with_memory());
        Some(system.process(self.pid)?.memory())
    }

    /// Returns the processor time that the process has used, over all its threads.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        let mut system = self.lock();
        self.refresh(&mut system, ProcessRefreshKind::nothing().with_cpu());
        Some(Duration::from_millis(
            system.process(self.pid)?.accumulated_cpu_time(),
        ))
    }

    /// Returns the busy share of all cores, 0 to 1, since the last call, which must be at least
    /// [`sysinfo::MINIMUM_CPU_UPDATE_INTERVAL`] ago.
    pub(crate) fn busy_share(&self) -> f64 {
        let mut system = self.lock();
        system.refresh_cpu_usage();
        f64::from(system.global_cpu_usage()) / 100.0
    }

    fn refresh(&self, system: &mut System, what: ProcessRefreshKind) {
        // Without tasks: on Linux every thread of the process would be read as well.
        let what = what.without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[self.pid]), false, what);
    }

    fn lock(&self) -> MutexGuard<'_, System> {
        // A panic during a refresh leaves old numbers, which the next refresh replaces.
        self.system.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const MIB: u64 = 1 << 20;

    #[test]
    fn memory_grows_by_the_pages_that_are_written() {
        let host = Host::open().expect("a known system");
        let before = host.resident_bytes().expect("this process");
        let block = vec![1_u8; 64 << 20];
        let after = host.resident_bytes().expect("this process");
        assert!(before > MIB, "{before}");
        assert!(
            after > before + 32 * MIB,
            "{before} to {after} with {} more",
            block.len()
        );
    }

    #[test]
    fn busy_thread_is_counted() {
        let host = Host::open().expect("a known system");
        host.busy_share();
        let (began, from) = (Instant::now(), host.cpu_time().expect("this process"));
        while began.elapsed() < 2 * sysinfo::MINIMUM_CPU_UPDATE_INTERVAL {
            std::hint::spin_loop();
        }
        let used = host.cpu_time().expect("this process").saturating_sub(from);
        assert!(used > Duration::from_millis(20), "{used:?}"); // other tests may have the cores
        let share = host.busy_share();
        assert!(share > 0.0 && share <= 1.0, "{share}");
    }
}
