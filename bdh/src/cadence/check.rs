//! Checks of cadences before the run: invalid values, and cadences that would never fire.

use super::{Cadence, MOST_STEPS};
use crate::clock::{Clock, Span};

/// Error for a cadence that cannot be parsed, has invalid values, or never fires.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CadenceError {
    /// The text is not a cadence.
    #[error("cannot read cadence `{text}`: found {found} at column {column}, expected {expected}")]
    Syntax {
        /// Text that was parsed.
        text: String,
        /// The unexpected word, in backticks, or `the end`.
        found: String,
        /// Position of the word, in characters from 1.
        column: usize,
        /// Words or signs that are allowed at this position.
        expected: &'static str,
    },
    /// The text has too many joints: `|`, `&` and `(`.
    #[error(
        "a cadence has at most {limit} of `|`, `&` and `(`; a list such as `at 1,2,4 steps` needs none"
    )]
    TooLong {
        /// Largest number of joints.
        limit: usize,
    },
    /// The period is zero.
    #[error("cadence `{cadence}` has a period of zero; use `every step` or `never`")]
    EmptyPeriod {
        /// Text of the cadence.
        cadence: String,
    },
    /// The list of points is empty.
    #[error("cadence `at` has an empty list; use `never`, or a list such as `at 250,500 steps`")]
    EmptyList,
    /// A fraction is below 0 or above 1.
    #[error("cadence `{cadence}` reaches outside the run; use a fraction from 0 to 1 (0% to 100%)")]
    OutsideRun {
        /// Text of the cadence.
        cadence: String,
    },
    /// The end of `between` is before its start.
    #[error("cadence `{cadence}` ends before it begins; use `{swapped}`")]
    Reversed {
        /// Text of the cadence.
        cadence: String,
        /// Text of the cadence with both ends swapped.
        swapped: String,
    },
    /// The cadence fires on no step of the run, and is not `never`.
    #[error("cadence `{cadence}` never fires in a run of {num_steps} steps; {advice}")]
    NeverFires {
        /// Text of the cadence.
        cadence: String,
        /// Length of the run, in steps.
        num_steps: u64,
        /// Advice on a cadence that would fire.
        advice: String,
    },
}

impl Cadence {
    /// Checks that the cadence is valid and fires in a run of `num_steps` steps, each like `per_step`.
    ///
    /// A list may reach beyond the run if at least one of its points is within it, and `never` is allowed.
    /// For cadences that read the time, and runs of more than ten million steps, only the values are checked.
    ///
    /// # Errors
    ///
    /// [`CadenceError::NeverFires`] if no step of the run is due; [`CadenceError::EmptyPeriod`],
    /// [`EmptyList`](CadenceError::EmptyList), [`OutsideRun`](CadenceError::OutsideRun) or
    /// [`Reversed`](CadenceError::Reversed) if the values are invalid in any run.
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::Clock;
    /// use bdh::cadence::at;
    ///
    /// assert!(at([50, 500]).check(&Clock::default(), 100).is_ok());
    /// assert_eq!(
    ///     at([500]).check(&Clock::default(), 100).unwrap_err().to_string(),
    ///     "cadence `at 500 steps` never fires in a run of 100 steps; \
    ///      use a step from 0 to 100, or a fraction such as `at 50%`",
    /// );
    /// ```
    pub fn check(&self, per_step: &Clock, num_steps: u64) -> Result<(), CadenceError> {
        self.check_values()?;
        // A run without end has too many steps to try each of them.
        let is_followed = self.is_predictable() && num_steps <= MOST_STEPS;
        let may_be_silent = *self == Self::Never || !is_followed;
        if may_be_silent || self.firings(per_step, num_steps).next().is_some() {
            return Ok(());
        }
        Err(CadenceError::NeverFires {
            cadence: self.to_string(),
            num_steps,
            advice: self.advice(&per_step.after(num_steps)),
        })
    }

    /// Checks the values that are invalid in any run.
    pub(super) fn check_values(&self) -> Result<(), CadenceError> {
        match self {
            Self::Never | Self::Start | Self::First | Self::Last => Ok(()),
            Self::Every(span) => {
                self.check_period(span.is_zero())?;
                self.check_inside(&[*span])
            }
            Self::LogSpaced { per_decade } => self.check_period(*per_decade == 0),
            Self::At(spans) if spans.is_empty() => Err(CadenceError::EmptyList),
            Self::At(spans) => self.check_inside(spans),
            Self::Between(from, until) => {
                self.check_order(*from, *until)?;
                self.check_inside(&[*from, *until])
            }
            Self::Or(a, b) | Self::And(a, b) => {
                a.check_values()?;
                b.check_values()
            }
        }
    }

    fn check_period(&self, is_zero: bool) -> Result<(), CadenceError> {
        if is_zero {
            let cadence = self.to_string();
            return Err(CadenceError::EmptyPeriod { cadence });
        }
        Ok(())
    }

    fn check_order(&self, from: Span, until: Span) -> Result<(), CadenceError> {
        if from.is_past(until) {
            return Err(CadenceError::Reversed {
                cadence: self.to_string(),
                swapped: Self::Between(until, from).to_string(),
            });
        }
        Ok(())
    }

    fn check_inside(&self, spans: &[Span]) -> Result<(), CadenceError> {
        for span in spans {
            // Also an error for NaN, which no range contains.
            if let Span::Fraction(part) = span
                && !(0.0..=1.0).contains(part)
            {
                let cadence = self.to_string();
                return Err(CadenceError::OutsideRun { cadence });
            }
        }
        Ok(())
    }

    /// Returns advice on a cadence that would fire, in a run that ends at `end`.
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
    fn is_zero(self) -> bool {
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

    fn message(cadence: &Cadence) -> String {
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
            every(secs(3_600.0)), // may fire, depending on the duration of the run
            between(fraction(0.0), fraction(1.0)),
        ] {
            assert_eq!(message(&cadence), "");
        }
    }

    #[test]
    fn errors_for_idle_cadences_suggest_one_that_fires() {
        assert_eq!(
            message(&every(tokens(1_000_000))),
            "cadence `every 1000000 tokens` never fires in a run of 100 steps; \
             use at most 51200 tokens, or a fraction such as `every 10%`"
        );
        assert_eq!(
            message(&every(101)),
            "cadence `every 101 steps` never fires in a run of 100 steps; \
             use at most 100 steps, or a fraction such as `every 10%`"
        );
        assert_eq!(
            message(&(every(7) & at([20]))),
            "cadence `every 7 steps & at 20 steps` never fires in a run of 100 steps; \
             use a step from 0 to 100, or a fraction such as `at 50%`"
        );
    }

    #[test]
    fn invalid_values_are_errors_in_any_run() {
        for (cadence, start) in [
            (every(0), "cadence `every 0 steps` has a period of zero"),
            (
                last() | every(secs(0.0)),
                "cadence `every 0s` has a period of zero",
            ),
            (
                every(fraction(0.0)),
                "cadence `every 0%` has a period of zero",
            ),
            (
                log_spaced(0),
                "cadence `log-spaced 0 per decade` has a period of zero",
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
            let message = message(&cadence);
            assert!(message.starts_with(start), "{message}");
        }
    }
}
