//! Check that hooks are called, and files written, as planned.

use super::CallbackCheck;
use super::runs::{MICRO_BATCHES, Run, fit, run};
use crate::callback::Callback;
use crate::hook::Hook;
use crate::plan::{Plan, PlanRow};
use crate::testing::hook_log::{Call, HookLog, difference};
use crate::testing::scratch::Scratch;

impl<C: Callback + 'static, F: Fn() -> C> CallbackCheck<F> {
    /// Checks that the callback's hooks are called on the planned steps, in order, and that it writes exactly the files
    /// that it announces.
    ///
    /// Steps are not checked if the cadence depends on time.
    ///
    /// # Panics
    ///
    /// If a call or a file differs. The text names the difference.
    pub fn fires_as_planned(&self) {
        let (name, scratch) = (self.name(), Scratch::new());
        let hooks = HookLog::default();
        let whole = fit(&scratch.run, run().callback(hooks.of((self.make)())));
        whole.check(&name);
        check_calls(&name, hooks.calls(), &whole);
        self.check_files(&name, &scratch, whole);
    }

    fn check_files(&self, name: &str, scratch: &Scratch, whole: Run) {
        for file in (self.make)().files(whole.steps()) {
            assert!(
                file.contains('*') || scratch.run.join(&file).exists(),
                "`{name}` announces `{file}`, but it does not exist"
            );
        }
        let mut files = whole.plan.files;
        files.push("checkpoints/".to_owned()); // also those that a callback requested
        if let Err(violation) = scratch.check(&files) {
            panic!("`{name}` writes unexpected files: {violation}");
        }
    }
}

/// Checks that the hooks of a callback were called as planned.
fn check_calls(name: &str, mut called: Vec<Call>, whole: &Run) {
    called.retain(|call| is_planned(call.hook));
    let Some(planned) = planned_calls(&whole.plan, name, whole.steps()) else {
        return; // the cadence depends on time
    };
    if let Some(difference) = difference(&planned, &called) {
        panic!("`{name}` is not called as planned: {difference}\n");
    }
}

/// Whether the plan has the steps of a hook's calls: evals and checkpoints have a cadence of the trainer.
fn is_planned(hook: Hook) -> bool {
    !hook.is_always_called() || matches!(hook, Hook::OnFitStart | Hook::OnFitEnd)
}

/// Predicts the calls of a callback's hooks, without those of evals and checkpoints, in a run of `steps` steps.
fn planned_calls(plan: &Plan, name: &str, steps: u64) -> Option<Vec<Call>> {
    let row = plan.rows.iter().find(|row| row.name == name)?;
    let mut calls = Vec::new();
    if row.hooks.contains(Hook::OnFitStart) {
        let (step, hook) = (0, Hook::OnFitStart);
        calls.push(Call { step, hook });
    }
    for &step in row.firings.as_ref()? {
        if step > steps {
            break; // the callback ended the run before this step
        }
        calls.extend(calls_on(step, row));
    }
    if row.hooks.contains(Hook::OnFitEnd) {
        let (step, hook) = (steps, Hook::OnFitEnd);
        calls.push(Call { step, hook });
    }
    Some(calls)
}

/// Predicts the calls of a callback's hooks on a due step.
fn calls_on(step: u64, row: &PlanRow) -> Vec<Call> {
    let mut calls = Vec::new();
    for hook in row.hooks.iter() {
        let times = match hook {
            Hook::OnMicroBatch => MICRO_BATCHES,
            _ if hook.is_always_called() => 0,
            _ => 1,
        };
        calls.extend(std::iter::repeat_n(Call { step, hook }, times));
    }
    calls
}
