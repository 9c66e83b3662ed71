//! Time of reading 1,000 runs with 1,000 records each, like `compare` and `forecast`.
//!
//! ```text
//! cargo bench --profile dev -p bdh-examples --bench runs
//! ```

#![expect(clippy::print_stdout, reason = "a bench prints a table")]

#[path = "support/written.rs"]
mod written;

use bdh_sweep::runs::{Keys, Table, read_all};
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
            .map(|number| {
                written::run(
                    &dir.path().join(format!("run-{number:04}")),
                    number,
                    RECORDS,
                )
            })
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
