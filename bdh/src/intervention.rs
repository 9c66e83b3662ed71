//! Interventions: user code that may change training. Callbacks only observe it.

use crate::context::Context;
use crate::error::ConfigError;
use crate::failure::BoxError;
use crate::params::{ParamInfo, ParamTable};
use burn::tensor::Tensor;
use serde_json::Value;
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

    /// Acts on the gradients of one step.
    ///
    /// # Errors
    ///
    /// Any error that should end the run.
    fn intervene(&mut self, ctx: &mut InterventionContext<'_>) -> Result<UpdateDecision, BoxError>;

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

/// Context of an intervention: the step's gradients and learning rate.
pub struct InterventionContext<'a> {
    pub(crate) ctx: Context<'a>,
    pub(crate) table: &'a ParamTable,
    pub(crate) replace: &'a mut ReplaceGradients<'a>,
    pub(crate) lr_factor: &'a mut f64,
}

impl fmt::Debug for InterventionContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterventionContext")
            .field("ctx", &self.ctx)
            .field("lr_factor", &self.lr_factor)
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

    /// Multiplies the learning rate of this step by `factor`, in every group. Factors of several interventions
    /// multiply.
    pub fn scale_lr(&mut self, factor: f64) {
        *self.lr_factor *= factor;
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
