//! Tests that the checks of sinks find sinks that break a rule.

use super::*;
use crate::failure::BoxError;
use crate::record::Record;
use crate::run::RunInfo;
use crate::sink::{Jsonl, MemorySink};
use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

type Done = Result<(), BoxError>;

/// A sink that misbehaves in one way.
#[derive(Default)]
struct Bad {
    dir: PathBuf,
    open: Option<fn(&RunInfo) -> Done>,
    write: Option<fn(&Path, &Record) -> Done>,
    flush: Option<fn(&Path) -> Done>,
    close: Option<fn(&Outcome) -> Done>,
    #[expect(dead_code, reason = "it is there to be dropped")]
    last: Last,
}

impl Sink for Bad {
    fn name(&self) -> String {
        "bad".to_owned()
    }

    fn files(&self) -> Vec<String> {
        vec!["logs/".to_owned(), "own.*".to_owned()]
    }

    fn open(&mut self, run: &RunInfo) -> Done {
        self.dir = run.dir.clone().ok_or("no run directory")?;
        self.open.map_or(Ok(()), |open| open(run))
    }

    fn write(&mut self, record: &Record) -> Done {
        self.write.map_or(Ok(()), |write| write(&self.dir, record))
    }

    fn flush(&mut self) -> Done {
        self.flush.map_or(Ok(()), |flush| flush(&self.dir))
    }

    fn close(&mut self, outcome: &Outcome) -> Done {
        self.close.map_or(Ok(()), |close| close(outcome))
    }

    fn flush_timeout(&self) -> Duration {
        Duration::from_millis(500)
    }
}

/// A field whose `drop` may panic.
#[derive(Default)]
struct Last(bool);

impl Drop for Last {
    fn drop(&mut self) {
        assert!(!self.0 || thread::panicking(), "it cannot be dropped");
    }
}

/// Returns the violation that the check reports; empty if the sink conforms.
fn violation(make: impl Fn() -> Bad) -> String {
    let checked = catch_unwind(AssertUnwindSafe(|| sink_conforms(|_| make())));
    match checked {
        Ok(()) => String::new(),
        Err(panic) => crate::failure::panic_text(&*panic),
    }
}

/// Checks that the check refuses a sink, and that its text contains all `parts`.
fn refused(make: impl Fn() -> Bad, parts: &[&str]) {
    let violation = violation(make);
    for part in ["sink `bad` does not conform, in "].iter().chain(parts) {
        assert!(violation.contains(part), "{violation:?} lacks {part:?}");
    }
}

#[test]
fn sinks_of_bdh_and_a_sink_without_effect_conform() {
    sink_conforms(|_| Jsonl::default());
    sink_conforms(|_| MemorySink::default());
    assert_eq!(violation(Bad::default), "");
}

#[test]
fn sink_that_fails_or_panics_is_refused_with_the_value() {
    let fails = |_: &Path, record: &Record| match record.values.first() {
        Some((_, Value::Scalar(scalar))) if scalar.is_nan() => Err("not a number".into()),
        _ => Ok(()),
    };
    let whys = ["`write` of step", "with NaN: it failed: not a number"];
    refused(
        || Bad {
            write: Some(fails),
            ..Bad::default()
        },
        &whys,
    );

    let panics = |_: &Path, record: &Record| {
        assert!(
            record.values.iter().all(|(key, _)| key.len() < 300),
            "a long key"
        );
        Ok(())
    };
    let whys = ["a scalar under the key \"xxx", "it panicked: a long key"];
    refused(
        || Bad {
            write: Some(panics),
            ..Bad::default()
        },
        &whys,
    );
    refused(
        || Bad {
            last: Last(true),
            ..Bad::default()
        },
        &["being dropped", "it cannot be dropped"],
    );
}

#[test]
fn sink_that_cannot_resume_or_close_is_refused() {
    let open = |run: &RunInfo| {
        run.resumed_at
            .map_or(Ok(()), |_| Err("there is a file".into()))
    };
    let whys = ["`open` of a run resumed at step 12: it failed: there is a file"];
    refused(
        || Bad {
            open: Some(open),
            ..Bad::default()
        },
        &whys,
    );

    let begins_anew = |run: &RunInfo| {
        let dir = run.dir.as_ref().ok_or("no run directory")?;
        Ok(fs::write(dir.join("own.csv"), "step\n")?)
    };
    let appends = |dir: &Path, record: &Record| {
        let mut file = fs::File::options().append(true).open(dir.join("own.csv"))?;
        Ok(writeln!(file, "{}", record.clock.step)?)
    };
    let whys = [
        "`open` of a run resumed at step 40",
        "5 of the 20 bytes written before are left",
    ];
    refused(
        || Bad {
            open: Some(begins_anew),
            write: Some(appends),
            ..Bad::default()
        },
        &whys,
    );

    let close = |end: &Outcome| match end {
        Outcome::Failed(why) => Err(why.clone().into()),
        _ => Ok(()),
    };
    refused(
        || Bad {
            close: Some(close),
            ..Bad::default()
        },
        &["`close` of a run that failed: "],
    );
}

#[test]
fn sink_that_writes_where_it_should_not_is_refused() {
    let climbs = |dir: &Path, record: &Record| match record.values.first() {
        Some((key, _)) if key.starts_with("../") => Ok(fs::write(dir.join(key), "")?),
        _ => Ok(()),
    };
    let whys = [
        "a scalar under the key \"../x\": it wrote `",
        "/x`, outside the run directory",
    ];
    refused(
        || Bad {
            write: Some(climbs),
            ..Bad::default()
        },
        &whys,
    );

    let unnamed = |dir: &Path| Ok(fs::write(dir.join("other.txt"), "")?);
    let whys = ["in `flush`: it wrote `other.txt`, but `files` lists [\"logs/\", \"own.*\"]"];
    refused(
        || Bad {
            flush: Some(unnamed),
            ..Bad::default()
        },
        &whys,
    );

    let tidies = |dir: &Path| {
        let _ = fs::remove_dir_all(dir.join("checkpoints"));
        Ok(())
    };
    let whys = ["it changed `", "model.safetensors`, which is not its own"];
    refused(
        || Bad {
            flush: Some(tidies),
            ..Bad::default()
        },
        &whys,
    );

    let named = |dir: &Path| {
        fs::create_dir_all(dir.join("logs/deep"))?;
        fs::write(dir.join("logs/deep/a.txt"), "")?;
        Ok(fs::write(dir.join("own.1"), "")?)
    };
    assert_eq!(
        violation(|| Bad {
            flush: Some(named),
            ..Bad::default()
        }),
        ""
    );
}

#[test]
fn sink_slower_than_its_flush_timeout_is_refused() {
    let slow = |_: &Path| {
        thread::sleep(Duration::from_millis(600));
        Ok(())
    };
    refused(
        || Bad {
            flush: Some(slow),
            ..Bad::default()
        },
        &["but its flush_timeout is 500ms"],
    );
}
