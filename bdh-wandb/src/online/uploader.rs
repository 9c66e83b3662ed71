//! The first thread, which reads the log and sends its rows, output and configuration.

use super::bucket::{self, Bucket, Known, Place};
use super::bulk::{Bulk, Job, Payload, warn_of_note};
use super::ledger::Ledger;
use super::link::{GaveUp, Link};
use super::output::OutputLog;
use super::poster::Poster;
use super::signal::Command;
use super::tail::{Next, Tail};
use super::tree::Tree;
use super::{Sent, UploadMessage};
use crate::log::LogError;
use crate::proto::{FileItem, History, Item, Items, Kind, Run};
use crate::rows::{count_of, item, step_of};
use crate::settings::Settings;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// Time between two checks of whether the second thread has ended.
const TURN: Duration = Duration::from_millis(50);

/// Policy of a file that is sent at the end.
const AT_END: i32 = 1;

/// Log that is being read.
pub(super) struct LogFile {
    pub(super) path: PathBuf,
    pub(super) tail: Tail,
}

/// Upload of one run.
pub(super) struct Uploader {
    link: Link,
    settings: Settings,
    log: PathBuf,
    run: PathBuf,
    /// Offset in the log up to which files have been sent.
    files_from: u64,
    tail: Tail,
    bucket: Bucket,
    /// Run on the server, once it is known there.
    place: Option<Place>,
    /// First `_step` of the log that the server does not have.
    rows_from: u64,
    /// Number of next lines of output that the server already has.
    skip_lines: u64,
    /// Offset added to each `_step`: the server has rows of an earlier log, and W&B drops a step that goes back.
    shift: u64,
    poster: Poster,
    output: OutputLog,
    /// Names of the files to send at the end.
    at_end: Vec<String>,
    bulk: Option<Bulk>,
    /// Jobs that wait for room in the queue of the second thread.
    held: VecDeque<Job>,
    /// Exit code in the log.
    exit: Option<i32>,
    /// Exit code of a log that has none.
    pub(super) missing_exit: Option<i32>,
}

/// Reason why reading paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    /// The log has no further entry, for now.
    All,
    /// A request is full.
    Full,
    /// The queue of the second thread is full.
    Held,
}

/// Reason why an upload ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    #[error(transparent)]
    GaveUp(#[from] GaveUp),
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log ended without the entry of a run.
    #[error("the log does not name its run")]
    NoRun,
    /// A thread could not be started.
    #[error(transparent)]
    Thread(std::io::Error),
}

impl Uploader {
    /// Returns an uploader of a log, and of the files in `run`, the run's folder.
    pub(super) fn new(
        link: Link,
        settings: Settings,
        log: LogFile,
        run: PathBuf,
        sent: Arc<Sent>,
    ) -> Self {
        Self {
            poster: Poster::new(link.clone(), sent),
            link,
            settings,
            tail: log.tail,
            bucket: Bucket::default(),
            place: None,
            rows_from: 0,
            skip_lines: 0,
            shift: 0,
            output: OutputLog::new(&run),
            log: log.path,
            run,
            files_from: 0,
            at_end: Vec::new(),
            bulk: None,
            held: VecDeque::new(),
            exit: None,
            missing_exit: None,
        }
    }

    /// Sends the log until it is complete and [`Command::Finish`] has been raised.
    pub(super) fn run(&mut self) -> Result<(), UploadError> {
        loop {
            let command = self.link.signal.command();
            if command == Command::Stop {
                return Err(GaveUp::Stopped.into());
            }
            let read = self.read(command == Command::Send)?;
            let pause = self.poster.pause();
            // While the second thread is busy, this loop turns every 50 ms: requests keep their usual pace.
            if read != Read::Held || self.poster.silence() >= pause {
                self.refresh()?;
                self.take_results();
                self.poster.post_all()?;
            }
            match (read, command) {
                (Read::All, Command::Finish) => return self.finish(),
                (Read::All, _) => drop(self.link.signal.wait(pause, command)),
                (Read::Held, _) => drop(self.link.signal.wait(TURN, command)),
                (Read::Full, _) if self.place.is_none() => return Err(UploadError::NoRun),
                (Read::Full, _) => {}
            }
        }
    }

