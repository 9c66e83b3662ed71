//! The loop, from top to bottom.

/// The context of a hook, from fields that the callbacks do not share.
macro_rules! cx {
    ($trainer:ident, $clock:expr, $previous:expr, $model:expr) => {
        Cx {
            clock: $clock,
            previous: $previous,
            steps: $trainer.settings.steps,
            replays: $trainer.settings.replays,
            seed: $trainer.settings.seed,
            device: &$trainer.device,
            num_devices: $trainer.settings.devices,
            run_dir: $trainer.info.dir.as_deref(),
            bus: &$trainer.bus,
            model: $model,
            reader: &crate::trainer::WithoutTape { task: &*$trainer.task, model: $model },
        }
    };
}

mod builder;
mod dispatch;
mod replay;
mod resume;
mod save;
mod settle;
mod update;

pub use builder::{Parts, TrainerBuilder};
pub use replay::{Replay, ReplayBuilder};
pub use resume::Resume;

use crate::checkpoint::{self, Saver};
use crate::clock::Clock;
use crate::deferred::Deferred;
use crate::error::{ConfigError, TrainError};
use crate::event::{Bus, Cx, FitEnd, FitStart, Reader, Timing};
use crate::failure::{BoxError, panic_text, with_causes};
use crate::feedback::Feedback;
use crate::intervention::Intervention;
use crate::optim::Optimizers;
use crate::outcome::{Fitted, Outcome, Problem};
use crate::overhead::Overhead;
use crate::params::ParamTable;
use crate::plan::Plan;
use crate::record::Record;
use crate::replicas::{Lost, Replicas, Transport};
use crate::run::{self, RunInfo};
use crate::run_dir;
use crate::run_lock::{LostDir, RunLock};
use crate::signal::SignalWatch;
use crate::sink::{Sink, Writers};
use crate::task::Task;
use crate::text::{Generated, Sampling, TokenScore};
use builder::Settings;
use burn::module::Module;
use burn::tensor::Device;
use dispatch::Callbacks;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use update::Updated;

/// Time between two looks at whether the run directory is still there. Each costs a call of the system, some microseconds.
const LOOK_AT_DIR: Duration = Duration::from_millis(200);

/// Trains a model on a task, step by step, and tells callbacks and sinks about it.
///
/// # Examples
///
/// ```
/// use bdh::burn::{nn::{Linear, LinearConfig}, optim::AdamWConfig, tensor::Tensor};
/// use bdh::{BatchSize, BoxError, MemorySink, Probe, Task, Trainer, warmup_cosine};
/// # struct Halve;
/// # impl Task for Halve {
/// #     type Model = Linear;
/// #     type Batch = Vec<f32>;
/// #     fn next_batch(&mut self) -> Result<Vec<f32>, BoxError> { Ok(vec![0.25, 0.5, 1.0]) }
/// #     fn size(&self, batch: &Vec<f32>) -> BatchSize {
/// #         BatchSize { samples: batch.len(), tokens: batch.len() }
/// #     }
/// #     fn loss(&self, model: &Linear, batch: &Vec<f32>, _: &Probe<'_>) -> Tensor<1> {
/// #         let x = Tensor::<1>::from_floats(batch.as_slice(), &model.weight.device()).reshape([-1, 1]);
/// #         (model.forward(x.clone()) - x / 2.0).square().mean()
/// #     }
/// # }
///
/// let device = bdh::device("cpu")?;
/// let memory = MemorySink::default();
/// let trainer = Trainer::builder(Halve, LinearConfig::new(1, 1).init(&device))
///     .optimizer(AdamWConfig::new().build(), warmup_cosine(0.1, 5))
///     .steps(50)
///     .sink(memory.clone())
///     .build()?;
/// println!("{}", trainer.plan());
/// trainer.fit()?;
///
/// let losses = memory.series("train/loss");
/// assert_eq!(losses.len(), 50);
/// assert!(losses[49].1 < 0.1 * losses[0].1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Trainer<T: Task> {
    /// Shared with the replicas while they compute.
    task: Arc<T>,
    /// Out only while the optimizer has it.
    model: Option<T::Model>,
    device: Device,
    /// Those that share each step, this one first; none where there is only this one.
    devices: Vec<Device>,
    transport: Transport,
    /// Until the run begins there are none.
    replicas: Replicas<T>,
    table: Arc<ParamTable>,
    /// Everything of the model that a checkpoint holds.
    saved: ParamTable,
    optimizers: Optimizers,
    interventions: Vec<Box<dyn Intervention>>,
    callbacks: Callbacks,
    /// Until the run begins; then they are with the writers.
    sinks: Vec<Box<dyn Sink>>,
    settings: Settings,
    plan: Plan,
    info: RunInfo,
    clock: Clock,
    /// Training time of the run that this one continues.
    elapsed_before: Duration,
    /// The checkpoint to go on from, and the names under which its state was saved.
    resumed_from: Option<(PathBuf, BTreeMap<String, bool>)>,
    /// Whether the directory's run died with nothing to go on from, and is begun again.
    is_begun_again: bool,
    /// Keeps the run directory from other processes.
    lock: Option<RunLock>,
    bus: Bus,
    progress: Progress,
}

