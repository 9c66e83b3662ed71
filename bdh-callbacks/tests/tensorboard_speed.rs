//! How fast the sink writes; `cargo test --release --test tensorboard_speed -- --ignored --nocapture`.

#![cfg(feature = "tensorboard")]

use bdh::{Clock, Feedback, Histogram, Outcome, Record, RunInfo, Sink, Value};
use bdh_callbacks::TensorBoard;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

fn open(dir: &Path) -> TensorBoard {
    let run = RunInfo {
        name: "run".to_owned(),
        dir: Some(dir.to_owned()),
        steps: 0,
        seed: 0,
        config: serde_json::Value::Null,
        resumed_at: None,
        resumed_record: None,
        started_at: 0.0,
        feedback: Feedback::default(),
    };
    let mut sink = TensorBoard::default();
    sink.open(&run).expect("a directory");
    sink
}

/// Records a second, until they are on the disk; the median of five.
fn rate(count: u64, values: &[(String, Value)]) -> f64 {
    let mut rates: Vec<_> = (0..5).map(|_| rate_once(count, values)).collect();
    rates.sort_by(f64::total_cmp);
    rates[2]
}

fn rate_once(count: u64, values: &[(String, Value)]) -> f64 {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut sink = open(dir.path());
    let mut record = Record { clock: Clock::default(), values: values.to_vec() };
    let began = Instant::now();
    for step in 1..=count {
        record.clock.step = step;
        sink.write(&record).expect("space");
    }
    sink.close(&Outcome::Completed).expect("space");
    count as f64 / began.elapsed().as_secs_f64()
}

#[test]
#[ignore = "a measurement"]
fn scalars_and_histograms_a_second() {
    for scalars in [1, 5, 20] {
        let value = |number| (format!("group/metric_{number}"), Value::Scalar(0.1));
        let values: Vec<_> = (0..scalars).map(value).collect();
        let rate = rate(400_000 / scalars, &values) * scalars as f64;
        eprintln!("{rate:.0} scalars a second, {scalars} a step");
    }
    let values: Vec<f32> = (0..65_536).map(|i| (i as f32 * 1.7).sin()).collect();
    let histogram = Histogram::of(&values, 64);
    let rate = rate(5_000, &[("weights".to_owned(), Value::Histogram(histogram))]);
    eprintln!("{rate:.0} histograms of 64 bins written a second");
    let began = Instant::now();
    for _ in 0..2_000 {
        black_box(Histogram::of(black_box(&values), 64));
    }
    let rate = 2e3 / began.elapsed().as_secs_f64();
    eprintln!("{rate:.0} histograms of 65,536 values counted a second");
}