    /// Reads entries from the log until it ends or enough of them are pending.
    fn read(&mut self, may_grow: bool) -> Result<Read, UploadError> {
        loop {
            if self.is_held() {
                return Ok(Read::Held);
            }
            if self.poster.is_full() {
                return Ok(Read::Full);
            }
            match self.tail.next(may_grow)? {
                Next::Entry(kind) => self.take(*kind)?,
                Next::End => return Ok(Read::All),
                Next::Damage(bytes) => {
                    let text = format!("the W&B log is damaged: {bytes} bytes are not sent");
                    self.link.notice("damage", text);
                }
            }
        }
    }

    fn take(&mut self, kind: Kind) -> Result<(), UploadError> {
        if !matches!(kind, Kind::Exit(_)) {
            self.exit = None; // an entry follows, so that exit was of an earlier session
        }
        match kind {
            Kind::Run(run) => self.begin(run)?,
            Kind::Config(changes) => self.bucket.configure(&changes),
            Kind::Metric(metric) => self.bucket.define(metric),
            Kind::History(row) => self.row(row),
            Kind::Summary(mut changes) => {
                shift(&mut changes.update, self.shift);
                self.poster.summarize(&changes);
            }
            Kind::Output(output) => {
                for line in self.output.take(&output) {
                    self.line(&line);
                }
            }
            Kind::Files(files) => {
                for file in files.files {
                    self.file(file);
                }
            }
            Kind::Artifact(artifact) => self.queue(Payload::Artifact(Box::new(artifact))),
            Kind::Exit(exit) => self.exit = Some(exit.exit_code),
            Kind::Header(_) => {}
        }
        Ok(())
    }

    /// Registers the run with the server, and resumes after the rows, lines and files that the server has.
    fn begin(&mut self, run: Run) -> Result<(), UploadError> {
        self.bucket.begin(run);
        if self.place.is_some() {
            return Ok(());
        }
        let known = self.known_or_upsert()?;
        let mut ledger = Ledger::open(&self.log, &self.settings.base_url, known);
        let counted = known.unwrap_or_default();
        self.resume_after(&ledger, counted);
        warn_of_note(&self.link, &mut ledger);
        let place = self.upsert()?;
        self.poster.begin(&place, counted.counts);
        self.start_bulk(place, ledger)
    }

    /// Asks for the rows and lines of the run; if the server refuses, sends the run and asks again.
    fn known_or_upsert(&mut self) -> Result<Option<Known>, GaveUp> {
        match self.known() {
            // The refusal of an upsert has a clearer reason. If the upsert works, the server is asked again: to
            // continue without its answer would overwrite the rows that it has.
            Err(GaveUp::Refused(_)) => {
                self.upsert()?;
                self.known()
            }
            known => known,
        }
    }

    /// Skips everything that earlier uploads have sent.
    fn resume_after(&mut self, ledger: &Ledger, counted: Known) {
        self.files_from = ledger.offset();
        self.shift = ledger.shift();
        self.rows_from = ledger.rows_from(counted);
        self.skip_lines = ledger.lines(counted);
    }

    /// Starts the second thread, and reports the page of the run.
    fn start_bulk(&mut self, place: Place, ledger: Ledger) -> Result<(), UploadError> {
        let url = self
            .settings
            .run_url(&place.entity, &place.project, &place.run_id);
        (self.link.notify)(UploadMessage::Url(url));
        let bulk = Bulk::start(self.link.clone(), place.clone(), self.run.clone(), ledger);
        self.bulk = Some(bulk.map_err(UploadError::Thread)?);
        self.place = Some(place);
        Ok(())
    }

    /// Asks the server for the rows and lines that it has of the run; `None` if it does not know the run.
    fn known(&self) -> Result<Option<Known>, GaveUp> {
        let run = self.bucket.run();
        let entity = match run.entity.as_str() {
            "" => self.settings.entity.as_deref(),
            entity => Some(entity),
        };
        self.link.insist(&[], |api| {
            bucket::known(api, entity, &run.project, &run.run_id)
        })
    }

    fn upsert(&mut self) -> Result<Place, GaveUp> {
        let entity = self.settings.entity.as_deref();
        // A conflict (409) is with another request about the same run, and passes.
        let place = self
            .link
            .insist(&[409], |api| self.bucket.upsert(api, entity))?;
        self.bucket.mark_sent();
        Ok(place)
    }

    /// Sends a changed configuration; if the server refuses it, a warning is sent and rows are still uploaded.
    fn refresh(&mut self) -> Result<(), GaveUp> {
        if !self.bucket.is_stale || self.place.is_none() {
            return Ok(());
        }
        match self.upsert() {
            Ok(_) => Ok(()),
            Err(GaveUp::Refused(why)) => {
                self.bucket.mark_sent(); // not retried before the next change
                let phase = "upload of the configuration";
                let consequence = "the server keeps the older configuration";
                self.link.warn(phase, phase, why, consequence);
                Ok(())
            }
            Err(why) => Err(why),
        }
    }

