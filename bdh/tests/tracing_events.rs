//! A program with a `tracing` subscriber of its own receives the spans and messages of a run.

#[path = "support/tiny.rs"]
mod tiny;

use bdh::cadence::{at, every, last};
use bdh::{CallbackExt, MemorySink};
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// A subscriber that collects spans and events of this library, in order.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<String>>>);

impl Recorder {
    fn push(&self, line: String) {
        self.0.lock().expect("no test panics with it").push(line);
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().expect("no test panics with it").clone()
    }
}

/// The fields of a span or an event, as `name=value`.
struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {field}={value:?}"); // a string takes everything
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("bdh")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut line = span.metadata().name().to_owned();
        span.record(&mut Fields(&mut line));
        self.push(line);
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = event.metadata().level().to_string();
        event.record(&mut Fields(&mut line));
        self.push(line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The lines that a run leaves with a subscriber.
fn lines_of(run: impl FnOnce()) -> Vec<String> {
    let recorder = Recorder::default();
    tracing::subscriber::with_default(recorder.clone(), run);
    recorder.lines()
}

#[test]
fn run_step_eval_and_checkpoint_are_spans() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let lines = lines_of(|| {
        let run = tiny::run(2)
            .eval(last())
            .checkpoint(every(2))
            .run_dir(dir.path().join("traced"));
        run.build().expect("a run").fit().expect("a fit");
    });
    let expected = [
        "run name=\"traced\" steps=2 seed=",
        "step step=1",
        "step step=2",
        "eval step=2",
        "checkpoint step=2",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line} is not {expected}");
    }
}

#[test]
fn notices_warnings_and_stop_requests_are_events() {
    let _alone = tiny::alone();
    let lines = lines_of(|| {
        let notice = tiny::on_step(|ctx| {
            ctx.notice("half of it is done");
            Ok(())
        })
        .on(at([1]));
        let fails = tiny::after_backward(|_| Err("no gradient".into())).named("fails");
        let stops = bdh::hooks::on_step(|ctx| {
            ctx.stop("enough");
            Ok(())
        })
        .on(at([2]));
        let run = tiny::run(4)
            .sink(MemorySink::default())
            .callback(notice.named("notice"))
            .callback(fails)
            .callback(stops.named("stops"));
        run.build().expect("a run").fit().expect("a fit");
    });
    let events: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("INFO") || line.starts_with("WARN"))
        .collect();
    let expected = [
        "INFO message=half of it is done",
        "WARN message=`fails` failed in `after_backward` at step 1: no gradient; it is switched off",
        "INFO message=stop requested: stops: enough",
    ];
    assert_eq!(events.len(), expected.len(), "{events:?}");
    for (event, expected) in events.iter().zip(expected) {
        assert!(event.starts_with(expected), "{event} is not {expected}");
    }
    let fields = "source=\"fails\" phase=\"after_backward\" step=1 cause=\"no gradient\"";
    assert!(events[1].contains(fields), "{}", events[1]);
}
