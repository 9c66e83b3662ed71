//! Checks of cadences before the run: invalid values, and cadences that would never fire.

use super::{Cadence, MOST_STEPS};
use crate::clock::{Clock, RunLength, Span};
use std::time::Duration;

/// Error for a cadence that cannot be parsed, has invalid values, or never fires.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CadenceError {
    /// The text is not a cadence, or not a duration.
    #[error("cannot read {kind} `{text}`: found {found} at column {column}, expected {expected}")]
    Syntax {
        /// Kind of the text: `cadence` or `duration`.
        kind: &'static str,
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
    /// The cadence begins to fire after the time limit of the run.
    #[error(
        "cadence `{cadence}` begins after the end of a run of {length}; \
         use a shorter time, or a fraction such as `every 10%`"
    )]
    AfterTheEnd {
        /// Text of the cadence.
        cadence: String,
        /// Length of the run.
        length: RunLength,
    },
    /// The cadence counts epochs, but their length is not known.
    #[error(
        "cadence `{cadence}` needs the length of an epoch, which the training data does not know \
         (`TrainData::batches_per_epoch`); use steps"
    )]
    UnknownEpoch {
        /// Text of the cadence.
        cadence: String,
    },
}

impl Cadence {
    /// Checks that the cadence is valid and fires in a run of this length, with steps like `per_step`.
    ///
    /// A number as `length` is a number of steps. A list may reach beyond the run if at least one of its points is
    /// within it, and `never` is allowed. For cadences that read the time, runs that are limited by time, and runs of
    /// more than ten million steps, only the values are checked, and times against the limit.
    ///
    /// # Errors
    ///
    /// [`CadenceError::NeverFires`] if no step of the run is due; [`CadenceError::AfterTheEnd`] if the times of the
    /// cadence are above the time limit; [`CadenceError::UnknownEpoch`] if it counts epochs and
    /// `per_step.batches_per_epoch` is 0; [`CadenceError::EmptyPeriod`],
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
    pub fn check(
        &self,
        per_step: &Clock,
        length: impl Into<RunLength>,
    ) -> Result<(), CadenceError> {
        self.check_values()?;
        self.check_epochs(per_step)?;
        match length.into() {
            RunLength::Steps(num_steps) => self.check_firings(per_step, num_steps),
            RunLength::Time(limit) => self.check_times(limit),
        }
    }

