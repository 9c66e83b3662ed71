//! Records as rows of history, with the definitions and the summary that belong to them.
//!
//! W&B drops a row whose `_step` went back. Here `_step` only counts rows, and the trainer's step is a metric of
//! its own, `step`, by which every other one is defined to be drawn: nothing is dropped, and axes are right.

use crate::proto::{History, Item, Items, Kind, Metric, MetricOptions, Step};
use std::collections::{BTreeMap, HashSet};

/// Keys that are the sink's own in every row.
pub(super) const OWN_KEYS: [&str; 5] = ["step", "tokens", "_timestamp", "_runtime", "_step"];

/// What has been written so far.
#[derive(Debug, Default)]
pub(super) struct Rows {
    count: i64,
    last_step: Option<u64>,
    defined: HashSet<String>,
    /// The last value of every key, as JSON.
    summary: BTreeMap<String, String>,
    /// The keys whose last value is not in the log's summary yet.
    unsaved: HashSet<String>,
}

/// When a row was recorded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) step: u64,
    pub(super) tokens: u64,
    /// Seconds of training.
    pub(super) runtime: f64,
    /// Seconds since 1970.
    pub(super) timestamp: f64,
}

impl Rows {
    /// The trainer's step of the last row.
    pub(super) fn last_step(&self) -> Option<u64> {
        self.last_step
    }

    /// The entries for one row: a definition for each new key, then the row. Values are JSON.
    pub(super) fn row(&mut self, at: Moment, values: Vec<(String, String)>) -> Vec<Kind> {
        let mut kinds: Vec<_> = values
            .iter()
            .filter_map(|(key, _)| self.define(key))
            .collect();
        kinds.extend(self.define("tokens"));
        let own = [
            at.step.to_string(),
            at.tokens.to_string(),
            super::text::number(at.timestamp),
            super::text::number(at.runtime),
            self.count.to_string(),
        ];
        let own = OWN_KEYS.map(str::to_owned).into_iter().zip(own);
        let item: Vec<_> = values
            .into_iter()
            .chain(own)
            .map(|(key, value)| item(key, value))
            .collect();
        let row = Kind::History(History {
            item,
            step: Some(Step { num: self.count }),
        });
        self.replay(&row);
        kinds.push(row);
        kinds
    }

    /// The keys of the summary that changed since the last call, if any did.
    pub(super) fn summary(&mut self) -> Option<Kind> {
        let mut keys: Vec<_> = self.unsaved.drain().collect();
        keys.sort_unstable();
        let value = |key: String| {
            self.summary
                .get(&key)
                .map(|value| item(key.clone(), value.clone()))
        };
        let update: Vec<_> = keys.into_iter().filter_map(value).collect();
        (!update.is_empty()).then(|| {
            Kind::Summary(Items {
                update,
                remove: Vec::new(),
            })
        })
    }

    /// The whole summary as one JSON object.
    pub(super) fn summary_json(&self) -> String {
        super::text::object(
            self.summary
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str())),
        )
    }

    /// Takes note of an entry that is in the log.
    pub(super) fn replay(&mut self, kind: &Kind) {
        match kind {
            Kind::Metric(metric) => {
                self.defined.insert(metric.name.clone());
            }
            Kind::History(row) => {
                // Not one more than before: after a repair, rows may be missing.
                self.count = row
                    .step
                    .as_ref()
                    .map_or(self.count, |step| step.num)
                    .saturating_add(1);
                self.last_step = step_of(row).or(self.last_step);
                for item in &row.item {
                    self.summary
                        .insert(item.key.clone(), item.value_json.clone());
                    self.unsaved.insert(item.key.clone());
                }
            }
            _ => {}
        }
    }

    /// The definition of a key that is new: it is drawn over the trainer's step.
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

/// The trainer's step of a row.
pub(super) fn step_of(row: &History) -> Option<u64> {
    row.item
        .iter()
        .find(|item| item.key == "step")?
        .value_json
        .parse()
        .ok()
}

/// W&B's own step of a row: it counts the rows of a log from 0.
#[cfg(feature = "online")]
pub(super) fn count_of(row: &History) -> Option<u64> {
    let counted = row.item.iter().find(|item| item.key == "_step");
    let counted = counted.and_then(|item| item.value_json.parse().ok());
    counted.or_else(|| {
        row.step
            .as_ref()
            .and_then(|step| u64::try_from(step.num).ok())
    })
}

/// A key with its value in JSON.
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
    fn rows_are_counted_on_behind_one_that_is_missing() {
        let at = Moment {
            step: 5,
            tokens: 0,
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
}
