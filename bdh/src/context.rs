//! The context that all hooks share: clock, log, device reads, the model.

use crate::cadence::Cadence;
use crate::clock::{Clock, RunLength};
use crate::deferred::{self, Deferred};
use crate::failure::BoxError;
use crate::files::ensure_dir;
use crate::record::Logged;
use crate::seed;
use crate::step_log::StepLog;
use crate::text::{Text, TextModel};
use burn::tensor::Device;
use std::any::Any;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The context of a hook: the clock, the log, device reads, the model.
///
/// Every event dereferences to it.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub(crate) clock: &'a Clock,
    pub(crate) previous: Option<&'a Clock>,
    pub(crate) length: RunLength,
    /// Whether every cadence is due, as in a replay.
    pub(crate) all_due: bool,
    pub(crate) seed: u64,
    pub(crate) device: &'a Device,
    pub(crate) num_devices: usize,
    pub(crate) run_dir: Option<&'a Path>,
    pub(crate) step_log: &'a StepLog,
    pub(crate) model: &'a dyn Any,
    pub(crate) text: Option<&'a dyn TextModel>,
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("clock", &self.clock)
            .field("length", &self.length)
            .field("run_dir", &self.run_dir)
            .finish_non_exhaustive()
    }
}

impl<'a> Context<'a> {
    /// Returns the clock at the end of the step: its step, tokens and samples include this step's.
    #[must_use]
    pub fn clock(&self) -> &'a Clock {
        self.clock
    }

    /// Returns the clock before the step, so that the difference from [`clock`](Self::clock) is the step's own share.
    ///
    /// `None` where no step is under way, as in `on_fit_start`.
    #[must_use]
    pub fn previous(&self) -> Option<&'a Clock> {
        self.previous
    }

    /// Returns the step under way or just completed; 0 is the untrained model.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.clock.step
    }

    /// Returns the number of steps of the run; 0 if it is limited by time. See [`length`](Self::length).
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.length.steps().unwrap_or(0)
    }

    /// Returns the length of the run, in steps or as a time.
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::HookResult;
    /// use bdh::hooks::StepEnd;
    ///
    /// fn on_step(ctx: &StepEnd<'_>) -> HookResult {
    ///     if ctx.length().is_reached(ctx.clock()) {
    ///         ctx.notice("the last step");
    ///     }
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn length(&self) -> RunLength {
        self.length
    }

    /// Returns the run's seed. For randomness of a callback, prefer [`seed_for`](Self::seed_for).
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns the device of the model.
    #[must_use]
    pub fn device(&self) -> &'a Device {
        self.device
    }

    /// Returns the number of devices that train replicas of the model together.
    #[must_use]
    pub fn num_devices(&self) -> usize {
        self.num_devices
    }

    /// Returns the run directory, if the run has one.
    #[must_use]
    pub fn run_dir(&self) -> Option<&'a Path> {
        self.run_dir
    }

    /// Returns the path, in the run directory, of a file that the callback announces, such as `samples/500.md`. Creates
    /// its folders. `None` if the run has no directory.
    ///
    /// Under [`.prefix("warm")`](crate::CallbackExt::prefix) the path is `samples/warm/500.md`, so that two callbacks of one
    /// kind never overwrite each other's files.
    ///
    /// # Errors
    ///
    /// If a folder cannot be created, as when the run directory was deleted.
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::HookResult;
    /// use bdh::hooks::StepEnd;
    ///
    /// fn on_step(ctx: &StepEnd<'_>) -> HookResult {
    ///     if let Some(path) = ctx.file(&format!("notes/{}.txt", ctx.step()))? {
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

    /// Whether a cadence is due on this step. In a [`Replay`](crate::Replay) every cadence is due.
    #[must_use]
    pub fn is_due(&self, cadence: &Cadence) -> bool {
        self.all_due || cadence.is_due(self.previous, self.clock, self.length)
    }

    /// Records a value under a key such as `grad/norm/global`. Costs no device read of its own.
    ///
    /// A key that is logged twice in a step keeps the last value. A key belongs to the callback that records it first;
    /// `train/loss`, `lr` and the metrics of an eval belong to the trainer. Values that another callback logs under the
    /// key are left out, which is reported once.
    pub fn log(&self, key: impl Into<String>, value: impl Into<Logged>) {
        self.step_log.log(key.into(), value.into());
    }

    /// Adds a value to the next device read, at the latest before a checkpoint. Costs no device read of its own.
    ///
    /// For numbers that a callback keeps without recording them: they are known when
    /// [`state`](crate::Callback::state) is called.
    pub fn read_along(&self, value: &Deferred) {
        self.step_log.read_along(value);
    }

    /// Sends a line for people, such as to the terminal, whose numbers are read together with everything that the step
    /// logs. It is not recorded.
    ///
    /// # Examples
    ///
    /// ```
    /// # use bdh::HookResult;
    /// # use bdh::hooks::AfterBackward;
    /// fn after_backward(ctx: &AfterBackward<'_>) -> HookResult {
    ///     let step = ctx.step();
    ///     ctx.notice_with([ctx.weights.l2()], move |[norm]| format!("step {step}: weight norm {norm:.2}"));
    ///     Ok(())
    /// }
    /// ```
    pub fn notice_with<const N: usize>(
        &self,
        values: [Deferred; N],
        line: impl FnOnce([f64; N]) -> String + 'static,
    ) {
        let known = values.clone();
        let text = move || line(known.map(|value| value.value().unwrap_or(f64::NAN)));
        self.step_log.notice(values.into(), text);
    }

    /// Reads a value now, for one device read, which stalls the device; prefer [`log`](Self::log).
    ///
    /// The read is counted for this callback in the overhead table.
    ///
    /// # Errors
    ///
    /// If the device failed.
    pub fn read(&self, value: &Deferred) -> Result<f64, BoxError> {
        if deferred::fetch([value].into_iter())? {
            self.step_log.reads.set(self.step_log.reads.get() + 1);
        }
        Ok(value.value().unwrap_or(f64::NAN)) // known: it was read above
    }

    /// Returns the model, if its type is `M`. A callback must not change it through interior mutability.
    #[must_use]
    pub fn model<M: 'static>(&self) -> Option<&'a M> {
        self.model.downcast_ref()
    }

    /// Returns the model as a language model, if the task offers [text](crate::Task::text).
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::HookResult;
    /// use bdh::hooks::StepEnd;
    /// use bdh::text::Sampling;
    ///
    /// fn on_step(ctx: &StepEnd<'_>) -> HookResult {
    ///     if let Some(text) = ctx.text() {
    ///         ctx.notice(text.generate("Once upon a time", &Sampling::default())?);
    ///     }
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn text(&self) -> Option<Text<'a>> {
        let (model, reads) = (self.text?, &self.step_log.reads);
        Some(Text { model, reads })
    }

    /// Returns a seed for randomness of a callback, derived from the run's seed, the step and a purpose.
    ///
    /// A seed of its own keeps a callback from changing the random numbers of training.
    #[must_use]
    pub fn seed_for(&self, purpose: &str) -> u64 {
        seed::purpose(self.seed, self.clock.step, purpose)
    }

    /// Sends a line for people to every sink at the end of the step.
    pub fn notice(&self, text: impl Into<String>) {
        let text = text.into();
        self.notice_with([], move |[]| text);
    }
}
