//! Cuts, and the part of a run up to a cut.

use super::run::{End, ForecastError, HORIZON, Run, SEED};
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A point inside a run, up to which predictors see it.
///
/// A cut is written as a share of the run, such as `12.5%` or `0.125`, or as a step, such as `250`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cut {
    /// A share of the horizon, between 0 and 1.
    Fraction(f64),
    /// A step. Runs that end at or before this step are left out.
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

    /// Returns the last visible step of a run with this horizon; `None` if the cut is not inside the run.
    #[must_use]
    pub fn step(self, horizon: u64) -> Option<u64> {
        let step = match self {
            // The factor undoes rounding: 0.07 of 100 is 6.999…, and has to be step 7.
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

    /// Parses a cut without checking that it is inside a run.
    fn parse(text: &str) -> Option<Self> {
        let number = text.trim();
        let number = number.strip_prefix("step").unwrap_or(number).trim();
        if let Some(percent) = number.strip_suffix('%') {
            let percent: f64 = percent.trim().parse().ok()?;
            return Some(Self::Fraction(percent / 100.0));
        }
        if let Ok(step) = number.parse() {
            return Some(Self::Step(step));
        }
        number.parse().ok().map(Self::Fraction)
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
        match Self::parse(text) {
            Some(cut) if cut.is_valid() => Ok(cut),
            _ => Err(ForecastError::BadCut(text.to_owned())),
        }
    }
}

impl Serialize for Cut {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The part of a run up to a step. Predictors get this instead of the run, so they cannot look ahead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Early<'a> {
    run: &'a Run,
    /// Last visible step.
    pub(super) step: u64,
}

impl<'a> Early<'a> {
    pub(super) fn new(run: &'a Run, step: u64) -> Self {
        Self { run, step }
    }

    pub(super) fn horizon(self) -> u64 {
        self.run.horizon
    }

    /// Visible share of the run.
    pub(super) fn share(self) -> f64 {
        self.step as f64 / self.run.horizon as f64
    }

    pub(super) fn metric(self) -> &'a [(u64, f64)] {
        until(&self.run.metric, self.step)
    }

    pub(super) fn has_metric(self) -> bool {
        !self.metric().is_empty()
    }

    pub(super) fn loss(self) -> &'a [(u64, f64)] {
        until(&self.run.loss, self.step)
    }

    pub(super) fn lr(self) -> &'a [(u64, f64)] {
        until(&self.run.lr, self.step)
    }

    pub(super) fn norm(self, name: &str) -> &'a [(u64, f64)] {
        match self.run.norms.get(name) {
            Some(series) => until(series, self.step),
            None => &[],
        }
    }

    /// Names of the recorded norms.
    pub(super) fn norms(self) -> impl Iterator<Item = &'a str> {
        self.run.norms.keys().map(String::as_str)
    }

    /// Returns the value of a setting; the number of steps is one of them.
    pub(super) fn setting(self, name: &str) -> Option<f64> {
        if name == HORIZON {
            return Some(self.run.horizon as f64);
        }
        self.run.settings.get(name).copied()
    }

    /// Names of the settings that may be features: all but the seed, and the number of steps.
    pub(super) fn settings(self) -> impl Iterator<Item = &'a str> {
        let names = self.run.settings.keys().map(String::as_str);
        names
            .filter(|name| *name != SEED && *name != HORIZON)
            .chain([HORIZON])
    }

    /// Whether the run is known to have diverged by this step.
    pub(super) fn has_diverged(self) -> bool {
        matches!(self.run.end, End::Diverged { step } if step <= self.step)
    }
}

/// Returns the values up to a step.
pub(super) fn until(series: &[(u64, f64)], step: u64) -> &[(u64, f64)] {
    &series[..series.partition_point(|(at, _)| *at <= step)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_parses_its_own_text() {
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
    fn share_of_a_run_ends_at_one_of_its_steps() {
        assert_eq!(Cut::Fraction(0.07).step(100), Some(7));
        assert_eq!(Cut::Fraction(0.5).step(7), Some(3));
        assert_eq!(
            Cut::Step(250).step(250),
            None,
            "the whole run would be visible"
        );
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
