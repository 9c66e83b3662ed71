//! The table at the end of a run warns of a callback above the overhead budget, and suggests a cadence.

#![expect(
    clippy::unit_arg,
    reason = "a hook that cannot fail reads best on one line"
)]

#[path = "support/tiny.rs"]
mod tiny;

use bdh::CallbackExt;
use bdh::cadence::{every, never};
use bdh::overhead::Overhead;
use std::thread::sleep;
use std::time::Duration;

/// Overhead of 40 steps of 1 ms each, with a callback that takes 5 ms on its due steps.
fn overhead(compose: impl FnOnce(tiny::Builder) -> tiny::Builder) -> Overhead {
    let work = tiny::on_step_start(|_| Ok(sleep(Duration::from_millis(1)))).named("work");
    let slow = tiny::on_step(|_| Ok(sleep(Duration::from_millis(5))))
        .named("slow")
        .on(every(2));
    let run = tiny::run(40).eval(never()).callback(work).callback(slow);
    compose(run)
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes")
        .overhead
}

/// The warning about the slow callback.
fn warning(overhead: &Overhead) -> Option<String> {
    overhead
        .warnings()
        .into_iter()
        .find(|warning| warning.starts_with("`slow`"))
}

#[test]
fn the_warning_of_a_slow_callback_suggests_a_cadence() {
    let overhead = overhead(|run| run);
    let slow = overhead.rows.last().expect("a row for each");
    assert_eq!((slow.due, slow.calls, overhead.num_steps), (20, 20, 40));
    assert!(slow.host_when_due >= Duration::from_millis(100), "{slow:?}");

    let warning = warning(&overhead).expect("it takes longer than a step");
    assert!(warning.starts_with("`slow` slows the steps by ") && warning.contains(" (budget 5 %)"));
    let words: Vec<_> = warning.split([' ', ',']).collect();
    let after = |word| {
        words
            .iter()
            .skip_while(|known| **known != word)
            .nth(2)
            .expect("a number")
    };
    let rarer: f64 = after("acting").parse().expect("a number of steps");
    assert!((5.0..=500.0).contains(&rarer), "{warning}");
    assert!(warning.contains(" instead of every 2, "), "{warning}");
    let then = warning
        .rsplit(' ')
        .nth(1)
        .and_then(|percent| percent.parse::<f64>().ok());
    assert!(then.expect("a percentage") <= 5.0, "{warning}");
    assert!(
        overhead
            .to_string()
            .contains(&format!("\nwarning: {warning}"))
    );
}

#[test]
fn the_overhead_budget_is_a_setting_of_the_run() {
    assert_eq!(
        warning(&overhead(|run| run.overhead_budget(f64::INFINITY))),
        None
    );
    let strict = warning(&overhead(|run| run.overhead_budget(0.5))).expect("it costs more");
    assert!(strict.contains("(budget 0.5 %)"), "{strict}");
    for budget in [-1.0, f64::NAN] {
        let error = tiny::run(1)
            .overhead_budget(budget)
            .build()
            .expect_err("no budget");
        assert!(
            error.to_string().starts_with("`overhead_budget` is "),
            "{error}"
        );
    }
}

#[test]
fn the_cost_of_eval_hooks_suggests_no_rarer_cadence() {
    let slow = tiny::on_eval(|_| Ok(sleep(Duration::from_millis(5))));
    let run = |run: tiny::Builder| run.eval(every(2)).callback(slow.named("judge"));
    let warnings = overhead(run).warnings();
    let judge = warnings
        .iter()
        .find(|warning| warning.starts_with("`judge`"));
    assert!(
        judge
            .expect("5 ms for 2 steps of 1 ms")
            .contains("hooks of evals and checkpoints")
    );
}
