//! The only code that may change numbers, kept apart from the callbacks that watch.

use crate::context::Cx;
use crate::error::ConfigError;
use crate::failure::BoxError;
use crate::params::{ParamInfo, ParamTable};
use burn::tensor::Tensor;
use serde_json::Value;

/// Changes gradients or the learning rate, or skips an update.
///
/// Interventions run in the order of registration, after `after_backward` and before clipping. Their
/// [`config`](Self::config) is part of the run's identity; a failure or panic ends the run, since training
/// on without one would be another run.
pub trait Intervention: Send {
    /// Its name in `run.json`, the plan and errors.
    fn name(&self) -> String;

    /// Everything that decides what it does, for the run's identity.
    fn config(&self) -> Value;

    /// Acts on the gradients of one step.
    ///
    /// # Errors
    ///
    /// Anything that makes training on pointless; it ends the run.
    fn intervene(&mut self, at: &mut Intervene<'_>) -> Result<Verdict, BoxError>;

    /// What a resumed run needs of it.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Takes back what [`state`](Self::state) gave.
    ///
    /// # Errors
    ///
    /// If the state is not its own.
    fn load_state(&mut self, _state: Value) -> Result<(), BoxError> {
        Ok(())
    }
}

/// Whether the optimizer goes on with the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Update the parameters.
    Apply,
    /// Leave the parameters as they are; the step counts all the same and records `train/skipped`.
    Skip,
}

/// What an intervention may change.
pub struct Intervene<'a> {
    pub(crate) cx: Cx<'a>,
    pub(crate) table: &'a ParamTable,
    pub(crate) replace: &'a mut ReplaceGradients<'a>,
    pub(crate) lr_factor: &'a mut f64,
}

/// Walks all gradients; see [`params::replace_gradients`](crate::params::replace_gradients).
pub(crate) type ReplaceGradients<'a> =
    dyn FnMut(&mut dyn FnMut(usize, Tensor<1>) -> Tensor<1>) + 'a;

impl<'a> Intervene<'a> {
    /// The step's clock, for logging and reading.
    #[must_use]
    pub fn cx(&self) -> &Cx<'a> {
        &self.cx
    }

    /// Replaces each gradient, `[elements]`, by what `replace` makes of it.
    pub fn replace_gradients(
        &mut self,
        mut replace: impl FnMut(&ParamInfo, Tensor<1>) -> Tensor<1>,
    ) {
        let table = self.table;
        (self.replace)(&mut |index, gradient| replace(&table[index], gradient));
    }

    /// Multiplies the learning rate of this step, in every group.
    pub fn scale_lr(&mut self, factor: f64) {
        *self.lr_factor *= factor;
    }
}

/// Refuses two interventions of one name, whose states could not be told apart.
pub(crate) fn check_names(interventions: &[Box<dyn Intervention>]) -> Result<(), ConfigError> {
    let mut names: Vec<_> = interventions.iter().map(|i| i.name()).collect();
    names.sort();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(ConfigError::DuplicateCallback {
            name: pair[0].clone(),
        }),
        None => Ok(()),
    }
}
