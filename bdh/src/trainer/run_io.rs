//! Everything of a run outside of its computation: the directory, the sinks, checkpoints being written, signals.

use crate::checkpoint::{self, Checkpoint, CheckpointRequest, Job, Saved, Saver};
use crate::error::{ConfigError, TrainError};
use crate::failure::with_causes;
use crate::feedback::Feedback;
use crate::names::is_plain_name;
use crate::outcome::{Outcome, Problem, StopReason};
use crate::overhead::Overhead;
use crate::record::Record;
use crate::run::{self, RunInfo};
use crate::run_dir;
use crate::run_lock::{LostDir, RunLock};
use crate::signal::SignalWatch;
use crate::sink::{Sink, Writers};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time between two looks at whether the run directory is still there. Each costs a call of the system, some microseconds.
const LOOK_AT_DIR: Duration = Duration::from_millis(200);

pub(super) struct RunIo {
    pub(super) info: RunInfo,
    /// Keeps the run directory from other processes.
    pub(super) lock: Option<RunLock>,
    /// The checkpoint to continue from, and the names under which its state was saved.
    pub(super) resumed_from: Option<(PathBuf, BTreeMap<String, bool>)>,
    /// Whether the directory's run died with nothing to continue from, and is begun again.
    pub(super) is_begun_again: bool,
    pub(super) keep_checkpoints: usize,
    pub(super) stop_on_signals: bool,
    /// Until the run begins; then they are with the writers.
    sinks: Vec<Box<dyn Sink>>,
    writers: Writers,
    saver: Saver,
    signals: Option<SignalWatch>,
    last: Option<Arc<Record>>,
    /// Failures that did not end the run.
    pub(super) problems: Vec<Problem>,
    has_warned_of_no_dir: bool,
    /// When the run directory was last seen to be there.
    looked_at_dir: Option<Instant>,
    /// The checkpoint tried last, if it could not be written.
    unsaved: Option<TrainError>,
}

impl RunIo {
    /// The outside of a run that has not begun: nothing is written yet.
    pub(super) fn new(info: RunInfo, sinks: Vec<Box<dyn Sink>>) -> Self {
        Self {
            info,
            lock: None,
            resumed_from: None,
            is_begun_again: false,
            keep_checkpoints: 0,
            stop_on_signals: false,
            sinks,
            writers: Writers::default(),
            saver: Saver::default(),
            signals: None,
            last: None,
            problems: Vec::new(),
            has_warned_of_no_dir: false,
            looked_at_dir: None,
            unsaved: None,
        }
    }

    // ── Begin ────────────────────────────────────────────────────────────────────────────────────────

    /// Makes the run directory, starts the devices, opens the sinks, listens for signals. A run that is refused leaves nothing new there; one
    /// that was to be resumed may have deleted the checkpoints and cut the records after its step.
    pub(super) fn open(
        &mut self,
        notes: &[String],
        start_devices: impl FnOnce() -> Result<(), ConfigError>,
    ) -> Result<(), ConfigError> {
        let aside = if self.is_begun_again {
            Some(self.move_aside()?)
        } else {
            None
        };
        let before = self.info.dir.as_deref().map(run_dir::Before::of);
        let begun = self.begin(notes, start_devices);
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
        self.problems.push(died_early(dir, &aside));
        self.lock = None; // it went along; whoever waits for it looks where its path leads now
        Ok(aside)
    }

    fn begin(
        &mut self,
        notes: &[String],
        start_devices: impl FnOnce() -> Result<(), ConfigError>,
    ) -> Result<(), ConfigError> {
        self.claim_dir()?;
        start_devices()?; // no sooner: the directory may be another run's, which has these devices
        self.info.notes = notes.to_vec();
        let (feedback, said) = Feedback::channel();
        self.info.feedback = feedback.clone();
        for sink in &mut self.sinks {
            let (field, value) = ("sink", sink.name());
            sink.open(&self.info).map_err(|error| {
                let expected = format!("which cannot be opened: {}", with_causes(&*error));
                ConfigError::Invalid {
                    field,
                    value,
                    expected,
                }
            })?;
        }
        self.verify_dir()?;
        // After the sinks: a run that never began leaves its directory free for the next attempt.
        run::write_start(&self.info)?;
        self.writers = Writers::start(std::mem::take(&mut self.sinks), &feedback, said);
        for problem in &self.problems {
            self.writers.tell(problem); // met before there was a sink to tell
        }
        for note in notes {
            self.writers.remark(&format!("note: {note}"));
        }
        if self.stop_on_signals {
            // Without a handler the run is merely less polite to interrupt.
            self.signals = SignalWatch::start();
        }
        Ok(())
    }

