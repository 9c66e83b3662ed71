//! Results as sentences.

use super::interval::Interval;
use super::lines::short;
use super::report::{Comparison, Prediction, Versus};
use super::stop::Saving;
use std::fmt::{self, Display};

impl Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let baselines: Vec<&Versus> = self.against.iter().collect();
        if baselines.is_empty() {
            write!(f, "no baseline has an error, so nothing is claimed")
        } else if self.is_clear() {
            self.fmt_clear(f, &baselines)
        } else {
            self.fmt_unclear(f, baselines)
        }
    }
}

impl Comparison {
    /// Writes that the best predictor beats all baselines.
    fn fmt_clear(&self, f: &mut fmt::Formatter<'_>, baselines: &[&Versus]) -> fmt::Result {
        let (best, mae) = (self.best, short(self.mae));
        let names = match baselines.len() {
            1 => "the only available baseline",
            _ => "both baselines",
        };
        let figures = joined(baselines);
        write!(f, "{best} ({mae}) beats {names} beyond chance: {figures}")
    }

    /// Writes that no predictor beats all baselines.
    fn fmt_unclear(&self, f: &mut fmt::Formatter<'_>, mut baselines: Vec<&Versus>) -> fmt::Result {
        let (best, mae) = (self.best, short(self.mae));
        // The better baseline first; the sort is stable.
        baselines.sort_by(|a, b| a.mae.total_cmp(&b.mae));
        let (least, others) = baselines.split_at(1);
        let least = joined(least);
        write!(f, "nothing beats both baselines beyond chance: {least}")?;
        if !others.is_empty() {
            write!(f, "; {}", joined(others))?;
        }
        write!(f, "; best of the others: {best} ({mae})")
    }
}

/// Joins baselines with their errors.
fn joined(baselines: &[&Versus]) -> String {
    let mut parts = Vec::with_capacity(baselines.len());
    for versus in baselines {
        parts.push(format!("{} ({})", versus.baseline, short(versus.mae)));
    }
    parts.join(", ")
}

impl Display for Prediction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at step {} of {}: {:.4}",
            self.run, self.step, self.horizon, self.value
        )?;
        match self.interval {
            Some(Interval { low, high }) => write!(f, ", between {low:.4} and {high:.4}")?,
            None => write!(f, ", without an interval")?,
        }
        if let Some(last) = self.last {
            write!(f, "; now {last:.4}")?;
        }
        if let Some(settings_only) = self.settings_only {
            write!(f, "; settings only {settings_only:.4}")?;
        }
        write!(f, " ({}, from {} other runs)", self.predictor, self.others)
    }
}

impl Display for Saving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "stop rule, replayed: stops a trial if even the lower end of its interval improves on the best by less than \
             {}. It stops {} runs, saves {:.0} % of the cost, and worsens the best by {}.",
            short(self.rule.regret),
            self.stopped.len(),
            100.0 * self.saved,
            short(self.regret)
        )
    }
}
