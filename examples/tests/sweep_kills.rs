//! A sweep that is killed at random moments, with its trials, has the same results as an undisturbed one.
//!
//! `BDH_KILLS=50 cargo test --workspace --test sweep_kills -- --nocapture` kills more often.
#![cfg(unix)]

#[path = "support/program.rs"]
mod program;

use bdh_sweep::{Status, Trial, TrialStore};
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Steps of each trial; checkpoints and evals come every five.
const STEPS: u64 = 20;

/// The sweep: two trials, one after the other.
const SWEEP: &str =
    "sweep tiny.yaml --count 2 -- --num-iterations 20 --eval-every 5 --save-every 5";

type Place = program::Place<NanochatSweep>;

/// Program under test.
struct NanochatSweep;

impl program::Name for NanochatSweep {
    const NAME: &'static str = "nanochat_sweep";
}

fn place() -> Place {
    let place = Place::new();
    let yaml = "method: random\nmetric: { name: val_bpb }\n\
                parameters: { lr_override: { distribution: log_uniform_values, min: 0.001, max: 0.01 } }\n\
                command: ['${program}', --device=cpu, --data=text.txt, --depth=2, --n_embd_override=64, --max-seq-len=32,\n\
                --micro-batch=2, --eval-tokens=64, --early-save=off, --log-backend=none, '${args}']\n";
    fs::write(place.at("tiny.yaml"), yaml).expect("a file");
    place
}

fn trials(place: &Place) -> Vec<Trial> {
    TrialStore::read(place.at("runs/tiny")).unwrap_or_default()
}

/// Counts the complete records of both trials.
fn records(place: &Place) -> usize {
    let lines = |number| {
        let dir = place.at("runs/tiny").join(TrialStore::run_name(number));
        let bytes = fs::read(dir.join("metrics.jsonl")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).matches('\n').count()
    };
    lines(1) + lines(2)
}

/// Starts the sweep, and kills it and its trial at `count` records. Returns whether a trial was killed.
fn killed_at(place: &Place, count: usize) -> bool {
    let mut sweep = place
        .command(SWEEP)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a sweep");
    let began = Instant::now();
    while records(place) < count {
        if sweep.try_wait().expect("a process").is_some() {
            return false;
        }
        assert!(
            began.elapsed() < Duration::from_mins(1),
            "{count} records: not within a minute"
        );
        thread::sleep(Duration::from_millis(1));
    }
    sweep.kill().expect("killed");
    sweep.wait().expect("dead");
    let running = trials(place)
        .into_iter()
        .filter(|trial| trial.status == Status::Running);
    running
        .filter_map(|trial| trial.pid)
        .fold(false, |killed, pid| {
            let kill = Command::new("kill")
                .args(["-9", &pid.to_string()])
                .stderr(Stdio::null())
                .status();
            killed | kill.expect("kill").success()
        })
}

/// Returns the values and records of both trials, without times.
fn ends(place: &Place) -> Vec<(Status, Option<f64>, u64, Option<f64>)> {
    let end = |trial: Trial| {
        let run = format!("runs/tiny/{}", TrialStore::run_name(trial.number));
        let last = place.metrics(&run).pop().expect("a record");
        (
            trial.status,
            trial.value,
            last["step"].as_u64().expect("a step"),
            last["val_bpb"].as_f64(),
        )
    };
    trials(place).into_iter().map(end).collect()
}

#[test]
fn trials_of_a_killed_sweep_equal_those_of_an_undisturbed_one() {
    let undisturbed = place();
    undisturbed.succeeds(SWEEP);
    let expected = ends(&undisturbed);
    for (status, value, step, recorded) in &expected {
        assert_eq!((*status, *step), (Status::Completed, STEPS));
        assert!(
            value.is_some() && value == recorded,
            "{value:?}, and the last record has {recorded:?}"
        );
    }
    let kills = std::env::var("BDH_KILLS")
        .ok()
        .and_then(|kills| kills.parse().ok())
        .unwrap_or(5);
    let mut killed = 0;
    for round in 0_usize.. {
        if killed >= kills {
            break;
        }
        assert!(
            round < 10 * kills,
            "only {killed} trials were killed: they are too fast"
        );
        let place = place();
        // First after the last checkpoint, one record before the end; then at random.
        let mut at = if round == 0 { 20 } else { 1 + round * 13 % 19 };
        while killed < kills && killed_at(&place, at) {
            killed += 1;
            at += 1 + killed * 7 % 17;
        }
        place.succeeds(SWEEP);
        assert_eq!(
            ends(&place),
            expected,
            "after {killed} kills, in round {round}"
        );
    }
}
