//! A page for a browser: one file, no network.

use super::{Keys, Row, Run, Table};
use crate::record::number;
use crate::sweep::Goal;
use serde_json::{Map, Value, json};

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// Points of a curve that are drawn, at most: as many as the picture has room for.
const POINTS: usize = 240;

impl Table {
    /// One HTML file that opens in any browser, without a network: the table, sorted by a click, with the settings in
    /// which the runs differ; each recorded curve; parallel coordinates of the settings.
    ///
    /// `runs` are those of which the table was made.
    #[must_use]
    pub fn html(&self, title: &str, runs: &[Run], keys: &Keys) -> String {
        self.html_with(title, runs, keys, Map::new())
    }

    /// The same with more sections, which the page's script knows: `importance`, `forecast`.
    pub(crate) fn html_with(
        &self,
        title: &str,
        runs: &[Run],
        keys: &Keys,
        more: Map<String, Value>,
    ) -> String {
        let by_name = |name: &str| runs.iter().find(|run| run.name == name);
        let curves = |key: &&str| {
            let curves: Vec<_> = self
                .rows
                .iter()
                .map(|row| by_name(&row.name).map_or(json!([]), |run| thinned(run.series(key))))
                .collect();
            ((*key).to_owned(), Value::Array(curves))
        };
        let drawn = [&keys.metric, &keys.loss, &keys.weight_norm, &keys.grad_norm, &keys.lr];
        let drawn = drawn.map(String::as_str);
        let recorded =
            drawn.iter().filter(|key| runs.iter().any(|run| !run.series(key).is_empty()));
        let Value::Object(mut data) = json!({
            "metric": self.metric,
            "maximize": self.goal == Goal::Maximize,
            "summary": self.summary(),
            "settings": self.settings,
            "columns": self.columns(),
            "cells": self.cells(),
            "rows": self.rows,
            "curves": recorded.map(curves).collect::<Map<_, _>>(),
        }) else {
            return String::new(); // `json!` of an object is one
        };
        data.extend(more);
        // What a run is called must not end the script that it stands in.
        let data = Value::Object(data).to_string().replace('<', "\\u003c");
        let title = title.replace('&', "&amp;").replace('<', "&lt;").replace('$', "&#36;");
        // The data last: a name of a run may look like one of our places.
        let page =
            PAGE.replace("$STYLE", STYLE).replace("$SCRIPT", SCRIPT).replace("$TITLE", &title);
        page.replacen("$DATA", &data, 1)
    }

    fn summary(&self) -> String {
        let finite = self.rows.iter().filter_map(|row| row.end.metric).filter(|x| x.is_finite());
        let with_value = self.rows.iter().filter(|row| row.end.metric.is_some_and(f64::is_finite));
        let rank = |row: &&Row| self.goal.rank(row.end.metric);
        let best = with_value.min_by(|a, b| rank(a).total_cmp(&rank(b)));
        let best = best.map_or_else(String::new, |row| {
            format!("; the best is {} with {:.4}", row.name, row.end.metric.unwrap_or(f64::NAN))
        });
        format!(
            "{} runs, {} of them with a final {} ({}){best}.",
            self.rows.len(),
            finite.count(),
            self.metric,
            if self.goal == Goal::Maximize { "more is better" } else { "less is better" },
        )
    }
}

/// A curve in no more points than can be told apart, its last one among them.
fn thinned(series: &[(u64, f64)]) -> Value {
    let apart = series.len().div_ceil(POINTS).max(1);
    let last = series.len().saturating_sub(1);
    let kept = series.iter().enumerate().filter(|(index, _)| index % apart == 0 || *index == last);
    kept.map(|(_, (step, value))| json!([step, number(*value)])).collect()
}
