//! Check that no two callbacks record one key.

use super::outlook::ANY_SET;
use super::{Metrics, PlanRow};
use crate::error::ConfigError;
use crate::hook::Hooks;
use crate::names::matches;

/// Refuses a key that two callbacks, or a callback and the trainer, record: a record holds one value for a key.
///
/// A pattern such as `weights/*` does not name the parameters, so patterns are compared during the run, key by key. In
/// `*/ema_*` the first `*` stands for every eval set and the second for every metric, so those are compared here.
pub(crate) fn check(
    rows: &[PlanRow],
    trainers: &[String],
    metrics: &Metrics<'_>,
) -> Result<(), ConfigError> {
    check_trainers(rows, trainers, metrics)?;
    check_callbacks(rows)
}

fn check_trainers(
    rows: &[PlanRow],
    trainers: &[String],
    metrics: &Metrics<'_>,
) -> Result<(), ConfigError> {
    for row in rows.iter().filter(|row| row.hooks != Hooks::NONE) {
        for key in &row.keys {
            let is_own = trainers.contains(key);
            // Asked only for a key of an eval set: without a list from the task it costs an eval of a batch.
            let is_metric = is_of_a_set(key, rows) && metrics.has(key);
            if is_own || is_metric {
                return Err(duplicate(key, "trainer", &row.name));
            }
        }
    }
    Ok(())
}

/// Whether a key begins with the name of an eval set, as `val/loss` does. A pattern is no key.
fn is_of_a_set(key: &str, rows: &[PlanRow]) -> bool {
    let evals = rows.iter().filter(|row| row.is_eval());
    let mut patterns = evals.flat_map(|row| &row.keys);
    !key.contains('*') && patterns.any(|pattern| matches(pattern, key))
}

fn check_callbacks(rows: &[PlanRow]) -> Result<(), ConfigError> {
    for (index, row) in rows.iter().enumerate() {
        for (place, key) in row.keys.iter().enumerate() {
            if key.contains('*') && !key.starts_with(ANY_SET) {
                continue;
            }
            // A list of callbacks is one row, which may have a key twice.
            if row.keys[..place].contains(key) {
                return Err(duplicate(key, &row.name, &row.name));
            }
            for earlier in &rows[..index] {
                if earlier.keys.contains(key) {
                    return Err(duplicate(key, &earlier.name, &row.name));
                }
            }
        }
    }
    Ok(())
}

fn duplicate(key: &str, first: &str, second: &str) -> ConfigError {
    ConfigError::DuplicateKey {
        key: key.to_owned(),
        first: first.to_owned(),
        second: second.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cadence::Cadence;

    fn rows(keys: [&[&str]; 2]) -> [PlanRow; 2] {
        let row = |name: &str, keys: &[&str]| PlanRow {
            name: name.to_owned(),
            hooks: Hooks::ALL,
            cadence: Cadence::EVERY_STEP,
            firings: None,
            keys: keys.iter().map(ToString::to_string).collect(),
        };
        [row("a", keys[0]), row("b", keys[1])]
    }

    fn eval_row() -> PlanRow {
        PlanRow {
            name: "eval".to_owned(),
            hooks: Hooks::NONE,
            cadence: Cadence::Last,
            firings: None,
            keys: vec!["val/*".to_owned()],
        }
    }

    fn checked(keys: [&[&str]; 2]) -> Result<(), ConfigError> {
        let metrics = || vec!["val/loss".to_owned()];
        let [a, b] = rows(keys);
        let rows = [eval_row(), a, b];
        check(&rows, &["lr".to_owned()], &Metrics::new(&metrics))
    }

    #[test]
    fn metrics_are_asked_for_only_if_a_key_is_an_eval_sets() {
        let unasked = || -> Vec<String> { panic!("it costs an eval") };
        let [a, b] = rows([&["grad/norm/global"], &["train/tokens", "val/ema_*"]]);
        assert!(check(&[eval_row(), a, b], &[], &Metrics::new(&unasked)).is_ok());
    }

    #[test]
    fn key_of_two_callbacks_is_refused_with_both_names() {
        let error = checked([&["x", "y"], &["z", "y"]]).expect_err("two callbacks record y");
        let text = error.to_string();
        assert!(text.starts_with("`a` and `b` both record `y`"), "{text}");
        assert!(
            checked([&["*/ema_*"], &["*/ema_*"]]).is_err(),
            "both record a key for every metric"
        );
    }

    #[test]
    fn key_of_two_callbacks_of_a_list_is_refused() {
        let text = checked([&["x"], &["y", "y"]])
            .expect_err("two callbacks record y")
            .to_string();
        assert!(text.starts_with("`b` and `b` both record `y`"), "{text}");
    }

    #[test]
    fn equal_patterns_are_allowed() {
        assert!(checked([&["weights/*"], &["weights/*"]]).is_ok());
    }

    #[test]
    fn key_of_the_trainer_is_refused() {
        for key in ["lr", "val/loss"] {
            let text = checked([&["x"], &[key]])
                .expect_err("the trainer records it too")
                .to_string();
            assert!(
                text.starts_with(&format!("`trainer` and `b` both record `{key}`")),
                "{text}"
            );
        }
    }
}
