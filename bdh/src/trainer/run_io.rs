//! The input and output of a run: its directory, sinks, checkpoints being written, and signals.

use crate::checkpoint::{self, Checkpoint, CheckpointRequest, Job, Saved, Saver};
use crate::error::{CheckpointError, ConfigError, TrainError};
use crate::failure::with_causes;
use crate::feedback::Feedback;
use crate::message::Message;
use crate::names::is_plain_name;
use crate::outcome::{Outcome, StopReason, Warning};
use crate::overhead::Overhead;
use crate::record::Record;
use crate::run::{self, RunInfo};
use crate::run_dir;
use crate::run_lock::{LostDir, RunLock};
use crate::signal::SignalWatch;
use crate::sink::{Sink, Writers};
use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time between two checks that the run directory still exists. A check costs one system call, some microseconds.
const DIR_CHECK_INTERVAL: Duration = Duration::from_millis(200);

pub(super) struct RunIo {
    pub(super) info: RunInfo,
    /// Lock that keeps other processes out of the run directory.
    pub(super) lock: Option<RunLock>,
    /// The checkpoint to continue from, and the names under which its state was saved.
    pub(super) resumed_from: Option<(PathBuf, BTreeMap<String, bool>)>,
    /// The step of that checkpoint. Checkpoints of later steps are deleted.
    pub(super) resumed_step: Option<u64>,
    /// Whether the directory holds a run that died without a checkpoint, so that the run starts again.
    pub(super) starts_again: bool,
    pub(super) keep_checkpoints: usize,
    pub(super) stop_on_signals: bool,
    /// Sinks before the run begins; then the writers own them.
    sinks: Vec<Box<dyn Sink>>,
    writers: Writers,
    saver: Saver,
    signals: Option<SignalWatch>,
    last: Option<Arc<Record>>,
    /// Failures that did not end the run.
    pub(super) warnings: Vec<Warning>,
    has_warned_of_no_dir: bool,
    /// Time of the last check that the run directory exists.
    dir_checked_at: Option<Instant>,
    /// Error of the newest checkpoint, if it could not be written.
    unsaved: Option<TrainError>,
}

impl RunIo {
    /// Prepares the input and output of a run. Nothing is written yet.
    pub(super) fn new(info: RunInfo, sinks: Vec<Box<dyn Sink>>) -> Self {
        Self {
            info,
            lock: None,
            resumed_from: None,
            resumed_step: None,
            starts_again: false,
            keep_checkpoints: 0,
            stop_on_signals: false,
            sinks,
            writers: Writers::default(),
            saver: Saver::default(),
            signals: None,
            last: None,
            warnings: Vec::new(),
            has_warned_of_no_dir: false,
            dir_checked_at: None,
            unsaved: None,
        }
    }

    // ── Begin ────────────────────────────────────────────────────────────────────────────────────────

    /// Creates the run directory, starts the devices, opens the sinks and watches for signals.
    ///
    /// If this fails, new files are removed again. A resumed run may already have deleted checkpoints and records of
    /// later steps.
    pub(super) fn open(
        &mut self,
        notes: &[String],
        start_devices: impl FnOnce() -> Result<(), ConfigError>,
    ) -> Result<(), ConfigError> {
        let aside = if self.starts_again {
            Some(self.move_aside()?)
        } else {
            None
        };
        let before = self.info.dir.as_deref().map(run_dir::DirSnapshot::take);
        let begun = self.begin(notes, start_devices);
        if begun.is_err() {
            self.roll_back(before, aside);
        }
        begun
    }

    /// Restores the run directory after a failed start, unless it is another run's by now.
    fn roll_back(&mut self, before: Option<run_dir::DirSnapshot>, aside: Option<PathBuf>) {
        let (Some(before), Some(lock)) = (before, &self.lock) else {
            return;
        };
        if lock.verify().is_err() {
            return;
        }
        self.sinks.clear(); // closes their files before they are removed
        before.restore();
        if let (Some(aside), Some(dir)) = (aside, &self.info.dir) {
            let _ = std::fs::rename(aside, dir); // if it fails, the old run is still there under its new name
        }
    }

    /// Renames the locked directory of a run that died.
    fn move_aside(&mut self) -> Result<PathBuf, ConfigError> {
        let dir = self.info.dir.as_deref().unwrap_or(Path::new(""));
        self.verify_dir()?;
        let aside = run_dir::move_aside(dir)?;
        self.warnings.push(died_early(dir, &aside));
        self.lock = None; // the lock moved with the directory; processes that wait for it check the path again
        Ok(aside)
    }

