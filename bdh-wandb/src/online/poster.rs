//! Posts rows, output and the summary, one request at a time.

use super::bucket::Place;
use super::bulk::Done;
use super::link::{GaveUp, Link};
use super::stream::{Stream, TooLong, check};
use super::tree::Tree;
use super::{Sent, UploadMessage, escape};
use crate::note::Counts;
use crate::proto::Items;
use serde_json::Value as Json;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Sender of rows, output and the summary.
pub(super) struct Poster {
    link: Link,
    /// Path of the requests; `None` before the server knows the run.
    path: Option<String>,
    stream: Stream,
    summary: Tree,
    is_summary_new: bool,
    posts: u32,
    last: Instant,
    is_stopped: bool,
    sent: Arc<Sent>,
}

impl Poster {
    pub(super) fn new(link: Link, sent: Arc<Sent>) -> Self {
        Self {
            link,
            path: None,
            stream: Stream::default(),
            summary: Tree::default(),
            is_summary_new: false,
            posts: 0,
            last: Instant::now(),
            is_stopped: false,
            sent,
        }
    }

    /// Sets the run to which posts go, and the counts of rows and lines that the server already has.
    pub(super) fn begin(&mut self, place: &Place, counts: Counts) {
        let entity = escape(&place.entity);
        let project = escape(&place.project);
        let run_id = escape(&place.run_id);
        self.path = Some(format!("/files/{entity}/{project}/{run_id}/file_stream"));
        self.stream.start_at(counts.rows, counts.lines);
    }

    /// Whether W&B accepts a row of this length; a longer one gets a notice.
    pub(super) fn accepts(&self, row: &str) -> bool {
        let checked = check(row);
        self.notice_too_long("row", &checked);
        checked.is_ok()
    }

    pub(super) fn row(&mut self, row: &str) {
        self.stream.push_row(row);
    }

    pub(super) fn line(&mut self, line: &str) {
        self.stream.push_output(line);
    }

    pub(super) fn summarize(&mut self, changes: &Items) {
        self.summary.apply(changes);
        self.is_summary_new = true;
    }

    /// Records the result of a file; the next request lists the files that have arrived.
    pub(super) fn record(&mut self, done: Done) {
        match done {
            Done::Sent(name) => {
                self.sent.files.fetch_add(1, Ordering::Relaxed);
                if let Some(name) = name {
                    self.stream.uploaded(name);
                }
            }
            Done::Failed(why) => self.sent.fail(why),
            Done::Gone => {}
        }
    }

    /// Whether enough is pending that reading should pause.
    pub(super) fn is_full(&self) -> bool {
        self.stream.is_full()
    }

    /// Returns the pause before the next request.
    pub(super) fn pause(&self) -> Duration {
        self.link.pace.after(self.posts)
    }

    /// Returns the time since the last request.
    pub(super) fn silence(&self) -> Duration {
        self.last.elapsed()
    }

    /// Posts everything that is pending, and a heartbeat if nothing has been posted for a while.
    pub(super) fn post_all(&mut self) -> Result<(), GaveUp> {
        if self.path.is_none() {
            return Ok(()); // the server does not know the run yet
        }
        if std::mem::take(&mut self.is_summary_new) {
            let summarized = self.stream.summarize(&self.summary.json());
            self.notice_too_long("summary", &summarized);
        }
        self.post_batches()?;
        if self.silence() >= self.link.pace.heartbeat {
            self.post("{}")?;
        }
        Ok(())
    }

    fn post_batches(&mut self) -> Result<(), GaveUp> {
        while let Some(batch) = self.stream.batch() {
            self.post(&batch.body)?;
            self.stream.arrived(&batch);
            let rows = self.stream.rows_sent();
            self.sent.rows.store(rows, Ordering::Relaxed); // a counter: it orders no other data
        }
        Ok(())
    }

    /// Posts the end of the run with its exit code.
    pub(super) fn complete(&mut self, exit_code: i32) -> Result<(), GaveUp> {
        self.post(&format!("{{\"complete\":true,\"exitcode\":{exit_code}}}"))
    }

    fn post(&mut self, body: &str) -> Result<(), GaveUp> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let answer = self.link.insist(&[], |api| api.post(path, body))?;
        self.posts += 1;
        self.last = Instant::now();
        if answer["stopped"] == Json::Bool(true) && !std::mem::replace(&mut self.is_stopped, true) {
            (self.link.notify)(UploadMessage::Stop(
                "stopped from the W&B page of the run".to_owned(),
            ));
        }
        Ok(())
    }

    fn notice_too_long(&self, what: &'static str, checked: &Result<(), TooLong>) {
        if let Err(TooLong(bytes)) = checked {
            let text =
                format!("a {what} of {bytes} bytes is not sent: W&B accepts at most 10,383,360");
            self.link.notice(what, text);
        }
    }
}