    /// Locks the run directory. Of a run that continues, checkpoints of later steps are deleted.
    fn claim_dir(&mut self) -> Result<(), ConfigError> {
        let Some(dir) = self.info.dir.clone() else {
            return Ok(());
        };
        if self.lock.is_none() {
            self.lock = Some(run_dir::claim(&dir)?);
        }
        self.verify_dir()?;
        let Some(step) = self.info.resumed_at else {
            return Ok(());
        };
        // Before the sinks cut their records: a process that dies in between must not leave a checkpoint of a later
        // step than the records.
        let (folder, lock) = (dir.join(checkpoint::FOLDER), self.lock.as_ref());
        let failed = |source| ConfigError::RunDir {
            path: dir.clone(),
            source,
        };
        checkpoint::forget_after(&folder, step, lock).map_err(failed)?;
        self.complete_checkpoints(&folder)?;
        checkpoint::rotate(&folder, self.keep_checkpoints, lock).map_err(failed)
    }

    /// Makes the checkpoints of the step to continue from that a process which died did not get to.
    fn complete_checkpoints(&self, dir: &Path) -> Result<(), ConfigError> {
        let Some((from, saved_as)) = &self.resumed_from else {
            return Ok(());
        };
        // A run that branches off into a directory of its own leaves the other one as it is.
        if from.parent() != Some(dir) {
            return Ok(());
        }
        for (name, pinned) in saved_as.iter().filter(|(name, _)| !dir.join(name).exists()) {
            if is_plain_name(name) {
                Checkpoint::copy(from, &dir.join(name), *pinned, self.lock.as_ref())?;
            }
        }
        Ok(())
    }

    // ── Run ──────────────────────────────────────────────────────────────────────────────────────────

    /// Checks, before anything is done in the run directory, that it is still there.
    fn verify_dir(&self) -> Result<(), ConfigError> {
        let Some(lock) = &self.lock else {
            return Ok(());
        };
        lock.verify().map_err(|lost| ConfigError::RunDir {
            path: lost.path.clone(),
            source: lost.into(),
        })
    }

    /// Ends a run whose directory is no longer there: what it writes would be lost, or would spoil another run's files.
    pub(super) fn check_dir(&mut self, step: u64) -> Result<(), TrainError> {
        self.looked_at_dir = Some(Instant::now());
        let Some(Err(LostDir { path, how, now_at })) = self.lock.as_ref().map(RunLock::verify)
        else {
            return Ok(());
        };
        self.info.dir = None; // for what callbacks, and the end of the run, would still write
        let last_checkpoint =
            now_at.and_then(|dir| checkpoint::latest_checkpoint(&dir.join(checkpoint::FOLDER)));
        Err(TrainError::DirLost {
            path,
            how,
            step,
            last_checkpoint,
        })
    }

    /// Checks the run directory now and then.
    pub(super) fn look_at_dir(&mut self, step: u64) -> Result<(), TrainError> {
        let since = self.looked_at_dir.map(|looked| looked.elapsed());
        if since.is_none_or(|since| since >= LOOK_AT_DIR) {
            self.check_dir(step)
        } else {
            Ok(())
        }
    }

    /// Sends a record to the sinks.
    pub(super) fn write(&mut self, record: Record) {
        let record = Arc::new(record);
        self.writers.write(&record);
        self.last = Some(record);
    }

    /// Puts values into the last record that came after it was sent: for the outcome and `run.json`.
    pub(super) fn add_to_last(&mut self, late: Vec<(String, crate::record::Value)>) {
        let Some(last) = self.last.as_mut().map(Arc::make_mut) else {
            return;
        };
        last.values
            .retain(|(key, _)| late.iter().all(|(late, _)| late != key));
        last.values.extend(late);
    }

