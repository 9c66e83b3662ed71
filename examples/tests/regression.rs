//! Tests of the program `regression`: what it learns and names, exact resume, and equal runs.

#[path = "support/killed.rs"]
mod killed;
#[path = "support/program.rs"]
mod program;
#[allow(dead_code, reason = "`main` is not called")]
#[path = "../regression.rs"]
mod regression;

use bdh::testing::resume_exact;
use bdh_callbacks::ReduceOnPlateau;
use killed::{End, kill_at};

type Place = program::Place<Regression>;

/// Program under test.
struct Regression;

impl program::Name for Regression {
    const NAME: &'static str = "regression";
}

/// A run of 40 epochs of 11 steps. Checkpoints are due on every 50th step, and on each eval with a better metric.
const WORDS: &str = "--rows 700 --duration 40epochs --run-dir run";

/// Returns the end of a run that nothing disturbed, with the program's output.
fn undisturbed() -> (Place, End, String) {
    let place = Place::new();
    let ended = place.run(WORDS);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    let end = End::of(&place, "run");
    (place, end, ended.out + &ended.err)
}

#[test]
fn three_runs_end_equal_and_a_run_killed_within_epochs_equals_them() {
    let (_, first, _) = undisturbed();
    for _ in 0..2 {
        let (_, other, _) = undisturbed();
        other.assert_same(&first, "another run");
    }

    let place = Place::new();
    for count in [6, 93, 170] {
        kill_at(&place, WORDS, "run", count);
    }
    let ended = place.run(WORDS);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    End::of(&place, "run").assert_same(&first, "killed three times");
}

#[test]
fn program_learns_and_prints_plan_score_and_best_checkpoint() {
    let (place, end, output) = undisturbed();
    let averaged = end.last("val/ema_r2").expect("an eval of the average");
    assert!(averaged > 0.6, "R² of the averaged weights is {averaged}");
    assert!(end.last("test/rmse").is_some(), "the second eval set");
    let rates = ["lr/vectors", "lr/default"].map(|key| end.last(key));
    assert!(rates.iter().all(Option::is_some), "{rates:?}");
    program::contains(&output, &["inverse_root", "R² of the test set: 0."]);
    let line = output
        .lines()
        .find_map(|line| line.strip_prefix("best checkpoint: "));
    let best = place.at(line.expect("the path of the best checkpoint"));
    let average = best.join("weights_ema.safetensors");
    assert!(average.exists(), "{}", average.display());
}

#[test]
fn resume_is_exact_with_prefetch_shuffles_plateau_and_two_optimizers() {
    let args = regression::Args {
        duration: bdh::cadence::epochs(8), // of 4 steps
        rows: 200,
        run_dir: "unused".into(),
    };
    resume_exact([2, 4, 15, 30], &[], || {
        // Nothing is better by 100, so the rates fall after the evals of steps 16 and 28.
        let falls = ReduceOnPlateau::default()
            .named("falls")
            .metric("val/rmse")
            .absolute(true)
            .threshold(100.0)
            .patience(2)
            .factor(0.5);
        let run = regression::compose(&args);
        run.expect("a valid run").intervention(falls)
    });
}
