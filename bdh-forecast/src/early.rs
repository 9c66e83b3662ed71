//! The beginning of a run, and nothing of its end.

use super::run::{End, ForecastError, HORIZON, Run, SEED};
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// How far into a run one looks. As text: `12.5%` or `0.125` of the run, or `250` steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cut {
    /// A share of the horizon, between 0 and 1.
    Fraction(f64),
    /// A step. Runs that end there or before are left out.
    Step(u64),
}

impl Cut {
    /// 1/16, 1/8, 1/4, 1/2 and 3/4 of the run.
    pub const SHARES: [Self; 5] = [
        Self::Fraction(0.0625),
        Self::Fraction(0.125),
        Self::Fraction(0.25),
        Self::Fraction(0.5),
        Self::Fraction(0.75),
    ];

    /// The last step that is seen of a run with this horizon; `None` if all of it would be seen, or nothing.
    #[must_use]
    pub fn step(self, horizon: u64) -> Option<u64> {
        let step = match self {
            // Not a step less because 0.07 of 100 is 6.999…
            Self::Fraction(share) => (share * horizon as f64 * (1.0 + 1e-12)) as u64,
            Self::Step(step) => step,
        };
        (step < horizon && self.is_valid()).then_some(step)
    }

    pub(super) fn is_valid(self) -> bool {
        match self {
            Self::Fraction(share) => share > 0.0 && share < 1.0,
            Self::Step(step) => step > 0,
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fraction(share) => {
                write!(f, "{} %", (share * 1e8).round() / 1e6)
            }
            Self::Step(step) => write!(f, "step {step}"),
        }
    }
}

impl FromStr for Cut {
    type Err = ForecastError;

    fn from_str(text: &str) -> Result<Self, ForecastError> {
        let trimmed = text.trim();
        let trimmed = trimmed.strip_prefix("step").unwrap_or(trimmed).trim();
        let cut = match trimmed.strip_suffix('%') {
            Some(percent) => percent
                .trim()
                .parse()
                .ok()
                .map(|share: f64| Self::Fraction(share / 100.0)),
            None => (trimmed.parse().ok().map(Self::Step))
                .or_else(|| trimmed.parse().ok().map(Self::Fraction)),
        };
        cut.filter(|cut| cut.is_valid())
            .ok_or_else(|| ForecastError::BadCut(text.to_owned()))
    }
}

impl Serialize for Cut {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a run shows up to a step. Predictors get this instead of the run, so that they cannot look ahead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Early<'a> {
    run: &'a Run,
    /// The last step that is seen.
    pub(super) step: u64,
}

impl<'a> Early<'a> {
    pub(super) fn new(run: &'a Run, step: u64) -> Self {
        Self { run, step }
    }

    pub(super) fn horizon(self) -> u64 {
        self.run.horizon
    }

    pub(super) fn metric(self) -> &'a [(u64, f64)] {
        until(&self.run.metric, self.step)
    }

    pub(super) fn loss(self) -> &'a [(u64, f64)] {
        until(&self.run.loss, self.step)
    }

    pub(super) fn lr(self) -> &'a [(u64, f64)] {
        until(&self.run.lr, self.step)
    }

    pub(super) fn norm(self, name: &str) -> &'a [(u64, f64)] {
        self.run
            .norms
            .get(name)
            .map_or(&[], |series| until(series, self.step))
    }

    /// Names of what is recorded at all.
    pub(super) fn norms(self) -> impl Iterator<Item = &'a str> {
        self.run.norms.keys().map(String::as_str)
    }

    /// A setting that may be a feature, or the number of steps.
    pub(super) fn setting(self, name: &str) -> Option<f64> {
        match name {
            HORIZON => Some(self.run.horizon as f64),
            _ => self.run.settings.get(name).copied(),
        }
    }

    /// Names of all that [`setting`](Self::setting) knows.
    pub(super) fn settings(self) -> impl Iterator<Item = &'a str> {
        let own = self
            .run
            .settings
            .keys()
            .map(String::as_str)
            .filter(|name| *name != SEED);
        own.filter(|name| *name != HORIZON).chain([HORIZON])
    }

    /// Whether it has diverged, as far as is known by then.
    pub(super) fn has_diverged(self) -> bool {
        matches!(self.run.end, End::Diverged { step } if step <= self.step)
    }
}

/// The values up to a step.
pub(super) fn until(series: &[(u64, f64)], step: u64) -> &[(u64, f64)] {
    &series[..series.partition_point(|(at, _)| *at <= step)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_reads_what_it_writes() {
        for cut in Cut::SHARES.into_iter().chain([Cut::Step(250)]) {
            assert_eq!(cut.to_string().parse(), Ok(cut), "{cut}");
        }
        assert_eq!("0.125".parse(), Ok(Cut::Fraction(0.125)));
        for text in ["", "0", "100%", "1.5", "-3", "NaN", "inf%"] {
            assert_eq!(
                text.parse::<Cut>(),
                Err(ForecastError::BadCut(text.to_owned()))
            );
        }
    }

    #[test]
    fn a_share_of_a_run_ends_at_a_step_of_it() {
        assert_eq!(Cut::Fraction(0.07).step(100), Some(7));
        assert_eq!(Cut::Fraction(0.5).step(7), Some(3));
        assert_eq!(Cut::Step(250).step(250), None, "all of it would be seen");
        for horizon in 2..2_000 {
            for step in 1..horizon {
                assert_eq!(
                    Cut::Fraction(step as f64 / horizon as f64).step(horizon),
                    Some(step)
                );
            }
        }
    }
}
