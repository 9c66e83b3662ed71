//! The first thread: reads the log and sends what it says.

use super::bucket::{self, Bucket, Counts, Place};
use super::bulk::{Bulk, Done, Job};
use super::link::{GaveUp, Link};
use super::output::OutputLog;
use super::signal::Wish;
use super::stream::{Stream, TooLong, check};
use super::tail::{Next, Tail};
use super::tree::Tree;
use super::{News, Sent};
use crate::sinks::wandb::log::LogError;
use crate::sinks::wandb::proto::{Exit, FileItem, History, Kind, Run};
use crate::sinks::wandb::rows::step_of;
use crate::sinks::wandb::settings::Settings;
use serde_json::Value as Json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// How often the end of the second thread is looked for.
const TURN: Duration = Duration::from_millis(50);

/// The policy of a file that is sent at the end.
const AT_END: i32 = 1;

/// One run on its way to the server.
pub(super) struct Uploader {
    link: Link,
    settings: Settings,
    files: PathBuf,
    tail: Tail,
    bucket: Bucket,
    place: Option<Place>,
    /// What the server has already, and is passed over in the log.
    skip: Counts,
    stream: Stream,
    summary: Tree,
    is_summary_new: bool,
    output: OutputLog,
    at_end: Vec<String>,
    bulk: Option<Bulk>,
    /// A job for which there was no room.
    held: Option<Job>,
    exit: Option<Exit>,
    /// What is taken for the exit code of a run whose log has none.
    pub(super) missing_exit: Option<i32>,
    posts: u32,
    last_post: Instant,
    is_stopped: bool,
    sent: Arc<Sent>,
}

/// Why an upload ended early.
#[derive(Debug)]
pub(super) enum Broken {
    GaveUp(GaveUp),
    Log(LogError),
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
    pub(super) fn new(
        link: Link,
        settings: Settings,
        tail: Tail,
        files: PathBuf,
        sent: Arc<Sent>,
    ) -> Self {
        Self {
            link,
            settings,
            tail,
            bucket: Bucket::default(),
            place: None,
            skip: Counts::default(),
            stream: Stream::default(),
            summary: Tree::default(),
            is_summary_new: false,
            output: OutputLog::new(&files),
            files,
            at_end: Vec::new(),
            bulk: None,
            held: None,
            exit: None,
            missing_exit: None,
            posts: 0,
            last_post: Instant::now(),
            is_stopped: false,
            sent,
        }
    }

    /// Sends the log until it is complete and somebody says so.
    pub(super) fn run(&mut self) -> Result<(), Broken> {
        loop {
            let wish = self.link.signal.wish();
            if wish == Wish::Stop {
                return Err(GaveUp::Stopped.into());
            }
            let is_more = self.read(wish == Wish::Send)?;
            self.refresh()?;
            self.post_all()?;
            if is_more {
                continue;
            }
            if wish == Wish::Finish {
                return self.finish();
            }
            self.link.signal.wait(self.link.pace.after(self.posts), wish);
        }
    }

    /// Takes entries from the log until it ends, or enough of them wait; tells whether there is more.
    fn read(&mut self, may_grow: bool) -> Result<bool, Broken> {
        loop {
            if let Some(job) = self.held.take() {
                self.hand_over(job);
            }
            if self.held.is_some() {
                self.hear_of_files();
                self.link.signal.wait(TURN, self.link.signal.wish());
                return Ok(true);
            }
            if self.stream.is_full() {
                return Ok(true);
            }
            match self.tail.next(may_grow)? {
                Next::Entry(kind) => self.take(kind)?,
                Next::End => return Ok(false),
                Next::Damage(bytes) => {
                    self.link.remark(format!(
                        "the W&B log is damaged: {bytes} bytes of it are not sent"
                    ));
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
            Kind::History(row) => self.row(&row),
            Kind::Summary(changes) => {
                self.summary.apply(&changes);
                self.is_summary_new = true;
            }
            Kind::Output(output) => {
                for line in self.output.take(&output) {
                    self.line(&line);
                }
            }
            Kind::Files(files) => files.files.into_iter().for_each(|file| self.file(file)),
            Kind::Artifact(artifact) => self.hand_over(Job::Artifact(Box::new(artifact))),
            Kind::Exit(exit) => self.exit = Some(exit),
            Kind::Header(_) | Kind::Preempting(_) => {}
        }
        Ok(())
    }

    /// Introduces the run to the server, and hears what that has of it.
    fn begin(&mut self, run: Run) -> Result<(), Broken> {
        self.bucket.begin(run);
        if self.place.is_some() {
            return Ok(());
        }
        let run = self.bucket.run();
        let entity = Some(run.entity.as_str()).filter(|entity| !entity.is_empty());
        let entity = entity.or(self.settings.entity.as_deref());
        let counts = |api: &_| bucket::counts(api, entity, &run.project, &run.run_id);
        self.skip = match self.link.insist(&[], counts) {
            Ok(counts) => counts.unwrap_or_default(),
            Err(GaveUp::Refused(_)) => Counts::default(), // the upsert says why, in better words
            Err(why) => return Err(why.into()),
        };
        self.stream.start_at(self.skip.rows, self.skip.lines);
        let place = self.upsert()?;
        let url = self.settings.run_url(&place.entity, &place.project, &place.run_id);
        (self.link.tell)(News::Url(url));
        let bulk = Bulk::start(self.link.clone(), place.clone(), self.files.clone());
        self.bulk = Some(bulk.map_err(Broken::Thread)?);
        self.place = Some(place);
        Ok(())
    }

    fn upsert(&mut self) -> Result<Place, GaveUp> {
        let entity = self.settings.entity.as_deref();
        // A conflict is with another request about the same run, and passes.
        let place = self.link.insist(&[409], |api| self.bucket.upsert(api, entity))?;
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
                self.link.problem(
                    "upload of the configuration",
                    why,
                    "the server has an older one",
                );
                Ok(())
            }
            told => told.map(drop),
        }
    }

