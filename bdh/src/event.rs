//! What each hook is handed: one type a hook, shared references only.
//!
//! All of them give a [`Cx`]: the clock, `log`, `read`. What else there is depends on the moment:
//! gradients where there are gradients, requests where the run can act on them. Asking to stop from
//! inside a step does not compile.

use crate::cadence::Cadence;
use crate::checkpoint::CheckpointRequest;
use crate::clock::Clock;
use crate::deferred::{self, Deferred};
use crate::failure::BoxError;
use crate::files::ensure_dir;
use crate::names::is_plain_name;
use crate::outcome::Outcome;
use crate::params::ParamTable;
use crate::plan::Plan;
use crate::probe::Tap;
use crate::record::{Logged, Value};
use crate::seed;
use crate::stats::Stats;
use crate::step_log::StepLog;
use crate::task::BatchSize;
use crate::text::{Generated, Sampling, TokenScore};
use burn::tensor::{Device, Tensor};
use std::any::Any;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What every hook can see and do.
#[derive(Clone, Copy)]
pub struct Cx<'a> {
    pub(crate) clock: &'a Clock,
    pub(crate) previous: Option<&'a Clock>,
    pub(crate) steps: u64,
    /// Whether every cadence is due, as in a replay.
    pub(crate) all_due: bool,
    pub(crate) seed: u64,
    pub(crate) device: &'a Device,
    pub(crate) num_devices: usize,
    pub(crate) run_dir: Option<&'a Path>,
    pub(crate) step_log: &'a StepLog,
    pub(crate) model: &'a dyn Any,
    pub(crate) text: &'a dyn TextModel,
}

/// A model that may continue and score texts, as its task can.
pub(crate) trait TextModel {
    /// [`Task::generate`](crate::Task::generate).
    fn generate(&self, prompts: &[(&str, Sampling)]) -> Option<Result<Vec<Generated>, BoxError>>;

    /// [`Task::score`](crate::Task::score).
    fn score(&self, rows: &[&[i32]]) -> Option<Result<Vec<Vec<TokenScore>>, BoxError>>;
}

