//! `system` reads GPUs through the library of NVIDIA's driver.
//!
//! A small C library replaces it. The run is in a process of its own, which finds the replacement first.
#![cfg(target_os = "linux")]

#[path = "support/child.rs"]
mod child;
#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::MemorySink;
use bdh::cadence::every;
use bdh_callbacks::SystemMonitor;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Waits up to ten seconds for a condition. Returns whether it came true.
fn comes_true(condition: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !condition() && began.elapsed() < Duration::from_secs(10) {
        sleep(Duration::from_millis(5));
    }
    condition()
}

/// Trains two steps. The first waits for `is_ready`.
fn records(is_ready: impl Fn() -> bool + Send + 'static) -> MemorySink {
    let memory = MemorySink::default();
    let wait = tiny::on_step(move |ctx| {
        if ctx.step() == 1 {
            assert!(comes_true(&is_ready), "the driver's library was not opened");
            sleep(Duration::from_millis(500)); // the first values come right after
        }
        Ok(())
    });
    let system = SystemMonitor::default().on(every(1));
    let run = tiny::run(2)
        .sink(memory.clone())
        .callback(wait)
        .callback(system);
    let fitted = run
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    assert_eq!(fitted.warnings, []);
    memory
}

fn last(memory: &MemorySink, key: &str) -> Option<f64> {
    memory
        .series(&format!("system/gpu.{key}"))
        .last()
        .map(|last| last.1)
}

/// Runs a test in a process whose dynamic linker searches `dir` first.
fn passes_with_libraries(name: &str, dir: &Path) {
    let mut command = child::command(name, dir, &[]);
    command.env("LD_LIBRARY_PATH", dir);
    child::passes(command);
}

/// Compiles the replacement. `false` without a compiler.
fn compile(dir: &Path) -> bool {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/nvml.c");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"])
        .arg(dir.join("libnvidia-ml.so.1"))
        .arg(source);
    cc.status().is_ok_and(|status| status.success())
}

#[test]
fn gpus_are_recorded_and_the_library_is_closed() {
    if let Some(dir) = child::dir() {
        let (opened, closed) = (dir.join("opened"), dir.join("closed"));
        let memory = records(move || opened.exists());
        let mib = 1024.0 * 1024.0;
        assert_eq!(last(&memory, "0.gpu"), Some(37.0));
        assert_eq!(last(&memory, "0.memoryAllocated"), Some(25.0));
        assert_eq!(last(&memory, "0.memoryAllocatedBytes"), Some(1024.0 * mib));
        assert_eq!(
            last(&memory, "1.gpu"),
            None,
            "a partitioned GPU reports no load"
        );
        assert_eq!(last(&memory, "1.memoryAllocated"), Some(12.5));
        assert!(
            comes_true(|| closed.exists()),
            "the library is open after the run"
        );
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    if !compile(dir.path()) {
        eprintln!("skipped: no C compiler");
        return;
    }
    passes_with_libraries("gpus_are_recorded_and_the_library_is_closed", dir.path());
}

#[test]
fn invalid_library_leaves_the_run_without_gpus() {
    if child::dir().is_some() {
        let memory = records(|| true);
        assert_eq!(last(&memory, "0.gpu"), None);
        assert_eq!(last(&memory, "0.memoryAllocatedBytes"), None);
        return;
    }
    if Path::new("/sys/class/drm/card0/device/gpu_busy_percent").exists() {
        eprintln!("skipped: this machine has an AMD GPU");
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("libnvidia-ml.so.1"), "no library").expect("a file");
    passes_with_libraries("invalid_library_leaves_the_run_without_gpus", dir.path());
}
