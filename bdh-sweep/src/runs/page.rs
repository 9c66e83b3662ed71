//! A page for a browser: one file, no network.

use super::{Keys, Row, Run, Table, to_forecast};
use crate::goal::Goal;
use bdh::number;
use bdh_forecast::{CutTest, Importance, Point, Predictor, Report};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// What the bars are.
const IMPORTANCE: &str = "By how much the end of a run is foretold worse from the settings of all runs without this one, with \
                          the range of 95 % of the bootstrap samples. One that holds 0 says nothing.";

/// Points of a curve that are drawn, at most: as many as the picture has room for.
const POINTS: usize = 240;

impl Table {
    /// One HTML file that opens in any browser, without a network: the table, sorted by a click, with the settings in
    /// which the runs differ; each recorded curve; parallel coordinates of the settings; which of them matter.
    ///
    /// `runs` are those of which the table was made.
    #[must_use]
    pub fn html(&self, title: &str, runs: &[Run], keys: &Keys) -> String {
        self.html_with(title, runs, keys, None)
    }

    /// The same with a forecast of the runs, run by run.
    #[must_use]
    pub fn html_with_forecast(
        &self,
        title: &str,
        runs: &[Run],
        keys: &Keys,
        report: &Report,
    ) -> String {
        self.html_with(title, runs, keys, Some(report))
    }

    fn html_with(&self, title: &str, runs: &[Run], keys: &Keys, report: Option<&Report>) -> String {
        let by_name: HashMap<&str, &Run> = runs.iter().map(|run| (&*run.name, run)).collect();
        let curves = |key: &&str| {
            let curves: Vec<_> = self
                .rows
                .iter()
                .map(|row| {
                    by_name
                        .get(&*row.name)
                        .map_or(json!([]), |run| thinned(run.series(key)))
                })
                .collect();
            ((*key).to_owned(), Value::Array(curves))
        };
        let drawn = [
            &keys.metric,
            &keys.loss,
            &keys.weight_norm,
            &keys.grad_norm,
            &keys.lr,
        ];
        let drawn = drawn.map(String::as_str);
        let recorded = drawn
            .iter()
            .filter(|key| runs.iter().any(|run| !run.series(key).is_empty()));
        let data = json!({
            "metric": self.metric,
            "maximize": self.goal == Goal::Maximize,
            "summary": self.summary(),
            "settings": self.settings,
            "columns": self.columns(),
            "cells": self.cells(),
            "rows": self.rows,
            "curves": recorded.map(curves).collect::<Map<_, _>>(),
            "importance": bars(&Importance::of(&to_forecast(runs, keys)).unwrap_or_default()),
            "importance_is": IMPORTANCE,
            "forecast": report.map(|of| json!({ "text": of.to_string(), "panels": panels(of) })),
        });
        // What a run is called must not end the script that it stands in.
        let data = data.to_string().replace('<', "\\u003c");
        let title = title
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('$', "&#36;");
        // The data last: a name of a run may look like one of our places.
        let page = PAGE
            .replace("$STYLE", STYLE)
            .replace("$SCRIPT", SCRIPT)
            .replace("$TITLE", &title);
        page.replacen("$DATA", &data, 1)
    }

    fn summary(&self) -> String {
        let finite = self
            .rows
            .iter()
            .filter_map(|row| row.end.metric)
            .filter(|x| x.is_finite());
        let with_value = self
            .rows
            .iter()
            .filter(|row| row.end.metric.is_some_and(f64::is_finite));
        let rank = |row: &&Row| self.goal.rank(row.end.metric);
        let best = with_value.min_by(|a, b| rank(a).total_cmp(&rank(b)));
        let best = best.map_or_else(String::new, |row| {
            format!(
                "; the best is {} with {:.4}",
                row.name,
                row.end.metric.unwrap_or(f64::NAN)
            )
        });
        format!(
            "{} runs, {} of them with a final {} ({}){best}.",
            self.rows.len(),
            finite.count(),
            self.metric,
            if self.goal == Goal::Maximize {
                "more is better"
            } else {
                "less is better"
            },
        )
    }
}

fn bars(importance: &[Importance]) -> Vec<Value> {
    let bar = |of: &Importance| json!({ "name": of.name, "value": of.value, "low": of.between.low, "high": of.between.high });
    importance.iter().map(bar).collect()
}

/// Predictions beside the truth: of the settings alone once, of the early value and of everything at each cut.
fn panels(report: &Report) -> Vec<Value> {
    let Some(test) = report.tests.first() else {
        return Vec::new();
    };
    let once = test.cuts.first().map(|cut| (cut, Predictor::Settings));
    let shown = [Predictor::Affine, Predictor::CurveSettings];
    let each = test
        .cuts
        .iter()
        .flat_map(|cut| shown.map(|predictor| (cut, predictor)));
    let panel = |(cut, predictor): (&CutTest, Predictor)| {
        let cell = cut.cell(predictor)?;
        let point = |point: &Point| {
            let interval = point
                .interval
                .map_or([None; 2], |of| [Some(of.low), Some(of.high)]);
            let name = report.runs.get(point.run).map(|run| &run.name);
            json!({ "name": name, "truth": point.truth, "value": point.predicted,
                    "low": interval[0], "high": interval[1] })
        };
        let at = if predictor == Predictor::Settings {
            String::new()
        } else {
            format!(" at {}", cut.cut)
        };
        let points: Vec<_> = cell.points.iter().map(point).collect();
        Some(json!({ "name": format!("{predictor}{at}"), "points": points }))
    };
    once.into_iter().chain(each).filter_map(panel).collect()
}

/// A curve in no more points than can be told apart, its last one among them.
fn thinned(series: &[(u64, f64)]) -> Value {
    let apart = series.len().div_ceil(POINTS).max(1);
    let last = series.len().saturating_sub(1);
    let kept = series
        .iter()
        .enumerate()
        .filter(|(index, _)| index % apart == 0 || *index == last);
    kept.map(|(_, (step, value))| json!([step, number::to_json(*value)]))
        .collect()
}
