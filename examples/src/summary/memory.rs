//! Most memory that a run has used.

use bdh::burn::tensor::Device;
use std::fs;
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

const MIB: f64 = 1024.0 * 1024.0;

/// Returns the most memory of a run in MiB: what the device's allocator holds, or on a device without one the peak of the
/// process.
///
/// An allocator keeps what was freed, so what it holds at the end is about the most that was in use. Call it on the thread
/// that trained: allocators count by thread.
#[must_use]
pub fn peak_memory(device: &Device) -> Option<f64> {
    match device.memory_pool_usage() {
        Some(pool) => Some(pool.bytes_reserved as f64 / MIB),
        None => host_peak(),
    }
}

/// Returns the most resident memory of the process so far in MiB; on other systems than Linux the present memory.
#[must_use]
pub fn host_peak() -> Option<f64> {
    high_water(&status()).or_else(resident)
}

/// Returns the text of this process's status; empty on other systems than Linux.
fn status() -> String {
    fs::read_to_string("/proc/self/status").unwrap_or_default()
}

/// Reads the peak of the resident memory in MiB from a process's `status`, which has it in KiB.
///
/// Source: the manual page proc_pid_status(5).
fn high_water(status: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

/// Returns the resident memory of the process in MiB.
fn resident() -> Option<f64> {
    let pid = sysinfo::get_current_pid().ok()?;
    let mut system = System::new();
    let what = ProcessRefreshKind::nothing().with_memory().without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, what);
    Some(system.process(pid)?.memory() as f64 / MIB)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    fn high_water_mark_is_read_in_kib() {
        let status = "Name:\tbdh\nVmPeak:\t  900000 kB\nVmHWM:\t  524544 kB\nVmRSS:\t  1024 kB\n";
        assert_eq!(high_water(status), Some(512.25));
        for damaged in ["", "VmHWM:", "VmHWM:\tmuch kB", "VmHWM:\t5 MB"] {
            assert_eq!(high_water(damaged), None, "{damaged}");
        }
    }

    #[test]
    fn peak_keeps_memory_that_was_freed() {
        let block = black_box(vec![1_u8; 64 << 20]);
        let during = host_peak().expect("a known system");
        assert!(during > 64.0, "{during}");
        drop(block);
        // Emulated kernels may not count the peak, and Linux counts some pages late.
        if let Some(peak) = high_water(&status()) {
            assert!(peak + 1.0 > during, "{during} to {peak}");
        }
    }
}