    fn begin(
        &mut self,
        notes: &[String],
        start_devices: impl FnOnce() -> Result<(), ConfigError>,
    ) -> Result<(), ConfigError> {
        self.claim_dir()?;
        start_devices()?; // after the lock: if the directory is another run's, that run may be using these devices
        self.info.notes = notes.to_vec();
        let (feedback, messages) = Feedback::channel();
        self.info.feedback = feedback.clone();
        self.open_sinks()?;
        self.verify_dir()?; // again, as sinks may take a while to open
        // After the sinks: a run that never began leaves its directory free for the next attempt.
        run::write_start(&self.info)?;
        self.writers = Writers::start(std::mem::take(&mut self.sinks), &feedback, messages);
        self.send_early_messages(notes);
        if self.stop_on_signals {
            // Without a handler a signal ends the process without a checkpoint, so a failure here is no error.
            self.signals = SignalWatch::start();
        }
        Ok(())
    }

    /// Sends the step of a resume, the warnings that were raised before the sinks were open, and the notes of the plan.
    fn send_early_messages(&mut self, notes: &[String]) {
        if let Some(step) = self.resumed_step {
            self.notice(format!("resumed at step {step}"));
        }
        for warning in &self.warnings {
            self.writers.send(&Message::Warning(warning.clone()));
        }
        for note in notes {
            self.notice(format!("note: {note}"));
        }
    }

    /// Reports a run that was complete before it was started: to the sinks, which are not opened, and to `tracing`.
    pub(super) fn report_complete(&mut self, step: u64) {
        let dir = self.info.dir.as_deref().unwrap_or(Path::new(""));
        let dir = dir.display();
        let text =
            format!("`{dir}` is complete: all {step} steps are taken, and nothing is changed");
        let notice = Message::Notice(text);
        notice.trace();
        for sink in &mut self.sinks {
            // A sink may count on being open: its panic must not end the program.
            let _ = catch_unwind(AssertUnwindSafe(|| sink.message(&notice)));
        }
        let record = self.record_of(step).cloned();
        self.last = record.map(Arc::new);
    }

    fn open_sinks(&mut self) -> Result<(), ConfigError> {
        for sink in &mut self.sinks {
            let name = sink.name();
            if let Err(error) = sink.open(&self.info) {
                let problem = format!("it cannot be opened: {}", with_causes(&*error));
                return Err(ConfigError::invalid("sink", name, problem));
            }
        }
        Ok(())
    }

    /// Locks the run directory. If the run resumes, checkpoints of later steps are deleted.
    fn claim_dir(&mut self) -> Result<(), ConfigError> {
        let Some(dir) = self.info.dir.clone() else {
            return Ok(());
        };
        if self.lock.is_none() {
            self.lock = Some(run_dir::claim(&dir)?);
        }
        self.verify_dir()?;
        match self.resumed_step {
            // Before the sinks cut their records: a process that dies in between must not leave a checkpoint that is
            // newer than the records.
            Some(step) => self.discard_after(step, &dir),
            None => Ok(()),
        }
    }

    /// Deletes the checkpoints of later steps, and completes those of the step.
    fn discard_after(&self, step: u64, dir: &Path) -> Result<(), ConfigError> {
        let (folder, lock) = (dir.join(checkpoint::FOLDER), self.lock.as_ref());
        let failed = |source| ConfigError::RunDir {
            path: dir.to_owned(),
            source,
        };
        checkpoint::delete_after(&folder, step, lock).map_err(failed)?;
        self.complete_checkpoints(&folder)?;
        checkpoint::rotate(&folder, self.keep_checkpoints, lock).map_err(failed)
    }

    /// Writes the other checkpoints of the resumed step, in case the process died before it had written all of them.
    fn complete_checkpoints(&self, dir: &Path) -> Result<(), ConfigError> {
        let Some((from, saved_as)) = &self.resumed_from else {
            return Ok(());
        };
        // A run that resumes into a new directory does not change the old one.
        if !checkpoint::is_in(dir, from) {
            return Ok(());
        }
        for (name, pinned) in saved_as {
            let to = dir.join(name);
            // The names come from a checkpoint, and a crafted one must not write outside of the folder.
            if is_plain_name(name) && !to.exists() {
                Checkpoint::copy(from, &to, *pinned, self.lock.as_ref())?;
            }
        }
        Ok(())
    }

