//! A long run keeps its memory, its open files and its pace.
//!
//! `BDH_SOAK=50000 cargo test --workspace --test soak -- --nocapture` takes as many steps as docs/reliability.md reports
//! and prints the figures; without it, 20,000.

#[path = "support/child.rs"]
mod child;
#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::{
    BoxError, Callback, HookResult, Jsonl, StepEnd, callback, every, last, registered_callbacks,
};
use bdh_callbacks::{TensorBoard, Wandb};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

const NAME: &str = "a_long_run_keeps_its_memory_its_open_files_and_its_pace";

/// The run is looked at so often.
const LOOKS: u64 = 40;

fn steps() -> u64 {
    std::env::var("BDH_SOAK")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20_000)
}

/// What the process is at some step.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Look {
    step: u64,
    /// Resident memory, in MiB.
    resident: f64,
    open_files: usize,
    /// Processor time of one step since the last look, in microseconds, on all threads, checkpoints and all. Others who
    /// keep the machine busy are not in it.
    pace: f64,
}

/// Looks at the process from within.
struct Watch {
    apart: u64,
    spent: u64,
    looks: Vec<Look>,
    file: PathBuf,
}

#[callback]
impl Callback for Watch {
    fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
        if !at.step().is_multiple_of(self.apart) {
            return Ok(());
        }
        let spent = processor_ticks()?;
        let pages = fs::read_to_string("/proc/self/statm")?;
        let pages: f64 = pages.split(' ').nth(1).ok_or("a second field")?.parse()?;
        self.looks.push(Look {
            step: at.step(),
            resident: pages * 4096.0 / f64::from(1 << 20),
            open_files: fs::read_dir("/proc/self/fd")?.count(),
            pace: (spent - self.spent) as f64 * 1e4 / self.apart as f64,
        });
        fs::write(&self.file, serde_json::to_vec(&self.looks)?)?;
        self.spent = spent;
        Ok(())
    }
}

/// The process's processor time so far. Source: proc_pid_stat(5), fields 14 and 15, in hundredths of a second.
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

/// Every callback at its defaults, every sink, checkpoints all along.
fn train(dir: &Path) {
    let callbacks = registered_callbacks().into_iter().map(|entry| {
        let settings = match entry.name {
            "samples" => json!({ "prompts": ["ab"], "max_tokens": 4 }),
            "early_stop" => json!({ "patience": 1_000_000 }),
            _ => json!({}),
        };
        (entry.build)(settings).unwrap_or_else(|error| panic!("{}: {error}", entry.name))
    });
    let watch = Watch {
        apart: steps() / LOOKS,
        spent: 0,
        looks: Vec::new(),
        file: dir.join("looks.json"),
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
    assert_eq!(fitted.problems, []);
}

fn middle(looks: &[Look], of: impl Fn(&Look) -> f64) -> f64 {
    let mut values: Vec<_> = looks.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn a_long_run_keeps_its_memory_its_open_files_and_its_pace() {
    if let Some(dir) = child::dir() {
        return train(&dir);
    }
    if !Path::new("/proc/self/statm").exists() {
        eprintln!("SKIPPED {NAME}: this system does not tell what a process uses");
        return;
    }
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let mut command = child::command(NAME, scratch.path(), &[]);
    command.env("WANDB_MODE", "offline");
    // One arena: with one for each thread, what each has left over looks like a leak in one run of three.
    command.env("MALLOC_ARENA_MAX", "1");
    child::passes(command);
    let looks = fs::read(scratch.path().join("looks.json")).expect("what was seen");
    let looks: Vec<Look> = serde_json::from_slice(&looks).expect("JSON");
    assert_eq!(looks.len() as u64, LOOKS);

    // The first half warms up: caches, pools, the first of each picture.
    let (earlier, later) = looks[looks.len() / 2..].split_at(looks.len() / 4);
    for look in looks.iter().step_by(4) {
        eprintln!("{look:?}");
    }
    let [before, after] = [earlier, later].map(|looks| middle(looks, |look| look.resident));
    let [slow, slower] = [earlier, later].map(|looks| middle(looks, |look| look.pace));
    eprintln!("resident {before:.1} then {after:.1} MiB, {slow:.0} then {slower:.0} µs a step");
    // A picture or a checkpoint that is just being written has its file open: the middle of many looks has none.
    let open = |looks: &[Look]| middle(looks, |look| look.open_files as f64);
    assert!(open(later) <= open(earlier), "{looks:#?}");
    assert!(after < before * 1.05 + 2.0, "{looks:#?}");
    assert!(slower < slow * 1.5, "{looks:#?}");
}
