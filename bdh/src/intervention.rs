//! Interventions: user code that may change training. Callbacks only observe it.

use crate::context::Context;
use crate::error::ConfigError;
use crate::event::EvalReport;
use crate::failure::BoxError;
use crate::hook::Hooks;
use crate::params::{ParamInfo, ParamTable};
use crate::plan::{Metrics, Outlook, Plan};
use burn::tensor::Tensor;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

/// Code that changes gradients or the learning rate, or skips an update.
///
/// Interventions run on every step, in the order in which they were added: after the hook
/// [`after_backward`](crate::Callback::after_backward), before clipping. An error or a panic of an intervention ends
/// the run, because training without it would be another run.
pub trait Intervention: Send {
    /// Returns the name for `run.json`, the plan and errors, unique in a run.
    fn name(&self) -> String;

    /// Returns all settings that decide the effect. A run resumes only with equal settings, unless
    /// [`allow_changed`](crate::TrainerBuilder::allow_changed) permits the change.
    fn config(&self) -> Value;

    /// Checks, before the run, that the intervention can work in it. A setting without effect is a
    /// [`note`](Outlook::note) of the plan.
    ///
    /// The plan that the outlook has is without callbacks, as an intervention sees none of the values that they log.
    ///
    /// # Errors
    ///
    /// Any error that should keep the run from starting, such as a metric that no eval has.
    fn check(&self, _run: &Outlook<'_>) -> Result<(), BoxError> {
        Ok(())
    }

    /// Acts on the gradients of one step.
    ///
    /// # Errors
    ///
    /// Any error that should end the run.
    fn intervene(&mut self, ctx: &mut InterventionContext<'_>) -> Result<UpdateDecision, BoxError>;

    /// Receives the result of an eval, once for each eval set, after the callbacks. The default ignores it.
    ///
    /// The checkpoint of a step holds the state after its evals. A resume from a checkpoint that was written before them
    /// makes the evals, and this call, again.
    fn on_eval(&mut self, _report: &EvalReport) {}

    /// Returns the state that a resumed run needs. Every checkpoint holds it. The default, `null`, is no state.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Restores a state that [`state`](Self::state) returned.
    ///
    /// # Errors
    ///
    /// If the state does not belong to this intervention.
    fn load_state(&mut self, _state: Value) -> Result<(), BoxError> {
        Ok(())
    }
}

/// Decision of an intervention about the update of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateDecision {
    /// Updates the parameters, unless another intervention skips the update.
    Apply,
    /// Leaves the parameters as they are. The step still counts, and records `train/skipped`.
    Skip,
}

/// Context of an intervention: the step's gradients and learning rates.
pub struct InterventionContext<'a> {
    pub(crate) ctx: Context<'a>,
    pub(crate) table: &'a ParamTable,
    pub(crate) replace: &'a mut ReplaceGradients<'a>,
    /// Name and learning rate of each group.
    pub(crate) lrs: &'a mut [(String, f64)],
}

impl fmt::Debug for InterventionContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterventionContext")
            .field("ctx", &self.ctx)
            .field("lrs", &self.lrs)
            .finish_non_exhaustive()
    }
}

/// Replacement of all gradients; see [`params::replace_gradients`](crate::params::replace_gradients).
pub(crate) type ReplaceGradients<'a> =
    dyn FnMut(&mut dyn FnMut(usize, Tensor<1>) -> Tensor<1>) + 'a;

impl<'a> InterventionContext<'a> {
    /// Returns the context that hooks get too: clock, seed, `log`, `read`.
    #[must_use]
    pub fn ctx(&self) -> &Context<'a> {
        &self.ctx
    }

    /// Replaces each gradient by the result of `replace`, both `[elements]`. Costs no device read.
    pub fn replace_gradients(
        &mut self,
        mut replace: impl FnMut(&ParamInfo, Tensor<1>) -> Tensor<1>,
    ) {
        let table = self.table;
        (self.replace)(&mut |index, gradient| replace(&table[index], gradient));
    }

    /// Returns the name and the learning rate of each group in this step, with the factors so far.
    #[must_use]
    pub fn lrs(&self) -> &[(String, f64)] {
        self.lrs
    }

    /// Multiplies the learning rate of this step by `factor`, in every group. Factors of several interventions
    /// multiply.
    ///
    /// A rate that becomes NaN, infinite or negative ends the run.
    pub fn scale_lr(&mut self, factor: f64) {
        for (_, lr) in self.lrs.iter_mut() {
            *lr *= factor;
        }
    }

    /// Multiplies the learning rate of this step by `factor` in one group. Factors of several interventions multiply.
    ///
    /// # Errors
    ///
    /// If the run has no group of this name; the text lists those it has.
    pub fn scale_lr_of(&mut self, group: &str, factor: f64) -> Result<(), BoxError> {
        let Some((_, lr)) = self.lrs.iter_mut().find(|(name, _)| name == group) else {
            let names: Vec<_> = self.lrs.iter().map(|(name, _)| name.as_str()).collect();
            let known = names.join(", ");
            return Err(format!("unknown group {group:?}: this run has {known}").into());
        };
        *lr *= factor;
        Ok(())
    }
}

/// Refuses two interventions of one name: a checkpoint holds their states by name.
pub(crate) fn check_names(interventions: &[Box<dyn Intervention>]) -> Result<(), ConfigError> {
    let mut names = BTreeSet::new();
    for intervention in interventions {
        let name = intervention.name();
        if !names.insert(name.clone()) {
            return Err(ConfigError::DuplicateIntervention { name });
        }
    }
    Ok(())
}

/// Checks that each intervention can work in the planned run, and adds the interventions' notes to the plan.
pub(crate) fn check(
    interventions: &[Box<dyn Intervention>],
    plan: &mut Plan,
    has_run_dir: bool,
    metrics: &Metrics<'_>,
) -> Result<(), ConfigError> {
    let mut own = plan.clone();
    // Without the callbacks' rows: an eval's report has none of the metrics that callbacks record.
    own.rows.retain(|row| row.hooks == Hooks::NONE);
    for intervention in interventions {
        let run = Outlook {
            plan: &own,
            row: own.rows.len().saturating_sub(1),
            has_run_dir,
            metrics,
            notes: RefCell::default(),
        };
        let name = intervention.name();
        if let Err(source) = intervention.check(&run) {
            return Err(ConfigError::Intervention { name, source });
        }
        for note in run.notes.take() {
            plan.notes.push(format!("`{name}` {note}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Idle;

    impl Intervention for Idle {
        fn name(&self) -> String {
            "idle".to_owned()
        }

        fn config(&self) -> Value {
            Value::Null
        }

        fn intervene(
            &mut self,
            _: &mut InterventionContext<'_>,
        ) -> Result<UpdateDecision, BoxError> {
            Ok(UpdateDecision::Apply)
        }
    }

    #[test]
    fn two_interventions_of_one_name_are_refused() {
        let error = check_names(&[Box::new(Idle), Box::new(Idle)]).expect_err("one name");
        let text = error.to_string();
        assert!(
            text.starts_with("two interventions are called `idle`"),
            "{text}"
        );
        check_names(&[Box::new(Idle)]).expect("one of the name");
    }
}