    /// Shows lines in the sinks that people read.
    pub(super) fn remark(&mut self, lines: Vec<Box<dyn FnOnce() -> String>>) {
        for line in lines {
            self.writers.remark(&line());
        }
    }

    /// Reports a failure that does not end the run: to the sinks, and in the outcome.
    pub(super) fn tell(&mut self, problem: Problem) {
        self.writers.tell(&problem);
        self.problems.push(problem);
    }

    /// Collects problems and requests of the sinks, which have threads of their own.
    pub(super) fn hear(&mut self) {
        self.writers.hear(&mut self.problems);
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

    /// Begins to write a checkpoint, on another thread. The one before must have been waited for.
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

    /// Reports a checkpoint that has been written since the last one, without waiting for one that has not.
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
        self.writers.lose_patience(&late, step);
        for (who, error) in &failed {
            self.tell(Problem {
                who: who.clone(),
                during: "checkpoint".to_owned(),
                step,
                error: with_causes(error),
                consequence: "older checkpoints stay".to_owned(),
            });
        }
        let lost = failed.into_iter().next().filter(|_| written.is_empty());
        // A later one that is complete makes up for it.
        self.unsaved = lost.map(|(_, source)| TrainError::Unsaved { step, source });
        written
    }

    /// The error of a run whose last checkpoint could not be written.
    pub(super) fn take_unsaved(&mut self) -> Option<TrainError> {
        self.unsaved.take()
    }

    /// Reports, the first time, that checkpoints were asked for in a run that writes nothing.
    pub(super) fn warn_of_no_dir(&mut self, requests: &[(String, CheckpointRequest)], step: u64) {
        if std::mem::replace(&mut self.has_warned_of_no_dir, true) {
            return;
        }
        for (by, CheckpointRequest { name, .. }) in requests {
            self.tell(Problem {
                who: by.clone(),
                during: "checkpoint".to_owned(),
                step,
                error: format!("`{name}` has no place: the run has no `run_dir`"),
                consequence: "the run saves nothing".to_owned(),
            });
        }
    }

    // ── End ──────────────────────────────────────────────────────────────────────────────────────────

    /// Writes how the run ended to `run.json`, and waits for the sinks.
    pub(super) fn close(&mut self, outcome: &Outcome, step: u64, overhead: &Overhead) {
        let Self {
            info,
            lock,
            writers,
            problems,
            signals,
            last,
            ..
        } = self;
        let note = |problems: &[Problem]| {
            // Sinks may take a while to close, and the directory may be another run's by then.
            if lock.as_ref().is_some_and(|lock| lock.verify().is_err()) {
                return None;
            }
            let noted = run::write_end(info, outcome, last.as_deref(), problems, overhead);
            noted.err().map(|error| unnoted(step, &error))
        };
        // On the disk before `run.json` speaks of the end, which is before a sink takes its time to close: a run that is
        // killed during a long upload has ended all the same.
        let late = writers.flush().wait();
        writers.lose_patience(&late, step);
        let _ = note(problems); // tried again below
        writers.close(outcome, step, problems, signals.as_ref(), note);
    }

    /// The last record, its pictures drawn, and the problems.
    pub(super) fn into_result(self) -> (Option<Record>, Vec<Problem>) {
        // The sinks have reported pictures that failed.
        let last = self.last.map(|last| last.developed(|_, _| ()).into_owned());
        (last, self.problems)
    }
}

/// The problem of a run that was killed before it had saved anything.
fn died_early(dir: &Path, aside: &Path) -> Problem {
    Problem {
        who: dir
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        during: "resume".to_owned(),
        step: 0,
        error: "it died before its first checkpoint was complete".to_owned(),
        consequence: format!("it was moved to `{}` and begins again", aside.display()),
    }
}

/// The problem of an end that could not be written down; the sinks are closed by then.
fn unnoted(step: u64, error: &io::Error) -> Problem {
    Problem {
        who: run::FILE.to_owned(),
        during: "close".to_owned(),
        step,
        error: error.to_string(),
        consequence: "it does not say how the run ended".to_owned(),
    }
}
