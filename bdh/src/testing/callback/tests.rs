//! A check is worth something if it fails where it should.

use super::recorded::matches;
use super::*;
use crate::cadence::{Cadence, every};
use crate::callback;
use crate::deferred::Deferred;
use crate::event::{AfterBackward, StepEnd};
use crate::failure::{BoxError, HookResult, panic_text};
use serde_json::{Value, json};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Misbehaves in one way.
#[derive(Default)]
struct Bad {
    how: &'static str,
    steps: u64,
    asked: Cell<u64>,
}

/// Remembers what has been read only if something else asked for it.
#[derive(Default)]
struct Average(Option<Deferred>);

#[callback]
impl Callback for Average {
    fn name(&self) -> String {
        "average".to_owned()
    }

    fn keys(&self) -> Vec<String> {
        vec!["average".to_owned()]
    }

    fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
        let average = match self.0.take() {
            None => at.loss.clone(),
            Some(average) => average * 0.9 + at.loss.clone() * 0.1,
        };
        if at.step().is_multiple_of(3) {
            at.log("average", average.clone());
        }
        self.0 = Some(average);
        Ok(())
    }

    fn state(&self) -> Value {
        json!(self.0.as_ref().and_then(Deferred::value))
    }

    fn load_state(&mut self, state: Value) -> Result<(), BoxError> {
        self.0 = state.as_f64().map(Deferred::from);
        Ok(())
    }
}

fn bad(how: &'static str) -> Bad {
    Bad {
        how,
        ..Bad::default()
    }
}

#[callback]
impl Callback for Bad {
    fn name(&self) -> String {
        "bad".to_owned()
    }

    fn cadence(&self) -> Cadence {
        self.asked.set(self.asked.get() + 1);
        every(if self.how == "wavers" {
            self.asked.get()
        } else {
            1
        })
    }

    fn keys(&self) -> Vec<String> {
        let more = if self.how == "is silent" {
            &["bad/other"][..]
        } else {
            &[]
        };
        ["bad/steps"]
            .iter()
            .chain(more)
            .map(ToString::to_string)
            .collect()
    }

    fn files(&self, _: u64) -> Vec<String> {
        let files = if self.how == "announces" {
            &["bad.txt"][..]
        } else {
            &[]
        };
        files.iter().map(ToString::to_string).collect()
    }

    fn after_backward(&mut self, at: &AfterBackward<'_>) -> HookResult {
        match self.how {
            "records" => at.log("undeclared", 1.0),
            "panics" => assert!(at.read(at.loss)?.is_finite(), "the loss is not finite"),
            _ => {}
        }
        Ok(())
    }

    fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
        self.steps += 1;
        at.log("bad/steps", self.steps as f64);
        match self.how {
            "stops" if at.step() == 5 => at.stop("enough"),
            "stops early" if at.step() == 2 => at.stop("enough"),
            "overrides" => at.log("train/loss", 1.0),
            "measures" => at.log("bad/steps", crate::clock::now()),
            "writes" => std::fs::write(at.run_dir().ok_or("no directory")?.join("bad.txt"), "")?,
            "fails" => return Err("it failed".into()),
            _ => {}
        }
        Ok(())
    }

    fn state(&self) -> Value {
        if self.how == "has no state" {
            Value::Null
        } else {
            json!(self.steps)
        }
    }

    fn load_state(&mut self, state: Value) -> Result<(), BoxError> {
        match self.how {
            "forgets" => {}
            "refuses" => return Err("whose is this?".into()),
            _ => self.steps = state.as_u64().ok_or("a count is a whole number")?,
        }
        Ok(())
    }
}

/// What a check says of it; nothing if it conforms.
fn said(check: impl FnOnce()) -> String {
    catch_unwind(AssertUnwindSafe(check))
        .err()
        .map(|panic| panic_text(&*panic))
        .unwrap_or_default()
}

#[test]
fn one_that_behaves_conforms_and_so_does_one_that_ends_the_run() {
    for how in ["behaves", "stops", "stops early"] {
        callback_conforms(|| bad(how));
    }
}

