//! What each hook is handed: one type a hook, shared references only.
//!
//! All of them give a [`Cx`]: the clock, `log`, `read`. What else there is depends on the moment:
//! gradients where there are gradients, requests where the run can act on them. Asking to stop from
//! inside a step does not compile.

use crate::checkpoint::CheckpointRequest;
use crate::context::Cx;
use crate::deferred::Deferred;
use crate::failure::BoxError;
use crate::names::is_plain_name;
use crate::outcome::Outcome;
use crate::params::ParamTable;
use crate::plan::Plan;
use crate::probe::Tap;
use crate::record::{Logged, Value};
use crate::stats::Stats;
use crate::task::BatchSize;
use burn::tensor::Tensor;
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $vis:vis $field:ident: $type:ty),* $(,)? })+) => {$(
        $(#[$doc])*
        pub struct $name<'a> {
            pub(crate) cx: Cx<'a>,
            $($(#[$field_doc])* $vis $field: $type,)*
        }

        impl<'a> Deref for $name<'a> {
            type Target = Cx<'a>;

            fn deref(&self) -> &Cx<'a> {
                &self.cx
            }
        }
    )+};
}

events! {
    /// [`Callback::on_fit_start`](crate::Callback::on_fit_start): the run begins, or goes on.
    FitStart {
        /// What will fire when.
        pub plan: &'a Plan,
        /// The model's parameters.
        pub params: &'a ParamTable,
        /// Whether the run continues from a checkpoint.
        pub resumed: bool,
    }

    /// [`Callback::on_step_start`](crate::Callback::on_step_start): the batches are here, nothing is
    /// computed yet.
    StepStart {}

    /// [`Callback::on_micro_batch`](crate::Callback::on_micro_batch): one forward and backward is done.
    MicroBatch {
        /// Counts from 0 within the step. Of several devices' micro-batches only the first one's are shown.
        pub index: usize,
        /// How many micro-batches make up the step, on all devices.
        pub count: usize,
        /// What it held.
        pub size: BatchSize,
        /// Its mean loss.
        pub loss: &'a Deferred,
        /// Its share of the step's gradients: those of its mean loss, divided by `count`.
        pub gradients: &'a Stats<'a>,
    }

    /// [`Callback::after_backward`](crate::Callback::after_backward): the gradients of the whole step,
    /// averaged over micro-batches, before interventions and clipping.
    AfterBackward {
        /// The step's mean loss.
        pub loss: &'a Deferred,
        /// The parameters as they are before the update.
        pub weights: &'a Stats<'a>,
        /// The mean gradients.
        pub gradients: &'a Stats<'a>,
        /// What the model showed during the last micro-batch (on several devices the first one's), if a due callback
        /// [listens](crate::Callback::listens).
        pub activations: &'a [Tap],
    }

    /// [`Callback::before_optimizer_step`](crate::Callback::before_optimizer_step): what the optimizer is
    /// about to get.
    BeforeOptimizerStep {
        /// The gradients after interventions and clipping.
        pub gradients: &'a Stats<'a>,
        /// The global L2 norm before clipping, where clipping is on.
        pub grad_norm: Option<&'a Deferred>,
        /// The factor that clipping applied, at most 1, where clipping is on.
        pub clip_coefficient: Option<&'a Deferred>,
        /// Each group's name and learning rate for this step.
        pub lrs: &'a [(String, f64)],
    }

    /// [`Callback::after_optimizer_step`](crate::Callback::after_optimizer_step): the parameters have moved.
    AfterOptimizerStep {
        /// The parameters as they are now.
        pub weights: &'a Stats<'a>,
        /// New minus old.
        pub updates: &'a Stats<'a>,
    }

    /// [`Callback::on_step`](crate::Callback::on_step): the step is complete.
    StepEnd {
        /// The step's mean loss.
        pub loss: &'a Deferred,
        /// The parameters as they are now, after the update: those that an eval or a checkpoint of this step sees.
        pub weights: &'a Stats<'a>,
        /// Whether an intervention left the parameters as they were.
        pub skipped: bool,
        /// Where the step's time went.
        pub timing: Timing,
        /// The same, summed over all steps of this process; for means over the steps between two calls.
        pub timing_total: Timing,
        /// Training cost per token in floating-point operations, where the task knows it.
        pub flops_per_token: Option<f64>,
    }

    /// [`Callback::on_eval_batch`](crate::Callback::on_eval_batch): one validation batch is done.
    EvalBatch {
        /// Counts from 0 within the eval. Of batches that several devices share only the first one's are shown.
        pub index: usize,
        /// How many validation batches there are.
        pub count: usize,
    }

    /// [`Callback::on_eval`](crate::Callback::on_eval): the validation split has been measured.
    EvalEnd {
        /// What was measured, on this very step.
        pub report: &'a EvalReport,
        pub(crate) eval_of: &'a dyn Fn(&[Tensor<1>]) -> Vec<(String, Deferred)>,
    }

    /// [`Callback::on_checkpoint`](crate::Callback::on_checkpoint): a checkpoint is complete on disk.
    Checkpointed {
        /// The checkpoint's directory.
        pub path: &'a Path,
        /// Whether rotation leaves it alone.
        pub pinned: bool,
    }

    /// [`Callback::on_fit_end`](crate::Callback::on_fit_end): the run is over, whatever happened.
    FitEnd {
        /// How it ended.
        pub outcome: &'a Outcome,
    }
}