    fn check_firings(&self, per_step: &Clock, num_steps: u64) -> Result<(), CadenceError> {
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

    /// Checks that the length of an epoch is known, if the cadence counts epochs.
    fn check_epochs(&self, per_step: &Clock) -> Result<(), CadenceError> {
        let spans = self.spans();
        let counts_epochs = spans.iter().any(|span| matches!(span, Span::Epochs(_)));
        if counts_epochs && per_step.batches_per_epoch == 0 {
            let cadence = self.to_string();
            return Err(CadenceError::UnknownEpoch { cadence });
        }
        Ok(())
    }

    /// Checks that the cadence does not wait until after the time limit.
    fn check_times(&self, limit: Duration) -> Result<(), CadenceError> {
        if self.begins_after(Span::Time(limit)) {
            return Err(CadenceError::AfterTheEnd {
                cadence: self.to_string(),
                length: RunLength::Time(limit),
            });
        }
        Ok(())
    }

    /// Whether the cadence is due only after `end`; false if that is not known.
    fn begins_after(&self, end: Span) -> bool {
        match self {
            Self::Every(span) | Self::Between(span, _) => span.is_past(end),
            Self::At(spans) => spans.iter().all(|span| span.is_past(end)),
            Self::Or(a, b) => a.begins_after(end) && b.begins_after(end),
            Self::And(a, b) => a.begins_after(end) || b.begins_after(end),
            _ => false,
        }
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
            Self::Every(Span::Epochs(_)) if end.completed_epochs() > 0 => {
                Span::Epochs(end.completed_epochs())
            }
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
            Self::Time(time) => time.is_zero(),
            Self::Fraction(part) => part == 0.0,
            counted => counted.count() == Some(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::cadence::{Cadence, at, between, every, last, log_spaced, never};
    use crate::clock::{Clock, RunLength, epochs, fraction, minutes, secs, steps, tokens};
    use std::time::Duration;

    const PER_STEP: Clock = Clock {
        step: 1,
        micro_batches: 4,
        tokens: 512,
        samples: 4,
        elapsed: Duration::ZERO,
        batches_per_epoch: 40,
    };

    /// Returns the error in a run of 100 steps, or an empty text.
    fn message(cadence: &Cadence) -> String {
        message_in(RunLength::Steps(100), &PER_STEP, cadence)
    }

    fn message_in(length: RunLength, per_step: &Clock, cadence: &Cadence) -> String {
        cadence
            .check(per_step, length)
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
            every(epochs(10)),
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
            message(&every(epochs(11))),
            "cadence `every 11 epochs` never fires in a run of 100 steps; \
             use at most 10 epochs, or a fraction such as `every 10%`"
        );
        let long = Clock {
            batches_per_epoch: 401,
            ..PER_STEP
        };
        assert_eq!(
            message_in(RunLength::Steps(100), &long, &every(epochs(1))),
            "cadence `every 1 epoch` never fires in a run of 100 steps; \
             use at most 100 steps, or a fraction such as `every 10%`"
        );
        assert_eq!(
            message(&(every(7) & at([20]))),
            "cadence `every 7 steps & at 20 steps` never fires in a run of 100 steps; \
             use a step from 0 to 100, or a fraction such as `at 50%`"
        );
    }

    #[test]
    fn epochs_of_unknown_length_are_refused_in_any_run() {
        let per_step = Clock {
            batches_per_epoch: 0,
            ..PER_STEP
        };
        let timed = RunLength::Time(Duration::from_mins(5));
        for length in [RunLength::Steps(100), timed, RunLength::Steps(u64::MAX)] {
            assert_eq!(
                message_in(length, &per_step, &(last() | every(epochs(2)))),
                "cadence `last | every 2 epochs` needs the length of an epoch, which the training data does not \
                 know (`TrainData::batches_per_epoch`); use steps"
            );
            assert_eq!(message_in(length, &per_step, &last()), "");
            assert_eq!(message_in(length, &PER_STEP, &at([epochs(2)])), "");
        }
    }

    #[test]
    fn a_timed_run_refuses_only_times_after_its_end() {
        let timed = RunLength::Time(Duration::from_mins(5));
        let message = |cadence: Cadence| message_in(timed, &PER_STEP, &cadence);
        for cadence in [
            every(minutes(5.0)),
            every(minutes(10.0)) | last(),
            at([minutes(1.0), minutes(10.0)]),
            every(1_000_000),
            between(steps(1_000_000), minutes(1.0)),
            every(fraction(0.1)) & at([tokens(1)]),
            never(),
        ] {
            assert_eq!(message(cadence), "");
        }
        for cadence in [
            every(minutes(10.0)),
            at([minutes(6.0), minutes(10.0)]),
            every(minutes(10.0)) & last(),
            every(minutes(10.0)) | at([minutes(6.0)]),
            between(minutes(6.0), minutes(7.0)),
        ] {
            let error = format!(
                "cadence `{cadence}` begins after the end of a run of 5 min; \
                 use a shorter time, or a fraction such as `every 10%`"
            );
            assert_eq!(message(cadence), error);
        }
        assert!(message(every(0)).contains("has a period of zero"));
    }

    #[test]
    fn invalid_values_are_errors_in_any_run() {
        for (cadence, start) in [
            (every(0), "cadence `every 0 steps` has a period of zero"),
            (
                every(epochs(0)),
                "cadence `every 0 epochs` has a period of zero",
            ),
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
