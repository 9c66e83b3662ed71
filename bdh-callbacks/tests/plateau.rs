//! `ReduceOnPlateau` in a run: rates fall after evals, per group, and continue exactly after a resume.

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::burn::optim::SgdConfig;
use bdh::cadence::{at, every};
use bdh::stats::ParamInfo;
use bdh::{CallbackExt, Group, MemorySink, TrainResult};
use bdh_callbacks::{Ema, Mode, ReduceOnPlateau};
use tiny::Tiny;

/// Reduces by half after each second eval: no loss is a million times the best, so none is an improvement.
fn halving() -> ReduceOnPlateau {
    ReduceOnPlateau::default()
        .mode(Mode::Max)
        .threshold(1e6)
        .factor(0.5)
        .patience(1)
}

/// A run of 12 steps with an eval on every second, and two groups.
fn run() -> tiny::Builder {
    let head = |param: &ParamInfo| param.name.starts_with("head");
    let head = Group::new("head", head, SgdConfig::new().build(), 0.5);
    let run = tiny::compose(tiny::ROWS, Tiny::new(0.0), 12).group(head);
    run.optimizer(SgdConfig::new().build(), 0.25).eval(every(2))
}

fn fit(run: tiny::Builder) -> TrainResult<Tiny> {
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes")
}

fn rates(memory: &MemorySink, key: &str) -> Vec<f64> {
    let series = memory.series(key).into_iter();
    series.map(|(_, lr)| lr).collect()
}

// Evals on steps 2 (the best), 4, 6 (reduces), 8, 10 (reduces), 12.
const SCALES: [f64; 12] = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25];

#[test]
fn rates_fall_from_the_step_after_the_eval() {
    let memory = MemorySink::default();
    fit(run().intervention(halving()).sink(memory.clone()));
    assert_eq!(rates(&memory, "lr/head"), SCALES.map(|scale| 0.5 * scale));
    assert_eq!(
        rates(&memory, "lr/default"),
        SCALES.map(|scale| 0.25 * scale)
    );
}

#[test]
fn only_the_named_groups_are_reduced() {
    let memory = MemorySink::default();
    let named = halving()
        .metric("val/loss")
        .groups(["head"])
        .named("head_plateau");
    fit(run().intervention(named).sink(memory.clone()));
    assert_eq!(rates(&memory, "lr/head"), SCALES.map(|scale| 0.5 * scale));
    assert_eq!(rates(&memory, "lr/default"), [0.25; 12]);
}

#[test]
fn evals_of_another_set_do_not_count() {
    let memory = MemorySink::default();
    let other = run().eval_data_on("test", tiny::val(), every(1));
    fit(other
        .intervention(halving().metric("val/loss"))
        .sink(memory.clone()));
    assert_eq!(rates(&memory, "lr/head"), SCALES.map(|scale| 0.5 * scale));
}

#[test]
fn a_resumed_run_continues_the_count_exactly() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let with = |dir: &str| {
        let run = run().run_dir(scratch.path().join(dir)).checkpoint(every(1));
        run.intervention(halving())
    };
    let whole = tiny::weights(&fit(with("whole")).model);
    for stop in [4, 5, 6, 7] {
        let dir = format!("halves-{stop}");
        let callback = tiny::on_step(|ctx| {
            ctx.stop("interrupted");
            Ok(())
        });
        fit(with(&dir).callback(callback.on(at([stop]))));
        let memory = MemorySink::default();
        let resumed = with(&dir).resume("auto").allow_changed(["callbacks"]);
        let resumed = fit(resumed.sink(memory.clone()));
        assert_eq!(tiny::weights(&resumed.model), whole, "{stop}");
        let rest = SCALES[stop as usize..].iter().map(|scale| 0.5 * scale);
        assert_eq!(
            rates(&memory, "lr/head"),
            rest.collect::<Vec<_>>(),
            "{stop}"
        );
    }
}

#[test]
fn settings_without_effect_are_refused_or_noted_before_the_run() {
    let refused = |plateau: ReduceOnPlateau| {
        let run = run().callback(Ema::default()).intervention(plateau);
        run.build().expect_err("a wrong setting").to_string()
    };
    let text = refused(halving().metric("val/los"));
    assert!(
        text.starts_with(
            "the settings of intervention `reduce_on_plateau` are wrong: unknown metric \"val/los\": this run evaluates \
             val/loss, "
        ),
        "{text}"
    );
    let text = refused(halving().metric("ema_loss")); // a callback's, which is not in the report of an eval
    assert!(text.contains("unknown metric \"ema_loss\""), "{text}");
    let text = refused(halving().groups(["hed"]));
    assert!(
        text.ends_with("unknown group \"hed\": this run has head, default"),
        "{text}"
    );
    let text = refused(halving().factor(2.0));
    assert!(
        text.ends_with("`factor` is 2; use a number between 0 and 1"),
        "{text}"
    );

    let notes = |run: tiny::Builder| run.build().expect("a valid run").plan().notes.clone();
    assert_eq!(
        notes(run().intervention(halving().patience(5))),
        [
            "`reduce_on_plateau` never reduces a learning rate: `patience` is 5 evals, and this run has 6"
        ]
    );
    assert!(notes(run().intervention(halving().patience(4))).is_empty());
}
