//! Refuses, before the run, the cadences that cannot have been meant.

use super::{Cadence, MOST_STEPS};
use crate::clock::{Clock, Span};

/// Why a cadence makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CadenceError {
    /// The text is not a cadence.
    #[error("cannot read cadence `{text}`: found {found} at column {column}, expected {expected}")]
    Syntax {
        /// What was to be read.
        text: String,
        /// The offending word, in backticks, or `the end`.
        found: String,
        /// Where the word begins, in characters from 1.
        column: usize,
        /// What could stand there.
        expected: &'static str,
    },
    /// The text joins or nests more than it may.
    #[error(
        "a cadence has at most {limit} of `|`, `&` and `(`; a list such as `at 1,2,4 steps` needs none"
    )]
    TooLong {
        /// What it may.
        limit: usize,
    },
    /// It repeats after nothing.
    #[error("cadence `{cadence}` repeats after nothing; use `every step`, or `never`")]
    EmptyPeriod {
        /// Its text.
        cadence: String,
    },
    /// It names no point of the run.
    #[error("cadence `at` has an empty list; use `never`, or a list such as `at 250,500 steps`")]
    EmptyList,
    /// It asks for less than none of the run, or for more than all of it.
    #[error("cadence `{cadence}` reaches outside the run; use a fraction from 0 to 1 (0% to 100%)")]
    OutsideRun {
        /// Its text.
        cadence: String,
    },
    /// It ends before it begins.
    #[error("cadence `{cadence}` ends before it begins; use `{swapped}`")]
    Reversed {
        /// Its text.
        cadence: String,
        /// The text of what was probably meant.
        swapped: String,
    },
    /// It fires on no step of the run, and is not `never`.
    #[error("cadence `{cadence}` never fires in a run of {horizon} steps; {advice}")]
    NeverFires {
        /// Its text.
        cadence: String,
        /// Steps of the run.
        horizon: u64,
        /// What would fire.
        advice: String,
    },
}

impl Cadence {
    /// Checks that the cadence makes sense in a run of `horizon` steps, each like `per_step`.
    ///
    /// A list may reach beyond the run as long as one of its points does not, and `never` may never
    /// fire. Cadences that read the time are not followed through the run.
    ///
    /// # Errors
    ///
    /// [`CadenceError::NeverFires`] if no step of the run is due; [`CadenceError::EmptyPeriod`],
    /// [`EmptyList`](CadenceError::EmptyList), [`OutsideRun`](CadenceError::OutsideRun) or
    /// [`Reversed`](CadenceError::Reversed) if it makes sense in no run.
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::{Clock, at};
    ///
    /// assert!(at([50, 500]).check(&Clock::default(), 100).is_ok());
    /// assert_eq!(
    ///     at([500]).check(&Clock::default(), 100).unwrap_err().to_string(),
    ///     "cadence `at 500 steps` never fires in a run of 100 steps; \
    ///      use a step from 0 to 100, or a fraction such as `at 50%`",
    /// );
    /// ```
    pub fn check(&self, per_step: &Clock, horizon: u64) -> Result<(), CadenceError> {
        self.check_values()?;
        // Of a run without end the steps cannot be walked through.
        let is_followed = self.is_predictable() && horizon <= MOST_STEPS;
        let may_be_silent = *self == Self::Never || !is_followed;
        if may_be_silent || self.firings(per_step, horizon).next().is_some() {
            return Ok(());
        }
        let advice = self.advice(&per_step.after(horizon));
        Err(CadenceError::NeverFires {
            cadence: self.to_string(),
            horizon,
            advice,
        })
    }

    /// What needs no run to be wrong.
    pub(super) fn check_values(&self) -> Result<(), CadenceError> {
        let cadence = || self.to_string();
        match self {
            Self::Every(span) if span.is_nothing() => {
                Err(CadenceError::EmptyPeriod { cadence: cadence() })
            }
            Self::LogSpaced { per_decade: 0 } => {
                Err(CadenceError::EmptyPeriod { cadence: cadence() })
            }
            Self::At(spans) if spans.is_empty() => Err(CadenceError::EmptyList),
            Self::Every(span) => self.check_inside(&[*span]),
            Self::At(spans) => self.check_inside(spans),
            Self::Between(from, until) if from.is_past(*until) => Err(CadenceError::Reversed {
                cadence: cadence(),
                swapped: Self::Between(*until, *from).to_string(),
            }),
            Self::Between(from, until) => self.check_inside(&[*from, *until]),
            Self::Or(a, b) | Self::And(a, b) => a.check_values().and_then(|()| b.check_values()),
            Self::Never | Self::Start | Self::First | Self::Last | Self::LogSpaced { .. } => Ok(()),
        }
    }

