//! Records as rows of history, with the definitions of their metrics and the summary.
//!
//! W&B drops a row whose `_step` goes back. Here `_step` only counts rows. The trainer's step is a separate metric
//! `step`, defined as the x axis of all others, so that nothing is dropped and axes are right.

use crate::proto::{History, Item, Items, Kind, Metric, MetricOptions, Step};
use crate::text::{number, object};
use std::collections::{BTreeMap, HashSet};

/// Keys that the sink adds to every row; `tokens` only if the data is text.
pub(super) const OWN_KEYS: [&str; 5] = ["step", "tokens", "_timestamp", "_runtime", "_step"];

/// State of the rows that have been written.
#[derive(Debug, Default)]
pub(super) struct Rows {
    count: i64,
    last_step: Option<u64>,
    defined: HashSet<String>,
    /// Last value of every key, as JSON.
    summary: BTreeMap<String, String>,
    /// Keys whose last value is not in the log's summary yet.
    unsaved: HashSet<String>,
}

/// Time at which a row was recorded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) step: u64,
    /// Tokens trained on; `None` if the data is not text.
    pub(super) tokens: Option<u64>,
    /// Seconds of training.
    pub(super) runtime: f64,
    /// Seconds since 1970.
    pub(super) timestamp: f64,
}

impl Rows {
    /// Returns the trainer's step of the last row.
    pub(super) fn last_step(&self) -> Option<u64> {
        self.last_step
    }

    /// Returns the entries for one row of JSON values: a definition for each new key, then the row.
    pub(super) fn row(&mut self, at: Moment, values: Vec<(String, String)>) -> Vec<Kind> {
        let mut kinds = Vec::new();
        for (key, _) in &values {
            kinds.extend(self.define(key));
        }
        if at.tokens.is_some() {
            kinds.extend(self.define("tokens"));
        }
        let row = Kind::History(History {
            item: self.items(at, values),
            step: Some(Step { num: self.count }),
        });
        self.replay(&row);
        kinds.push(row);
        kinds
    }

    /// Returns the items of a row: the values, then those of [`OWN_KEYS`].
    fn items(&self, at: Moment, values: Vec<(String, String)>) -> Vec<Item> {
        let mut items = Vec::with_capacity(values.len() + OWN_KEYS.len());
        for (key, value) in values {
            items.push(item(key, value));
        }
        for (key, value) in OWN_KEYS.into_iter().zip(self.own_values(at)) {
            if let Some(value) = value {
                items.push(item(key.to_owned(), value));
            }
        }
        items
    }

    /// Returns the values of [`OWN_KEYS`].
    fn own_values(&self, at: Moment) -> [Option<String>; 5] {
        [
            Some(at.step.to_string()),
            at.tokens.map(|tokens| tokens.to_string()),
            Some(number(at.timestamp)),
            Some(number(at.runtime)),
            Some(self.count.to_string()),
        ]
    }

    /// Returns the entry for the keys of the summary that changed since the last call; `None` if none did.
    pub(super) fn summary(&mut self) -> Option<Kind> {
        let mut keys: Vec<_> = self.unsaved.drain().collect();
        keys.sort_unstable(); // a set has no order, and logs of the same run should be equal
        let mut changes = Items::default();
        for key in keys {
            if let Some(value) = self.summary.get(&key) {
                changes.update.push(item(key, value.clone()));
            }
        }
        (!changes.update.is_empty()).then_some(Kind::Summary(changes))
    }

    /// Returns the whole summary as one JSON object.
    pub(super) fn summary_json(&self) -> String {
        object(
            self.summary
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str())),
        )
    }

    /// Updates the state with an entry that is in the log.
    pub(super) fn replay(&mut self, kind: &Kind) {
        match kind {
            Kind::Metric(metric) => {
                self.defined.insert(metric.name.clone());
            }
            Kind::History(row) => self.replay_row(row),
            _ => {}
        }
    }

    fn replay_row(&mut self, row: &History) {
        // Counted from the row's own number: after a repair, rows may be missing.
        let number = row.step.as_ref().map_or(self.count, |step| step.num);
        self.count = number.saturating_add(1);
        self.last_step = step_of(row).or(self.last_step);
        for item in &row.item {
            self.summary
                .insert(item.key.clone(), item.value_json.clone());
            self.unsaved.insert(item.key.clone());
        }
    }

    /// Returns the definition of a new key, drawn over the trainer's step; `None` for a known key.
    fn define(&mut self, key: &str) -> Option<Kind> {
        if !self.defined.insert(key.to_owned()) {
            return None;
        }
        let options = MetricOptions {
            defined: true,
            ..MetricOptions::default()
        };
        Some(Kind::Metric(Metric {
            name: key.to_owned(),
            step_metric: "step".to_owned(),
            options: Some(options),
            ..Metric::default()
        }))
    }
}

/// Returns the trainer's step of a row.
pub(super) fn step_of(row: &History) -> Option<u64> {
    integer(row, "step")
}

/// Returns W&B's own step of a row, which counts the rows of a log from 0.
#[cfg(feature = "online")]
pub(super) fn count_of(row: &History) -> Option<u64> {
    match integer(row, "_step") {
        Some(count) => Some(count),
        None => row.step.as_ref()?.num.try_into().ok(),
    }
}

fn integer(row: &History, key: &str) -> Option<u64> {
    let item = row.item.iter().find(|item| item.key == key)?;
    item.value_json.parse().ok()
}

/// Returns a key with its value in JSON.
pub(super) fn item(key: String, value_json: String) -> Item {
    Item {
        key,
        nested_key: Vec::new(),
        value_json,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_after_a_missing_one() {
        let at = Moment {
            step: 5,
            tokens: Some(0),
            runtime: 0.0,
            timestamp: 0.0,
        };
        let mut first = Rows::default();
        let written: Vec<_> = (0..4).flat_map(|_| first.row(at, Vec::new())).collect();
        let (mut second, mut row) = (Rows::default(), 0);
        for kind in &written {
            row += i32::from(matches!(kind, Kind::History(_)));
            if !(matches!(kind, Kind::History(_)) && row == 2) {
                second.replay(kind); // all but the second row, which a repair has lost
            }
        }
        let next = |rows: &mut Rows| rows.row(at, Vec::new());
        assert_eq!(next(&mut second), next(&mut first));
    }

    #[test]
    fn rows_of_data_without_tokens_have_no_tokens() {
        let mut at = Moment {
            step: 5,
            tokens: None,
            runtime: 0.0,
            timestamp: 0.0,
        };
        let keys = |rows: Vec<Kind>| {
            let Some(Kind::History(row)) = rows.into_iter().next_back() else {
                panic!("a row comes last")
            };
            row.item
                .into_iter()
                .map(|item| item.key)
                .collect::<Vec<_>>()
        };
        let mut rows = Rows::default();
        let own = ["step", "_timestamp", "_runtime", "_step"];
        assert_eq!(keys(rows.row(at, Vec::new())), own);
        assert!(!rows.defined.contains("tokens"));
        at.tokens = Some(640);
        assert_eq!(keys(rows.row(at, Vec::new())), OWN_KEYS);
    }
}
