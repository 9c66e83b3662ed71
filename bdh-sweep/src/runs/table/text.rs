//! The table on a terminal.

use super::{Row, Table, plain};
use crate::runs::RunStatus;
use bdh::printable;
use serde_json::Value;
use std::fmt;

/// Columns of the widest line.
const COLUMNS: usize = 100;

impl fmt::Display for Table {
    /// Number of the row, metric, settings as many as fit, snapshots of the metric, time, status, name; then why some have failed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranked = self.rows.iter().enumerate().map(|(index, row)| {
            let mut cells = vec![(index + 1).to_string(), shown(row.end.metric)];
            cells.extend(row.settings.iter().map(short));
            cells.extend(row.at.iter().map(|at| shown(at.metric)));
            cells.extend([
                format!("{:.1}", row.seconds),
                row.status.to_string(),
                row.name.clone(),
            ]);
            cells.iter().map(|cell| one_line(cell)).collect()
        });
        let mut heads = vec!["#".to_owned(), self.metric.clone()];
        heads.extend(self.settings.iter().cloned());
        heads.extend(self.cuts.iter().map(|cut| format!("@{cut}")));
        heads.extend(["s", "status", "run"].map(str::to_owned));
        let lines: Vec<Vec<String>> = std::iter::once(heads).chain(ranked).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
        let widths: Vec<_> = (0..lines[0].len())
            .map(|column| width(column).unwrap_or(0))
            .collect();
        let (kept, left_out) = self.fitting(&widths);
        for line in &lines {
            let cells: Vec<_> = kept
                .iter()
                .map(|&at| pad(&line[at], widths[at], at, line))
                .collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        if !left_out.is_empty() {
            let names: Vec<_> = left_out.iter().map(|&at| lines[0][at].as_str()).collect();
            writeln!(
                f,
                "too wide for a terminal, but in the CSV: {}",
                names.join(", ")
            )?;
        }
        self.rows.iter().try_for_each(|row| failure(f, row))
    }
}

impl Table {
    /// The columns that fit a line, and those that do not: snapshots go first, then the last settings.
    fn fitting(&self, widths: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let settings = 2..2 + self.settings.len();
        let snapshots = settings.end..settings.end + self.cuts.len();
        let mut kept: Vec<_> = (0..widths.len()).collect();
        let mut left_out = Vec::new();
        for column in snapshots.chain(settings.rev()) {
            let line: usize = kept.iter().map(|&column| widths[column] + 2).sum();
            if line <= COLUMNS + 2 {
                break;
            }
            kept.retain(|kept| *kept != column);
            left_out.push(column);
        }
        left_out.sort_unstable();
        (kept, left_out)
    }
}

/// Numbers to the right, status and name to the left.
fn pad(cell: &str, width: usize, column: usize, line: &[String]) -> String {
    if column + 2 >= line.len() {
        format!("{cell:<width$}")
    } else {
        format!("{cell:>width$}")
    }
}

fn failure(f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
    match &row.status {
        RunStatus::Failed(why) if !why.is_empty() => {
            writeln!(f, "{}: {}", one_line(&row.name), printable(why))
        }
        _ => Ok(()),
    }
}

/// A name or a setting from a file, which may hold anything.
fn one_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], " ")
}

fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
}

/// A setting in few characters: numbers that were drawn have more digits than anybody reads.
fn short(value: &Value) -> String {
    match value.as_f64().filter(|_| value.is_f64()) {
        Some(number) if number != 0.0 && !(1e-3..1e6).contains(&number.abs()) => {
            format!("{number:.2e}")
        }
        Some(number) => format!("{number:.5}")
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned(),
        None if value.is_null() => "-".to_owned(),
        None => plain(value),
    }
}
