//! Tests of the program `mnist`: what it leaves, exact resume, and equal runs.

#[path = "support/killed.rs"]
mod killed;
#[allow(dead_code, reason = "`main` is not called")]
#[path = "../mnist.rs"]
mod mnist;
#[path = "support/program.rs"]
mod program;

use bdh::testing::resume_exact;
use killed::{End, kill_at};

type Place = program::Place<Mnist>;

/// Program under test.
struct Mnist;

impl program::Name for Mnist {
    const NAME: &'static str = "mnist";
}

/// A run of 3 epochs of 11 steps, the last of them on a smaller batch. Checkpoints are due on steps 20 and 33, and on each
/// eval with a better accuracy.
const WORDS: &str = "--images 700 --duration 3epochs --run-dir run";

fn args() -> mnist::Args {
    mnist::Args {
        duration: bdh::cadence::epochs(3),
        images: 200,
        run_dir: "unused".into(),
    }
}

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
    for count in [4, 15, 26] {
        kill_at(&place, WORDS, "run", count); // neither at a checkpoint nor at the end of an epoch
    }
    let ended = place.run(WORDS);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    End::of(&place, "run").assert_same(&first, "killed three times");

    let before = place.files();
    let again = place.run(WORDS);
    assert_eq!(again.code, Some(0), "{}{}", again.out, again.err);
    let output = again.out + &again.err;
    program::contains(&output, &["is complete: all 33 steps are taken"]);
    assert!(place.files() == before, "a complete run was changed");
}

#[test]
fn program_learns_and_names_its_best_checkpoint() {
    let (place, end, output) = undisturbed();
    let accuracy = end.last("val/accuracy").expect("an eval");
    assert!(accuracy > 0.5, "chance is 0.1, this is {accuracy}");
    let line = output
        .lines()
        .find_map(|line| line.strip_prefix("best checkpoint: "));
    let best = place.at(line.expect("the path of the best checkpoint"));
    assert!(
        best.join("model.safetensors").exists(),
        "{}",
        best.display()
    );
    program::contains(&output, &["samples/s"]);
    let files: Vec<_> = place.files().into_keys().collect();
    let has = |part: &str| {
        files
            .iter()
            .any(|path| path.to_string_lossy().contains(part))
    };
    assert!(has("tfevents"), "{files:?}");
}

#[test]
fn resume_is_exact_with_batch_norm_dropout_and_worker_threads() {
    // 4 steps an epoch: within the first, at its end, within the second.
    resume_exact([2, 4, 7], &[], || {
        let run = mnist::compose(&args());
        run.expect("a valid run")
    });
}

#[test]
fn program_is_shorter_than_100_lines_of_code() {
    let source = include_str!("../mnist.rs");
    let code = source
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//"));
    let count = code.count();
    assert!(count < 100, "{count} lines");
}
