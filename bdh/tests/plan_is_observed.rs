//! Callbacks act on exactly the steps of the plan.

#![expect(
    clippy::unit_arg,
    reason = "a hook that cannot fail reads best on one line"
)]

#[path = "support/tiny.rs"]
mod tiny;

use bdh::cadence::{
    Span, at, every, first, fraction, last, log_spaced, samples, start, steps, tokens,
};
use bdh::data::TrainData;
use bdh::plan::PlanRow;
use bdh::{BoxError, Cadence, CallbackExt, TokenBatch};
use proptest::prelude::*;
use std::collections::BTreeSet;
use tiny::Seen;

/// Spans that a run of 20 steps, of 16 tokens and 4 samples each, reaches.
fn span() -> impl Strategy<Value = Span> {
    prop_oneof![
        (1..=20_u64).prop_map(steps),
        (1..=320_u64).prop_map(tokens),
        (1..=80_u64).prop_map(samples),
        (1..=100_u32).prop_map(|percent| fraction(f64::from(percent) / 100.0)),
    ]
}

fn cadence() -> impl Strategy<Value = Cadence> {
    let leaf = prop_oneof![
        span().prop_map(every),
        prop::collection::vec(span(), 1..4).prop_map(at),
        (1..8_u32).prop_map(log_spaced),
        Just(start()),
        Just(first()),
        Just(last()),
    ];
    leaf.prop_recursive(2, 6, 2, |inner| {
        (inner.clone(), inner).prop_map(|(a, b)| a | b)
    })
}

fn planned(rows: &[PlanRow], name: &str) -> Vec<u64> {
    let row = rows
        .iter()
        .find(|row| row.name == name)
        .expect("a row for each");
    row.firings.clone().expect("every span is counted")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn planned_firings_are_those_observed(
        watch in cadence(), eval in cadence(), log in cadence(), checkpoint in cadence(),
    ) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (seen, memory) = (Seen::new(), bdh::MemorySink::default());
        let [steps, evals, saves] = [0, 1, 2].map(|_| seen.clone());
        let trainer = tiny::run(20)
            .grad_accum_steps(2)
            .log(log)
            .eval(eval)
            .checkpoint(checkpoint)
            .keep_checkpoints(3)
            .run_dir(dir.path().join("run"))
            .sink(memory.clone())
            .callback(tiny::on_step(move |ctx| Ok(steps.push(("watch", ctx.step())))).on(watch))
            .callback(tiny::on_eval(move |ctx| Ok(evals.push(("eval", ctx.step())))))
            .callback(tiny::on_checkpoint(move |ctx| Ok(saves.push(("checkpoint", ctx.step())))))
            .build();
        let trainer = match trainer {
            Ok(trainer) => trainer,
            Err(error) => return Err(TestCaseError::reject(error.to_string())),
        };
        let (rows, files) = (trainer.plan().rows.clone(), trainer.plan().files.clone());
        let fitted = trainer.fit().expect("a run that completes");
        prop_assert_eq!(&fitted.warnings, &[]);

        let of = |what| -> Vec<u64> {
            let seen = seen.all();
            seen.iter().filter(|(name, _)| *name == what).map(|(_, step)| *step).collect()
        };
        prop_assert_eq!(of("watch"), planned(&rows, "AtStep"));
        prop_assert_eq!(of("eval"), planned(&rows, "eval"));
        prop_assert_eq!(of("checkpoint"), planned(&rows, "checkpoint"));
        let losses: Vec<u64> = memory.series("train/loss").iter().map(|(step, _)| *step).collect();
        prop_assert_eq!(losses, planned(&rows, "record"));

        let planned: BTreeSet<String> = files.into_iter().collect();
        prop_assert_eq!(planned, files_below(&dir.path().join("run")));
    }
}

/// The content of a run directory: files, and complete checkpoints.
fn files_below(dir: &std::path::Path) -> BTreeSet<String> {
    let names = |dir: &std::path::Path| -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten();
        entries
            .map(|e| {
                e.expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect()
    };
    let checkpoints = names(&dir.join("checkpoints"));
    let checkpoints = checkpoints
        .into_iter()
        .map(|name| format!("checkpoints/{name}"));
    names(dir)
        .into_iter()
        .filter(|name| name != "checkpoints")
        .chain(checkpoints)
        .collect()
}

/// Rows that do not report their batch size.
struct Mute(tiny::Rows);

impl TrainData for Mute {
    type Batch = TokenBatch;

    fn next_batch(&mut self) -> Result<TokenBatch, BoxError> {
        self.0.next_batch()
    }
}

#[test]
fn steps_are_predicted_without_a_known_batch_size() {
    let trainer = bdh::Trainer::builder(tiny::task(), tiny::Tiny::new(0.0))
        .train_data(Mute(tiny::Rows::of(3)))
        .eval_data("val", tiny::val())
        .optimizer(bdh::burn::optim::AdamWConfig::new().build(), 0.01)
        .steps(20)
        .callback(
            tiny::on_step(|_| Ok(()))
                .on(every(5) | every(fraction(0.5)))
                .named("steps"),
        )
        .callback(
            tiny::on_step(|_| Ok(()))
                .on(every(tokens(100)))
                .named("tokens"),
        )
        .callback(
            tiny::on_step(|_| Ok(()))
                .on(every(bdh::cadence::secs(1.0)))
                .named("time"),
        )
        .build()
        .expect("a valid run");
    let rows = &trainer.plan().rows;
    assert_eq!(planned(rows, "steps"), [5, 10, 15, 20]);
    // Not from the validation batches, which may be larger or smaller.
    assert!(
        rows.iter()
            .filter(|row| row.firings.is_none())
            .map(|row| &*row.name)
            .eq(["tokens", "time"])
    );
}

#[test]
fn a_cadence_that_never_fires_is_refused_with_its_owner() {
    let late = tiny::on_step(|_| Ok(())).on(every(21)).named("late");
    let error = tiny::run(20)
        .callback(late)
        .build()
        .expect_err("it never fires");
    let cause = std::error::Error::source(&error)
        .expect("a cause")
        .to_string();
    assert_eq!(
        error.to_string(),
        format!("the cadence of late cannot work: {cause}")
    );
    assert!(
        cause.contains("every 21 steps") && cause.contains("at most 20 steps"),
        "{cause}"
    );

    let tokens = tiny::on_step(|_| Ok(())).on(every(tokens(1_000)));
    assert!(
        tiny::run(20).callback(tokens).build().is_err(),
        "20 steps see 160 tokens"
    );
}

#[test]
fn the_plan_prints_every_part_of_the_run() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let trainer = tiny::run(20)
        .clip_grad_norm(1.0)
        .checkpoint(every(8))
        .run_dir(dir.path().join("run"))
        .callback(
            tiny::after_backward(|_| Ok(()))
                .on(every(5))
                .named("gradients"),
        )
        .sink(bdh::MemorySink::default())
        .build()
        .expect("a valid run");
    let page = trainer.plan().to_string();
    for part in [
        "20 steps",
        "187 parameters in 3 tensors",
        "clipped to norm 1",
        "gradients",
        "every 5 steps",
        "5, 10, 15, 20 (4×)",
        "after_backward",
        "jsonl, memory",
        "metrics.jsonl",
        "checkpoints/step_00000016",
    ] {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
    assert!(!dir.path().join("run").exists(), "a plan writes nothing");
}
