//! Checks for callbacks of your own.

use super::scratch::Scratch;
use super::tiny::{self, Tiny};
use crate::params::{self, ParamTable};
use crate::{Callback, Checkpoint, Fitted, MemorySink, Outcome, Record, every, last};
use burn::optim::{AdamWConfig, SgdConfig};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Steps of a run, if the callback does not end it.
const STEPS: u64 = 12;

/// The CPU's random numbers are the process's; two runs at once would disturb each other.
static ALONE: Mutex<()> = Mutex::new(());

/// Checks that a callback keeps what [`Callback`] promises to a run, in a few runs of a tiny language model.
///
/// - Training is the same to the bit, with it and without it. (One that stops the run is compared with a run of
///   that length.)
/// - Every key that it records is one of [`keys`](Callback::keys), `*` standing for anything.
/// - Its [`state`](Callback::state), saved in the middle of a run and given to a new one, is its state.
/// - A loss and gradients that are not finite are no error and no panic.
///
/// `make` makes one that is due within 12 steps; it is called for each run. The model has dropout, so nothing else
/// in the process may train meanwhile: give this a test program of its own, or a lock.
///
/// # Panics
///
/// With the callback's name, and what it violated.
///
/// # Examples
///
/// ```
/// use bdh::{AfterBackward, Callback, HookResult, callback};
///
/// struct GradNorm;
///
/// #[callback]
/// impl Callback for GradNorm {
///     fn keys(&self) -> Vec<String> {
///         vec!["grad_norm".to_owned()]
///     }
///
///     fn after_backward(&mut self, at: &AfterBackward<'_>) -> HookResult {
///         at.log("grad_norm", at.gradients.l2());
///         Ok(())
///     }
/// }
///
/// bdh::testing::callback_conforms(|| GradNorm);
/// ```
pub fn callback_conforms<C: Callback + 'static>(make: impl Fn() -> C) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let name = make().name();
    let whole = fit(&Scratch::new().run, STEPS, 0.01, Some(make()));
    assert!(whole.fitted.problems.is_empty(), "`{name}` failed: {:?}", whole.fitted.problems);

    let alone = fit::<C>(&Scratch::new().run, whole.steps(), 0.01, None);
    assert!(whole.weights() == alone.weights(), "`{name}` changes training");
    check_keys(&name, &make().keys(), &whole, &alone);
    check_state(&name, &make);

    let diverged = fit(&Scratch::new().run, 6, f64::MAX, Some(make()));
    assert!(
        diverged.fitted.problems.is_empty(),
        "`{name}` does not survive a loss of NaN: {:?}",
        diverged.fitted.problems
    );
}

/// A run that has ended.
struct Run {
    fitted: Fitted<Tiny>,
    records: Vec<Record>,
}

impl Run {
    /// The last step.
    fn steps(&self) -> u64 {
        self.records.last().map_or(0, |record| record.clock.step)
    }

    fn weights(&self) -> Vec<Vec<u8>> {
        let table = ParamTable::with_frozen(&self.fitted.model);
        let tensors =
            params::capture(&self.fitted.model, &table).expect("parameters of a model on the CPU");
        tensors.values().map(|tensor| tensor.as_bytes().to_vec()).collect()
    }

    fn keys(&self) -> BTreeSet<&str> {
        let values = self.records.iter().flat_map(|record| &record.values);
        values.map(|(key, _)| key.as_str()).collect()
    }
}

/// Runs from the beginning; the rate of learning is so high for a run that is to diverge that `AdamW` is left out.
fn fit<C: Callback + 'static>(dir: &Path, steps: u64, lr: f64, callback: Option<C>) -> Run {
    let memory = MemorySink::default();
    let run = tiny::run(steps).expect("a model on the CPU");
    let run = if lr < 1.0 {
        run.optimizer(AdamWConfig::new().build(), lr)
    } else {
        run.optimizer(SgdConfig::new().build(), lr)
    };
    let run = run
        .clip_grad_norm(0.5)
        .eval(every(4) | last())
        .checkpoint(every(4) | last())
        .run_dir(dir)
        .sink(memory.clone())
        .callback(callback);
    let trainer = run.build().unwrap_or_else(|error| panic!("the run is not valid: {error}"));
    let fitted = trainer.fit().unwrap_or_else(|error| panic!("the run failed: {error}"));
    assert!(!matches!(fitted.outcome, Outcome::Failed(_)), "{}", fitted.outcome);
    Run { fitted, records: memory.records() }
}

fn check_keys(name: &str, declared: &[String], watched: &Run, alone: &Run) {
    let own = alone.keys();
    for key in watched.keys().difference(&own) {
        let is_declared = declared.iter().any(|pattern| matches(pattern, key));
        assert!(is_declared, "`{name}` records `{key}`, and declares {declared:?}");
    }
}

/// Whether a pattern, in which `*` stands for anything, is a key.
pub(super) fn matches(pattern: &str, key: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('*') else { return pattern == key };
    let Some(after) = key.strip_prefix(begin) else { return false };
    (0..=after.len()).filter(|at| after.is_char_boundary(*at)).any(|at| matches(rest, &after[at..]))
}

fn check_state<C: Callback + 'static>(name: &str, make: &impl Fn() -> C) {
    let scratch = Scratch::new();
    fit(&scratch.run, STEPS, 0.01, Some(make()));
    let checkpoints = scratch.run.join("checkpoints");
    let Some(checkpoint) = crate::latest_checkpoint(&checkpoints) else { return };
    let saved = Checkpoint::read(&checkpoint).expect("the checkpoint of a run").state;
    let Some(state) = saved.callbacks.get(name) else { return };
    let mut again = make();
    if let Err(error) = again.load_state(state.clone()) {
        panic!("`{name}` does not take its own state: {error}");
    }
    assert_eq!(again.state(), *state, "`{name}` has another state than the one it was given");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AfterBackward, HookResult, StepEnd, callback};
    use burn::tensor::{Distribution, Tensor};

    /// Misbehaves in one way.
    struct Bad(&'static str);

    #[callback]
    impl Callback for Bad {
        fn name(&self) -> String {
            "bad".to_owned()
        }

        fn after_backward(&mut self, at: &AfterBackward<'_>) -> HookResult {
            match self.0 {
                "draws" => drop(Tensor::<1>::random([3], Distribution::Default, at.device())),
                "records" => at.log("undeclared", 1.0),
                "panics" => assert!(at.read(at.loss)?.is_finite(), "the loss is not finite"),
                _ => {}
            }
            Ok(())
        }

        fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
            if self.0 == "stops" && at.step() == 5 {
                at.stop("enough");
            }
            Ok(())
        }

        fn state(&self) -> serde_json::Value {
            serde_json::json!(self.0)
        }

        fn load_state(&mut self, _: serde_json::Value) -> Result<(), crate::BoxError> {
            self.0 = if self.0 == "forgets" { "" } else { self.0 };
            Ok(())
        }
    }

    fn violation(how: &'static str) -> String {
        let panic = std::panic::catch_unwind(|| callback_conforms(|| Bad(how))).err();
        let panic = panic.unwrap_or_else(|| panic!("one that {how} conforms"));
        panic.downcast_ref::<String>().cloned().unwrap_or_default()
    }

    #[test]
    fn each_promise_is_checked_and_a_broken_one_named() {
        callback_conforms(|| Bad("behaves"));
        callback_conforms(|| Bad("stops"));
        assert!(violation("records").contains("`bad` records `undeclared`"));
        assert!(violation("panics").contains("`bad` does not survive a loss of NaN"));
        assert!(violation("forgets").contains("`bad` has another state"));
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
}
