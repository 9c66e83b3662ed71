//! The report for the terminal: lines of at most 100 columns.

use super::ENOUGH;
use super::interval::Interval;
use super::lines::{WIDTH, correlation, list, short, wrapped};
use super::noise::SeedNoise;
use super::predictor::Predictor;
use super::protocol::Protocol;
use super::report::{Cell, CutTest, Report, Test};
use std::collections::BTreeSet;
use std::fmt::{self, Display};

/// Columns of a predictor's name, and of a figure.
const NAME: usize = 30;
const FIGURE: usize = 14;

/// Figures beside each other.
const MOST_CUTS: usize = (WIDTH - NAME) / FIGURE;

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            finished,
            diverged,
            unfinished,
            ..
        } = self;
        writeln!(
            f,
            "forecast of {} runs: {finished} finished, {diverged} diverged, {unfinished} unfinished; less is better",
            self.runs.len()
        )?;
        let noise = self.noise.map(|noise| {
            let SeedNoise {
                std,
                runs,
                configurations,
            } = noise;
            format!(
                "{}, the standard deviation of {runs} runs of {configurations} configuration(s)",
                short(std)
            )
        });
        let unknown = || "unknown, as no two runs differ in nothing but `seed`".to_owned();
        writeln!(f, "seed noise: {}", noise.unwrap_or_else(unknown))?;
        list(f, "settings learned from", &self.settings)?;
        list(
            f,
            "settings that only some runs have, left out",
            &self.partial_settings,
        )?;
        if *finished < ENOUGH {
            writeln!(
                f,
                "fewer than {ENOUGH} runs finished: ranks only, and nothing is claimed"
            )?;
            self.ranking(f)?;
        }
        let mut told = BTreeSet::new();
        for test in &self.tests {
            test.print(f, *finished >= ENOUGH, &mut told)?;
        }
        if !self.predictions.is_empty() {
            writeln!(f, "\nruns that are not through")?;
        }
        self.predictions
            .iter()
            .try_for_each(|prediction| wrapped(f, "  ", &prediction.to_string()))?;
        if let Some(saving) = &self.stopping {
            wrapped(f, "\n", &saving.to_string())?;
        }
        self.notes
            .iter()
            .try_for_each(|note| wrapped(f, "", &format!("note: {note}")))
    }
}

impl Report {
    /// The names of all runs by their last values at the latest cut that has any.
    fn ranking(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cuts = self.tests.iter().take(1).flat_map(|test| &test.cuts).rev();
        let ranked = cuts.filter_map(|cut| Some((cut.cut, cut.cell(Predictor::LastValue)?)));
        let mut ranked = ranked.filter(|(_, cell)| !cell.points.is_empty());
        let Some((cut, cell)) = ranked.next() else {
            return Ok(());
        };
        let mut points = cell.points.clone();
        points.sort_by(|a, b| a.predicted.total_cmp(&b.predicted));
        let names: Vec<_> = points
            .iter()
            .map(|point| self.runs[point.run].name.clone())
            .collect();
        list(
            f,
            &format!("ranking by the value at {cut}, best first"),
            &names,
        )
    }
}

impl Test {
    /// What is in `told` is not told again.
    fn print(
        &self,
        f: &mut fmt::Formatter<'_>,
        has_errors: bool,
        told: &mut BTreeSet<String>,
    ) -> fmt::Result {
        let figures = if has_errors {
            "mean absolute error (rank correlation)"
        } else {
            "(rank correlation)"
        };
        writeln!(f, "\n{}: {figures}; * are the baselines", self.protocol)?;
        let rows = self.rows(|cell| {
            let rho = cell.spearman().map(|rho| format!("({})", correlation(rho)));
            let figures = [cell.mae().map(short), rho];
            let told: Vec<String> = figures.into_iter().flatten().collect();
            (!told.is_empty()).then(|| told.join(" "))
        });
        self.table(f, rows)?;
        let new = self
            .silences()
            .into_iter()
            .filter(|line| told.insert(line.clone()));
        new.collect::<Vec<_>>()
            .iter()
            .try_for_each(|line| wrapped(f, "", line))?;
        for cut in &self.cuts {
            cut.counts(f)?;
            if let Some(comparison) = &cut.comparison {
                wrapped(f, "", &format!("{}: {comparison}", cut.cut))?;
            }
        }
        if self.protocol == Protocol::LeaveOneOut {
            self.details(f, has_errors)
        } else {
            Ok(())
        }
    }

