//! Posts what has been read, one request at a time.

use super::bucket::Place;
use super::bulk::Done;
use super::link::{GaveUp, Link};
use super::stream::{Stream, TooLong, check};
use super::tree::Tree;
use super::{News, Sent, escape};
use crate::note::Counts;
use crate::proto::Items;
use serde_json::Value as Json;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Rows, output and the summary on their way.
pub(super) struct Poster {
    link: Link,
    /// Where to; unknown before the server knows the run.
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

    /// Posts from now on go to a run, of which the server has so much already.
    pub(super) fn begin(&mut self, place: &Place, counts: Counts) {
        let [entity, project, run_id] =
            [&place.entity, &place.project, &place.run_id].map(|part| escape(part));
        self.path = Some(format!("/files/{entity}/{project}/{run_id}/file_stream"));
        self.stream.start_at(counts.rows, counts.lines);
    }

    /// Whether W&B takes a row of this length; one that it does not is told.
    pub(super) fn takes(&self, row: &str) -> bool {
        let checked = check(row);
        self.tell_too_long("row", &checked);
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

    /// Takes note of a file; the next request says which have arrived.
    pub(super) fn settle(&mut self, done: Done) {
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

    /// Whether reading on has to wait for the server.
    pub(super) fn is_full(&self) -> bool {
        self.stream.is_full()
    }

    /// How long to wait from one request to the next.
    pub(super) fn pause(&self) -> Duration {
        self.link.pace.after(self.posts)
    }

    /// How long the server has heard nothing.
    pub(super) fn silence(&self) -> Duration {
        self.last.elapsed()
    }

    /// Posts all that waits, and a sign of life if there was nothing to post for a while.
    pub(super) fn post_all(&mut self) -> Result<(), GaveUp> {
        if self.path.is_none() {
            return Ok(()); // all of it waits
        }
        if std::mem::take(&mut self.is_summary_new) {
            let summarized = self.stream.summarize(&self.summary.json());
            self.tell_too_long("summary", &summarized);
        }
        while let Some(batch) = self.stream.batch() {
            self.post(&batch.body)?;
            self.stream.arrived(&batch);
            self.sent
                .rows
                .store(self.stream.rows_sent(), Ordering::Relaxed);
        }
        if self.silence() >= self.link.pace.heartbeat {
            self.post("{}")?;
        }
        Ok(())
    }

    /// Posts that nothing comes any more, and how the run ended.
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
            (self.link.tell)(News::Stop(
                "stopped from the W&B page of the run".to_owned(),
            ));
        }
        Ok(())
    }

    fn tell_too_long(&self, what: &'static str, checked: &Result<(), TooLong>) {
        if let Err(TooLong(bytes)) = checked {
            let text = format!("a {what} of {bytes} bytes is not sent: W&B takes 10,383,360");
            self.link.remark(what, text);
        }
    }
}
