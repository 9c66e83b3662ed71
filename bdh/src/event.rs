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
use std::path::{Path, PathBuf};
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

    /// Event of [`Callback::on_eval_batch`](crate::Callback::on_eval_batch): one batch of an eval is evaluated.
    ///
    /// With several devices only the batches of the first one are reported.
    EvalBatch {
        /// Number of the batch within the eval, from 0.
        pub index: usize,
        /// Number of batches of the eval set, over all devices, if it is known.
        pub count: Option<usize>,
    }

    /// Event of [`Callback::on_eval`](crate::Callback::on_eval): the eval of one set is complete.
    EvalEnd {
        /// Result of the eval.
        pub report: &'a EvalReport,
        pub(crate) eval_of: &'a EvalOf<'a>,
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

/// Evaluation of the set with other weights.
pub(crate) type EvalOf<'a> = dyn Fn(&[Tensor<1>]) -> Result<Vec<(String, f64)>, BoxError> + 'a;

/// Result of an eval of one set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EvalReport {
    /// Name of the eval set, such as `val`.
    pub set: String,
    /// Whether it is the run's first eval set, which a metric without the name of a set belongs to.
    pub(crate) is_first: bool,
    /// Metrics by name, without the set's name that begins their keys: `loss` is recorded as `val/loss`.
    pub metrics: Vec<(String, f64)>,
    /// Other values by name, such as the table `confusion` of [`classes`](crate::metrics::Metrics::classes).
    pub tables: Vec<(String, Value)>,
    /// Duration of the eval.
    pub took: Duration,
}

impl EvalReport {
    /// Returns the part of a metric's name after the set's name, if the metric is this set's.
    ///
    /// A name without a set belongs to the run's first set.
    pub(crate) fn own_name<'a>(&self, name: &'a str) -> Option<&'a str> {
        let of_set = name.strip_prefix(self.set.as_str());
        if let Some(own) = of_set.and_then(|rest| rest.strip_prefix('/')) {
            return Some(own);
        }
        (self.is_first && !name.contains('/')).then_some(name)
    }

    /// Returns a metric that an intervention watches: of this eval, or `None` if the metric is another eval set's.
    ///
    /// `val/loss` is the loss of the set `val`. A name without a set, `loss`, belongs to the run's first set. Values that
    /// callbacks log are not in the report; for these, a callback has [`EvalEnd::monitored`].
    ///
    /// # Errors
    ///
    /// If the set is this one and has no metric of that name; the text lists those it has.
    pub fn monitored(&self, name: &str) -> Result<Option<f64>, BoxError> {
        let Some(own) = self.own_name(name) else {
            return Ok(None);
        };
        match self.get(own) {
            Some(value) => Ok(Some(value)),
            None => Err(unknown_metric(own, self)),
        }
    }

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
    /// Evaluates the model with other weights on the same batches, such as an average of its own.
    ///
    /// `weights` has one tensor, `[elements]`, for each parameter, in the order of the parameter table. Costs one more
    /// pass over the eval set, on this device, and one device read, which is counted for the caller.
    ///
    /// # Errors
    ///
    /// If a batch cannot be read, a metric cannot be computed, or the device failed.
    ///
    /// # Panics
    ///
    /// If the number or the sizes of the weights are not the model's.
    pub fn eval_of(&self, weights: &[Tensor<1>]) -> Result<Vec<(String, f64)>, BoxError> {
        let metrics = (self.eval_of)(weights)?;
        self.step_log.reads.set(self.step_log.reads.get() + 1);
        Ok(metrics)
    }

    /// Returns a metric that a callback watches: of this eval, or `None` if the metric is another eval set's.
    ///
    /// `val/loss` is the loss of the set `val`. A name without a set, `loss`, belongs to the run's first set. The
    /// metric is in the report, or an earlier callback logged it in this step, such as `val/ema_loss`; a logged metric
    /// that is still on the device costs one device read.
    ///
    /// # Errors
    ///
    /// If there is no metric of that name (the text lists the report's), or the device failed.
    pub fn monitored(&self, name: &str) -> Result<Option<f64>, BoxError> {
        match self.report.own_name(name) {
            Some(own) => self.metric(own).map(Some),
            None => Ok(None),
        }
    }

    /// Returns a metric of this eval by its name without the set's.
    ///
    /// Costs and errors are those of [`monitored`](Self::monitored).
    ///
    /// # Errors
    ///
    /// If there is no metric of that name, or the device failed.
    pub fn metric(&self, name: &str) -> Result<f64, BoxError> {
        if let Some(value) = self.report.get(name) {
            return Ok(value);
        }
        let key = format!("{}/{name}", self.report.set);
        match self.step_log.last(|logged| logged == key) {
            Some(Logged::Deferred(value)) => self.read(&value),
            Some(Logged::Ready(Value::Scalar(value))) => Ok(value),
            _ => Err(unknown_metric(name, self.report)),
        }
    }
}

fn unknown_metric(name: &str, report: &EvalReport) -> BoxError {
    let mut known = Vec::new();
    for (metric, _) in &report.metrics {
        known.push(format!("{}/{metric}", report.set));
    }
    let known = known.join(", ");
    format!("unknown metric {name:?}: this eval has {known}").into()
}

impl FitEnd<'_> {
    /// Reports the directory of the best checkpoint, for
    /// [`TrainResult::best_checkpoint`](crate::TrainResult::best_checkpoint). Of several reports the first counts.
    pub fn report_best_checkpoint(&self, path: impl Into<PathBuf>) {
        let mut best = self.step_log.best_checkpoint.borrow_mut();
        best.get_or_insert_with(|| path.into());
    }
}

impl StepEnd<'_> {
    /// Asks for an eval of this step, whatever the run's own cadence.
    pub fn evaluate(&self) {
        self.step_log.requests.borrow_mut().evaluate = true;
    }
}