/// What a run accumulates on the way.
#[derive(Default)]
struct Progress {
    writers: Writers,
    saver: Saver,
    signals: Option<SignalWatch>,
    last: Option<Arc<Record>>,
    problems: Vec<Problem>,
    overhead: Overhead,
    flops_per_token: Option<f64>,
    told_of_nowhere: bool,
    /// When the run directory was last seen to be there.
    looked_at_dir: Option<Instant>,
    /// The checkpoint tried last, if it could not be written.
    unsaved: Option<TrainError>,
    /// Waiting for data so far.
    data: Duration,
    /// When the last step ended.
    lap_began: Option<Instant>,
    /// Time since then that belongs to no step: evals and checkpoints.
    away: Duration,
}

impl Progress {
    /// The time since the last lap, and the beginning of a new one.
    ///
    /// From one step's end to the next: what waits for the device comes after a step, in the read of what
    /// it logged, and would otherwise be nobody's.
    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        let since = self.lap_began.replace(now).map_or(Duration::ZERO, |began| now - began);
        since.saturating_sub(std::mem::take(&mut self.away))
    }
}

/// What one step leaves for the moments after it.
struct Done {
    /// The clock before the step; `None` for the untrained model, which no step precedes.
    previous: Option<Clock>,
    loss: Option<Deferred>,
    lrs: Vec<(String, f64)>,
    skipped: bool,
    timing: Timing,
}

impl<T: Task> Trainer<T> {
    /// Begins the composition of a run: what is trained, and on what.
    pub fn builder(task: T, model: T::Model) -> TrainerBuilder<T> {
        TrainerBuilder::new(task, model)
    }

    /// What will fire when, what is recorded, and which files will exist.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Runs the loop to its end.
    ///
    /// # Errors
    ///
    /// [`TrainError`], after every callback and sink has been told. A failing observer or sink is not an
    /// error of the run: it is in [`Fitted::problems`]. With an error the model is not returned, also where all steps were
    /// taken and only the last checkpoint could not be written ([`TrainError::Unsaved`]).
    ///
    /// # Panics
    ///
    /// If the task or the model panics; everybody has been told then too.
    pub fn fit(self) -> Result<Fitted<T::Model>, TrainError> {
        self.drive(Self::run)
    }

    /// Opens the run, has a loop run to its end, and tells everybody how it ended.
    fn drive(
        mut self,
        run: impl FnOnce(&mut Self) -> Result<Outcome, TrainError>,
    ) -> Result<Fitted<T::Model>, TrainError> {
        let began = Instant::now();
        self.open()?;
        let ended = catch_unwind(AssertUnwindSafe(|| run(&mut self)));
        self.progress.overhead.total = began.elapsed();
        match ended {
            Ok(ended) => self.close(ended),
            Err(panic) => {
                let text = panic_text(&*panic);
                let step = self.clock.step;
                let _ = self.close(Err(TrainError::Panic { step, text })); // the panic says it all
                resume_unwind(panic)
            }
        }
    }

