//! Hooks are called in the order that the crate's documentation promises, and only those written.

#![expect(clippy::unit_arg, reason = "a hook that cannot fail reads best on one line")]

#[path = "support/tiny.rs"]
mod tiny;

use bdh::{
    AfterBackward, AfterOptimizerStep, Attach, BeforeOptimizerStep, Callback, Checkpointed, Cx,
    EvalBatch, EvalEnd, FitEnd, FitStart, HookResult, MicroBatch, StepEnd, StepStart, at, callback,
    every, last, start,
};
use tiny::Seen;

/// Writes down every hook that is called, with the step.
struct Diary(Seen<String>);

impl Diary {
    fn note(&self, hook: &str, at: &Cx<'_>) {
        self.0.push(format!("{hook}@{}", at.step()));
    }
}

macro_rules! note_all {
    ($($hook:ident $event:ident),+ $(,)?) => {
        #[callback]
        impl Callback for Diary {
            $(fn $hook(&mut self, at: &$event<'_>) -> HookResult {
                Ok(self.note(stringify!($hook), at))
            })+
        }
    };
}

note_all! {
    on_fit_start FitStart, on_step_start StepStart, on_micro_batch MicroBatch,
    after_backward AfterBackward, before_optimizer_step BeforeOptimizerStep,
    after_optimizer_step AfterOptimizerStep, on_step StepEnd, on_eval_batch EvalBatch,
    on_eval EvalEnd, on_checkpoint Checkpointed, on_fit_end FitEnd,
}

/// Implements hooks without `#[callback]`, so that `hooks()` can leave some of them out.
struct OnStepOnly(Seen<String>);

impl Callback for OnStepOnly {
    fn hooks(&self) -> bdh::Hooks {
        bdh::Hooks::NONE.with(bdh::Hook::OnStep)
    }

    fn on_fit_start(&mut self, _: &FitStart<'_>) -> HookResult {
        self.0.push("on_fit_start, which is not among its hooks".to_owned());
        Ok(())
    }

    fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
        self.0.push(format!("on_step@{}", at.step()));
        Ok(())
    }
}

#[test]
fn all_eleven_hooks_come_in_the_documented_order() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let seen = Seen::new();
    tiny::run(2)
        .grad_accum_steps(2)
        .clip_grad_norm(1.0)
        .eval(start() | last())
        .checkpoint(at([1]))
        .run_dir(dir.path().join("run"))
        .callback(Diary(seen.clone()))
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    let expected = "on_fit_start@0 \
        on_eval_batch@0 on_eval_batch@0 on_eval@0 \
        on_step_start@1 on_micro_batch@1 on_micro_batch@1 after_backward@1 \
        before_optimizer_step@1 after_optimizer_step@1 on_step@1 on_checkpoint@1 \
        on_step_start@2 on_micro_batch@2 on_micro_batch@2 after_backward@2 \
        before_optimizer_step@2 after_optimizer_step@2 on_step@2 \
        on_eval_batch@2 on_eval_batch@2 on_eval@2 \
        on_fit_end@2";
    assert_eq!(seen.text(), expected);
}

#[test]
fn an_eval_comes_before_the_checkpoint_of_its_step() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let seen = Seen::new();
    tiny::run(1)
        .checkpoint(last())
        .run_dir(dir.path().join("run"))
        .callback(Diary(seen.clone()))
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    let end = "on_step@1 on_eval_batch@1 on_eval_batch@1 on_eval@1 on_checkpoint@1 on_fit_end@1";
    assert!(seen.text().ends_with(end), "{}", seen.text());
}

#[test]
fn hooks_between_steps_come_always_and_those_of_a_step_by_cadence() {
    let seen = Seen::new();
    tiny::run(4)
        .eval(every(1))
        .callback(Diary(seen.clone()).every(every(2)))
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    let even = |step: u64| {
        format!(
            "on_step_start@{step} on_micro_batch@{step} after_backward@{step} \
             before_optimizer_step@{step} after_optimizer_step@{step} on_step@{step} "
        )
    };
    let eval = |step: u64| format!("on_eval_batch@{step} on_eval_batch@{step} on_eval@{step} ");
    let expected = ["on_fit_start@0 ".to_owned()].into_iter().chain(
        (1..=4).map(|step| if step % 2 == 0 { even(step) + &eval(step) } else { eval(step) }),
    );
    assert_eq!(seen.text(), expected.collect::<String>() + "on_fit_end@4");
}

#[test]
fn callbacks_are_called_in_the_order_in_which_they_were_added() {
    let seen = Seen::new();
    let (first, second) = (seen.clone(), seen.clone());
    tiny::run(2)
        .callback(tiny::on_step(move |_| Ok(first.push("first".to_owned()))).named("one"))
        .callback(tiny::on_step(move |_| Ok(second.push("second".to_owned()))).named("two"))
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    assert_eq!(seen.text(), "first second first second");
}

#[test]
fn hooks_that_were_not_written_are_never_called() {
    let seen = Seen::new();
    let fitted = tiny::run(3)
        .callback(OnStepOnly(seen.clone()))
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    assert_eq!(seen.text(), "on_step@1 on_step@2 on_step@3");
    assert_eq!(fitted.overhead.rows[0].calls, 3);
}

#[test]
fn the_attribute_lists_the_hooks_that_were_written() {
    let hooks = |callback: &dyn Callback| callback.hooks().to_string();
    assert_eq!(hooks(&tiny::after_backward(|_| Ok(()))), "after_backward");
    assert_eq!(hooks(&Diary(Seen::new())), bdh::Hooks::ALL.to_string());
    assert_eq!(hooks(&None::<Diary>), "");
}

#[test]
fn an_option_and_a_list_are_called_like_their_members() {
    let seen = Seen::new();
    let list = vec![Diary(seen.clone()).every(every(2)), Diary(seen.clone()).every(every(3))];
    tiny::run(3)
        .eval(bdh::never())
        .callback(list)
        .callback(Some(tiny::on_step(|_| Ok(())).named("some")))
        .callback(None::<Diary>)
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    let step = |step: u64| {
        format!(
            "on_step_start@{step} on_micro_batch@{step} after_backward@{step} \
             before_optimizer_step@{step} after_optimizer_step@{step} on_step@{step} "
        )
    };
    let (start, end) = ("on_fit_start@0 on_fit_start@0 ", "on_fit_end@3 on_fit_end@3");
    assert_eq!(seen.text(), format!("{start}{}{}{end}", step(2), step(3)));
}

#[test]
fn a_cadence_given_where_an_option_is_added_replaces_its_own() {
    let seen = Seen::new();
    let inner = Diary(seen.clone()).every(every(5));
    tiny::run(3)
        .eval(bdh::never())
        .callback(Some(inner).every(at([2])))
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    assert!(seen.text().contains("on_step@2"), "{}", seen.text());
}
