//! Loading of token shards: time to the first batch, memory, and what loading adds to a step.
//!
//! ```text
//! cargo bench --profile dev -p bdh-examples --bench shards              # 1.3 billion tokens, 5 GB on the disk meanwhile
//! cargo bench --profile dev -p bdh-examples --bench shards -- 1e7       # fewer
//! ```
//!
//! The shards are synthetic, in a temporary directory (`TMPDIR`), and deleted at the end. A batch is that of 12 layers: 32
//! rows of 2048 tokens. For the last lines a step computes for 200 ms on the CPU's other core; waiting is the share of
//! that time in which it has no batch.

#![expect(clippy::print_stdout, reason = "a bench prints a table")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot run fails at once")]

use bdh::TokenBatch;
use bdh::data::{Prefetch, TrainData};
use bdh_data::{Prepared, synthetic_shards};
use std::hint::black_box;
use std::time::{Duration, Instant};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

const ROWS: usize = 32;
const SEQ_LEN: usize = 2048;

/// Computing time of a step.
const STEP: Duration = Duration::from_millis(200);

/// Steps of a measurement.
const STEPS: u32 = 40;

fn main() {
    // cargo adds `--bench` to the arguments.
    let tokens = std::env::args()
        .skip(1)
        .find_map(|word| word.parse::<f64>().ok());
    let tokens = tokens.unwrap_or(1.3e9) as u64;
    let dir = tempfile::tempdir().unwrap();
    let began = Instant::now();
    drop(synthetic_shards(dir.path(), tokens, 32_768, SEQ_LEN, 1).unwrap());
    println!(
        "{tokens:.3e} tokens written in {:.1} s",
        began.elapsed().as_secs_f64()
    );

    let before = resident();
    let began = Instant::now();
    let prepared = Prepared::open(dir.path()).unwrap().unwrap();
    let mut data = prepared.train().batches(ROWS, SEQ_LEN).unwrap();
    black_box(data.next_batch().unwrap());
    println!(
        "opened, with the first batch: {:.1} ms",
        1e3 * began.elapsed().as_secs_f64()
    );
    let began = Instant::now();
    for _ in 0..STEPS {
        black_box(data.next_batch().unwrap());
    }
    let each = began.elapsed() / STEPS;
    println!(
        "a batch of {ROWS} x {SEQ_LEN}: {:.3} ms",
        1e3 * each.as_secs_f64()
    );
    println!(
        "resident memory: +{:.1} MB",
        (resident() - before) as f64 / 1e6
    );

    let direct = prepared.train().batches(ROWS, SEQ_LEN).unwrap();
    println!(
        "waiting, drawn in the step: {:.3} %",
        100.0 * waiting(direct)
    );
    let ahead = Prefetch::new(prepared.train().batches(ROWS, SEQ_LEN).unwrap());
    println!(
        "waiting, drawn ahead:       {:.3} %",
        100.0 * waiting(ahead)
    );
}

/// Returns the time without a batch as a share of the computing time.
fn waiting(mut data: impl TrainData<Batch = TokenBatch>) -> f64 {
    black_box(data.next_batch().unwrap()); // starts the thread
    let mut waited = Duration::ZERO;
    for _ in 0..STEPS {
        compute();
        let began = Instant::now();
        black_box(data.next_batch().unwrap());
        waited += began.elapsed();
    }
    waited.as_secs_f64() / (STEP * STEPS).as_secs_f64()
}

/// Keeps a core busy for the time of a step.
fn compute() {
    let began = Instant::now();
    let mut sum = 0_u64;
    while began.elapsed() < STEP {
        for number in 0..1000 {
            sum = black_box(sum.wrapping_add(number));
        }
    }
}

/// Returns the resident memory of the process in bytes.
fn resident() -> i64 {
    let pid = Pid::from_u32(std::process::id());
    let mut system = System::new();
    let what = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, what);
    system
        .process(pid)
        .map_or(0, |process| process.memory() as i64)
}