/// Where the time of one step went, on the training thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    /// From the end of the step before to the end of this one. Hooks and records are in it, and with them
    /// the wait for the device; eval and checkpoints are not.
    pub step: Duration,
    /// Waiting for the data.
    pub data: Duration,
}

/// What an eval measured.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EvalReport {
    /// Metrics without the `val/` of their keys, such as `loss` in nats per token.
    pub metrics: Vec<(String, f64)>,
    /// How long it took.
    pub took: Duration,
}

impl EvalReport {
    /// One metric by name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.metrics
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| *value)
    }
}

macro_rules! requests {
    ($($event:ident),+) => {$(
        impl $event<'_> {
            /// Asks the run to end after this step. The first reason given is the one that is told.
            pub fn stop(&self, why: impl Into<String>) {
                let by = self.step_log.caller.borrow().clone();
                self.step_log.requests.borrow_mut().stop.get_or_insert((by, why.into()));
            }

            /// Asks for a checkpoint of this step. The same name asked for twice is written once.
            ///
            /// # Panics
            ///
            /// If the name is empty or a path; the callback is then switched off, like any that panics.
            pub fn checkpoint(&self, request: CheckpointRequest) {
                let name = &request.name;
                assert!(is_plain_name(name), "a checkpoint cannot be called `{name}`");
                let by = self.step_log.caller.borrow().clone();
                self.step_log.requests.borrow_mut().ask_for_checkpoint(by, request);
            }
        }
    )+};
}

requests!(StepEnd, EvalEnd);

impl EvalEnd<'_> {
    /// Measures the model with other weights in the place of its own, such as an average of theirs: `[elements]`
    /// each, in the order of the parameter table. Costs as much as the eval itself; its metrics are read with what
    /// the step has logged.
    ///
    /// # Panics
    ///
    /// If the weights are not as many, or not as large, as the model's.
    #[must_use]
    pub fn eval_of(&self, weights: &[Tensor<1>]) -> Vec<(String, Deferred)> {
        (self.eval_of)(weights)
    }

    /// One metric of this eval by name: of the report, or one that a callback added before has recorded as
    /// `val/<name>`, which is then read here.
    ///
    /// # Errors
    ///
    /// If there is none of that name, with those that there are; or if the device failed.
    pub fn metric(&self, name: &str) -> Result<f64, BoxError> {
        if let Some(value) = self.report.get(name) {
            return Ok(value);
        }
        let logged = self.logged_metric(name);
        match logged {
            Some(Logged::Deferred(value)) => self.read(&value),
            Some(Logged::Ready(Value::Scalar(value))) => Ok(value),
            _ => {
                let known: Vec<_> = self
                    .report
                    .metrics
                    .iter()
                    .map(|(name, _)| name.as_str())
                    .collect();
                let known = known.join(", ");
                Err(format!("there is no metric {name:?}; the eval has {known}").into())
            }
        }
    }

    fn logged_metric(&self, name: &str) -> Option<Logged> {
        self.step_log
            .last(|key| key.strip_prefix("val/") == Some(name))
    }
}

impl StepEnd<'_> {
    /// Asks for an eval on this step, before it ends.
    pub fn evaluate(&self) {
        self.step_log.requests.borrow_mut().evaluate = true;
    }
}
