//! Checks of the records of a run: as announced, and not changed by a callback or by a resume.

use super::CallbackCheck;
use super::runs::{Line, Run, fit, run};
use crate::cadence::{Cadence, at, every};
use crate::callback::{Callback, CallbackExt, on_step};
use crate::checkpoint::Checkpoint;
use crate::event::StepEnd;
use crate::testing::scratch::Scratch;
use crate::testing::tiny::TinyTask;
use crate::trainer::TrainerBuilder;
use std::collections::BTreeSet;

impl<C: Callback + 'static, F: Fn() -> C> CallbackCheck<F> {
    /// Checks that the callback records exactly the keys of [`keys`](Callback::keys).
    ///
    /// # Panics
    ///
    /// If a key is missing or not announced. The text names the key.
    pub fn records_its_keys(&self) {
        let name = self.name();
        let (watched, unwatched) = self.runs(&name);
        let own = unwatched.keys();
        let recorded: BTreeSet<_> = watched.keys().difference(&own).cloned().collect();
        assert_covers(
            &(self.make)().keys(),
            &recorded,
            &format!("`{name}` announces"),
        );
        if let Some(expected) = &self.records {
            assert_covers(expected, &recorded, &format!("`{name}` should record"));
        }
    }

    /// Checks that the weights and the trainer's records are bit-identical with the callback and without it.
    ///
    /// If the callback stops the run, the other run has the same length.
    ///
    /// # Panics
    ///
    /// If a weight or a record differs.
    pub fn changes_nothing(&self) {
        let name = self.name();
        let (watched, unwatched) = self.runs(&name);
        assert!(
            watched.weights() == unwatched.weights(),
            "`{name}` changes training"
        );
        for line in &unwatched.lines {
            let step = &line["step"];
            let same = watched.lines.iter().find(|other| other["step"] == *step);
            assert_unchanged(&name, line, same);
        }
    }

    /// Checks that the callback restores its [`state`](Callback::state) from a checkpoint, and that the resumed run
    /// makes the records of an uninterrupted run.
    ///
    /// One run records every step, the other every 6 steps. In the second one the loss of the saved step is not read,
    /// unless the callback requests it with [`read_along`](crate::Context::read_along).
    ///
    /// # Panics
    ///
    /// If the state or a record differs. The text shows both records.
    pub fn comes_through_a_resume(&self) {
        for log in [Cadence::EVERY_STEP, every(6)] {
            self.resumes_where_it_was(&|| run().log(log.clone()).callback((self.make)()));
        }
    }

    fn resumes_where_it_was(&self, run: &dyn Fn() -> TrainerBuilder<TinyTask>) {
        let name = self.name();
        let scratch = Scratch::new();
        fit(&scratch.run, run().callback(stop_at(6))).check(&name);
        let checkpoint = scratch.run.join("checkpoints/step_00000004");
        if !checkpoint.exists() {
            return; // the callback ended the run before step 4
        }
        let saved = Checkpoint::read(&checkpoint).expect("a complete checkpoint");
        self.check_state(&name, &saved);
        let resumed = fit(&scratch.run, run().resume(checkpoint));
        resumed.check(&name);
        let whole = fit(&Scratch::new().run, run());
        self.compare(&name, &whole, &resumed);
    }

    /// Checks that a resumed run has the records of the whole run.
    fn compare(&self, name: &str, whole: &Run, resumed: &Run) {
        assert_eq!(
            resumed.steps(),
            whole.steps(),
            "`{name}` ends a resumed run on another step"
        );
        assert_eq!(
            resumed.lines.len(),
            whole.lines.len(),
            "`{name}` loses or repeats records by a resume"
        );
        for (line, other) in whole.lines.iter().zip(&resumed.lines) {
            let (line, other) = (self.computed(line), self.computed(other));
            assert!(
                line == other,
                "`{name}` records other values when the run is resumed from step 4; if they are measured rather \
                 than computed, add their keys with `measures`\n  whole run:   {line:?}\n  resumed run: {other:?}"
            );
        }
    }

    /// Runs with the callback, then without it for the same number of steps.
    fn runs(&self, name: &str) -> (Run, Run) {
        let watched = fit(&Scratch::new().run, run().callback((self.make)()));
        watched.check(name);
        let unwatched = fit(
            &Scratch::new().run,
            run().callback(stop_at(watched.steps())),
        );
        (watched, unwatched)
    }

    /// Checks that a new callback restores the state of the checkpoint.
    fn check_state(&self, name: &str, saved: &Checkpoint) {
        let Some(state) = saved.state.callbacks.get(name) else {
            return;
        };
        let mut again = (self.make)();
        if let Err(error) = again.load_state(state.clone()) {
            panic!("`{name}` does not load its own state: {error}");
        }
        assert_eq!(
            again.state(),
            *state,
            "`{name}` has another state than the one it loaded"
        );
    }

    /// Returns the values of a line of `metrics.jsonl` that are equal in every run.
    fn computed(&self, line: &Line) -> Line {
        let mut line = line.clone();
        line.remove("elapsed");
        for pattern in &self.measured {
            line.retain(|key, _| !matches(pattern, key));
        }
        line
    }
}

/// Checks that the values of a line, except for the time, are in the same line of a run with the callback.
fn assert_unchanged(name: &str, line: &Line, watched: Option<&Line>) {
    let step = &line["step"];
    for (key, value) in line {
        if key == "elapsed" {
            continue;
        }
        let other = watched.and_then(|watched| watched.get(key));
        assert_eq!(
            other,
            Some(value),
            "`{name}` changes `{key}` of step {step}"
        );
    }
}

/// Makes a callback that stops the run after a step.
fn stop_at(step: u64) -> impl Callback {
    let ask = |ctx: &StepEnd<'_>| {
        ctx.stop("it is time");
        Ok(())
    };
    on_step(ask).on(at([step])).named("conformance check")
}

/// Whether a key matches a pattern, in which `*` stands for any text.
pub(in crate::testing) fn matches(pattern: &str, key: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('*') else {
        return pattern == key;
    };
    let Some(after) = key.strip_prefix(begin) else {
        return false;
    };
    for index in 0..=after.len() {
        if after.is_char_boundary(index) && matches(rest, &after[index..]) {
            return true;
        }
    }
    false
}

/// Checks that every pattern has a key and every key a pattern. `claim` begins the text of a violation.
fn assert_covers(patterns: &[String], recorded: &BTreeSet<String>, claim: &str) {
    for key in recorded {
        let is_covered = patterns.iter().any(|pattern| matches(pattern, key));
        assert!(is_covered, "{claim} {patterns:?}, but it records `{key}`");
    }
    for pattern in patterns {
        let is_recorded = recorded.iter().any(|key| matches(pattern, key));
        assert!(
            is_recorded,
            "{claim} `{pattern}`, but it records {recorded:?}"
        );
    }
}