impl<'a> Cx<'a> {
    /// The clock as it stands when the step is complete: its step, tokens and samples include this one.
    #[must_use]
    pub fn clock(&self) -> &'a Clock {
        self.clock
    }

    /// The clock before the step: what lies between the two is what the step saw. `None` where no step is under
    /// way, as in `on_fit_start`.
    #[must_use]
    pub fn previous(&self) -> Option<&'a Clock> {
        self.previous
    }

    /// The step under way or just completed; 0 is the untrained model.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.clock.step
    }

    /// How many steps the run takes.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The run's seed. Derive randomness from it, the step and a purpose, never from a shared stream.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The device that the model is on.
    #[must_use]
    pub fn device(&self) -> &'a Device {
        self.device
    }

    /// How many devices train replicas of the model together.
    #[must_use]
    pub fn num_devices(&self) -> usize {
        self.num_devices
    }

    /// The run directory, if the run has one.
    #[must_use]
    pub fn run_dir(&self) -> Option<&'a Path> {
        self.run_dir
    }

    /// The path in the run directory of a file that the callback announces, such as `samples/500.md`, if the run has a
    /// directory. The folders that it is in are made.
    ///
    /// Under [`.prefix("warm")`](crate::Attach::prefix) it is `samples/warm/500.md`, so two callbacks of one kind never
    /// write over each other's files.
    ///
    /// # Errors
    ///
    /// If a folder cannot be made; where the run directory was deleted, none is.
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::{HookResult, StepEnd};
    ///
    /// fn on_step(at: &StepEnd<'_>) -> HookResult {
    ///     if let Some(path) = at.file(&format!("notes/{}.txt", at.step()))? {
    ///         std::fs::write(path, "a note")?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn file(&self, name: &str) -> io::Result<Option<PathBuf>> {
        let Some(dir) = self.run_dir else { return Ok(None) };
        let name = self.step_log.prefixed_file(name);
        for (end, _) in name.match_indices('/') {
            ensure_dir(&dir.join(&name[..end]))?;
        }
        Ok(Some(dir.join(name)))
    }

    /// Whether a cadence is due on this step. In a [`Replay`](crate::Replay) every one is.
    #[must_use]
    pub fn is_due(&self, cadence: &Cadence) -> bool {
        self.all_due || cadence.is_due(self.previous, self.clock, self.steps)
    }

    /// Records a value under a key such as `grad/norm/global`. Costs no device read of its own.
    ///
    /// A key that is logged twice in a step keeps the last value. A key belongs to the callback that records it first,
    /// and the trainer's (`train/loss`, `lr`, the metrics of an eval) to the trainer: what another callback logs under it
    /// is left out, and reported once.
    pub fn log(&self, key: impl Into<String>, value: impl Into<Logged>) {
        self.step_log.log(key.into(), value.into());
    }

    /// Has a value read along with the next device read there is, at the latest before a checkpoint.
    ///
    /// For numbers that a callback keeps without recording them: in [`state`](crate::Callback::state) they
    /// are known.
    pub fn read_along(&self, value: &Deferred) {
        self.step_log.read_along(value);
    }

    /// Says a line to a person, such as on the terminal, once its numbers have been read with everything that
    /// the step logs. It is not recorded.
    ///
    /// # Examples
    ///
    /// ```
    /// # use bdh::{AfterBackward, HookResult};
    /// fn after_backward(at: &AfterBackward<'_>) -> HookResult {
    ///     let step = at.step();
    ///     at.say([at.weights.l2()], move |[norm]| format!("step {step}: weight norm {norm:.2}"));
    ///     Ok(())
    /// }
    /// ```
    pub fn say<const N: usize>(
        &self,
        values: [Deferred; N],
        line: impl FnOnce([f64; N]) -> String + 'static,
    ) {
        let known = values.clone();
        let text = move || line(known.map(|value| value.value().unwrap_or(f64::NAN)));
        self.step_log.say(values.into(), text);
    }

    /// Reads a value now. It stalls the device, and is counted against this callback in the overhead
    /// table; prefer [`log`](Self::log).
    ///
    /// # Errors
    ///
    /// If the device failed.
    pub fn read(&self, value: &Deferred) -> Result<f64, BoxError> {
        if deferred::read([value].into_iter())? {
            self.step_log.reads.set(self.step_log.reads.get() + 1);
        }
        Ok(value.value().unwrap_or(f64::NAN)) // it is there: it was read
    }

    /// The model, if its type is `M`. Change nothing through it.
    #[must_use]
    pub fn model<M: 'static>(&self) -> Option<&'a M> {
        self.model.downcast_ref()
    }

    /// Continues a prompt with the model as it is; `None` where the task cannot generate.
    #[must_use]
    pub fn generate(&self, prompt: &str, how: &Sampling) -> Option<Result<String, BoxError>> {
        self.sample(prompt, how).map(|sample| sample.map(|sample| sample.text))
    }

    /// The same, with the tokens and how likely the model found them.
    #[must_use]
    pub fn sample(&self, prompt: &str, how: &Sampling) -> Option<Result<Generated, BoxError>> {
        let samples = self.sample_all(&[(prompt, how.clone())])?;
        Some(samples.map(|mut samples| samples.pop().unwrap_or_default())) // there is one for each
    }

    /// Continues several prompts in one batch, each in its own way: what each becomes does not depend on the others,
    /// and together they cost as many device reads as the longest alone.
    #[must_use]
    pub fn sample_all(
        &self,
        prompts: &[(&str, Sampling)],
    ) -> Option<Result<Vec<Generated>, BoxError>> {
        let samples = self.text.generate(prompts)?;
        Some(samples.and_then(|samples| {
            if samples.len() != prompts.len() {
                let (made, asked) = (samples.len(), prompts.len());
                return Err(format!("the task continued {made} of {asked} prompts").into());
            }
            // One for each token of the longest, and one that tells where it ends.
            let tokens = |((_, how), sample): (&(&str, Sampling), &Generated)| {
                how.max_tokens.min(sample.tokens.len() + 1) as u64
            };
            let reads = prompts.iter().zip(&samples).map(tokens).max().unwrap_or_default();
            self.step_log.reads.set(self.step_log.reads.get() + reads);
            Ok(samples)
        }))
    }

    /// Tells how the model as it is finds texts that are given as ids: for each row, each token but the first.
    /// `None` where the task cannot.
    ///
    /// For evaluations, such as which of four answers the model finds likeliest. All rows go through the model at
    /// once, and cost one device read together; as many rows as a training batch has fit the device.
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::{EvalEnd, HookResult};
    ///
    /// /// Records how much likelier the model finds one text than another, in nats a token.
    /// fn on_eval(at: &EvalEnd<'_>, right: &[i32], wrong: &[i32]) -> HookResult {
    ///     let Some(scores) = at.score(&[right, wrong]) else { return Ok(()) };
    ///     let nats = scores?.into_iter().map(|row| {
    ///         row.iter().map(|token| f64::from(token.nats)).sum::<f64>() / row.len() as f64
    ///     });
    ///     let nats: Vec<f64> = nats.collect();
    ///     at.log("likelier", nats[1] - nats[0]);
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn score(&self, rows: &[&[i32]]) -> Option<Result<Vec<Vec<TokenScore>>, BoxError>> {
        let scores = self.text.score(rows)?;
        self.step_log
            .reads
            .set(self.step_log.reads.get() + u64::from(rows.iter().any(|row| row.len() > 1)));
        Some(scores.and_then(|scores| match (scores.len(), rows.len()) {
            (made, asked) if made != asked => {
                Err(format!("the task scored {made} of {asked} rows").into())
            }
            _ => Ok(scores),
        }))
    }

    /// A seed for something random of one's own: from the run's seed, the step and a purpose.
    #[must_use]
    pub fn seed_for(&self, purpose: &str) -> u64 {
        seed::purpose(self.seed, self.clock.step, purpose)
    }

    /// Says something that a person may want to know: every sink hears of it when the step is settled.
    pub fn remark(&self, text: impl Into<String>) {
        let text = text.into();
        self.say([], move |[]| text);
    }
}

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
        self.metrics.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
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
                let known: Vec<_> =
                    self.report.metrics.iter().map(|(name, _)| name.as_str()).collect();
                let known = known.join(", ");
                Err(format!("there is no metric {name:?}; the eval has {known}").into())
            }
        }
    }

    fn logged_metric(&self, name: &str) -> Option<Logged> {
        self.step_log.last(|key| key.strip_prefix("val/") == Some(name))
    }
}

impl StepEnd<'_> {
    /// Asks for an eval on this step, before it ends.
    pub fn evaluate(&self) {
        self.step_log.requests.borrow_mut().evaluate = true;
    }
}
