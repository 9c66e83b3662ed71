//! The first thread: reads the log and sends what it says.

use super::bucket::{self, Bucket, Known, Place};
use super::bulk::{Bulk, Job, What, tell_trouble};
use super::ledger::Ledger;
use super::link::{GaveUp, Link};
use super::output::OutputLog;
use super::poster::Poster;
use super::signal::Wish;
use super::tail::{Next, Tail};
use super::tree::Tree;
use super::{News, Sent};
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

/// How often the end of the second thread is looked for.
const TURN: Duration = Duration::from_millis(50);

/// The policy of a file that is sent at the end.
const AT_END: i32 = 1;

/// One run on its way to the server.
pub(super) struct Uploader {
    link: Link,
    settings: Settings,
    log: PathBuf,
    run: PathBuf,
    /// Up to here in the log, files have been sent.
    files_from: u64,
    tail: Tail,
    bucket: Bucket,
    place: Option<Place>,
    /// Rows of the log before this `_step` are on the server.
    rows_from: u64,
    /// So many lines of output that come now are on the server.
    skip_lines: u64,
    /// What is added to each `_step`: the server has rows of an earlier log, and W&B drops a step that goes back.
    shift: u64,
    poster: Poster,
    output: OutputLog,
    at_end: Vec<String>,
    bulk: Option<Bulk>,
    /// Files that wait for room among those that are being sent.
    held: VecDeque<Job>,
    /// The exit code.
    exit: Option<i32>,
    /// What is taken for it where the log has none.
    pub(super) missing_exit: Option<i32>,
}

/// How far reading came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    /// To the end of the log, for now.
    All,
    /// As far as a request can take.
    Full,
    /// To a file for which there is no room among those that wait.
    Held,
}

/// Why an upload ended early.
#[derive(Debug)]
pub(super) enum Broken {
    GaveUp(GaveUp),
    Log(LogError),
    /// The log ended, and nothing in it says which run it is of.
    NoRun,
    /// A thread could not be started.
    Thread(std::io::Error),
}

impl From<GaveUp> for Broken {
    fn from(why: GaveUp) -> Self {
        Self::GaveUp(why)
    }
}

impl From<LogError> for Broken {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl Uploader {
    /// An uploader of the log at `log`, which has been opened as `tail`, and of what lies in `run`, the run's folder.
    pub(super) fn new(
        link: Link,
        settings: Settings,
        (log, tail): (PathBuf, Tail),
        run: PathBuf,
        sent: Arc<Sent>,
    ) -> Self {
        Self {
            poster: Poster::new(link.clone(), sent),
            link,
            settings,
            tail,
            bucket: Bucket::default(),
            place: None,
            rows_from: 0,
            skip_lines: 0,
            shift: 0,
            output: OutputLog::new(&run),
            log,
            run,
            files_from: 0,
            at_end: Vec::new(),
            bulk: None,
            held: VecDeque::new(),
            exit: None,
            missing_exit: None,
        }
    }

    /// Sends the log until it is complete and somebody says so.
    pub(super) fn run(&mut self) -> Result<(), Broken> {
        loop {
            let wish = self.link.signal.wish();
            if wish == Wish::Stop {
                return Err(GaveUp::Stopped.into());
            }
            let read = self.read(wish == Wish::Send)?;
            let pause = self.poster.pause();
            if read != Read::Held || self.poster.silence() >= pause {
                self.refresh()?;
                self.hear_of_files();
                self.poster.post_all()?;
            }
            match (read, wish) {
                (Read::All, Wish::Finish) => return self.finish(),
                (Read::All, _) => drop(self.link.signal.wait(pause, wish)),
                (Read::Held, _) => drop(self.link.signal.wait(TURN, wish)),
                (Read::Full, _) if self.place.is_none() => return Err(Broken::NoRun),
                (Read::Full, _) => {}
            }
        }
    }

