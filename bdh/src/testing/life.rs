//! One life of a sink under test: from `make` to `close` or to a kill.

use super::scratch::Scratch;
use crate::clock::RunLength;
use crate::failure::{BoxError, panic_text, with_causes};
use crate::feedback::Feedback;
use crate::message::Message;
use crate::outcome::Outcome;
use crate::record::Record;
use crate::run::RunInfo;
use crate::sink::Sink;
use serde_json::json;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// A sink under test. Each operation panics if the sink breaks a rule.
pub(super) struct Life<'a, S> {
    sink: S,
    name: String,
    scratch: &'a Scratch,
    run: RunInfo,
}

impl<'a, S: Sink> Life<'a, S> {
    /// Makes a sink, not opened yet, for a run that begins, or resumes from a step and its record.
    pub(super) fn new(
        make: &impl Fn(&Path) -> S,
        scratch: &'a Scratch,
        resumed: Option<(u64, Option<Record>)>,
    ) -> Self {
        let sink = make(&scratch.run);
        let (resumed_at, resumed_record) = resumed.unzip();
        let run = RunInfo {
            name: "a run of the conformance test".to_owned(),
            dir: Some(scratch.run.clone()),
            steps: 100,
            length: RunLength::Steps(100),
            seed: 7,
            config: json!({ "trainer": { "steps": 100 }, "user": { "depth": 4, "name": "größe", "none": null } }),
            eval_sets: vec!["val".to_owned()],
            resumed_at,
            resumed_record: resumed_record.flatten(),
            notes: Vec::new(),
            started_at: 1_700_000_000.25,
            feedback: Feedback::default(),
        };
        Self {
            name: sink.name(),
            sink,
            scratch,
            run,
        }
    }

    /// Makes a sink and opens it.
    pub(super) fn begin(
        make: &impl Fn(&Path) -> S,
        scratch: &'a Scratch,
        resumed: Option<(u64, Option<Record>)>,
    ) -> Self {
        let mut life = Self::new(make, scratch, resumed);
        let run = life.run.clone();
        let what = match run.resumed_at {
            Some(step) => format!("`open` of a run resumed at step {step}"),
            None => "`open` in an empty run directory".to_owned(),
        };
        let before = scratch.own_bytes();
        life.must(&what, |sink| sink.open(&run));
        life.check_bytes_left(before, &what);
        life
    }

    /// Checks that the sink kept its output of a run that is resumed, `before` bytes.
    fn check_bytes_left(&self, before: usize, what: &str) {
        let left = self.scratch.own_bytes();
        // Every run here resumes after more than half of its records, so more than half of the bytes must stay.
        if left < before / 2 {
            let how = format!(
                "{left} of the {before} bytes written before are left, but records up to that step must stay"
            );
            violated(&self.name, what, &how);
        }
    }

    pub(super) fn write(&mut self, record: &Record, with: &str) {
        let what = format!("`write` of step {} with {with}", record.clock.step);
        self.must(&what, |sink| sink.write(record));
    }

    pub(super) fn flush(&mut self) {
        self.must("`flush`", Sink::flush);
    }

    pub(super) fn message(&mut self, message: &Message) {
        self.must("`message`", |sink| {
            sink.message(message);
            Ok(())
        });
    }

    pub(super) fn close(mut self, end: &Outcome) {
        self.must(&format!("`close` of a run that {end}"), |sink| {
            sink.close(end)
        });
        self.end("after `close`");
    }

    /// Drops the sink, as the end of the program would.
    pub(super) fn end(self, when: &str) {
        let Self {
            sink,
            name,
            scratch,
            ..
        } = self;
        let files = sink.files();
        let what = format!("being dropped {when}");
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(sink)));
        if let Err(panic) = dropped {
            violated(
                &name,
                &what,
                &format!("it panicked: {}", panic_text(&*panic)),
            );
        }
        check(&name, &what, scratch, &files);
    }

    /// Calls an operation of the sink, which must not fail, and checks the sink's files.
    fn must(&mut self, what: &str, call: impl FnOnce(&mut S) -> Result<(), BoxError>) {
        let began = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| call(&mut self.sink)));
        let took = began.elapsed();
        if let Some(violation) = violation(result, took, self.sink.flush_timeout()) {
            violated(&self.name, what, &violation);
        }
        check(&self.name, what, self.scratch, &self.sink.files());
    }
}

/// Describes how an operation violated the rules; `None` if it obeyed them.
fn violation(
    result: thread::Result<Result<(), BoxError>>,
    took: Duration,
    flush_timeout: Duration,
) -> Option<String> {
    match result {
        Ok(Ok(())) if took <= flush_timeout => None,
        Ok(Ok(())) => Some(format!(
            "it took {took:?}, but its flush_timeout is {flush_timeout:?}"
        )),
        Ok(Err(error)) => Some(format!("it failed: {}", with_causes(&*error))),
        Err(panic) => Some(format!("it panicked: {}", panic_text(&*panic))),
    }
}

/// Panics if files of others were touched, or files are not listed.
fn check(name: &str, what: &str, scratch: &Scratch, files: &[String]) {
    if let Err(error) = scratch.check(files) {
        violated(name, what, &error.to_string());
    }
}

fn violated(name: &str, what: &str, how: &str) -> ! {
    panic!("sink `{name}` does not conform, in {what}: {how}")
}
