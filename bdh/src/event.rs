//! Events: the parameters of the hooks, one type per hook, with shared references only.
//!
//! Every event dereferences to a [`Context`]: clock, `log`, `read`. Its own fields and methods depend on the hook:
//! gradients after the backward pass, requests where the run can act on them at once. A request to stop inside a step
//! does not compile.

use crate::checkpoint::CheckpointRequest;
use crate::context::Context;
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
use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $vis:vis $field:ident: $type:ty),* $(,)? })+) => {$(
        $(#[$doc])*
        pub struct $name<'a> {
            pub(crate) ctx: Context<'a>,
            $($(#[$field_doc])* $vis $field: $type,)*
        }

        impl fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("ctx", &self.ctx)
                    .finish_non_exhaustive()
            }
        }

        impl<'a> Deref for $name<'a> {
            type Target = Context<'a>;

            fn deref(&self) -> &Context<'a> {
                &self.ctx
            }
        }
    )+};
}

events! {
    /// Event of [`Callback::on_fit_start`](crate::Callback::on_fit_start): a run begins or resumes.
    FitStart {
        /// The plan of the run.
        pub plan: &'a Plan,
        /// The model's parameters.
        pub params: &'a ParamTable,
        /// Whether the run continues from a checkpoint.
        pub resumed: bool,
    }

    /// Event of [`Callback::on_step_start`](crate::Callback::on_step_start): the step's batches are loaded, and
    /// nothing is computed yet.
    StepStart {}

    /// Event of [`Callback::on_micro_batch`](crate::Callback::on_micro_batch): one forward and one backward pass are
    /// done.
    ///
    /// With several devices only the micro-batches of the first one are reported.
    MicroBatch {
        /// Number of the micro-batch within the step, from 0.
        pub index: usize,
        /// Number of micro-batches in the step, over all devices.
        pub count: usize,
        /// Size of the micro-batch.
        pub size: BatchSize,
        /// Mean loss of the micro-batch.
        pub loss: &'a Deferred,
        /// Gradients of that loss divided by `count`: the micro-batch's share of the step's gradients.
        pub gradients: &'a Stats<'a>,
    }

    /// Event of [`Callback::after_backward`](crate::Callback::after_backward): the gradients of the whole step, before
    /// interventions and clipping.
    AfterBackward {
        /// Mean loss of the step.
        pub loss: &'a Deferred,
        /// Parameters before the update.
        pub weights: &'a Stats<'a>,
        /// Gradients, averaged over the step's micro-batches.
        pub gradients: &'a Stats<'a>,
        /// Activations that the model offered during the last micro-batch (with several devices, the first one's), if a
        /// due callback [wants them](crate::Callback::wants_activations); otherwise empty.
        pub activations: &'a [Tap],
    }

    /// Event of [`Callback::before_optimizer_step`](crate::Callback::before_optimizer_step): the optimizer's input.
    BeforeOptimizerStep {
        /// Gradients after interventions and clipping.
        pub gradients: &'a Stats<'a>,
        /// Global L2 norm before clipping, if the run clips.
        pub grad_norm: Option<&'a Deferred>,
        /// Factor that clipping applied, at most 1, if the run clips.
        pub clip_coefficient: Option<&'a Deferred>,
        /// Name and learning rate of each group on this step.
        pub lrs: &'a [(String, f64)],
    }

    /// Event of [`Callback::after_optimizer_step`](crate::Callback::after_optimizer_step): the parameters are updated.
    AfterOptimizerStep {
        /// Parameters after the update.
        pub weights: &'a Stats<'a>,
        /// New parameters minus old ones; zero if an intervention skipped the update.
        pub updates: &'a Stats<'a>,
    }

    /// Event of [`Callback::on_step`](crate::Callback::on_step): a step is complete.
    StepEnd {
        /// Mean loss of the step.
        pub loss: &'a Deferred,
        /// Parameters after the update, as an eval or a checkpoint of this step sees them.
        pub weights: &'a Stats<'a>,
        /// Whether an intervention skipped the update.
        pub skipped: bool,
        /// Time of the step.
        pub timing: Timing,
        /// Time of all steps of this process. Differences between two calls give means over the steps between them.
        pub timing_total: Timing,
        /// Floating-point operations of training per token, if the task knows them.
        pub flops_per_token: Option<f64>,
    }

    /// Event of [`Callback::on_eval_batch`](crate::Callback::on_eval_batch): one validation batch is evaluated.
    ///
    /// With several devices only the batches of the first one are reported.
    EvalBatch {
        /// Number of the batch within the eval, from 0.
        pub index: usize,
        /// Number of validation batches, over all devices.
        pub count: usize,
    }

    /// Event of [`Callback::on_eval`](crate::Callback::on_eval): an eval of this step is complete.
    EvalEnd {
        /// Result of the eval.
        pub report: &'a EvalReport,
        pub(crate) eval_of: &'a dyn Fn(&[Tensor<1>]) -> Vec<(String, Deferred)>,
    }

    /// Event of [`Callback::on_checkpoint`](crate::Callback::on_checkpoint): a checkpoint is complete on disk.
    Checkpointed {
        /// Directory of the checkpoint.
        pub path: &'a Path,
        /// Whether the checkpoint is kept for good, rather than deleted by rotation.
        pub pinned: bool,
    }

    /// Event of [`Callback::on_fit_end`](crate::Callback::on_fit_end): the run has ended.
    FitEnd {
        /// Completed, stopped or failed.
        pub outcome: &'a Outcome,
    }
}