    /// Takes entries from the log until it ends, or enough of them wait.
    fn read(&mut self, may_grow: bool) -> Result<Read, Broken> {
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
                    let text = format!("the W&B log is damaged: {bytes} bytes of it are not sent");
                    self.link.remark("damage", text);
                }
            }
        }
    }

    fn take(&mut self, kind: Kind) -> Result<(), Broken> {
        if !matches!(kind, Kind::Exit(_)) {
            self.exit = None; // the log goes on: an earlier session's
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
            Kind::Files(files) => files.files.into_iter().for_each(|file| self.file(file)),
            Kind::Artifact(artifact) => self.queue(What::Artifact(Box::new(artifact))),
            Kind::Exit(exit) => self.exit = Some(exit.exit_code),
            Kind::Header(_) => {}
        }
        Ok(())
    }

    /// Introduces the run to the server, and hears what that has of it.
    fn begin(&mut self, run: Run) -> Result<(), Broken> {
        self.bucket.begin(run);
        if self.place.is_some() {
            return Ok(());
        }
        let known = match self.known() {
            // The upsert says why, in better words. If it works, the server is asked again: to go on without its
            // answer would be to write over what it has.
            Err(GaveUp::Refused(_)) => {
                self.upsert()?;
                self.known()?
            }
            known => known?,
        };
        let mut ledger = Ledger::open(&self.log, &self.settings.base_url, known);
        (self.files_from, self.shift) = (ledger.offset(), ledger.shift());
        let known = known.unwrap_or_default();
        (self.rows_from, self.skip_lines) = (ledger.rows_from(known), ledger.lines(known));
        tell_trouble(&self.link, &mut ledger);
        let place = self.upsert()?;
        self.poster.begin(&place, known.counts);
        let url = self
            .settings
            .run_url(&place.entity, &place.project, &place.run_id);
        (self.link.tell)(News::Url(url));
        let bulk = Bulk::start(self.link.clone(), place.clone(), self.run.clone(), ledger);
        self.bulk = Some(bulk.map_err(Broken::Thread)?);
        self.place = Some(place);
        Ok(())
    }

    /// What the server has of the run.
    fn known(&self) -> Result<Option<Known>, GaveUp> {
        let run = self.bucket.run();
        let entity = Some(run.entity.as_str()).filter(|entity| !entity.is_empty());
        let entity = entity.or(self.settings.entity.as_deref());
        self.link.insist(&[], |api| {
            bucket::known(api, entity, &run.project, &run.run_id)
        })
    }

    fn upsert(&mut self) -> Result<Place, GaveUp> {
        let entity = self.settings.entity.as_deref();
        // A conflict is with another request about the same run, and passes.
        let place = self
            .link
            .insist(&[409], |api| self.bucket.upsert(api, entity))?;
        self.bucket.is_told();
        Ok(place)
    }

    /// Tells the server what has changed of the configuration; that it cannot is no reason to send no rows.
    fn refresh(&mut self) -> Result<(), GaveUp> {
        if !self.bucket.is_stale || self.place.is_none() {
            return Ok(());
        }
        match self.upsert() {
            Err(GaveUp::Refused(why)) => {
                self.bucket.is_told();
                let during = "upload of the configuration";
                self.link
                    .problem(during, during, why, "the server has an older one");
                Ok(())
            }
            told => told.map(drop),
        }
    }

    fn row(&mut self, mut row: History) {
        if let Some(step) = step_of(&row) {
            self.link.step.store(step, Ordering::Relaxed);
        }
        let count = count_of(&row);
        if let Some(count) = count {
            // As `wandb sync` does: the last entry of a summary may be older than the last row.
            self.poster
                .summarize(&count_items(count.saturating_add(self.shift)));
        }
        if count.is_some_and(|count| count < self.rows_from) {
            return;
        }
        shift(&mut row.item, self.shift);
        let line = Tree::of(&row.item).json();
        if self.poster.takes(&line) {
            self.poster.row(&line);
        }
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
            self.queue(What::File(file.path));
        }
    }

    /// Has a file or an artifact sent, unless an earlier upload has done so.
    fn queue(&mut self, what: What) {
        let end = self.tail.offset();
        if end > self.files_from {
            self.held.push_back(Job {
                what,
                end: Some(end),
            });
        }
    }

    /// Hands files over as long as there is room for them; tells whether some have none.
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

    /// The next request says which files have arrived.
    fn hear_of_files(&mut self) {
        let Some(bulk) = &self.bulk else { return };
        for done in bulk.done.try_iter() {
            self.poster.settle(done);
        }
    }

    /// The log is complete: what belongs at its end, then the word that it is.
    fn finish(&mut self) -> Result<(), Broken> {
        if self.place.is_none() {
            return Err(Broken::NoRun);
        }
        let mut files = std::mem::take(&mut self.at_end);
        files.extend(self.output.finish().map(str::to_owned));
        for name in files {
            self.held.push_back(Job {
                what: What::File(name),
                end: None,
            });
        }
        self.wait_for_room()?;
        self.wait_for_files()?;
        self.poster.post_all()?;
        if let Some(exit_code) = self.exit.or(self.missing_exit) {
            self.poster.complete(exit_code)?;
        }
        Ok(())
    }

    fn wait_for_room(&mut self) -> Result<(), Broken> {
        while self.is_held() {
            self.pass_time()?;
        }
        Ok(())
    }

    fn wait_for_files(&mut self) -> Result<(), Broken> {
        let Some(mut bulk) = self.bulk.take() else {
            return Ok(());
        };
        bulk.close();
        loop {
            match bulk.done.recv_timeout(TURN) {
                Ok(done) => self.poster.settle(done),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => self.pass_time()?,
            }
        }
    }

    /// A turn of waiting for the second thread: rows and heartbeats go on.
    fn pass_time(&mut self) -> Result<(), Broken> {
        if self.link.signal.wait(TURN, self.link.signal.wish()) == Wish::Stop {
            return Err(GaveUp::Stopped.into());
        }
        if self.poster.silence() >= self.link.pace.heartbeat {
            self.poster.post_all()?;
        }
        Ok(())
    }
}

/// What a row changes of the summary.
fn count_items(count: u64) -> Items {
    Items {
        update: vec![item("_step".to_owned(), count.to_string())],
        remove: Vec::new(),
    }
}

/// Adds to the `_step` among items.
fn shift(items: &mut [Item], by: u64) {
    let is_step = |item: &&mut Item| item.key == "_step" || item.nested_key == ["_step"];
    for item in items.iter_mut().filter(is_step) {
        if let Ok(step) = item.value_json.parse::<u64>() {
            item.value_json = step.saturating_add(by).to_string();
        }
    }
}