    /// What it would mean to act on the predictions, and whether intervals keep their word.
    fn details(&self, f: &mut fmt::Formatter<'_>, has_errors: bool) -> fmt::Result {
        writeln!(
            f,
            "\ngoing on with the predicted best 1 / best 3 only: regret, and cost of the sweep"
        )?;
        let promoted = |cell: &Cell| Some(cell.score.as_ref()?.ranks.as_ref()?.promoted);
        let mut rows = self.rows(|cell| {
            let [one, three] = promoted(cell)?;
            Some(format!("{}/{}", short(one.regret), short(three.regret)))
        });
        let cost = |cut: &CutTest| {
            let [one, three] = promoted(cut.cell(Predictor::LastValue)?)?;
            Some(format!(
                "{:.0}%/{:.0}%",
                100.0 * one.spent,
                100.0 * three.spent
            ))
        };
        rows.push((
            "  its cost".to_owned(),
            self.cuts.iter().map(cost).collect(),
        ));
        self.table(f, rows)?;
        if has_errors {
            let level = 100.0 * Interval::LEVEL;
            writeln!(
                f,
                "\n{level:.0} % intervals: how many hold the end (mean width)"
            )?;
            let rows = self.rows(|cell| {
                let error = cell.score.as_ref()?.error.as_ref()?;
                Some(format!(
                    "{:.0}% ({})",
                    100.0 * error.coverage?,
                    short(error.width?)
                ))
            });
            self.table(f, rows)?;
        }
        Ok(())
    }

    /// A row for each predictor that has any figure, of one for each cut.
    fn rows(&self, figure: impl Fn(&Cell) -> Option<String>) -> Vec<Row> {
        let row = |predictor: Predictor| {
            let mark = if predictor.is_baseline() { '*' } else { ' ' };
            let of = |cut: &CutTest| cut.cell(predictor).and_then(&figure);
            (
                format!("{mark} {predictor}"),
                self.cuts.iter().map(of).collect(),
            )
        };
        let rows = Predictor::ALL.map(row).into_iter();
        rows.filter(|(_, figures): &Row| figures.iter().any(Option::is_some))
            .collect()
    }

    /// Rows under the cuts, as many as there is room for and the others below.
    fn table(&self, f: &mut fmt::Formatter<'_>, mut rows: Vec<Row>) -> fmt::Result {
        let cuts = self
            .cuts
            .iter()
            .map(|cut| Some(cut.cut.to_string()))
            .collect();
        rows.insert(0, (String::new(), cuts));
        for from in (0..self.cuts.len()).step_by(MOST_CUTS) {
            for (name, figures) in &rows {
                let figure = |figure: &Option<String>| {
                    format!("{:<FIGURE$}", figure.as_deref().unwrap_or("–"))
                };
                let line: String = figures
                    .iter()
                    .skip(from)
                    .take(MOST_CUTS)
                    .map(figure)
                    .collect();
                writeln!(f, "{}", format!("{name:<NAME$}{line}").trim_end())?;
            }
        }
        Ok(())
    }

    /// Why a dash is one, and which figures are of last values.
    fn silences(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for predictor in Predictor::ALL {
            let cells = self
                .cuts
                .iter()
                .filter_map(|cut| Some((cut, cut.cell(predictor)?)));
            let mut told: Vec<(String, Vec<String>)> = Vec::new();
            for (cut, cell) in cells {
                let text = match cell.silent {
                    Some((runs, why)) if runs < cut.predicted => {
                        format!("silent on {runs} of {} runs: {why}", cut.predicted)
                    }
                    Some((_, why)) => format!("silent: {why}"),
                    None if cell.last_values > 0 => {
                        format!(
                            "the last value for {} of {} runs",
                            cell.last_values, cut.predicted
                        )
                    }
                    None => continue,
                };
                match told.iter_mut().find(|(known, _)| *known == text) {
                    Some((_, cuts)) => cuts.push(cut.cut.to_string()),
                    None => told.push((text, vec![cut.cut.to_string()])),
                }
            }
            let line = |(text, cuts): (String, Vec<String>)| {
                format!("{predictor}, {}: {text}", cuts.join(", "))
            };
            lines.extend(told.into_iter().map(line));
        }
        lines
    }
}

impl CutTest {
    /// Which runs count otherwise.
    fn counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.ended_by_then, "had ended by then and are left out"),
            (
                self.unseen_by_then,
                "had not been evaluated by then and are left out",
            ),
            (
                self.diverged_by_then,
                "had diverged by then and count in ranks only",
            ),
        ];
        let told = parts.into_iter().filter(|(runs, _)| *runs > 0);
        let told: Vec<_> = told
            .map(|(runs, what)| format!("{runs} run(s) {what}"))
            .collect();
        if told.is_empty() {
            Ok(())
        } else {
            wrapped(f, "", &format!("{}: {}", self.cut, told.join("; ")))
        }
    }
}

/// A name, and a figure for each cut.
type Row = (String, Vec<Option<String>>);