    // ── Run ──────────────────────────────────────────────────────────────────────────────────────────

    /// Checks that the run directory still exists, before anything is written to it.
    fn verify_dir(&self) -> Result<(), ConfigError> {
        let Some(lock) = &self.lock else {
            return Ok(());
        };
        lock.verify().map_err(|lost| ConfigError::RunDir {
            path: lost.path.clone(),
            source: lost.into(),
        })
    }

    /// Fails if the run directory is gone: further files would be lost, or would overwrite another run's.
    pub(super) fn check_dir(&mut self, step: u64) -> Result<(), TrainError> {
        self.dir_checked_at = Some(Instant::now());
        let Some(Err(LostDir { path, how, now_at })) = self.lock.as_ref().map(RunLock::verify)
        else {
            return Ok(());
        };
        self.info.dir = None; // so that callbacks and the end of the run write nothing more there
        let last_checkpoint =
            now_at.and_then(|dir| checkpoint::latest(&dir.join(checkpoint::FOLDER)));
        Err(TrainError::DirLost {
            path,
            how,
            step,
            last_checkpoint,
        })
    }

    /// Checks the run directory, unless the last check was less than 200 ms ago.
    pub(super) fn poll_dir(&mut self, step: u64) -> Result<(), TrainError> {
        match self.dir_checked_at {
            Some(checked_at) if checked_at.elapsed() < DIR_CHECK_INTERVAL => Ok(()),
            _ => self.check_dir(step),
        }
    }

    /// Sends a record to the sinks.
    pub(super) fn write(&mut self, record: Record) {
        let record = Arc::new(record);
        self.writers.write(&record);
        self.last = Some(record);
    }

    /// Whether the sinks have the record of a step, from this process or the one before the resume.
    pub(super) fn has_recorded(&self, step: u64) -> bool {
        self.record_of(step).is_some() || self.info.resumed_at == Some(step)
    }

    /// Returns the record of a step, if it is the last one that the sinks have.
    pub(super) fn record_of(&self, step: u64) -> Option<&Record> {
        let last = self.last.as_deref().or(self.info.resumed_record.as_ref());
        last.filter(|record| record.clock.step == step)
    }

    /// Adds values that were logged after the last record was sent; they appear in the result and in `run.json`.
    pub(super) fn add_to_last(&mut self, late: Vec<(String, crate::record::Value)>) {
        let Some(last) = self.last.as_mut().map(Arc::make_mut) else {
            return;
        };
        last.values
            .retain(|(key, _)| late.iter().all(|(late, _)| late != key));
        last.values.extend(late);
    }

    /// Sends a notice to the sinks.
    pub(super) fn notice(&mut self, text: String) {
        self.writers.send(&Message::Notice(text));
    }

    /// Reports a failure that does not end the run, to the sinks and in the result.
    pub(super) fn warn(&mut self, warning: Warning) {
        self.writers.send(&Message::Warning(warning.clone()));
        self.warnings.push(warning);
    }

    /// Reports to the sinks that the run stops.
    pub(super) fn stop_requested(&mut self, reason: &StopReason) {
        self.writers.send(&Message::StopRequested(reason.clone()));
    }

    /// Collects the warnings and requests that sinks have sent from their threads.
    pub(super) fn drain(&mut self) {
        self.writers.drain(&mut self.warnings);
    }

    /// Whether a signal asks the run to stop.
    pub(super) fn is_signalled(&self) -> bool {
        self.signals.as_ref().is_some_and(SignalWatch::asked)
    }

    /// Whether a sink asks the run to stop.
    pub(super) fn sink_asks_to_stop(&self) -> bool {
        self.writers.stop.is_some()
    }

    /// Takes a sink's request to stop.
    pub(super) fn take_stop(&mut self) -> Option<StopReason> {
        self.writers.stop.take()
    }

    // ── Checkpoints ──────────────────────────────────────────────────────────────────────────────────

    /// Starts writing a checkpoint on another thread. Call [`Self::wait_for_saver`] first.
    pub(super) fn save(
        &mut self,
        dir: PathBuf,
        checkpoint: Checkpoint,
        requests: Vec<(String, CheckpointRequest)>,
    ) {
        self.saver.begin(Job {
            dir,
            checkpoint,
            requests,
            keep: self.keep_checkpoints,
            flushing: self.writers.flush(),
            lock: self.lock.clone(),
        });
    }

