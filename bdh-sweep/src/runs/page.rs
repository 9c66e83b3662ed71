//! A page for a browser: one file that needs no network.

use super::{Keys, Row, Run, Table, to_forecast};
use crate::goal::Goal;
use bdh::number;
use bdh_forecast::{Cell, Importance, Predictor, Report};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// Explanation of the bars.
const IMPORTANCE: &str = "How much worse the end of a run is predicted from the settings of all runs without this one, with \
                          the 95 % bootstrap interval. An interval that contains 0 leaves the importance open.";

/// Largest number of points of a curve; the picture has no room for more.
const POINTS: usize = 240;

impl Table {
    /// Returns an HTML file that any browser opens without a network.
    ///
    /// The page has the table, sorted by a click, with the settings in which the runs differ; each recorded curve;
    /// parallel coordinates of the settings; the importance of each setting. `runs` are those of the table.
    #[must_use]
    pub fn html(&self, title: &str, runs: &[Run], keys: &Keys) -> String {
        self.html_with(title, runs, keys, &Value::Null)
    }

    /// Returns an HTML file as [`html`](Self::html) does, with a forecast of the runs.
    #[must_use]
    pub fn html_with_forecast(
        &self,
        title: &str,
        runs: &[Run],
        keys: &Keys,
        report: &Report,
    ) -> String {
        let forecast = json!({ "text": report.to_string(), "panels": panels(report) });
        self.html_with(title, runs, keys, &forecast)
    }

    fn html_with(&self, title: &str, runs: &[Run], keys: &Keys, forecast: &Value) -> String {
        let importance = Importance::of(&to_forecast(runs, keys)).unwrap_or_default();
        let data = json!({
            "metric": self.metric,
            "maximize": self.goal == Goal::Maximize,
            "summary": self.summary(),
            "settings": self.settings,
            "columns": self.columns(),
            "cells": self.cells(),
            "rows": self.rows,
            "curves": self.curves(runs, keys),
            "importance": bars(&importance),
            "importance_is": IMPORTANCE,
            "forecast": forecast,
        });
        filled(title, &data)
    }

    /// Returns the curves of each recorded key, in the order of the rows.
    fn curves(&self, runs: &[Run], keys: &Keys) -> Map<String, Value> {
        let mut by_name = HashMap::with_capacity(runs.len());
        for run in runs {
            by_name.insert(run.name.as_str(), run);
        }
        let mut all = Map::new();
        for key in [
            &keys.metric,
            &keys.loss,
            &keys.weight_norm,
            &keys.grad_norm,
            &keys.lr,
        ] {
            if runs.iter().all(|run| run.series(key).is_empty()) {
                continue;
            }
            all.insert(key.clone(), Value::Array(self.curves_of(key, &by_name)));
        }
        all
    }

    /// Returns the curve of a key for each row.
    fn curves_of(&self, key: &str, by_name: &HashMap<&str, &Run>) -> Vec<Value> {
        let mut curves = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            let run = by_name.get(row.name.as_str());
            curves.push(run.map_or(json!([]), |run| thinned(run.series(key))));
        }
        curves
    }

    /// Returns the rows with a finite final metric.
    fn finite_ends(&self) -> Vec<(f64, &Row)> {
        let mut ends = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            if let Some(value) = row.end.metric
                && value.is_finite()
            {
                ends.push((value, row));
            }
        }
        ends
    }

    /// Returns the first of the best ends.
    fn best_of<'t>(&self, ends: &[(f64, &'t Row)]) -> Option<(f64, &'t Row)> {
        let rank = |value: f64| self.goal.rank(Some(value));
        let best = ends.iter().min_by(|a, b| rank(a.0).total_cmp(&rank(b.0)));
        best.copied()
    }

    fn summary(&self) -> String {
        let finite = self.finite_ends();
        let winner = match self.best_of(&finite) {
            Some((value, row)) => format!("; the best is {} with {value:.4}", row.name),
            None => String::new(),
        };
        let goal = match self.goal {
            Goal::Maximize => "higher is better",
            Goal::Minimize => "lower is better",
        };
        format!(
            "{} runs, {} of them with a final {} ({goal}){winner}.",
            self.rows.len(),
            finite.len(),
            self.metric,
        )
    }
}

/// Returns the page with its title and data.
fn filled(title: &str, data: &Value) -> String {
    let title = title
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('$', "&#36;");
    let page = PAGE
        .replace("$STYLE", STYLE)
        .replace("$SCRIPT", SCRIPT)
        .replace("$TITLE", &title);
    // The name of a run must not be able to end the script that contains the data.
    let data = data.to_string().replace('<', "\\u003c");
    // The data go last: the name of a run may look like a placeholder.
    page.replacen("$DATA", &data, 1)
}

fn bars(importance: &[Importance]) -> Vec<Value> {
    let mut bars = Vec::with_capacity(importance.len());
    for setting in importance {
        bars.push(json!({
            "name": setting.name,
            "value": setting.value,
            "low": setting.between.low,
            "high": setting.between.high,
        }));
    }
    bars
}

/// Returns predictions and true ends: from settings once, since they are the same at all cuts; then from the early
/// value and from curve and settings at each cut.
fn panels(report: &Report) -> Vec<Value> {
    let Some(test) = report.tests.first() else {
        return Vec::new();
    };
    let mut panels = Vec::new();
    if let Some(cut) = test.cuts.first()
        && let Some(cell) = cut.cell(Predictor::Settings)
    {
        let name = Predictor::Settings.to_string();
        panels.push(panel(report, cell, &name));
    }
    for cut in &test.cuts {
        for predictor in [Predictor::Affine, Predictor::CurveSettings] {
            if let Some(cell) = cut.cell(predictor) {
                let name = format!("{predictor} at {}", cut.cut);
                panels.push(panel(report, cell, &name));
            }
        }
    }
    panels
}

fn panel(report: &Report, cell: &Cell, name: &str) -> Value {
    let mut points = Vec::with_capacity(cell.points.len());
    for point in &cell.points {
        points.push(json!({
            "name": report.runs.get(point.run).map(|run| &run.name),
            "truth": point.truth,
            "value": point.predicted,
            "low": point.interval.map(|interval| interval.low),
            "high": point.interval.map(|interval| interval.high),
        }));
    }
    json!({ "name": name, "points": points })
}

/// Returns evenly spaced points of a curve, about [`POINTS`] of them, including the last one.
fn thinned(series: &[(u64, f64)]) -> Value {
    let every = series.len().div_ceil(POINTS).max(1);
    let mut points = Vec::new();
    for (index, (step, value)) in series.iter().enumerate() {
        if index % every == 0 || index + 1 == series.len() {
            points.push(json!([step, number::to_json(*value)]));
        }
    }
    Value::Array(points)
}