    fn row(&mut self, row: &History) {
        if let Some(step) = step_of(row) {
            self.link.step.store(step, Ordering::Relaxed);
        }
        let line = Tree::of(&row.item).json();
        if let Err(TooLong(bytes)) = check(&line) {
            self.link.remark(format!("a row of {bytes} bytes is not sent: W&B takes 10,383,360"));
        } else if self.skip.rows > 0 {
            self.skip.rows -= 1;
        } else {
            self.stream.push_row(&line);
        }
    }

    fn line(&mut self, line: &str) {
        if self.skip.lines > 0 {
            self.skip.lines -= 1;
        } else {
            self.stream.push_output(line);
        }
    }

    fn file(&mut self, file: FileItem) {
        if file.policy == AT_END {
            self.at_end.retain(|name| *name != file.path);
            self.at_end.push(file.path);
        } else {
            self.hand_over(Job::File(file.path));
        }
    }

    fn hand_over(&mut self, job: Job) {
        let Some(bulk) = &self.bulk else { return };
        self.held = bulk.take(job);
    }

    /// Sends all that waits, and a sign of life if there was nothing to send for a while.
    fn post_all(&mut self) -> Result<(), Broken> {
        self.hear_of_files();
        if std::mem::take(&mut self.is_summary_new)
            && let Err(TooLong(bytes)) = self.stream.summarize(&self.summary.json())
        {
            self.link
                .remark(format!("a summary of {bytes} bytes is not sent: W&B takes 10,383,360"));
        }
        while let Some(batch) = self.stream.batch() {
            self.post(&batch.body)?;
            self.stream.arrived(&batch);
            self.sent.rows.store(self.stream.rows_sent(), Ordering::Relaxed);
        }
        if self.last_post.elapsed() >= self.link.pace.heartbeat {
            self.post("{}")?;
        }
        Ok(())
    }

    fn post(&mut self, body: &str) -> Result<(), Broken> {
        let Some(place) = &self.place else { return Ok(()) };
        let [entity, project, run_id] =
            [&place.entity, &place.project, &place.run_id].map(|part| super::escape(part));
        let path = format!("/files/{entity}/{project}/{run_id}/file_stream");
        let answer = self.link.insist(&[], |api| api.post(&path, body))?;
        self.posts += 1;
        self.last_post = Instant::now();
        if answer["stopped"] == Json::Bool(true) && !std::mem::replace(&mut self.is_stopped, true) {
            (self.link.tell)(News::Stop("stopped from the W&B page of the run".to_owned()));
        }
        Ok(())
    }

    /// The next request says which files have arrived.
    fn hear_of_files(&mut self) {
        let Some(bulk) = &self.bulk else { return };
        for done in bulk.done.try_iter() {
            note(&mut self.stream, &self.sent, done);
        }
    }

    /// The log is complete: what belongs at its end, then the word that it is.
    fn finish(&mut self) -> Result<(), Broken> {
        if let Some(exit) = self.exit {
            self.summary.set(&["_wandb", "runtime"], exit.runtime.to_string());
            self.is_summary_new = true;
        }
        let mut files = std::mem::take(&mut self.at_end);
        files.extend(self.output.finish().map(str::to_owned));
        for name in files {
            self.hand_over(Job::File(name));
            self.wait_for_room()?;
        }
        self.wait_for_files()?;
        self.post_all()?;
        if let Some(code) = self.exit.map(|exit| exit.exit_code).or(self.missing_exit) {
            self.post(&format!("{{\"complete\":true,\"exitcode\":{code}}}"))?;
        }
        Ok(())
    }

    fn wait_for_room(&mut self) -> Result<(), Broken> {
        while let Some(job) = self.held.take() {
            self.hand_over(job);
            if self.held.is_some() {
                self.pass_time()?;
            }
        }
        Ok(())
    }

    fn wait_for_files(&mut self) -> Result<(), Broken> {
        let Some(mut bulk) = self.bulk.take() else { return Ok(()) };
        bulk.close();
        loop {
            match bulk.done.recv_timeout(TURN) {
                Ok(done) => note(&mut self.stream, &self.sent, done),
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
        if self.last_post.elapsed() >= self.link.pace.heartbeat {
            self.post_all()?;
        }
        Ok(())
    }
}

fn note(stream: &mut Stream, sent: &Sent, done: Done) {
    match done {
        Done::Sent(name) => {
            sent.files.fetch_add(1, Ordering::Relaxed);
            name.into_iter().for_each(|name| stream.uploaded(name));
        }
        Done::Failed => drop(sent.failed.fetch_add(1, Ordering::Relaxed)),
    }
}