    /// Reports a finished checkpoint, without waiting for an unfinished one.
    pub(super) fn report_saved(&mut self) {
        if self.saver.is_done() {
            self.wait_for_saver();
        }
    }

    /// Waits until the checkpoint being written is on the disk, and reports failures. Returns the checkpoints that are
    /// complete now, and whether they are pinned.
    pub(super) fn wait_for_saver(&mut self) -> Vec<(PathBuf, bool)> {
        let Some(saved) = self.saver.wait() else {
            return Vec::new();
        };
        let Saved {
            step,
            written,
            failed,
            late,
        } = saved;
        self.writers.give_up_late(&late, step);
        for (by, error) in &failed {
            self.warn(not_saved(by, step, error));
        }
        let lost = failed.into_iter().next().filter(|_| written.is_empty());
        // Replaces the error of an older one: the newest checkpoint alone decides.
        self.unsaved = lost.map(|(_, source)| TrainError::Unsaved { step, source });
        written
    }

    /// Takes the error of the newest checkpoint, if it could not be written, and returns it.
    pub(super) fn take_unsaved(&mut self) -> Result<(), TrainError> {
        match self.unsaved.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Warns, once in a run, that checkpoints were requested without a run directory.
    pub(super) fn warn_of_no_dir(&mut self, requests: &[(String, CheckpointRequest)], step: u64) {
        if std::mem::replace(&mut self.has_warned_of_no_dir, true) {
            return;
        }
        for (by, CheckpointRequest { name, .. }) in requests {
            self.warn(Warning {
                source: by.clone(),
                phase: "checkpoint".to_owned(),
                step,
                cause: format!("checkpoint `{name}` cannot be saved: the run has no `run_dir`"),
                consequence: "the run saves nothing".to_owned(),
            });
        }
    }

    // ── End ──────────────────────────────────────────────────────────────────────────────────────────

    /// Writes the outcome to `run.json`, and closes the sinks.
    pub(super) fn close(&mut self, outcome: &Outcome, step: u64, overhead: &Overhead) {
        let Self {
            info,
            lock,
            writers,
            warnings,
            signals,
            last,
            ..
        } = self;
        let note = |warnings: &[Warning]| {
            // Checked each time: sinks may take a while to close, and the directory may be another run's by then.
            if let Some(Err(_)) = lock.as_ref().map(RunLock::verify) {
                return None;
            }
            let noted = run::write_end(info, outcome, last.as_deref(), warnings, overhead);
            noted.err().map(|error| not_noted(step, &error))
        };
        // Order: records are flushed, then `run.json` reports the end, then sinks close. A run that is killed while a
        // sink uploads has ended all the same.
        let late = writers.flush().wait();
        writers.give_up_late(&late, step);
        let _ = note(warnings); // tried again below
        writers.close(outcome, step, warnings, signals.as_ref(), note);
    }

    /// Returns the last record, with its pictures drawn, and the warnings.
    pub(super) fn into_result(self) -> (Option<Record>, Vec<Warning>) {
        // The sinks have reported pictures that failed.
        let last = self
            .last
            .map(|last| last.with_images(|_, _| ()).into_owned());
        (last, self.warnings)
    }
}

/// Returns the warning about a run that died before its first checkpoint.
fn died_early(dir: &Path, aside: &Path) -> Warning {
    Warning {
        source: dir
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        phase: "resume".to_owned(),
        step: 0,
        cause: "the run died before its first checkpoint was complete".to_owned(),
        consequence: format!("it was moved to `{}` and starts again", aside.display()),
    }
}

/// Returns the warning about a checkpoint that could not be written.
fn not_saved(by: &str, step: u64, error: &CheckpointError) -> Warning {
    Warning {
        source: by.to_owned(),
        phase: "checkpoint".to_owned(),
        step,
        cause: with_causes(error),
        consequence: "older checkpoints stay".to_owned(),
    }
}

/// Returns the warning about a `run.json` that could not be written at the end of the run.
fn not_noted(step: u64, error: &io::Error) -> Warning {
    Warning {
        source: run::FILE.to_owned(),
        phase: "close".to_owned(),
        step,
        cause: error.to_string(),
        consequence: "the file does not show how the run ended".to_owned(),
    }
}
