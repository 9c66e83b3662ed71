//! That hooks are called, and files written, as the plan says.

use super::CallbackCheck;
use super::runs::{MICRO_BATCHES, fit, run};
use crate::callback::Callback;
use crate::hook::Hook;
use crate::plan::Plan;
use crate::testing::hook_log::{Call, HookLog, difference};
use crate::testing::scratch::Scratch;

impl<C: Callback + 'static, F: Fn() -> C> CallbackCheck<F> {
    /// Checks that its hooks are called on the steps that the plan says, each in its place, that it writes the files
    /// that it announces, and nothing else but checkpoints.
    ///
    /// # Panics
    ///
    /// If it does not. Steps are not checked of one that goes by the time.
    pub fn fires_as_planned(&self) {
        let (name, scratch) = (self.name(), Scratch::new());
        let hooks = HookLog::default();
        let whole = fit(&scratch.run, run().callback(hooks.of((self.make)())));
        whole.check(&name);

        let of_steps = |call: &Call| {
            !call.hook.is_always_called() || [Hook::OnFitStart, Hook::OnFitEnd].contains(&call.hook)
        };
        let called: Vec<_> = hooks.calls().into_iter().filter(of_steps).collect();
        let planned = planned_calls(&whole.plan, &name, whole.steps());
        if let Some(difference) = planned.and_then(|planned| difference(&planned, &called)) {
            panic!("`{name}` is not called as the plan says: {difference}\n");
        }

        for file in (self.make)()
            .files(whole.steps())
            .iter()
            .filter(|file| !file.contains('*'))
        {
            assert!(
                scratch.run.join(file).exists(),
                "`{name}` announces `{file}`, which is not there"
            );
        }
        let files = [whole.plan.files, vec!["checkpoints/".to_owned()]].concat();
        if let Err(violation) = scratch.check(&files) {
            panic!("`{name}` does not keep to its files: {violation}");
        }
    }
}

/// The calls that a plan foretells of a callback in a run of so many steps, evals and checkpoints aside.
fn planned_calls(plan: &Plan, name: &str, steps: u64) -> Option<Vec<Call>> {
    let row = plan.rows.iter().find(|row| row.name == name)?;
    let firings = row
        .firings
        .as_ref()?
        .iter()
        .copied()
        .filter(|step| *step <= steps);
    let of_a_step = |step| {
        let hooks = row.hooks.iter().filter(|hook| !hook.is_always_called());
        hooks.flat_map(move |hook| {
            let times = if hook == Hook::OnMicroBatch {
                MICRO_BATCHES
            } else {
                1
            };
            std::iter::repeat_n(Call { step, hook }, times)
        })
    };
    let once = |step, hook| row.hooks.contains(hook).then_some(Call { step, hook });
    let start = once(0, Hook::OnFitStart).into_iter();
    Some(
        start
            .chain(firings.flat_map(of_a_step))
            .chain(once(steps, Hook::OnFitEnd))
            .collect(),
    )
}
