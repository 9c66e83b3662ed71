//! Forecasts against sweeps whose law is known.

#[path = "support/curves.rs"]
mod curves;

use bdh_forecast::{Cell, Cut, CutTest, End, Forecast, Forecaster, Predictor, Run, StopRule};
use curves::{Law, normal};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn leave_one_out(runs: Vec<Run>, cut: Cut) -> CutTest {
    let forecast = Forecast::of(runs).and_then(|forecast| forecast.cuts([cut]));
    forecast
        .expect("runs and cut are valid")
        .leave_one_out()
        .cuts
        .remove(0)
}

fn mae(test: &CutTest, predictor: Predictor) -> f64 {
    test.cell(predictor)
        .and_then(Cell::mae)
        .expect("at least eight runs finished")
}

/// λ and α lie between the nodes of the grid.
#[test]
fn schedule_law_is_recovered_from_a_quarter_of_the_run() {
    let law = Law {
        exponent: 0.525,
        memory: 0.985,
        noise: 0.001,
        spread: 0.2,
        ..Law::default()
    };
    let test = leave_one_out(law.sweep(20, 1), Cut::Fraction(0.25));
    let error = mae(&test, Predictor::Annealing);
    assert!(error < 0.005, "{error}");
    assert!(
        error < 0.2 * mae(&test, Predictor::PowerLaw),
        "the power law ignores annealing"
    );
    let comparison = test.comparison.as_ref().expect("twenty runs");
    assert!(
        error < mae(&test, Predictor::Affine) && comparison.is_clear(),
        "{comparison:?}"
    );
    assert_eq!(comparison.against.len(), 2, "{comparison:?}");
}

/// Curves without annealing and warm-up: `L0 + A t^-α`.
#[test]
fn power_laws_recover_a_power_law() {
    let mut runs = Law::default().sweep(12, 2);
    for (index, run) in runs.iter_mut().enumerate() {
        let value = |step: u64| 2.0 + index as f64 / 10.0 + 9.0 * (step as f64).powf(-0.4);
        run.metric = (1..=20).map(|k| (50 * k, value(50 * k))).collect();
        run.end = End::Finished(value(1_000));
    }
    let test = leave_one_out(runs, Cut::Fraction(0.4));
    assert!(mae(&test, Predictor::ClosedForm) < 1e-9);
    assert!(mae(&test, Predictor::PowerLaw) < 1e-4);
    assert!(mae(&test, Predictor::LastValue) > 0.1);
}

/// Checks one run of each draw, so that draws are independent.
///
/// A share of 80 % of 200 has a standard deviation of 2.8 %; jackknife+ is a little cautious by design.
#[test]
fn intervals_contain_the_end_at_their_nominal_rate() {
    let mut held = [0; Predictor::ALL.len()];
    for seed in 0..200 {
        let runs = Law {
            noise: 0.05,
            ..Law::default()
        }
        .sweep(15, 1_000 + seed);
        let test = leave_one_out(runs, Cut::Fraction(0.5));
        for (cell, held) in test.cells.iter().zip(&mut held) {
            let point = cell.points[seed as usize % 15];
            let truth = point.truth.expect("all finish");
            *held += usize::from(point.interval.is_some_and(|interval| interval.holds(truth)));
        }
    }
    for (predictor, held) in Predictor::ALL.into_iter().zip(held) {
        let right = if predictor == Predictor::Annealing {
            0..=0
        } else {
            140..=184
        };
        assert!(right.contains(&held), "{predictor}: {held} of 200");
    }
}

/// Ends are independent of curves and settings here, so the best predictor is best by chance.
#[test]
fn chance_is_rarely_reported_as_skill() {
    let mut claims = 0;
    for seed in 0..40 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut runs = Law::default().sweep(20, 2_000 + seed);
        for run in &mut runs {
            run.end = End::Finished(3.0 + normal(&mut rng));
        }
        let comparison = leave_one_out(runs, Cut::Fraction(0.5)).comparison;
        claims += usize::from(comparison.expect("twenty runs").is_clear());
    }
    assert!(claims <= 4, "{claims} of 40");
}