    fn row(&mut self, mut row: History) {
        if let Some(step) = step_of(&row) {
            self.link.step.store(step, Ordering::Relaxed);
        }
        let count = count_of(&row);
        if let Some(count) = count {
            self.summarize_count(count);
        }
        if count.is_some_and(|count| count < self.rows_from) {
            return;
        }
        shift(&mut row.item, self.shift);
        let line = Tree::of(&row.item).json();
        if self.poster.accepts(&line) {
            self.poster.row(&line);
        }
    }

    /// Sets the `_step` of the summary, like `wandb sync`: its last entry may be older than the last row.
    fn summarize_count(&mut self, count: u64) {
        let count = count.saturating_add(self.shift);
        self.poster.summarize(&count_items(count));
    }

    fn line(&mut self, line: &str) {
        if self.skip_lines > 0 {
            self.skip_lines -= 1;
        } else {
            self.poster.line(line);
        }
    }

    fn file(&mut self, file: FileItem) {
        if file.policy == AT_END {
            self.at_end.retain(|name| *name != file.path);
            self.at_end.push(file.path);
        } else {
            self.queue(Payload::File(file.path));
        }
    }

    /// Queues a file or an artifact, unless an earlier upload has sent it.
    fn queue(&mut self, payload: Payload) {
        let end = self.tail.offset();
        if end > self.files_from {
            self.held.push_back(Job {
                payload,
                end: Some(end),
            });
        }
    }

    /// Moves held jobs to the second thread; returns whether some are left because its queue is full.
    fn is_held(&mut self) -> bool {
        let Some(bulk) = &self.bulk else { return false };
        while let Some(job) = self.held.pop_front() {
            if let Some(job) = bulk.take(job) {
                self.held.push_front(job);
                return true;
            }
        }
        false
    }

    /// Takes the results of the second thread: the next request lists the files that have arrived.
    fn take_results(&mut self) {
        let Some(bulk) = &self.bulk else { return };
        for done in bulk.done.try_iter() {
            self.poster.record(done);
        }
    }

    /// Sends everything that belongs to the end of a complete log, and then its exit code.
    fn finish(&mut self) -> Result<(), UploadError> {
        if self.place.is_none() {
            return Err(UploadError::NoRun);
        }
        self.hold_last_files();
        self.wait_for_room()?;
        self.wait_for_files()?;
        self.poster.post_all()?;
        if let Some(exit_code) = self.exit.or(self.missing_exit) {
            self.poster.complete(exit_code)?;
        }
        Ok(())
    }

    /// Holds the files to send at the end, including the output.
    fn hold_last_files(&mut self) {
        let mut files = std::mem::take(&mut self.at_end);
        files.extend(self.output.finish().map(str::to_owned));
        for name in files {
            self.held.push_back(Job {
                payload: Payload::File(name),
                end: None,
            });
        }
    }

    fn wait_for_room(&mut self) -> Result<(), UploadError> {
        while self.is_held() {
            self.pass_time()?;
        }
        Ok(())
    }

    fn wait_for_files(&mut self) -> Result<(), UploadError> {
        let Some(mut bulk) = self.bulk.take() else {
            return Ok(());
        };
        bulk.close();
        loop {
            match bulk.done.recv_timeout(TURN) {
                Ok(done) => self.poster.record(done),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => self.pass_time()?,
            }
        }
    }

    /// Waits one turn for the second thread, and sends a heartbeat if one is due.
    fn pass_time(&mut self) -> Result<(), UploadError> {
        if self.link.signal.wait(TURN, self.link.signal.command()) == Command::Stop {
            return Err(GaveUp::Stopped.into());
        }
        if self.poster.silence() >= self.link.pace.heartbeat {
            self.poster.post_all()?;
        }
        Ok(())
    }
}

/// Returns the change of the summary after a row with this `_step`.
fn count_items(count: u64) -> Items {
    Items {
        update: vec![item("_step".to_owned(), count.to_string())],
        remove: Vec::new(),
    }
}

/// Adds `by` to the `_step` among items.
fn shift(items: &mut [Item], by: u64) {
    for item in items {
        if (item.key == "_step" || item.nested_key == ["_step"])
            && let Ok(step) = item.value_json.parse::<u64>()
        {
            item.value_json = step.saturating_add(by).to_string();
        }
    }
}
