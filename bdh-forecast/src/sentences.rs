//! What was found, as sentences.

use super::interval::Interval;
use super::lines::short;
use super::report::{Comparison, Prediction, Versus};
use super::stop::Saving;
use std::fmt::{self, Display};

impl Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (best, mae) = (self.best, short(self.mae));
        let told = |versus: &Versus| format!("{} ({})", versus.baseline, short(versus.mae));
        let all: Vec<String> = self.against.iter().map(told).collect();
        let Some(least) = self.against.iter().min_by(|a, b| a.mae.total_cmp(&b.mae)) else {
            return write!(f, "no baseline speaks, so nothing is claimed");
        };
        if self.is_clear() {
            let count = if all.len() > 1 {
                "both baselines"
            } else {
                "the only baseline that speaks"
            };
            return write!(
                f,
                "{best} ({mae}) beats {count} beyond chance: {}",
                all.join(", ")
            );
        }
        let kept = told(least);
        let rest: Vec<_> = all.into_iter().filter(|text| *text != kept).collect();
        let rest = if rest.is_empty() {
            String::new()
        } else {
            format!("; {}", rest.join(", "))
        };
        write!(
            f,
            "nothing beats both baselines beyond chance: {kept}{rest}; best of the others: {best} ({mae})"
        )
    }
}

impl Display for Prediction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            run,
            step,
            horizon,
            value,
            predictor,
            others,
            ..
        } = self;
        write!(f, "{run} at step {step} of {horizon}: {value:.4}")?;
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
        write!(f, " ({predictor}, from {others} others)")
    }
}

impl Display for Saving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stopped, saved) = (self.stopped.len(), 100.0 * self.saved);
        write!(
            f,
            "stop rule, replayed: a trial whose interval promises to better the best by less than {} is stopped. It \
             stops {stopped} runs, saves {saved:.0} % of the cost, and makes the best worse by {}.",
            short(self.rule.regret),
            short(self.regret)
        )
    }
}
