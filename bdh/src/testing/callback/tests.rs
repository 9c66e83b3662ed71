//! Tests that the checks find callbacks that break a rule.

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

/// A callback that breaks one rule.
#[derive(Default)]
struct Bad {
    how: &'static str,
    steps: u64,
    asked: Cell<u64>,
}

/// A callback whose state is lost unless something else reads the loss: it lacks a call of `read_along`.
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

    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        let average = match self.0.take() {
            None => ctx.loss.clone(),
            Some(average) => average * 0.9 + ctx.loss.clone() * 0.1,
        };
        if ctx.step().is_multiple_of(3) {
            ctx.log("average", average.clone());
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

    fn after_backward(&mut self, ctx: &AfterBackward<'_>) -> HookResult {
        match self.how {
            "records" => ctx.log("undeclared", 1.0),
            "panics" => assert!(ctx.read(ctx.loss)?.is_finite(), "the loss is not finite"),
            _ => {}
        }
        Ok(())
    }

    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        self.steps += 1;
        ctx.log("bad/steps", self.steps as f64);
        match self.how {
            "stops" if ctx.step() == 5 => ctx.stop("enough"),
            "stops early" if ctx.step() == 2 => ctx.stop("enough"),
            "overrides" => ctx.log("train/loss", 1.0),
            "measures" => ctx.log("bad/steps", crate::clock::now()),
            "writes" => std::fs::write(ctx.run_dir().ok_or("no directory")?.join("bad.txt"), "")?,
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
            "refuses" => return Err("unknown state".into()),
            _ => self.steps = state.as_u64().ok_or("a count is a whole number")?,
        }
        Ok(())
    }
}

/// Returns the violation that a check reports; empty if the callback conforms.
fn violation(check: impl FnOnce()) -> String {
    match catch_unwind(AssertUnwindSafe(check)) {
        Ok(()) => String::new(),
        Err(panic) => panic_text(&*panic),
    }
}

fn check_bad(how: &'static str) -> CallbackCheck<impl Fn() -> Bad> {
    CallbackCheck::of(move || bad(how))
}

#[test]
fn callbacks_that_obey_the_rules_or_stop_the_run_conform() {
    for how in ["behaves", "stops", "stops early"] {
        callback_conforms(|| bad(how));
    }
}

#[test]
fn wrong_steps_and_files_are_found() {
    let text = |how| violation(|| check_bad(how).fires_as_planned());
    let wavers = text("wavers");
    assert!(
        wavers.starts_with("`bad` is not called as planned: the first diff"),
        "{wavers}"
    );
    let expected = "`bad` writes unexpected files: it wrote `bad.txt`, but `files` lists ";
    assert!(text("writes").starts_with(expected), "{}", text("writes"));
    assert_eq!(
        text("announces"),
        "`bad` announces `bad.txt`, but it does not exist"
    );
    let fails = text("fails");
    assert!(fails.starts_with("`bad` failed: "), "{fails}");
}

#[test]
fn wrong_keys_are_found() {
    let text = |how| violation(|| check_bad(how).records_its_keys());
    assert_eq!(
        text("records"),
        r#"`bad` announces ["bad/steps"], but it records `undeclared`"#
    );
    assert_eq!(
        text("is silent"),
        r#"`bad` announces `bad/other`, but it records {"bad/steps"}"#
    );
    let exact = violation(|| {
        check_bad("behaves")
            .records(["bad/stops"])
            .records_its_keys();
    });
    assert!(exact.starts_with("`bad` should record "), "{exact}");

    let changes = violation(|| check_bad("overrides").changes_nothing());
    assert!(
        changes.contains("it records `train/loss`, which the trainer records too"),
        "{changes}"
    );
}

#[test]
fn wrong_states_are_found() {
    let text = |how| violation(|| check_bad(how).comes_through_a_resume());
    assert_eq!(
        text("refuses"),
        "`bad` does not load its own state: unknown state"
    );
    let forgets = text("forgets");
    assert!(forgets.contains("`bad` has another state"), "{forgets}");
    for how in ["has no state", "measures"] {
        let other = text(how);
        assert!(other.contains("`bad` records other values"), "{other}");
    }
    check_bad("measures")
        .measures(["bad/*"])
        .comes_through_a_resume();

    let late = violation(|| CallbackCheck::of(Average::default).comes_through_a_resume());
    assert!(late.contains("`average` records other values"), "{late}");
}

#[test]
fn failure_on_nan_is_found() {
    let nan = violation(|| check_bad("panics").survives_nan());
    assert!(
        nan.contains("`bad` does not survive a loss of NaN"),
        "{nan}"
    );
}

#[test]
fn diverging_run_diverges() {
    let run = fit(&Scratch::new().run, diverging_run());
    let losses = run
        .records
        .iter()
        .filter_map(|record| record.scalar("train/loss"));
    assert!(losses.skip(2).all(f64::is_nan) && run.steps() == 12);
}

/// A registered callback whose `config` has a wrong `size` below 3.
#[derive(serde::Deserialize, serde::Serialize)]
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
fn configuration_of_another_callback_is_found() {
    let check =
        |size, settings| CallbackCheck::of(move || Sized { size }).by_name("sized", settings);
    check(5, "size = 5").conforms();
    let built = |size, settings| violation(|| check(size, settings).is_built_by_name());
    assert_eq!(
        built(5, "size = 6"),
        "`sized` built by name differs: its configuration is `{\"size\":6}` instead of `{\"size\":5}`"
    );
    assert!(
        built(5, "width = 5").starts_with("`sized` cannot be built: "),
        "{}",
        built(5, "width = 5")
    );
    let other = violation(|| {
        CallbackCheck::of(|| bad("behaves"))
            .by_name("sized", "size = 5")
            .conforms();
    });
    assert_eq!(
        other,
        "`sized` built by name differs: its name is `sized` instead of `bad`"
    );
}

#[test]
fn star_stands_for_any_text() {
    for (pattern, key, is_one) in [
        ("a/*", "a/b.c", true),
        ("a", "a/b", false),
        ("*/x", "a/x", true),
        ("a*c", "abd", false),
    ] {
        assert_eq!(matches(pattern, key), is_one, "{pattern} {key}");
    }
}
