//! `system` hears of GPUs from a program that runs beside the run, and ends with it.
//!
//! A script on `PATH` stands in for `nvidia-smi`; the run is in a process of its own, which has that `PATH`.
#![cfg(target_os = "linux")]

#[path = "support/child.rs"]
mod child;
#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::{MemorySink, every};
use bdh_callbacks::System;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

const NAME: &str = "gpus_are_recorded_under_the_names_of_wandb_and_the_program_ends_with_the_run";

/// Tells of two GPUs until it is killed, and in `smi.pid` who it is.
const SCRIPT: &str = "#!/bin/sh
cd \"$(dirname \"$0\")\"
echo \"$@\" > smi.args
echo $$ > smi.pid
while :; do
    echo '0, 37, 1024, 4096'
    echo '1, [N/A], 512, 4096'
    sleep 0.05
done
";

/// Waits at most ten seconds for something.
fn comes_true(what: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !what() && began.elapsed() < Duration::from_secs(10) {
        sleep(Duration::from_millis(5));
    }
    what()
}

fn process(dir: &Path) -> PathBuf {
    let pid = fs::read_to_string(dir.join("smi.pid")).expect("the script has begun");
    Path::new("/proc").join(pid.trim())
}

/// A run that waits on its first step until both GPUs have been heard of.
fn watched(dir: &Path) {
    let memory = MemorySink::default();
    let begun = dir.join("smi.pid");
    let wait = tiny::on_step(move |at| {
        if at.step() == 1 {
            assert!(comes_true(|| begun.exists()), "no `nvidia-smi` was started");
            sleep(Duration::from_millis(500)); // its lines come right after
        }
        Ok(())
    });
    let system = System::builder().cadence(every(1)).build().expect("valid settings");
    let run = tiny::run(2).sink(memory.clone()).callback(wait).callback(system);
    let fitted = run.build().expect("a valid run").fit().expect("a run that completes");
    assert_eq!(fitted.problems, []);

    let last = |key: &str| memory.series(&format!("system/gpu.{key}")).last().map(|last| last.1);
    let mib = 1024.0 * 1024.0;
    assert_eq!(last("0.gpu"), Some(37.0));
    assert_eq!(last("0.memoryAllocated"), Some(25.0));
    assert_eq!(last("0.memoryAllocatedBytes"), Some(1024.0 * mib));
    assert_eq!(last("1.gpu"), None, "it does not tell");
    assert_eq!(last("1.memoryAllocated"), Some(12.5));

    let process = process(dir);
    assert!(comes_true(|| !process.exists()), "the program outlives the run");
}

#[test]
fn gpus_are_recorded_under_the_names_of_wandb_and_the_program_ends_with_the_run() {
    if let Some(dir) = child::dir() {
        return watched(&dir);
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let script = dir.path().join("nvidia-smi");
    fs::write(&script, SCRIPT).expect("a script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a program");
    let before = std::env::var_os("PATH").unwrap_or_default();
    let dirs = [dir.path().to_owned()].into_iter().chain(std::env::split_paths(&before));
    let path = std::env::join_paths(dirs).expect("a path");
    let mut command = child::command(NAME, dir.path(), &[]);
    command.env("PATH", path);
    child::passes(command);

    let args = fs::read_to_string(dir.path().join("smi.args")).expect("arguments");
    let query = "--query-gpu=index,utilization.gpu,memory.used,memory.total";
    assert_eq!(args.trim(), format!("{query} --format=csv,noheader,nounits -l 2"));
}
