//! The report for the terminal: lines of at most 100 columns.

use super::ENOUGH;
use super::interval::Interval;
use super::lines::{WIDTH, correlation, list, short, wrapped};
use super::predictor::Predictor;
use super::protocol::Protocol;
use super::report::{Cell, CutTest, Report, Test};
use super::score::Promotion;
use std::collections::BTreeSet;
use std::fmt::{self, Display};

/// Columns of a predictor's name.
const NAME: usize = 30;
/// Columns of a figure.
const FIGURE: usize = 14;

/// Number of figures next to each other.
const MOST_CUTS: usize = (WIDTH - NAME) / FIGURE;

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_summary(f)?;
        let has_errors = self.finished >= ENOUGH;
        if !has_errors {
            writeln!(
                f,
                "fewer than {ENOUGH} runs finished: only ranks are reported"
            )?;
            self.fmt_ranking(f)?;
        }
        let mut printed = BTreeSet::new();
        for test in &self.tests {
            test.fmt(f, has_errors, &mut printed)?;
        }
        self.fmt_predictions(f)?;
        if let Some(saving) = &self.stopping {
            wrapped(f, "\n", &saving.to_string())?;
        }
        for note in &self.notes {
            wrapped(f, "", &format!("note: {note}"))?;
        }
        Ok(())
    }
}

impl Report {
    /// Writes the number of runs, the seed noise and the settings.
    fn fmt_summary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "forecast of {} runs: {} finished, {} diverged, {} unfinished; lower is better",
            self.runs.len(),
            self.finished,
            self.diverged,
            self.unfinished
        )?;
        self.fmt_noise(f)?;
        list(f, "settings used", &self.settings)?;
        list(
            f,
            "settings not used, because only some runs have them",
            &self.partial_settings,
        )
    }

    fn fmt_noise(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.noise {
            Some(noise) => writeln!(
                f,
                "seed noise: {}, the standard deviation of {} runs of {} configuration(s)",
                short(noise.std),
                noise.runs,
                noise.configurations
            ),
            None => writeln!(
                f,
                "seed noise: unknown, because no two runs differ only in `seed`"
            ),
        }
    }

    /// Writes the predictions of the unfinished runs.
    fn fmt_predictions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.predictions.is_empty() {
            writeln!(f, "\nunfinished runs")?;
        }
        for prediction in &self.predictions {
            wrapped(f, "  ", &prediction.to_string())?;
        }
        Ok(())
    }

    /// Writes the names of all runs, ranked by their last values at the latest cut that has any.
    fn fmt_ranking(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(test) = self.tests.first() else {
            return Ok(());
        };
        for cut in test.cuts.iter().rev() {
            let Some(cell) = cut.cell(Predictor::LastValue) else {
                continue;
            };
            if cell.points.is_empty() {
                continue;
            }
            let what = format!("ranking by the value at {}, best first", cut.cut);
            return list(f, &what, &self.ranked_names(cell));
        }
        Ok(())
    }

    /// Returns the names of predicted runs, the lowest prediction first.
    fn ranked_names(&self, cell: &Cell) -> Vec<String> {
        let mut points = cell.points.clone();
        points.sort_by(|a, b| a.predicted.total_cmp(&b.predicted));
        let mut names = Vec::with_capacity(points.len());
        for point in &points {
            names.push(self.runs[point.run].name.clone());
        }
        names
    }
}

impl Test {
    /// Writes the test, without remarks that were already `printed`.
    fn fmt(
        &self,
        f: &mut fmt::Formatter<'_>,
        has_errors: bool,
        printed: &mut BTreeSet<String>,
    ) -> fmt::Result {
        self.fmt_heading(f, has_errors)?;
        self.fmt_table(f, &self.lines(error_and_rank))?;
        for remark in self.remarks() {
            if printed.insert(remark.clone()) {
                wrapped(f, "", &remark)?;
            }
        }
        for cut in &self.cuts {
            cut.fmt_left_out(f)?;
            cut.fmt_comparison(f)?;
        }
        if self.protocol == Protocol::LeaveOneOut {
            self.fmt_promotion(f)?;
            if has_errors {
                self.fmt_intervals(f)?;
            }
        }
        Ok(())
    }

    fn fmt_heading(&self, f: &mut fmt::Formatter<'_>, has_errors: bool) -> fmt::Result {
        let figures = if has_errors {
            "mean absolute error (rank correlation)"
        } else {
            "(rank correlation)"
        };
        writeln!(f, "\n{}: {figures}; * marks baselines", self.protocol)
    }