/// Each stop is wrong with a probability of at most 10 %, the tail of its interval.
#[test]
fn stops_are_rarely_wrong() {
    let (mut stops, mut wrong, mut saved) = (0, 0, 0.0);
    for seed in 0..20 {
        let runs = Law::default().sweep(30, 3_000 + seed);
        let saving = StopRule { regret: 0.02 }.replay(&runs, &[Cut::Fraction(0.25)]);
        let saving = saving.expect("names differ");
        let is_wrong = |stop: &&bdh_forecast::Stopped| stop.truth < Some(stop.best - 0.02);
        stops += saving.stopped.len();
        wrong += saving.stopped.iter().filter(is_wrong).count();
        saved += saving.saved / 20.0;
    }
    assert!(stops > 200 && saved > 0.3, "{stops} stops save {saved}");
    assert!(wrong * 20 <= stops, "{wrong} of {stops} were wrong");
}

/// Predicts the entropy of a Markov source with three symbols.
///
/// Bigram counts are a model of the source, whose loss falls to the source's entropy as 1/t. A run is the mean of 1,000
/// such models.
#[test]
fn entropy_of_a_source_is_predicted() {
    const SOURCE: [[f64; 3]; 3] = [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5]];
    let mut shares = [1.0 / 3.0; 3];
    for _ in 0..200 {
        shares = std::array::from_fn(|to| (0..3).map(|from| shares[from] * SOURCE[from][to]).sum());
    }
    // Bits per symbol of a model with these transition probabilities.
    let loss = |model: &[[f64; 3]; 3]| -> f64 {
        let bits = |from: usize| -> f64 {
            SOURCE[from]
                .iter()
                .zip(model[from])
                .map(|(p, q)| -p * q.log2())
                .sum()
        };
        (0..3).map(|from| shares[from] * bits(from)).sum()
    };
    let entropy = loss(&SOURCE);
    let run = |seed: u64| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut metric: Vec<(u64, f64)> = (1..=20).map(|k| (50 * k, 0.0)).collect();
        for _ in 0..1_000 {
            let (mut counts, mut symbol, mut step) = ([[0.5; 3]; 3], 0, 0);
            for (until, mean) in &mut metric {
                while step < *until {
                    let (draw, row) = (rng.random::<f64>(), SOURCE[symbol]);
                    let next = usize::from(draw >= row[0]) + usize::from(draw >= row[0] + row[1]);
                    counts[symbol][next] += 1.0;
                    (symbol, step) = (next, step + 1);
                }
                *mean +=
                    loss(&counts.map(|row| row.map(|n| n / row.iter().sum::<f64>()))) / 1_000.0;
            }
        }
        let (name, end) = (seed.to_string(), End::Finished(entropy));
        Run {
            name,
            horizon: 100_000_000,
            metric,
            end,
            ..Run::default()
        }
    };
    let test = leave_one_out((0..10).map(run).collect(), Cut::Step(1_000));
    let errors = [
        Predictor::LastValue,
        Predictor::ClosedForm,
        Predictor::PowerLaw,
    ]
    .map(|who| mae(&test, who));
    assert!(
        errors[1] < 0.2 * errors[0] && errors[2] < 0.1 * errors[0],
        "{errors:?}, {entropy}"
    );
}

#[test]
fn predictions_improve_as_a_run_continues() {
    let mut runs = Law {
        spread: 0.2,
        ..Law::default()
    }
    .sweep(40, 4);
    let now = runs.split_off(30);
    let forecaster = Forecaster::new(runs).expect("names differ");
    let error = |step: u64| {
        let miss = |run: &Run| {
            let mut early = run.clone();
            early.metric.retain(|entry| entry.0 <= step);
            early.loss.retain(|entry| entry.0 <= step);
            (early.lr, early.norms) = (Vec::new(), [].into());
            let prediction = forecaster.predict(&early).expect("it was evaluated");
            assert_eq!(prediction.step, step);
            (prediction.value - run.final_value().expect("it finished")).abs()
        };
        now.iter().map(miss).sum::<f64>() / now.len() as f64
    };
    let errors = [50, 250, 900].map(error);
    assert!(errors[0] > errors[2] && errors[1] > errors[2], "{errors:?}");
    assert!(errors[2] < 0.02, "{errors:?}");
}
