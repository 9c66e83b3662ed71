//! Time of a forecast with every predictor, at five cuts, with leave-one-out.
//!
//! ```text
//! cargo bench --profile dev -p bdh-examples --bench forecast
//! ```
//!
//! The whole report runs two more protocols and replays the stop rule. The goal: less than 2 s for 200 runs with
//! leave-one-out, on two cores.

#![expect(clippy::print_stdout, reason = "a bench prints a table")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot run fails at once")]

#[path = "../../bdh-forecast/tests/support/curves.rs"]
mod curves;
#[path = "support/paired.rs"]
mod paired;

use bdh_forecast::{Cut, Forecast, Forecaster, Predictor, Run};
use curves::Law;
use paired::{Variant, measure, time};
use std::hint::black_box;

const ROUNDS: usize = 5;

fn forecast(runs: &[Run]) -> Forecast {
    Forecast::of(runs.to_vec())
        .unwrap()
        .cuts(Cut::SHARES)
        .unwrap()
}

fn main() {
    let sweeps: Vec<Vec<Run>> = [20, 60, 200]
        .map(|runs| Law::default().sweep(runs, 1))
        .into();
    let forecaster = Forecaster::new(sweeps[2].clone()).unwrap();
    let mut variants: Vec<Variant<'_>> = Vec::new();
    for runs in &sweeps {
        let name = format!("{} runs, leave one out", runs.len());
        variants.push(Variant::new(name, || {
            let forecast = forecast(runs);
            time(|| drop(black_box(forecast.leave_one_out())))
        }));
        let name = format!("{} runs, the whole report", runs.len());
        variants.push(Variant::new(name, || {
            let forecast = forecast(runs);
            time(|| drop(black_box(forecast.report())))
        }));
    }
    variants.push(Variant::new("one prediction from 200 runs", || {
        time(|| drop(black_box(forecaster.predict(&sweeps[2][7]))))
    }));
    let times = measure(&mut variants, ROUNDS);
    println!(
        "{:<34} {:>10} {:>10}",
        format!("{} predictors, 5 cuts", Predictor::ALL.len()),
        "ms",
        "to first"
    );
    for (variant, of_variant) in variants.iter().zip(&times) {
        let (ms, ratio) = (
            of_variant.median().as_secs_f64() * 1e3,
            of_variant.ratio(&times[0]),
        );
        println!("{:<34} {ms:>10.1} {ratio:>10.2}", variant.name);
    }
}
