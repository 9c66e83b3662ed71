//! The table for the terminal.

use super::{Row, Table, plain};
use crate::runs::RunStatus;
use bdh::lines::printable;
use serde_json::Value;
use std::fmt;

/// Columns of the widest line.
const COLUMNS: usize = 100;

impl fmt::Display for Table {
    /// Formats the rank, the metric, the settings that fit, snapshots of the metric, time, status and name of each run;
    /// then the reasons of failures.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![self.heads()];
        for (index, row) in self.rows.iter().enumerate() {
            lines.push(cells(index, row));
        }
        let widths = widths(&lines);
        let (kept, left_out) = self.fitting(&widths);
        for line in &lines {
            writeln!(f, "{}", joined(line, &kept, &widths))?;
        }
        if !left_out.is_empty() {
            fmt_left_out(f, &lines[0], &left_out)?;
        }
        for row in &self.rows {
            fmt_failure(f, row)?;
        }
        Ok(())
    }
}

impl Table {
    /// Returns the names of the columns.
    fn heads(&self) -> Vec<String> {
        let mut heads = vec!["#".to_owned(), self.metric.clone()];
        heads.extend_from_slice(&self.settings);
        for cut in &self.cuts {
            heads.push(format!("@{cut}"));
        }
        heads.extend(["s", "status", "run"].map(str::to_owned));
        heads
    }

    /// Returns the columns that fit into a line, and those left out: snapshots first, then the last settings.
    fn fitting(&self, widths: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let settings = 2..2 + self.settings.len();
        let snapshots = settings.end..settings.end + self.cuts.len();
        let mut kept: Vec<usize> = (0..widths.len()).collect();
        let mut left_out = Vec::new();
        for column in snapshots.chain(settings.rev()) {
            if line_width(&kept, widths) <= COLUMNS {
                break;
            }
            kept.retain(|kept| *kept != column);
            left_out.push(column);
        }
        left_out.sort_unstable();
        (kept, left_out)
    }
}

/// Returns the width of a line of some columns, which are two spaces apart.
fn line_width(columns: &[usize], widths: &[usize]) -> usize {
    let padded: usize = columns.iter().map(|column| widths[*column] + 2).sum();
    padded.saturating_sub(2)
}

/// Returns the cells of a row.
fn cells(index: usize, row: &Row) -> Vec<String> {
    let mut cells = vec![(index + 1).to_string(), shown(row.end.metric)];
    cells.extend(row.settings.iter().map(short));
    for snapshot in &row.at {
        cells.push(shown(snapshot.metric));
    }
    cells.extend([
        format!("{:.1}", row.seconds),
        row.status.to_string(),
        row.name.clone(),
    ]);
    for cell in &mut cells {
        *cell = one_line(cell);
    }
    cells
}

/// Returns the width of each column in characters.
fn widths(lines: &[Vec<String>]) -> Vec<usize> {
    let mut widths = vec![0; lines[0].len()];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    widths
}

/// Joins the cells of some columns, padded to their widths.
fn joined(line: &[String], columns: &[usize], widths: &[usize]) -> String {
    let mut text = String::new();
    for column in columns {
        text += &padded(line, *column, widths[*column]);
        text += "  ";
    }
    text.trim_end().to_owned()
}

/// Pads a cell: numbers to the right, status and name to the left.
fn padded(line: &[String], column: usize, width: usize) -> String {
    let cell = &line[column];
    if column + 2 >= line.len() {
        format!("{cell:<width$}")
    } else {
        format!("{cell:>width$}")
    }
}

/// Writes the names of the columns that did not fit.
fn fmt_left_out(f: &mut fmt::Formatter<'_>, heads: &[String], left_out: &[usize]) -> fmt::Result {
    let names: Vec<&str> = left_out.iter().map(|at| heads[*at].as_str()).collect();
    let list = names.join(", ");
    writeln!(f, "too wide for a terminal, but in the CSV: {list}")
}

/// Writes the reason of a failed run.
fn fmt_failure(f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
    match &row.status {
        RunStatus::Failed(why) if !why.is_empty() => {
            writeln!(f, "{}: {}", one_line(&row.name), printable(why))
        }
        _ => Ok(()),
    }
}

/// Removes line breaks and control characters from a name or a setting, which come from files.
fn one_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], " ")
}

fn shown(value: Option<f64>) -> String {
    match value {
        Some(value) => format!("{value:.4}"),
        None => "-".to_owned(),
    }
}

/// Formats a setting in few characters; random numbers have more digits than are useful.
fn short(value: &Value) -> String {
    if value.is_null() {
        return "-".to_owned();
    }
    let Some(number) = value.as_f64().filter(|_| value.is_f64()) else {
        return plain(value);
    };
    if number != 0.0 && !(1e-3..1e6).contains(&number.abs()) {
        return format!("{number:.2e}");
    }
    let text = format!("{number:.5}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