    /// Makes the run directory, opens the sinks, listens for signals. A run that is refused leaves nothing new there; one
    /// that was to be resumed may have deleted the checkpoints and cut the records after its step.
    fn open(&mut self) -> Result<(), ConfigError> {
        let aside = if self.is_begun_again { Some(self.move_aside()?) } else { None };
        let before = self.info.dir.as_deref().map(run_dir::Before::of);
        let begun = self.begin();
        if begun.is_err()
            && let (Some(before), Some(lock)) = (before, &self.lock)
            && lock.verify().is_ok()
        {
            self.sinks.clear(); // their files are closed
            before.restore();
            if let (Some(aside), Some(dir)) = (aside, &self.info.dir) {
                let _ = std::fs::rename(aside, dir); // where it does not work, the directory is still there
            }
        }
        begun
    }

    /// Gives the directory of a run that died, which is locked, another name.
    fn move_aside(&mut self) -> Result<PathBuf, ConfigError> {
        let dir = self.info.dir.as_deref().unwrap_or(Path::new(""));
        self.verify_dir()?;
        let aside = run_dir::move_aside(dir)?;
        self.progress.problems.push(died_early(dir, &aside));
        self.lock = None; // it went along; whoever waits for it looks where its path leads now
        Ok(aside)
    }

    fn begin(&mut self) -> Result<(), ConfigError> {
        if let Some(dir) = &self.info.dir {
            if self.lock.is_none() {
                self.lock = Some(run_dir::claim(dir)?);
            }
            self.verify_dir()?;
            if let Some(step) = self.info.resumed_at {
                // Before the sinks cut their records: a process that dies in between must not leave a checkpoint of a
                // later step than the records.
                let (folder, lock) = (dir.join(checkpoint::FOLDER), self.lock.as_ref());
                checkpoint::forget_after(&folder, step, lock)
                    .map_err(|source| ConfigError::RunDir { path: dir.clone(), source })?;
                self.complete_checkpoints(&folder)?;
                checkpoint::rotate(&folder, self.settings.keep_checkpoints, lock)
                    .map_err(|source| ConfigError::RunDir { path: dir.clone(), source })?;
            }
        }
        if self.devices.len() > 1 {
            self.start_replicas()?;
        }
        self.info.notes.clone_from(&self.plan.notes);
        let (feedback, said) = Feedback::channel();
        self.info.feedback = feedback.clone();
        for sink in &mut self.sinks {
            let (field, value) = ("sink", sink.name());
            sink.open(&self.info).map_err(|error| {
                let expected = format!("which cannot be opened: {}", with_causes(&*error));
                ConfigError::Invalid { field, value, expected }
            })?;
        }
        self.verify_dir()?;
        // After the sinks: a run that never began leaves its directory free for the next attempt.
        run::write_start(&self.info)?;
        self.progress.writers = Writers::start(std::mem::take(&mut self.sinks), &feedback, said);
        for problem in &self.progress.problems {
            self.progress.writers.tell(problem); // what was met before there was anybody to tell
        }
        for note in &self.plan.notes {
            self.progress.writers.remark(&format!("note: {note}"));
        }
        if self.settings.stop_on_signals {
            // Without a handler the run is merely less polite to interrupt.
            self.progress.signals = SignalWatch::start();
        }
        Ok(())
    }

    /// Checks, before anything is done in the run directory, that it is still there.
    fn verify_dir(&self) -> Result<(), ConfigError> {
        let Some(lock) = &self.lock else { return Ok(()) };
        lock.verify()
            .map_err(|lost| ConfigError::RunDir { path: lost.path.clone(), source: lost.into() })
    }

    /// Ends a run whose directory is no longer there: what it writes would be lost, or would spoil another run's files.
    fn check_dir(&mut self) -> Result<(), TrainError> {
        self.progress.looked_at_dir = Some(Instant::now());
        let Some(Err(LostDir { path, how, now_at })) = self.lock.as_ref().map(RunLock::verify)
        else {
            return Ok(());
        };
        self.info.dir = None; // for what callbacks, and the end of the run, would still write
        let last_checkpoint =
            now_at.and_then(|dir| checkpoint::latest_checkpoint(&dir.join(checkpoint::FOLDER)));
        Err(TrainError::DirLost { path, how, step: self.clock.step, last_checkpoint })
    }

    /// Looks after the run directory now and then.
    fn look_at_dir(&mut self) -> Result<(), TrainError> {
        let since = self.progress.looked_at_dir.map(|looked| looked.elapsed());
        if since.is_none_or(|since| since >= LOOK_AT_DIR) { self.check_dir() } else { Ok(()) }
    }

