//! One life of a sink under test, from `make` to its end.

use super::scratch::Scratch;
use crate::failure::{BoxError, panic_text, with_causes};
use crate::feedback::Feedback;
use crate::outcome::{Outcome, Problem};
use crate::record::Record;
use crate::run::RunInfo;
use crate::sink::Sink;
use serde_json::json;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

/// A sink, and what may be asked of it.
pub(super) struct Life<'a, S> {
    sink: S,
    name: String,
    scratch: &'a Scratch,
    run: RunInfo,
}

impl<'a, S: Sink> Life<'a, S> {
    /// A sink that is not open yet, of a run that begins, or goes on from a step and its record.
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
            seed: 7,
            config: json!({ "trainer": { "steps": 100 }, "user": { "depth": 4, "name": "größe", "none": null } }),
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

    /// The same, opened.
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
        let left = scratch.own_bytes();
        // Every run here is resumed behind more than half of what it had recorded.
        if left < before / 2 {
            let how = format!(
                "of {before} bytes that it had written before, {left} are left, and the records up to that step are to stay"
            );
            violated(&life.name, &what, &how);
        }
        life
    }

    pub(super) fn write(&mut self, record: &Record, with: &str) {
        let what = format!("`write` of step {} with {with}", record.clock.step);
        self.must(&what, |sink| sink.write(record));
    }

    pub(super) fn flush(&mut self) {
        self.must("`flush`", Sink::flush);
    }

    pub(super) fn hear(&mut self, problem: &Problem) {
        self.must("`problem`", |sink| {
            sink.problem(problem);
            Ok(())
        });
    }

    pub(super) fn remark(&mut self, text: &str) {
        self.must("`remark`", |sink| {
            sink.remark(text);
            Ok(())
        });
    }

    pub(super) fn close(mut self, end: &Outcome) {
        self.must(&format!("`close` of a run that {end}"), |sink| {
            sink.close(end)
        });
        self.end("after `close`");
    }

    /// Ends it, as the end of the program would.
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

    /// Has the sink do something that it must not fail in.
    fn must(&mut self, what: &str, call: impl FnOnce(&mut S) -> Result<(), BoxError>) {
        let began = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| call(&mut self.sink))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => violated(
                &self.name,
                what,
                &format!("it failed: {}", with_causes(&*error)),
            ),
            Err(panic) => violated(
                &self.name,
                what,
                &format!("it panicked: {}", panic_text(&*panic)),
            ),
        }
        let (took, patience) = (began.elapsed(), self.sink.patience());
        if took > patience {
            violated(
                &self.name,
                what,
                &format!("it took {took:?} of a patience of {patience:?}"),
            );
        }
        check(&self.name, what, self.scratch, &self.sink.files());
    }
}

/// Whether only files are there that may be.
fn check(name: &str, what: &str, scratch: &Scratch, files: &[String]) {
    if let Err(error) = scratch.check(files) {
        violated(name, what, &error);
    }
}

fn violated(name: &str, what: &str, how: &str) -> ! {
    panic!("the sink `{name}` does not conform, in {what}: {how}")
}
