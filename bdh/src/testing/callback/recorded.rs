//! That what is recorded is what was announced, and the same whoever watches and however often the run is resumed.

use super::CallbackCheck;
use super::runs::{Line, Run, fit, run};
use crate::cadence::{Cadence, at, every};
use crate::callback::{Attach, Callback, on_step};
use crate::checkpoint::Checkpoint;
use crate::event::StepEnd;
use crate::testing::scratch::Scratch;
use crate::testing::tiny::TinyTask;
use crate::trainer::TrainerBuilder;
use std::collections::BTreeSet;

impl<C: Callback + 'static, F: Fn() -> C> CallbackCheck<F> {
    /// Checks that every key that it records is one of [`keys`](Callback::keys), and that each of those is recorded.
    ///
    /// # Panics
    ///
    /// If not, with the key.
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
            assert_covers(expected, &recorded, &format!("`{name}` is to record"));
        }
    }

    /// Checks that weights, and whatever the trainer records, are the same to the bit with it and without it. One that
    /// stops the run is compared with a run of that length.
    ///
    /// # Panics
    ///
    /// If they are not.
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
            for (key, value) in line.iter().filter(|(key, _)| *key != "elapsed") {
                let other = same.and_then(|other| other.get(key));
                assert_eq!(
                    other,
                    Some(value),
                    "`{name}` changes `{key}` of step {step}"
                );
            }
        }
    }

    /// Checks that its [`state`](Callback::state), saved in the middle of a run, is its state again when it is given
    /// back, and that the run which goes on from there records what the uninterrupted one does. Both in a run that records
    /// every step, and in one that records every sixth: there the loss of the step that is saved has not been read, unless
    /// the callback asks for it by [`read_along`](crate::Cx::read_along).
    ///
    /// # Panics
    ///
    /// If not, with the step and what is recorded there.
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
            return; // it ends the run before
        }
        self.takes_its_state(
            &name,
            &Checkpoint::read(&checkpoint).expect("a whole checkpoint"),
        );
        let resumed = fit(&scratch.run, run().resume(checkpoint));
        resumed.check(&name);
        let whole = fit(&Scratch::new().run, run());
        assert_eq!(
            resumed.steps(),
            whole.steps(),
            "`{name}` ends a resumed run on another step"
        );
        let counts = [&resumed, &whole].map(|run| run.lines.len());
        assert_eq!(
            counts[0], counts[1],
            "`{name}` loses records, or has some twice, by a resume"
        );
        for (line, other) in whole.lines.iter().zip(&resumed.lines) {
            let (line, other) = (self.computed(line), self.computed(other));
            assert!(
                line == other,
                "`{name}` records other values when the run is resumed from step 4; if they are measured and \
                 not computed, say so with `measures`\n  whole run:   {line:?}\n  resumed run: {other:?}"
            );
        }
    }

    /// A run with it and one without, of the same length.
    fn runs(&self, name: &str) -> (Run, Run) {
        let watched = fit(&Scratch::new().run, run().callback((self.make)()));
        watched.check(name);
        let unwatched = fit(
            &Scratch::new().run,
            run().callback(stop_at(watched.steps())),
        );
        (watched, unwatched)
    }

    fn takes_its_state(&self, name: &str, saved: &Checkpoint) {
        let Some(state) = saved.state.callbacks.get(name) else {
            return;
        };
        let mut again = (self.make)();
        if let Err(error) = again.load_state(state.clone()) {
            panic!("`{name}` does not take its own state: {error}");
        }
        assert_eq!(
            again.state(),
            *state,
            "`{name}` has another state than the one it was given"
        );
    }

    /// What a line of `metrics.jsonl` holds that is the same in every run.
    fn computed(&self, line: &Line) -> Line {
        let is_measured = |key: &str| {
            self.measured.iter().any(|pattern| matches(pattern, key)) || key == "elapsed"
        };
        let values = line.iter().filter(|(key, _)| !is_measured(key));
        values
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }
}

/// Ends a run after this step.
fn stop_at(step: u64) -> impl Callback {
    let ask = |at: &StepEnd<'_>| {
        at.stop("it is time");
        Ok(())
    };
    on_step(ask).every(at([step])).named("conformance check")
}

/// Whether a pattern, in which `*` stands for anything, is a key.
pub(in crate::testing) fn matches(pattern: &str, key: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('*') else {
        return pattern == key;
    };
    let Some(after) = key.strip_prefix(begin) else {
        return false;
    };
    (0..=after.len())
        .filter(|at| after.is_char_boundary(*at))
        .any(|at| matches(rest, &after[at..]))
}

/// Panics unless every pattern has a key and every key a pattern.
fn assert_covers(patterns: &[String], recorded: &BTreeSet<String>, who: &str) {
    for key in recorded {
        let is_covered = patterns.iter().any(|pattern| matches(pattern, key));
        assert!(is_covered, "{who} {patterns:?}, and it records `{key}`");
    }
    for pattern in patterns {
        let is_recorded = recorded.iter().any(|key| matches(pattern, key));
        assert!(
            is_recorded,
            "{who} `{pattern}`, and it records {recorded:?}"
        );
    }
}