    /// Writes the result of continuing only the runs predicted best.
    fn fmt_promotion(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\ncontinuing only the predicted best 1 / best 3: regret, and cost of the sweep"
        )?;
        let mut lines = self.lines(regrets);
        lines.push(Line {
            name: "  its cost".to_owned(),
            figures: self.cuts.iter().map(CutTest::costs).collect(),
        });
        self.fmt_table(f, &lines)
    }

    /// Writes how often intervals contain the true end.
    fn fmt_intervals(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = 100.0 * Interval::LEVEL;
        writeln!(
            f,
            "\n{level:.0} % intervals: share that contains the true end (mean width)"
        )?;
        self.fmt_table(f, &self.lines(coverage_and_width))
    }

    /// Returns a line for each predictor that has any figure.
    fn lines(&self, figure: fn(&Cell) -> Option<String>) -> Vec<Line> {
        let mut lines = Vec::new();
        for predictor in Predictor::ALL {
            let mut figures = Vec::with_capacity(self.cuts.len());
            for cut in &self.cuts {
                figures.push(cut.cell(predictor).and_then(figure));
            }
            if figures.iter().any(Option::is_some) {
                let mark = if predictor.is_baseline() { '*' } else { ' ' };
                let name = format!("{mark} {predictor}");
                lines.push(Line { name, figures });
            }
        }
        lines
    }

    /// Writes lines below a header with the cuts, in blocks of [`MOST_CUTS`] columns.
    fn fmt_table(&self, f: &mut fmt::Formatter<'_>, lines: &[Line]) -> fmt::Result {
        let mut header = Line::default();
        for cut in &self.cuts {
            header.figures.push(Some(cut.cut.to_string()));
        }
        for from in (0..self.cuts.len()).step_by(MOST_CUTS) {
            header.fmt(f, from)?;
            for line in lines {
                line.fmt(f, from)?;
            }
        }
        Ok(())
    }

    /// Explains missing figures and figures that are last values, one remark per predictor and reason.
    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for predictor in Predictor::ALL {
            for (reason, cuts) in self.reasons(predictor) {
                remarks.push(format!("{predictor}, {}: {reason}", cuts.join(", ")));
            }
        }
        remarks
    }

    /// Returns each remark on a predictor with the cuts that it is about, in the order of their first cut.
    fn reasons(&self, predictor: Predictor) -> Vec<(String, Vec<String>)> {
        let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
        for cut in &self.cuts {
            let Some(reason) = cut.remark(predictor) else {
                continue;
            };
            let name = cut.cut.to_string();
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, cuts)) => cuts.push(name),
                None => reasons.push((reason, vec![name])),
            }
        }
        reasons
    }
}

/// A name, and a figure for each cut.
#[derive(Debug, Default)]
struct Line {
    name: String,
    figures: Vec<Option<String>>,
}

impl Line {
    /// Writes the name and up to [`MOST_CUTS`] figures, beginning with the figure at this index.
    fn fmt(&self, f: &mut fmt::Formatter<'_>, from: usize) -> fmt::Result {
        let mut text = format!("{:<NAME$}", self.name);
        for figure in self.figures.iter().skip(from).take(MOST_CUTS) {
            text += &format!("{:<FIGURE$}", figure.as_deref().unwrap_or("–"));
        }
        writeln!(f, "{}", text.trim_end())
    }
}

fn error_and_rank(cell: &Cell) -> Option<String> {
    let rank = cell.spearman().map(correlation);
    match (cell.mae().map(short), rank) {
        (Some(error), Some(rank)) => Some(format!("{error} ({rank})")),
        (Some(error), None) => Some(error),
        (None, Some(rank)) => Some(format!("({rank})")),
        (None, None) => None,
    }
}

fn regrets(cell: &Cell) -> Option<String> {
    let [one, three] = promoted(cell)?;
    Some(format!("{}/{}", short(one.regret), short(three.regret)))
}

fn promoted(cell: &Cell) -> Option<[Promotion; 2]> {
    Some(cell.score.as_ref()?.ranks.as_ref()?.promoted)
}

fn coverage_and_width(cell: &Cell) -> Option<String> {
    let error = cell.score.as_ref()?.error.as_ref()?;
    let (coverage, width) = (error.coverage?, error.width?);
    Some(format!("{:.0}% ({})", 100.0 * coverage, short(width)))
}

impl CutTest {
    /// Returns the costs of continuing the best one and the best three; they depend on the number of runs alone.
    fn costs(&self) -> Option<String> {
        let [one, three] = promoted(self.cell(Predictor::LastValue)?)?;
        Some(format!(
            "{:.0}%/{:.0}%",
            100.0 * one.spent,
            100.0 * three.spent
        ))
    }

    /// Explains why a predictor has no figure here, or for how many runs it fell back to the last value.
    fn remark(&self, predictor: Predictor) -> Option<String> {
        let cell = self.cell(predictor)?;
        match cell.silent {
            Some((runs, reason)) if runs < self.predicted => Some(format!(
                "no prediction for {runs} of {} runs: {reason}",
                self.predicted
            )),
            Some((_, reason)) => Some(format!("no prediction: {reason}")),
            None if cell.last_values > 0 => Some(format!(
                "fell back to the last value for {} of {} runs",
                cell.last_values, self.predicted
            )),
            None => None,
        }
    }

    /// Writes the comparison with the baselines, if there is one.
    fn fmt_comparison(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.comparison {
            Some(comparison) => wrapped(f, "", &format!("{}: {comparison}", self.cut)),
            None => Ok(()),
        }
    }

    /// Writes how many runs are left out, or count in ranks only.
    fn fmt_left_out(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        for (runs, what) in [
            (self.ended_by_then, "ended before the cut and are left out"),
            (
                self.unseen_by_then,
                "had no evaluation before the cut and are left out",
            ),
            (
                self.diverged_by_then,
                "diverged before the cut and count in ranks only",
            ),
        ] {
            if runs > 0 {
                parts.push(format!("{runs} run(s) {what}"));
            }
        }
        if parts.is_empty() {
            return Ok(());
        }
        wrapped(f, "", &format!("{}: {}", self.cut, parts.join("; ")))
    }
}