/// Time of one step, on the training thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    /// From the end of the previous step to the end of this one: with hooks, records and the wait for the device,
    /// without evals and checkpoints.
    pub step: Duration,
    /// Part of `step` that was spent waiting for data.
    pub data: Duration,
}

/// Result of an eval.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EvalReport {
    /// Metrics by name, without the `val/` of their keys, such as `loss` in nats per token.
    pub metrics: Vec<(String, f64)>,
    /// Duration of the eval.
    pub took: Duration,
}

impl EvalReport {
    /// Returns the metric with this name.
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
            /// Asks the run to stop after this step. If several callbacks ask, the run reports the first reason.
            pub fn stop(&self, why: impl Into<String>) {
                let by = self.step_log.caller.borrow().clone();
                self.step_log.requests.borrow_mut().stop.get_or_insert((by, why.into()));
            }

            /// Asks for a checkpoint of this step. Requests with one name make one checkpoint.
            ///
            /// # Panics
            ///
            /// If the name is empty or a path. The run then treats the callback like any that panics.
            pub fn checkpoint(&self, request: CheckpointRequest) {
                let name = &request.name;
                assert!(is_plain_name(name), "`{name}` cannot name a checkpoint: use a plain name such as `best`");
                let by = self.step_log.caller.borrow().clone();
                self.step_log.requests.borrow_mut().ask_for_checkpoint(by, request);
            }
        }
    )+};
}

requests!(StepEnd, EvalEnd);

impl EvalEnd<'_> {
    /// Evaluates the model with other weights, such as an average of its own.
    ///
    /// `weights` has one tensor, `[elements]`, for each parameter, in the order of the parameter table. Costs one more
    /// pass over all validation batches, on this device, and no device read: the metrics are read with the other values
    /// that the step logs.
    ///
    /// # Panics
    ///
    /// If the number or the sizes of the weights are not the model's.
    #[must_use]
    pub fn eval_of(&self, weights: &[Tensor<1>]) -> Vec<(String, Deferred)> {
        (self.eval_of)(weights)
    }

    /// Returns a metric of this eval by name.
    ///
    /// The metric is in the report, or an earlier callback logged it as `val/<name>` in this step. A logged metric
    /// costs one device read.
    ///
    /// # Errors
    ///
    /// If there is no metric of that name (the text lists the report's), or the device failed.
    pub fn metric(&self, name: &str) -> Result<f64, BoxError> {
        if let Some(value) = self.report.get(name) {
            return Ok(value);
        }
        let logged = self
            .step_log
            .last(|key| key.strip_prefix("val/") == Some(name));
        match logged {
            Some(Logged::Deferred(value)) => self.read(&value),
            Some(Logged::Ready(Value::Scalar(value))) => Ok(value),
            _ => Err(unknown_metric(name, self.report)),
        }
    }
}

fn unknown_metric(name: &str, report: &EvalReport) -> BoxError {
    let mut known = Vec::new();
    for (metric, _) in &report.metrics {
        known.push(metric.as_str());
    }
    let known = known.join(", ");
    format!("unknown metric {name:?}: this eval has {known}").into()
}

impl StepEnd<'_> {
    /// Asks for an eval of this step, whatever the run's own cadence.
    pub fn evaluate(&self) {
        self.step_log.requests.borrow_mut().evaluate = true;
    }
}
