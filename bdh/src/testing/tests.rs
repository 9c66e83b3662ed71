//! A check is worth something if it fails where it should.

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

    fn patience(&self) -> Duration {
        Duration::from_millis(500)
    }
}

/// What is dropped with the sink, and may panic then.
#[derive(Default)]
struct Last(bool);

impl Drop for Last {
    fn drop(&mut self) {
        assert!(!self.0 || thread::panicking(), "it will not go");
    }
}

/// What the check says of a sink; nothing if it conforms.
fn said(make: impl Fn() -> Bad) -> String {
    let checked = catch_unwind(AssertUnwindSafe(|| sink_conforms(|_| make())));
    checked
        .err()
        .map(|panic| crate::failure::panic_text(&*panic))
        .unwrap_or_default()
}

/// Checks that a sink that does this is refused, and why.
fn refused(make: impl Fn() -> Bad, whys: &[&str]) {
    let said = said(make);
    for why in ["the sink `bad` does not conform, in "].iter().chain(whys) {
        assert!(said.contains(why), "{said:?} does not say {why:?}");
    }
}

#[test]
fn our_own_sinks_conform_and_so_does_one_that_does_nothing() {
    sink_conforms(|_| Jsonl::default());
    sink_conforms(|_| MemorySink::default());
    assert_eq!(said(Bad::default), "");
}

#[test]
fn a_sink_that_fails_or_panics_is_refused_and_the_value_named() {
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
        &["being dropped", "it will not go"],
    );
}

#[test]
fn a_sink_that_cannot_be_resumed_or_told_how_the_run_ended_is_refused() {
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
        "of 20 bytes that it had written before, 5 are",
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
fn a_sink_that_writes_where_it_should_not_is_refused() {
    let climbs = |dir: &Path, record: &Record| match record.values.first() {
        Some((key, _)) if key.starts_with("../") => Ok(fs::write(dir.join(key), "")?),
        _ => Ok(()),
    };
    let whys = [
        "a scalar under the key \"../x\": it wrote `",
        "/x`, outside of the run directory",
    ];
    refused(
        || Bad {
            write: Some(climbs),
            ..Bad::default()
        },
        &whys,
    );

    let unnamed = |dir: &Path| Ok(fs::write(dir.join("other.txt"), "")?);
    let whys = ["in `flush`: it wrote `other.txt`, and `files` says [\"logs/\", \"own.*\"]"];
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
    let whys = ["it touched `", "model.safetensors`, which is not its own"];
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
        said(|| Bad {
            flush: Some(named),
            ..Bad::default()
        }),
        ""
    );
}

#[test]
fn a_sink_that_is_slower_than_it_says_is_refused() {
    let slow = |_: &Path| {
        thread::sleep(Duration::from_millis(600));
        Ok(())
    };
    refused(
        || Bad {
            flush: Some(slow),
            ..Bad::default()
        },
        &["of a patience of 500ms"],
    );
}
