//! Keys that two record, found in the plan.

use super::{Metrics, PlanRow};
use crate::error::ConfigError;
use crate::hook::Hooks;

/// Refuses two that record one key, of the callbacks and the trainer: a record has room for one of them.
///
/// A pattern such as `weights/*` says nothing of which parameters; two of those are compared when they are recorded.
/// In `val/` the `*` stands for every metric.
pub(crate) fn check(
    rows: &[PlanRow],
    trainers: &[String],
    metrics: &Metrics<'_>,
) -> Result<(), ConfigError> {
    let is_trainers = |key: &&String| match key.strip_prefix("val/") {
        Some(metric) => metrics.names().iter().any(|known| known == metric),
        None => trainers.contains(key),
    };
    for row in rows.iter().filter(|row| row.hooks != Hooks::NONE) {
        if let Some(key) = row.keys.iter().find(is_trainers) {
            let (key, first, second) = (key.clone(), "trainer".to_owned(), row.name.clone());
            return Err(ConfigError::DuplicateKey { key, first, second });
        }
    }
    let is_exact = |key: &&String| !key.contains('*') || key.starts_with("val/");
    for (index, row) in rows.iter().enumerate() {
        for (place, key) in row.keys.iter().enumerate().filter(|(_, key)| is_exact(key)) {
            // A list of callbacks has one row.
            let is_twice_here = row.keys[..place].contains(key).then_some(row);
            let is_before = || rows[..index].iter().find(|other| other.keys.contains(key));
            if let Some(first) = is_twice_here.or_else(is_before) {
                let (key, first, second) = (key.clone(), first.name.clone(), row.name.clone());
                return Err(ConfigError::DuplicateKey { key, first, second });
            }
        }
    }
    Ok(())
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
    fn one_key_of_two_callbacks_is_refused_with_both_names() {
        let error = checked([&["x", "y"], &["z", "y"]]).expect_err("one would be lost");
        let text = error.to_string();
        assert!(text.starts_with("`a` and `b` both record `y`"), "{text}");
        assert!(
            checked([&["val/ema_*"], &["val/ema_*"]]).is_err(),
            "every metric of both"
        );
    }

    #[test]
    fn one_key_of_two_callbacks_of_a_list_is_refused_with_its_name() {
        let text = checked([&["x"], &["y", "y"]])
            .expect_err("one would be lost")
            .to_string();
        assert!(text.starts_with("`b` and `b` both record `y`"), "{text}");
    }

    #[test]
    fn patterns_may_be_of_other_parameters() {
        assert!(checked([&["weights/*"], &["weights/*"]]).is_ok());
    }

    #[test]
    fn what_the_trainer_records_is_its_own() {
        for key in ["lr", "val/loss"] {
            let text = checked([&["x"], &[key]])
                .expect_err("one would be lost")
                .to_string();
            assert!(
                text.starts_with(&format!("`trainer` and `b` both record `{key}`")),
                "{text}"
            );
        }
    }
}
