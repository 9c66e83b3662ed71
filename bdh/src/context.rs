//! The context that all hooks share: clock, log, reads, the model as text.

use crate::cadence::Cadence;
use crate::clock::Clock;
use crate::deferred::{self, Deferred};
use crate::failure::BoxError;
use crate::files::ensure_dir;
use crate::record::Logged;
use crate::seed;
use crate::step_log::StepLog;
use crate::text::{Generated, Sampling, TokenScore};
use burn::tensor::Device;
use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};

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
        let Some(dir) = self.run_dir else {
            return Ok(None);
        };
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
        self.sample(prompt, how)
            .map(|sample| sample.map(|sample| sample.text))
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
            let reads = prompts
                .iter()
                .zip(&samples)
                .map(tokens)
                .max()
                .unwrap_or_default();
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
