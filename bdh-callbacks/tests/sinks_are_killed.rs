//! A run that is killed at any moment has its records on disk, and can be resumed.
//!
//! Processes are killed with SIGKILL. A sink's thread polls its queue every 20 ms, so records that a sink received 250 ms
//! before the end must be on disk, even on a busy machine. Our own readers check this, and W&B's if it is available.
#![cfg(all(feature = "tensorboard", feature = "wandb"))]

#[path = "support/child.rs"]
mod child;
#[path = "support/judges.rs"]
mod judges;
#[path = "support/logs.rs"]
mod logs;
#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::cadence::every;
use bdh::{MemorySink, Outcome, Value, checkpoint};
use bdh_callbacks::wandb::{Mode, repair};
use bdh_callbacks::{TensorBoard, Wandb};
use judges::Judge;
use serde_json::Value as Json;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

const NAME: &str = "records_of_250_ms_before_a_kill_are_in_every_file";

/// Seed of the moments of the kills.
const SEED: u64 = 42;

/// Number of runs.
const RUNS: usize = 5;
/// Kills of each run, before it runs to its end.
const KILLS: usize = 4;

/// Latest moment of a kill, in milliseconds after the start of the process.
const LATEST: u64 = 900;

/// Twelve polls of a sink's thread.
const MARGIN: Duration = Duration::from_millis(250);

/// File whose presence lets a child run to its end.
const LAST: &str = "last";

/// Work of a child: trains, from the latest checkpoint if there is one, and prints each step that the sinks received.
fn train(dir: &Path) {
    let is_last = dir.with_file_name(LAST).exists();
    let checkpoint = checkpoint::latest(&dir.join("checkpoints"));
    if checkpoint.is_none() {
        let _ = fs::remove_dir_all(dir); // killed before its first checkpoint, so it starts anew
    }
    let mut steps_here = 0;
    let paced = tiny::on_step(move |ctx| {
        thread::sleep(Duration::from_millis(1));
        if ctx.step().is_multiple_of(20) {
            ctx.log("sample", Value::Text("größe ".repeat(200)));
        }
        steps_here += 1;
        if is_last && steps_here == 20 {
            ctx.stop("that will do");
        }
        Ok(())
    });
    // The next step begins when the record of this one is in the queue.
    let prints = tiny::on_step_start(|ctx| Ok(writeln!(io::stdout(), "{}", ctx.step() - 1)?));
    let run = tiny::run(1_000_000)
        .run_dir(dir)
        .checkpoint(every(50))
        .callback(paced)
        .callback(prints)
        .sink(TensorBoard::default())
        .sink(Wandb::from_env().mode(Mode::Offline).project("p"));
    let run = match checkpoint {
        Some(checkpoint) => run.resume(checkpoint),
        None => run,
    };
    let fitted = run
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that is stopped");
    assert!(matches!(fitted.outcome, Outcome::Stopped(_)) && fitted.warnings.is_empty());
}

/// Runs a child and kills it some time after its start. Returns the last step that its sinks had surely received.
fn run_and_kill(dir: &Path, after: Duration) -> u64 {
    let began = Instant::now();
    let mut command = child::command(NAME, dir, &[]);
    let mut process = command.stdout(Stdio::piped()).spawn().expect("a process");
    let lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
    let listener = thread::spawn(move || -> Vec<(Instant, u64)> {
        let step = |line: String| line.rsplit(' ').next().and_then(|word| word.parse().ok());
        lines
            .map_while(Result::ok)
            .filter_map(step)
            .map(|step| (Instant::now(), step))
            .collect()
    });
    thread::sleep(after.saturating_sub(began.elapsed()));
    let killed = Instant::now();
    process.kill().expect("a process that was there");
    process.wait().expect("a process that is gone");
    let mut last = 0;
    for (printed, step) in listener.join().expect("the lines that were read") {
        if printed + MARGIN <= killed {
            last = last.max(step);
        }
    }
    last
}

