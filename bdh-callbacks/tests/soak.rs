//! Memory, open files and speed stay constant in a long run.
//!
//! `BDH_SOAK=50000 cargo test --workspace --test soak -- --nocapture` takes as many steps as docs/reliability.md reports
//! and prints the figures; without it, 20,000.

#[path = "support/child.rs"]
mod child;
#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::cadence::{every, last};
use bdh::hooks::StepEnd;
use bdh::{BoxError, Callback, HookResult, Jsonl, callback, registry};
use bdh_callbacks::{TensorBoard, Wandb};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

const NAME: &str = "memory_open_files_and_speed_stay_constant";

/// Number of measurements.
const MEASUREMENTS: u64 = 40;

fn steps() -> u64 {
    std::env::var("BDH_SOAK")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20_000)
}

/// Measurement of the process at a step.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Measurement {
    step: u64,
    /// Resident memory, in MiB.
    resident: f64,
    open_files: usize,
    /// Processor time of a step since the last measurement, in microseconds, over all threads and with checkpoints. Other
    /// processes do not count.
    pace: f64,
}

/// Callback that measures its own process.
struct Watch {
    apart: u64,
    spent: u64,
    measurements: Vec<Measurement>,
    file: PathBuf,
}

#[callback]
impl Callback for Watch {
    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        if !ctx.step().is_multiple_of(self.apart) {
            return Ok(());
        }
        let spent = processor_ticks()?;
        let pages = fs::read_to_string("/proc/self/statm")?;
        let pages: f64 = pages.split(' ').nth(1).ok_or("a second field")?.parse()?;
        self.measurements.push(Measurement {
            step: ctx.step(),
            resident: pages * 4096.0 / f64::from(1 << 20),
            open_files: fs::read_dir("/proc/self/fd")?.count(),
            pace: (spent - self.spent) as f64 * 1e4 / self.apart as f64,
        });
        fs::write(&self.file, serde_json::to_vec(&self.measurements)?)?;
        self.spent = spent;
        Ok(())
    }
}

/// Returns the process's processor time so far, in hundredths of a second.
///
/// Source: proc_pid_stat(5), fields 14 and 15.
fn processor_ticks() -> Result<u64, BoxError> {
    let text = fs::read_to_string("/proc/self/stat")?;
    let fields = text
        .rsplit_once(')')
        .ok_or("a name in brackets")?
        .1
        .split_whitespace();
    Ok(fields
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum())
}

/// Trains with every callback at its defaults, every sink, and checkpoints.
fn train(dir: &Path) {
    let callbacks = registry::all().into_iter().map(|entry| {
        let settings = match entry.name {
            "samples" => json!({ "prompts": ["ab"], "max_tokens": 4 }),
            "early_stop" => json!({ "patience": 1_000_000 }),
            _ => json!({}),
        };
        (entry.build)(settings).unwrap_or_else(|error| panic!("{}: {error}", entry.name))
    });
    let watch = Watch {
        apart: steps() / MEASUREMENTS,
        spent: 0,
        measurements: Vec::new(),
        file: dir.join("measurements.json"),
    };
    let run = tiny::run_with(0.1, steps())
        .clip_grad_norm(0.5)
        .eval(every(500) | last())
        .checkpoint(every(500) | last())
        .run_dir(dir.join("run"))
        .sink(Jsonl::default())
        .sink(TensorBoard::default())
        .sink(Wandb::from_env())
        .callbacks(callbacks)
        .callback(watch)
        .build();
    let fitted = run
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    assert_eq!(fitted.warnings, []);
}

fn median(measurements: &[Measurement], of: impl Fn(&Measurement) -> f64) -> f64 {
    let mut values: Vec<_> = measurements.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn memory_open_files_and_speed_stay_constant() {
    if let Some(dir) = child::dir() {
        return train(&dir);
    }
    if !Path::new("/proc/self/statm").exists() {
        eprintln!("SKIPPED {NAME}: this system has no `/proc/self/statm`");
        return;
    }
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let mut command = child::command(NAME, scratch.path(), &[]);
    command.env("WANDB_MODE", "offline");
    // One malloc arena: with one per thread, unused memory of the arenas looks like a leak in one run of three.
    command.env("MALLOC_ARENA_MAX", "1");
    child::passes(command);
    let measurements =
        fs::read(scratch.path().join("measurements.json")).expect("the measurements");
    let measurements: Vec<Measurement> = serde_json::from_slice(&measurements).expect("JSON");
    assert_eq!(measurements.len() as u64, MEASUREMENTS);

    // The first half is warm-up: caches, pools, the first of each picture.
    let (earlier, later) = measurements[measurements.len() / 2..].split_at(measurements.len() / 4);
    for measurement in measurements.iter().step_by(4) {
        eprintln!("{measurement:?}");
    }
    let [before, after] = [earlier, later]
        .map(|measurements| median(measurements, |measurement| measurement.resident));
    let [slow, slower] =
        [earlier, later].map(|measurements| median(measurements, |measurement| measurement.pace));
    eprintln!("resident {before:.1} then {after:.1} MiB, {slow:.0} then {slower:.0} µs a step");
    // The file of a picture or a checkpoint is open while it is written. The median of many measurements has none.
    let open = |measurements: &[Measurement]| {
        median(measurements, |measurement| measurement.open_files as f64)
    };
    assert!(open(later) <= open(earlier), "{measurements:#?}");
    assert!(after < before * 1.05 + 2.0, "{measurements:#?}");
    assert!(slower < slow * 1.5, "{measurements:#?}");
}
