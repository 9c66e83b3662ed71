//! `system` asks NVIDIA's driver for GPUs by the driver's own library.
//!
//! A small library in C stands in for it; the run is in a process of its own, which finds that one first.
#![cfg(target_os = "linux")]

#[path = "support/child.rs"]
mod child;
#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::{MemorySink, every};
use bdh_callbacks::System;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Waits at most ten seconds for something.
fn comes_true(what: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !what() && began.elapsed() < Duration::from_secs(10) {
        sleep(Duration::from_millis(5));
    }
    what()
}

/// Trains two steps, the first of which takes until `is_ready`.
fn records(is_ready: impl Fn() -> bool + Send + 'static) -> MemorySink {
    let memory = MemorySink::default();
    let wait = tiny::on_step(move |at| {
        if at.step() == 1 {
            assert!(comes_true(&is_ready), "the driver's library was not asked");
            sleep(Duration::from_millis(500)); // its figures come right after
        }
        Ok(())
    });
    let system = System::builder()
        .cadence(every(1))
        .build()
        .expect("valid settings");
    let run = tiny::run(2)
        .sink(memory.clone())
        .callback(wait)
        .callback(system);
    let fitted = run
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    assert_eq!(fitted.problems, []);
    memory
}

fn last(memory: &MemorySink, key: &str) -> Option<f64> {
    memory
        .series(&format!("system/gpu.{key}"))
        .last()
        .map(|last| last.1)
}

/// A process whose dynamic linker looks in `dir` first.
fn passes_with_libraries(name: &str, dir: &Path) {
    let mut command = child::command(name, dir, &[]);
    command.env("LD_LIBRARY_PATH", dir);
    child::passes(command);
}

/// Compiles the stand-in; `false` where there is no compiler.
fn compile(dir: &Path) -> bool {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/nvml.c");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"])
        .arg(dir.join("libnvidia-ml.so.1"))
        .arg(source);
    cc.status().is_ok_and(|status| status.success())
}

#[test]
fn gpus_are_recorded_under_the_names_of_wandb_and_the_library_is_closed_with_the_run() {
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
    passes_with_libraries(
        "gpus_are_recorded_under_the_names_of_wandb_and_the_library_is_closed_with_the_run",
        dir.path(),
    );
}

#[test]
fn a_library_that_is_none_leaves_the_run_without_gpus() {
    if child::dir().is_some() {
        let memory = records(|| true);
        assert_eq!(last(&memory, "0.gpu"), None);
        assert_eq!(last(&memory, "0.memoryAllocatedBytes"), None);
        return;
    }
    if Path::new("/sys/class/drm/card0/device/gpu_busy_percent").exists() {
        eprintln!("skipped: a GPU of AMD's is here");
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("libnvidia-ml.so.1"), "no library").expect("a file");
    passes_with_libraries(
        "a_library_that_is_none_leaves_the_run_without_gpus",
        dir.path(),
    );
}