    /// Copies the model, as it stands after a resume, to the other devices.
    fn start_replicas(&mut self) -> Result<(), ConfigError> {
        let replicas = Replicas::start(&self.devices, self.transport.clone(), &self.table);
        self.replicas = replicas.map_err(|error| {
            ConfigError::Device(format!("no thread for a replica could be started: {error}"))
        })?;
        self.replicas.try_exchange(&self.device).map_err(|why| {
            ConfigError::Device(format!(
                "these GPUs cannot exchange by NCCL, for which libnccl.so is needed ({why}); \
                 `exchange_on_host(true)`, or `--exchange-on-host`, does without"
            ))
        })?;
        let model = self.model.as_ref().expect(MODEL_IS_IN);
        self.replicas.load(model).map_err(|Lost { replica, text }| {
            ConfigError::Device(format!("replica {replica} could not be given the model: {text}"))
        })
    }

    /// The error for a replica that failed in the step under way; the first one is on this thread.
    fn lost(&self, Lost { replica, text }: Lost) -> TrainError {
        let step = self.clock.step;
        match replica {
            0 => TrainError::Device { step, reason: text },
            replica => TrainError::Replica { replica, step, text },
        }
    }

    // ── The loop ─────────────────────────────────────────────────────────────────────────────────────

    fn run(&mut self) -> Result<Outcome, TrainError> {
        self.on_fit_start()?;
        if self.clock.step == 0 && self.info.resumed_at.is_none() {
            self.callbacks.look_at(None, &self.clock, self.settings.steps);
            if let Some(reason) = self.settle(&Done::untrained())? {
                return Ok(Outcome::Stopped(reason));
            }
        }
        self.progress.lap();
        while self.clock.step < self.settings.steps {
            self.look_at_dir()?;
            let done = self.step()?; // ends with the parameters moved
            self.log_own(&done);
            self.on_step(&done)?;
            if let Some(reason) = self.settle(&done)? {
                return Ok(Outcome::Stopped(reason));
            }
        }
        Ok(Outcome::Completed)
    }

    /// Batches, forward and backward, optimizer: one update of the parameters.
    fn step(&mut self) -> Result<Done, TrainError> {
        let began = Instant::now();
        let batches = self.fetch()?;
        let data = began.elapsed();

        let previous = self.clock;
        self.clock = self.clock_after(&batches);
        self.callbacks.look_at(Some(&previous), &self.clock, self.settings.steps);

        let backward = self.backward(batches, &previous)?;
        let loss = backward.loss.clone();
        let Updated { skipped, lrs } = self.update(backward, &previous)?;
        self.compare_replicas(&previous)?;
        self.progress.overhead.reads += self.replicas.take_reads();

        let timing = Timing { step: self.progress.lap(), data };
        self.progress.overhead.steps += timing.step;
        self.progress.overhead.num_steps += 1;
        self.progress.data += timing.data;
        Ok(Done { previous: Some(previous), loss: Some(loss), lrs, skipped, timing })
    }

    // ── Before and after ─────────────────────────────────────────────────────────────────────────────

    fn on_fit_start(&mut self) -> Result<(), TrainError> {
        let model = self.model.as_ref().expect(MODEL_IS_IN);
        self.progress.flops_per_token = self.task.flops_per_token(model);
        let cx = cx!(self, &self.clock, None, model);
        let resumed = self.info.resumed_at.is_some();
        let event = FitStart { cx, plan: &self.plan, params: &self.table, resumed };
        self.callbacks.fire(&event)
    }

