//! Hooks are called in the documented order, and only those that a callback implements.

#![expect(
    clippy::unit_arg,
    reason = "a hook that cannot fail reads best on one line"
)]

#[path = "support/tiny.rs"]
mod tiny;

use bdh::cadence::{at, every, last, never, start};
use bdh::hooks::{FitStart, Hooks, StepEnd};
use bdh::testing::HookLog;
use bdh::{Callback, CallbackExt, HookResult, TrainResult};
use tiny::Seen;

fn fit(run: tiny::Builder) -> TrainResult<tiny::Tiny> {
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes")
}

#[test]
fn all_eleven_hooks_are_called_in_the_documented_order() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let hooks = HookLog::default();
    fit(tiny::run(2)
        .grad_accum_steps(2)
        .clip_grad_norm(1.0)
        .eval(start() | last())
        .checkpoint(at([1]))
        .run_dir(dir.path().join("run"))
        .callback(hooks.callback()));
    hooks.expect(
        "0: on_fit_start on_eval_batch*2 on_eval
         1: on_step_start on_micro_batch*2 after_backward before_optimizer_step after_optimizer_step on_step
            on_checkpoint
         2: on_step_start on_micro_batch*2 after_backward before_optimizer_step after_optimizer_step on_step
            on_eval_batch*2 on_eval on_fit_end",
    );
}

#[test]
fn an_eval_comes_before_the_checkpoint_of_its_step() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let hooks = HookLog::default();
    fit(tiny::run(1)
        .checkpoint(last())
        .run_dir(dir.path().join("run"))
        .callback(hooks.callback()));
    hooks.expect(
        "0: on_fit_start
         1: on_step_start on_micro_batch after_backward before_optimizer_step after_optimizer_step on_step
            on_eval_batch*2 on_eval on_checkpoint on_fit_end",
    );
}

#[test]
fn eval_hooks_always_run_and_step_hooks_follow_the_cadence() {
    let hooks = HookLog::default();
    fit(tiny::run(4)
        .eval(every(1))
        .callback(hooks.callback().on(every(2))));
    hooks.expect(
        "0: on_fit_start
         1: on_eval_batch*2 on_eval
         2: on_step_start on_micro_batch after_backward before_optimizer_step after_optimizer_step on_step
            on_eval_batch*2 on_eval
         3: on_eval_batch*2 on_eval
         4: on_step_start on_micro_batch after_backward before_optimizer_step after_optimizer_step on_step
            on_eval_batch*2 on_eval on_fit_end",
    );
}

#[test]
fn callbacks_are_called_in_the_order_in_which_they_were_added() {
    let seen = Seen::new();
    let (first, second) = (seen.clone(), seen.clone());
    fit(tiny::run(2)
        .callback(tiny::on_step(move |_| Ok(first.push("first".to_owned()))).named("one"))
        .callback(tiny::on_step(move |_| Ok(second.push("second".to_owned()))).named("two")));
    assert_eq!(seen.text(), "first second first second");
}

/// A callback written without `#[callback]`, so that `hooks()` can omit some of its hooks.
struct OnStepOnly;

impl Callback for OnStepOnly {
    fn hooks(&self) -> Hooks {
        Hooks::NONE.with(bdh::hooks::Hook::OnStep)
    }

    fn on_fit_start(&mut self, _: &FitStart<'_>) -> HookResult {
        Ok(())
    }

    fn on_step(&mut self, _: &StepEnd<'_>) -> HookResult {
        Ok(())
    }
}

#[test]
fn hooks_that_are_not_implemented_are_never_called() {
    let hooks = HookLog::default();
    let fitted = fit(tiny::run(3).callback(hooks.of(OnStepOnly)));
    hooks.expect("1: on_step 2: on_step 3: on_step");
    assert_eq!(fitted.overhead.rows[0].calls, 3);
}

#[test]
fn the_attribute_lists_the_implemented_hooks() {
    let hooks = |callback: &dyn Callback| callback.hooks().to_string();
    assert_eq!(hooks(&tiny::after_backward(|_| Ok(()))), "after_backward");
    assert_eq!(
        hooks(&HookLog::default().callback()),
        Hooks::ALL.to_string()
    );
    assert_eq!(hooks(&None::<OnStepOnly>), "");
}

#[test]
fn an_option_and_a_list_are_called_like_their_members() {
    let (hooks, some) = (HookLog::default(), HookLog::default());
    let list = vec![hooks.callback().on(every(2)), hooks.callback().on(every(3))];
    fit(tiny::run(3)
        .eval(never())
        .callback(list)
        .callback(Some(some.of(OnStepOnly).named("some")))
        .callback(None::<OnStepOnly>));
    hooks.expect(
        "0: on_fit_start*2
         2: on_step_start on_micro_batch after_backward before_optimizer_step after_optimizer_step on_step
         3: on_step_start on_micro_batch after_backward before_optimizer_step after_optimizer_step on_step
            on_fit_end*2",
    );
    some.expect("1: on_step 2: on_step 3: on_step");
}

#[test]
fn a_cadence_on_an_option_replaces_the_callbacks_own() {
    let hooks = HookLog::default();
    let inner = hooks.of(OnStepOnly).on(every(5));
    fit(tiny::run(3).eval(never()).callback(Some(inner).on(at([2]))));
    hooks.expect("2: on_step");
}
