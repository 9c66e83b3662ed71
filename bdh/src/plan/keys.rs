//! Check that no two callbacks record one key.

use super::{Metrics, PlanRow};
use crate::error::ConfigError;
use crate::hook::Hooks;

/// Refuses a key that two callbacks, or a callback and the trainer, record: a record holds one value for a key.
///
/// A pattern such as `weights/*` does not name the parameters, so patterns are compared during the run, key by key. In
/// `val/` the `*` stands for every metric, so those are compared here.
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
            let is_trainers = match key.strip_prefix("val/") {
                Some(metric) => metrics.names().iter().any(|known| known == metric),
                None => trainers.contains(key),
            };
            if is_trainers {
                return Err(duplicate(key, "trainer", &row.name));
            }
        }
    }
    Ok(())
}

fn check_callbacks(rows: &[PlanRow]) -> Result<(), ConfigError> {
    for (index, row) in rows.iter().enumerate() {
        for (place, key) in row.keys.iter().enumerate() {
            if key.contains('*') && !key.starts_with("val/") {
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

    fn checked(keys: [&[&str]; 2]) -> Result<(), ConfigError> {
        let metrics = || vec!["loss".to_owned()];
        check(&rows(keys), &["lr".to_owned()], &Metrics::new(&metrics))
    }

    #[test]
    fn key_of_two_callbacks_is_refused_with_both_names() {
        let error = checked([&["x", "y"], &["z", "y"]]).expect_err("two callbacks record y");
        let text = error.to_string();
        assert!(text.starts_with("`a` and `b` both record `y`"), "{text}");
        assert!(
            checked([&["val/ema_*"], &["val/ema_*"]]).is_err(),
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