#[test]
fn each_promise_is_checked_and_a_broken_one_named() {
    let of = |how| CallbackCheck::of(move || bad(how));
    let fires = |how| said(|| of(how).fires_as_planned());
    let wavers = fires("wavers");
    assert!(
        wavers.starts_with("`bad` is not called as the plan says: the first diff"),
        "{wavers}"
    );
    let expected = "`bad` does not keep to its files: it wrote `bad.txt`, and `files` says ";
    assert!(fires("writes").starts_with(expected), "{}", fires("writes"));
    assert_eq!(
        fires("announces"),
        "`bad` announces `bad.txt`, which is not there"
    );
    assert!(
        fires("fails").starts_with("`bad` failed: "),
        "{}",
        fires("fails")
    );

    let records = |how| said(|| of(how).records_its_keys());
    assert_eq!(
        records("records"),
        r#"`bad` announces ["bad/steps"], and it records `undeclared`"#
    );
    assert_eq!(
        records("is silent"),
        r#"`bad` announces `bad/other`, and it records {"bad/steps"}"#
    );
    let exact = said(|| of("behaves").records(["bad/stops"]).records_its_keys());
    assert!(exact.starts_with("`bad` is to record "), "{exact}");

    let changes = said(|| of("overrides").changes_nothing());
    assert!(
        changes.contains("it records `train/loss`, which the trainer records too"),
        "{changes}"
    );

    let resumes = |how| said(|| of(how).comes_through_a_resume());
    assert_eq!(
        resumes("refuses"),
        "`bad` does not take its own state: whose is this?"
    );
    assert!(
        resumes("forgets").contains("`bad` has another state"),
        "{}",
        resumes("forgets")
    );
    for how in ["has no state", "measures"] {
        assert!(
            resumes(how).contains("`bad` records other values"),
            "{}",
            resumes(how)
        );
    }
    of("measures").measures(["bad/*"]).comes_through_a_resume();

    let late = said(|| CallbackCheck::of(Average::default).comes_through_a_resume());
    assert!(late.contains("`average` records other values"), "{late}");

    let nan = said(|| of("panics").survives_nan());
    assert!(
        nan.contains("`bad` does not survive a loss of NaN"),
        "{nan}"
    );
}

#[test]
fn the_run_that_is_to_diverge_does() {
    let run = fit(&Scratch::new().run, diverging_run());
    let losses = run
        .records
        .iter()
        .filter_map(|record| record.scalar("train/loss"));
    assert!(losses.skip(2).all(f64::is_nan) && run.steps() == 12);
}

/// Is registered, and tells a `size` that is not always its own.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Sized {
    size: u64,
}

#[callback("sized")]
impl Callback for Sized {
    fn config(&self) -> Value {
        json!({ "size": self.size.max(3) })
    }

    fn on_step(&mut self, _: &StepEnd<'_>) -> HookResult {
        Ok(())
    }
}

#[test]
fn a_configuration_that_builds_another_is_told_by_what_is_different() {
    let check =
        |size, settings| CallbackCheck::of(move || Sized { size }).by_name("sized", settings);
    check(5, "size = 5").conforms();
    let built = |size, settings| said(|| check(size, settings).is_built_by_name());
    assert_eq!(
        built(5, "size = 6"),
        "built by name, the settings of `sized` are `{\"size\":6}` and not `{\"size\":5}`"
    );
    assert!(
        built(5, "width = 5").starts_with("`sized` cannot be built: "),
        "{}",
        built(5, "width = 5")
    );
    let other = said(|| {
        CallbackCheck::of(|| bad("behaves"))
            .by_name("sized", "size = 5")
            .conforms()
    });
    assert_eq!(
        other,
        "built by name, the name of `sized` are `sized` and not `bad`"
    );
}

#[test]
fn a_star_stands_for_anything() {
    for (pattern, key, is_one) in [
        ("a/*", "a/b.c", true),
        ("a", "a/b", false),
        ("*/x", "a/x", true),
        ("a*c", "abd", false),
    ] {
        assert_eq!(matches(pattern, key), is_one, "{pattern} {key}");
    }
}
