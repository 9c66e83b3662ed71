//! Reading many runs back: 1,000 of 1,000 records each, as `compare` and `forecast` do.
//!
//! ```text
//! cargo bench --profile dev -p bdh-examples --bench runs
//! ```

#![expect(clippy::print_stdout, reason = "a bench prints a table")]

use bdh::runs::{Keys, Table, read_all};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Instant;

const RECORDS: u64 = 1_000;

fn main() {
    println!(
        "{:>6} {:>9} {:>8} {:>9} {:>9} {:>9}",
        "runs", "records", "MB", "read s", "table s", "page s"
    );
    for runs in [10, 100, 1_000] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let bytes: usize = (0..runs)
            .map(|number| write(&dir.path().join(format!("run-{number:04}")), number))
            .sum();
        let keys = Keys::new("val_bpb");
        let timed = |began: Instant| began.elapsed().as_secs_f64();
        let began = Instant::now();
        let found = read_all([dir.path()], &keys);
        let read = timed(began);
        assert_eq!(found.runs.len() as u64, runs);
        let began = Instant::now();
        let table = Table::of(&found.runs, &keys);
        let csv = table.csv();
        let made = timed(began);
        let began = Instant::now();
        let page = table.html("bench", &found.runs, &keys);
        let drawn = timed(began);
        assert!(csv.lines().count() as u64 == runs + 1 && page.len() > csv.len());
        let records = runs * RECORDS;
        println!(
            "{runs:>6} {records:>9} {:>8.0} {read:>9.2} {made:>9.2} {drawn:>9.2}",
            bytes as f64 / 1e6
        );
    }
}

/// A run as `nanochat_sweep` leaves it: its keys, one record a step, an eval every 50.
fn write(dir: &Path, number: u64) -> usize {
    fs::create_dir(dir).expect("a directory");
    let lr = 1e-4 * (1.0 + number as f64);
    let config = format!(
        "{{\"steps\":{RECORDS},\"status\":\"completed\",\"config\":{{\"user\":{{\"args\":{{\"depth\":{},\"lr\":{lr}}}}}}}}}",
        number % 5
    );
    fs::write(dir.join("run.json"), config).expect("a file");
    let groups =
        ["matrix", "lm_head", "wte", "value_embeds", "resid_lambdas", "x0_lambdas", "smear"];
    let mut text = String::new();
    for step in 0..RECORDS {
        let loss = 2.0 + 3.0 / (1.0 + step as f64).sqrt() + lr;
        let _ = write!(text, "{{\"train/loss\":{loss},\"lr\":{lr}");
        for group in groups {
            let _ = write!(text, ",\"lr/{group}\":{}", lr * 1.234_567_891);
        }
        let _ = write!(
            text,
            ",\"train/grad_norm\":{},\"train/weight_norm\":{},\"train/tokens\":{},\"train/flops\":{}",
            loss / 3.1,
            loss * 33.3,
            step * 512,
            step as f64 * 4.1e8
        );
        let _ = write!(
            text,
            ",\"train/tok_per_sec\":25083.058236,\"train/step_time\":0.020412184,\"train/data_wait\":0.00137"
        );
        if step % 50 == 0 {
            let _ = write!(text, ",\"val/loss\":{loss},\"val/bpb\":{loss},\"val_bpb\":{loss}");
        }
        let _ = writeln!(
            text,
            ",\"step\":{step},\"tokens\":{},\"elapsed\":{}}}",
            step * 512,
            step as f64 * 0.02
        );
    }
    fs::write(dir.join("metrics.jsonl"), &text).expect("a file");
    text.len()
}