    /// Calls `on_fit_end`, writes how the run ended to `run.json`, and waits for the sinks.
    fn close(mut self, ended: Result<Outcome, TrainError>) -> Result<Fitted<T::Model>, TrainError> {
        self.replicas = Replicas::none(&self.table); // their memory is free, and their threads have ended
        if ended.is_err() {
            let _ = self.record(); // what the failing step had logged; it failed already
        }
        self.wait_for_saver();
        let is_there = self.check_dir();
        let unsaved = self.progress.unsaved.take();
        let ended = ended.and_then(|outcome| is_there.map(|()| outcome));
        let ended = ended.and_then(|outcome| unsaved.map_or(Ok(outcome), Err));
        let heard = self.on_fit_end(&outcome_of(&ended));
        let ended = ended.and_then(|outcome| heard.map(|()| outcome));
        let outcome = outcome_of(&ended);
        self.hear_problems();
        let mut progress = std::mem::take(&mut self.progress);
        progress.overhead.rows = self.callbacks.costs();
        progress.overhead.budget = self.settings.overhead_budget;
        let Progress { mut writers, last, mut problems, overhead, signals, .. } = progress;
        let step = self.clock.step;
        let note = |problems: &[Problem]| {
            // Sinks may take a while to close, and the directory may be another run's by then.
            if self.lock.as_ref().is_some_and(|lock| lock.verify().is_err()) {
                return None;
            }
            let noted = run::write_end(&self.info, &outcome, last.as_deref(), problems, &overhead);
            noted.err().map(|error| unnoted(step, &error))
        };
        // On the disk before `run.json` speaks of the end, which is before a sink takes its time to close: a run that is
        // killed during a long upload has ended all the same.
        let late = writers.flush().wait();
        writers.lose_patience(&late, step);
        let _ = note(&problems); // tried again below
        writers.close(&outcome, step, &mut problems, signals.as_ref(), note);
        let last = last.map(|last| last.developed(|_, _| ()).into_owned()); // the sinks have told what failed
        let is_there = self.check_dir();
        let ended = ended.and_then(|outcome| is_there.map(|()| outcome));
        ended?;
        let model = self.model.expect(MODEL_IS_IN);
        Ok(Fitted { model, outcome, last, overhead, problems })
    }

    /// What is logged here joins the last record in [`Fitted::last`] and in `run.json`; the sinks have
    /// theirs already.
    fn on_fit_end(&mut self, outcome: &Outcome) -> Result<(), TrainError> {
        // A panic of the optimizer takes the model along; then there is none to show.
        let Some(model) = self.model.as_ref() else { return Ok(()) };
        let cx = cx!(self, &self.clock, None, model);
        let event = FitEnd { cx, outcome };
        self.callbacks.fire(&event)?;
        let late = self.take_logged()?;
        self.pass_on_lines();
        if let Some(last) = self.progress.last.as_mut().map(Arc::make_mut) {
            last.values.retain(|(key, _)| late.iter().all(|(late, _)| late != key));
            last.values.extend(late);
        }
        Ok(())
    }
}

/// The model as it is, for callbacks that let it write or judge texts.
struct WithoutTape<'a, T: Task> {
    task: &'a T,
    model: &'a T::Model,
}

impl<T: Task> Reader for WithoutTape<'_, T> {
    fn generate(&self, prompts: &[(&str, Sampling)]) -> Option<Result<Vec<Generated>, BoxError>> {
        self.task.generate(&self.model.valid(), prompts)
    }

    fn score(&self, rows: &[&[i32]]) -> Option<Result<Vec<Vec<TokenScore>>, BoxError>> {
        self.task.score(&self.model.valid(), rows)
    }
}

/// The problem of a run that was killed before it had saved anything.
fn died_early(dir: &Path, aside: &Path) -> Problem {
    Problem {
        who: dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        during: "resume".to_owned(),
        step: 0,
        error: "it died before its first checkpoint was complete".to_owned(),
        consequence: format!("it was moved to `{}` and begins again", aside.display()),
    }
}

/// The problem of an end that could not be written down; the sinks are closed by then.
fn unnoted(step: u64, error: &std::io::Error) -> Problem {
    Problem {
        who: run::FILE.to_owned(),
        during: "close".to_owned(),
        step,
        error: error.to_string(),
        consequence: "it does not say how the run ended".to_owned(),
    }
}

fn outcome_of(ended: &Result<Outcome, TrainError>) -> Outcome {
    match ended {
        Ok(outcome) => outcome.clone(),
        Err(error) => Outcome::Failed(with_causes(error)),
    }
}

/// The task, for what only the trainer does with it.
fn task_mut<T>(task: &mut Arc<T>) -> &mut T {
    Arc::get_mut(task).expect("replicas let go of the task before they answer")
}

/// Between the hooks the model is always there.
const MODEL_IS_IN: &str = "the model is out only while the optimizer has it";

/// The directory name of a checkpoint that the `checkpoint` cadence asks for.
fn checkpoint_name(step: u64) -> String {
    format!("step_{step:08}")
}