/// Runs a child to its end.
fn run_to_the_end(dir: &Path) {
    let sign = dir.with_file_name(LAST);
    fs::write(&sign, "").expect("a file");
    child::passes(child::command(NAME, dir, &[]));
    fs::remove_file(sign).expect("a file");
}

/// Checks that the rows are the first of the run, each once and bit-identical, and at least `handed` of them.
fn assert_rows(rows: &[logs::Row], handed: u64, undisturbed: &[logs::Row], what: &str) {
    assert!(
        rows.len() as u64 >= handed,
        "{what} has {} rows of {handed}",
        rows.len()
    );
    assert_eq!(rows, &undisturbed[..rows.len()], "{what}");
}

fn assert_files(dir: &Path, handed: u64, undisturbed: &[logs::Row]) {
    assert_rows(&logs::jsonl(dir), handed, undisturbed, "metrics.jsonl");
    assert_rows(&logs::events(dir), handed, undisturbed, "the event file");
    let log = logs::wandb_log(dir);
    assert_rows(&logs::wandb(&log), handed, undisturbed, "the W&B log");
}

/// W&B log after a kill, and the last step that it must contain.
struct Left {
    log: PathBuf,
    handed: u64,
}

/// Checks that W&B's own reader finds the same rows.
fn judge_rows(judge: &Judge, left: &[Left], undisturbed: &[logs::Row]) {
    for Left { log, .. } in left {
        // A write is whole, unless the kill came while the kernel was between two of its pages.
        assert!(repair(log).expect("a log").damaged <= 1);
    }
    let found = judge.json("wandb_losses.py", left.iter().map(|left| &left.log));
    let row = |row: &Json| -> Option<logs::Row> {
        Some((
            row[0].as_str()?.parse().ok()?,
            row[1].as_str()?.parse().ok()?,
        ))
    };
    for (rows, left) in found.as_array().expect("logs").iter().zip(left) {
        let rows = rows.as_array().expect("rows").iter();
        let rows: Vec<_> = rows
            .map(|json| row(json).expect("a step and a loss"))
            .collect();
        assert_rows(&rows, left.handed, undisturbed, "the W&B log, read by W&B,");
    }
}

/// Linear congruential generator, with Knuth's constants.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[test]
fn records_of_250_ms_before_a_kill_are_in_every_file() {
    if let Some(dir) = child::dir() {
        return train(&dir);
    }
    eprintln!("seed {SEED}");
    let memory = MemorySink::default();
    let run = tiny::run(8_000)
        .sink(memory.clone())
        .build()
        .expect("a valid run");
    run.fit().expect("a run that completes");
    let undisturbed = memory.series("train/loss");

    let temporary = tempfile::tempdir().expect("a temporary directory");
    let (mut random, mut left, mut rows) = (Random(SEED), Vec::new(), 0);
    for number in 0..RUNS {
        let dir = temporary.path().join(format!("run {number}"));
        for kill in 0..KILLS {
            let after = Duration::from_millis(random.below(LATEST));
            let handed = run_and_kill(&dir, after);
            eprintln!("run {number}, kill {kill} after {after:?}: {handed} steps were received");
            if handed > 0 {
                assert_files(&dir, handed, &undisturbed);
                let log = temporary.path().join(format!("{number}-{kill}.wandb"));
                fs::copy(logs::wandb_log(&dir), &log).expect("space");
                left.push(Left { log, handed });
                rows += handed;
            }
        }
        run_to_the_end(&dir);
        let whole = logs::jsonl(&dir).len() as u64;
        assert_files(&dir, whole, &undisturbed);
        left.push(Left {
            log: logs::wandb_log(&dir),
            handed: whole,
        });
    }
    assert!(
        rows > 100,
        "the machine is too slow for this test: {rows} rows"
    ); // about 5,000 on a development machine

    let Some(judge) = Judge::wandb_0_19() else {
        return;
    };
    judge_rows(&judge, &left, &undisturbed);
}