    fn check_inside(&self, spans: &[Span]) -> Result<(), CadenceError> {
        let is_inside = |span: &Span| match span {
            Span::Fraction(part) => (0.0..=1.0).contains(part), // NaN is nowhere
            _ => true,
        };
        if spans.iter().all(is_inside) {
            return Ok(());
        }
        Err(CadenceError::OutsideRun {
            cadence: self.to_string(),
        })
    }

    /// What would fire instead, in a run that ends at `end`.
    fn advice(&self, end: &Clock) -> String {
        let most = match self {
            Self::Every(Span::Tokens(_)) => Span::Tokens(end.tokens),
            Self::Every(Span::Samples(_)) => Span::Samples(end.samples),
            Self::Every(_) => Span::Steps(end.step),
            _ => {
                let step = end.step;
                return format!("use a step from 0 to {step}, or a fraction such as `at 50%`");
            }
        };
        format!("use at most {most}, or a fraction such as `every 10%`")
    }
}

impl Span {
    fn is_nothing(self) -> bool {
        match self {
            Self::Steps(n) | Self::Tokens(n) | Self::Samples(n) => n == 0,
            Self::Time(time) => time.is_zero(),
            Self::Fraction(part) => part == 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::cadence::{Cadence, at, between, every, last, log_spaced, never};
    use crate::clock::{Clock, fraction, secs, tokens};

    fn complaint(cadence: &Cadence) -> String {
        let per_step = Clock {
            tokens: 512,
            samples: 4,
            ..Clock::default()
        };
        cadence
            .check(&per_step, 100)
            .map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn cadences_that_fire_pass() {
        for cadence in [
            Cadence::EVERY_STEP,
            Cadence::pythia(),
            never(),
            at([250, 50, 1_000]),
            every(500) | last(),
            every(secs(3_600.0)), // may fire; nobody can know
            between(fraction(0.0), fraction(1.0)),
        ] {
            assert_eq!(complaint(&cadence), "");
        }
    }

    #[test]
    fn cadences_that_never_fire_are_told_what_would() {
        assert_eq!(
            complaint(&every(tokens(1_000_000))),
            "cadence `every 1000000 tokens` never fires in a run of 100 steps; \
             use at most 51200 tokens, or a fraction such as `every 10%`"
        );
        assert_eq!(
            complaint(&every(101)),
            "cadence `every 101 steps` never fires in a run of 100 steps; \
             use at most 100 steps, or a fraction such as `every 10%`"
        );
        assert_eq!(
            complaint(&(every(7) & at([20]))),
            "cadence `every 7 steps & at 20 steps` never fires in a run of 100 steps; \
             use a step from 0 to 100, or a fraction such as `at 50%`"
        );
    }

    #[test]
    fn values_that_make_sense_in_no_run_are_refused() {
        for (cadence, start) in [
            (every(0), "cadence `every 0 steps` repeats after nothing"),
            (
                last() | every(secs(0.0)),
                "cadence `every 0s` repeats after nothing",
            ),
            (
                every(fraction(0.0)),
                "cadence `every 0%` repeats after nothing",
            ),
            (
                log_spaced(0),
                "cadence `log-spaced 0 per decade` repeats after nothing",
            ),
            (Cadence::At(vec![]), "cadence `at` has an empty list"),
            (
                every(fraction(1.5)),
                "cadence `every 150%` reaches outside the run",
            ),
            (
                at([fraction(-0.5)]),
                "cadence `at -50%` reaches outside the run",
            ),
            (
                at([fraction(f64::NAN)]),
                "cadence `at NaN%` reaches outside the run",
            ),
            (
                between(500, 100),
                "cadence `between 500 and 100 steps` ends before it begins; \
                 use `between 100 and 500 steps`",
            ),
        ] {
            let complaint = complaint(&cadence);
            assert!(complaint.starts_with(start), "{complaint}");
        }
    }
}
