//! The clock of a run, and spans of training in steps, epochs, tokens, samples, time or fractions.
//!
//! Hooks, records, checkpoints and cadences all read the same clock, so "step 500" is the same moment in
//! all of them.

mod length;

pub use length::RunLength;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::time::{Duration, SystemTime};

/// Work that a run has completed.
///
/// `step` is the number of completed optimizer updates: step 0 is the untrained model, and values
/// measured with the gradients of the first update belong to step 1.
///
/// Two clocks are equal if the same work is done, whether or not they know the length of an epoch.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Clock {
    /// Completed optimizer updates.
    pub step: u64,
    /// Forward and backward passes; `grad_accum_steps` of them make one update.
    pub micro_batches: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Samples (sequences, images) trained on.
    pub samples: u64,
    /// Training time; files have it in seconds, exact to the nanosecond for three weeks.
    #[serde(serialize_with = "save_seconds", deserialize_with = "load_seconds")]
    pub elapsed: Duration,
    /// Micro-batches of one epoch, a pass through the training data; 0 if not known.
    ///
    /// The trainer sets it from [`TrainData::batches_per_epoch`](crate::data::TrainData::batches_per_epoch). Files do
    /// not have it, because it describes the data and not the work.
    #[serde(skip)]
    pub batches_per_epoch: u64,
}

// Without the length of an epoch: a clock that was read from a file equals the one that was written.
impl PartialEq for Clock {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            step,
            micro_batches,
            tokens,
            samples,
            elapsed,
            batches_per_epoch: _,
        } = *self;
        step == other.step
            && micro_batches == other.micro_batches
            && tokens == other.tokens
            && samples == other.samples
            && elapsed == other.elapsed
    }
}

impl Clock {
    /// Returns the clock after `steps` steps, if each completes the work that this clock counts.
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::Clock;
    ///
    /// let per_step = Clock { tokens: 512, samples: 4, ..Clock::default() };
    /// let clock = per_step.after(10);
    /// assert_eq!((clock.step, clock.tokens, clock.samples), (10, 5_120, 40));
    /// ```
    #[must_use]
    pub fn after(&self, steps: u64) -> Self {
        Self {
            step: steps,
            micro_batches: self.micro_batches.saturating_mul(steps),
            tokens: self.tokens.saturating_mul(steps),
            samples: self.samples.saturating_mul(steps),
            elapsed: self
                .elapsed
                .saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX)),
            batches_per_epoch: self.batches_per_epoch,
        }
    }

    /// Returns the epochs trained on, such as 1.5; `None` if the length of an epoch is not known.
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::Clock;
    ///
    /// let clock = Clock { micro_batches: 150, batches_per_epoch: 100, ..Clock::default() };
    /// assert_eq!(clock.epoch(), Some(1.5));
    /// assert_eq!(Clock::default().epoch(), None);
    /// ```
    #[must_use]
    pub fn epoch(&self) -> Option<f64> {
        let is_known = self.batches_per_epoch > 0;
        is_known.then_some(self.micro_batches as f64 / self.batches_per_epoch as f64)
    }

    /// Counts the completed epochs; 0 if the length of an epoch is not known.
    pub(crate) fn completed_epochs(&self) -> u64 {
        let epochs = self.micro_batches.checked_div(self.batches_per_epoch);
        epochs.unwrap_or(0)
    }
}

pub(crate) fn save_seconds<S: Serializer>(
    elapsed: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(elapsed.as_secs_f64())
}

fn load_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Length of training: in steps, epochs, tokens, samples, time, or as a fraction of the run.
///
/// Created by [`steps`], [`epochs`], [`tokens`], [`samples`], [`secs`], [`minutes`] and [`fraction`]; a bare
/// integer means steps. The text form is that of a cadence: `2000 steps`, `3 epochs`, `1000000 tokens`, `5min`,
/// `10%`; a number alone counts steps.
///
/// # Examples
///
/// ```
/// use bdh::cadence::{Span, epochs, minutes, steps};
///
/// assert_eq!("3 epochs".parse(), Ok(epochs(3)));
/// assert_eq!("2000".parse(), Ok(steps(2_000)));
/// assert_eq!(minutes(5.0).to_string(), "5min");
/// assert_eq!(
///     "5 mni".parse::<Span>().unwrap_err().to_string(),
///     "cannot read duration `5 mni`: found `mni` at column 3, \
///      expected `steps`, `epochs`, `tokens`, `samples`, `%`, `h`, `min`, `s` or `ms`",
/// );
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Span {
    /// Optimizer updates.
    Steps(u64),
    /// Epochs: passes through the training data, if it knows their length.
    Epochs(u64),
    /// Tokens trained on.
    Tokens(u64),
    /// Samples trained on.
    Samples(u64),
    /// Wall-clock training time. Cadences on it cannot be planned ahead.
    Time(Duration),
    /// Fraction of the run, of its steps or its time: 0.1 is a tenth.
    Fraction(f64),
}

impl Span {
    /// Returns the number of steps that complete the span, each with the work of `per_step`, rounded up.
    ///
    /// `None` for times and fractions, and if `per_step` does not know the work in the span's unit.
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::Clock;
    /// use bdh::cadence::{epochs, minutes, tokens};
    ///
    /// let per_step = Clock { micro_batches: 4, tokens: 512, ..Clock::default() };
    /// assert_eq!(tokens(1_000).resolve_steps(&per_step), Some(2));
    /// assert_eq!(epochs(3).resolve_steps(&per_step), None);
    ///
    /// let per_step = Clock { batches_per_epoch: 10, ..per_step };
    /// assert_eq!(epochs(3).resolve_steps(&per_step), Some(8)); // 30 micro-batches, 4 a step
    /// assert_eq!(minutes(5.0).resolve_steps(&per_step), None);
    /// ```
    #[must_use]
    pub fn resolve_steps(self, per_step: &Clock) -> Option<u64> {
        let batches_per_epoch = per_step.batches_per_epoch;
        let (amount, each) = match self {
            Self::Steps(n) => (n, 1),
            Self::Epochs(n) if batches_per_epoch > 0 => {
                (n.saturating_mul(batches_per_epoch), per_step.micro_batches)
            }
            Self::Tokens(n) => (n, per_step.tokens),
            Self::Samples(n) => (n, per_step.samples),
            Self::Epochs(_) | Self::Time(_) | Self::Fraction(_) => return None,
        };
        (each > 0).then(|| amount.div_ceil(each))
    }

    /// Counts the completed spans on `clock`; `None` if the span is zero.
    pub(crate) fn periods(self, clock: &Clock, length: RunLength) -> Option<u64> {
        match self {
            Self::Steps(n) => clock.step.checked_div(n),
            Self::Epochs(n) => clock.completed_epochs().checked_div(n),
            Self::Tokens(n) => clock.tokens.checked_div(n),
            Self::Samples(n) => clock.samples.checked_div(n),
            Self::Time(period) => nanos(clock.elapsed).checked_div(nanos(period)),
            Self::Fraction(part) => {
                // 0.1 * 30.0 is 3.0000000000000004, yet step 3 completes the first tenth of 30. The
                // factor makes up for the rounding; it is less than a step in any run below 10^12 steps.
                let periods = length.done(clock) / (part * length.total()) * (1.0 + 1e-12);
                (part > 0.0).then_some(periods as u64)
            }
        }
    }

    /// Whether `clock` has reached the end of the span; a span of zero is reached at the start.
    pub(crate) fn is_reached(self, clock: &Clock, length: RunLength) -> bool {
        self.periods(clock, length)
            .is_none_or(|periods| periods > 0)
    }

    /// Whether the span is longer than `other`; false if their units differ.
    pub(crate) fn is_past(self, other: Self) -> bool {
        match (self, other) {
            (Self::Steps(a), Self::Steps(b))
            | (Self::Epochs(a), Self::Epochs(b))
            | (Self::Tokens(a), Self::Tokens(b))
            | (Self::Samples(a), Self::Samples(b)) => a > b,
            (Self::Time(a), Self::Time(b)) => a > b,
            (Self::Fraction(a), Self::Fraction(b)) => a > b,
            _ => false,
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX) // 584 years
}

// The only conversion from an integer type: with a second one, `every(250)` would be ambiguous.
impl From<u64> for Span {
    fn from(steps: u64) -> Self {
        Self::Steps(steps)
    }
}

impl From<Duration> for Span {
    fn from(time: Duration) -> Self {
        Self::Time(time)
    }
}

/// Creates a span of `n` optimizer updates.
#[must_use]
pub fn steps(n: u64) -> Span {
    Span::Steps(n)
}

/// Creates a span of `n` epochs, which are passes through the training data.
///
/// The data must know the [length of an epoch](crate::data::TrainData::batches_per_epoch).
#[must_use]
pub fn epochs(n: u64) -> Span {
    Span::Epochs(n)
}

/// Creates a span of `n` tokens of training.
#[must_use]
pub fn tokens(n: u64) -> Span {
    Span::Tokens(n)
}

/// Creates a span of `n` samples of training.
#[must_use]
pub fn samples(n: u64) -> Span {
    Span::Samples(n)
}

/// Creates a span of seconds of training time; negative numbers and NaN count as 0.
#[must_use]
pub fn secs(seconds: f64) -> Span {
    let time = match Duration::try_from_secs_f64(seconds) {
        Ok(time) => time,
        Err(_) if seconds > 0.0 => Duration::MAX,
        Err(_) => Duration::ZERO,
    };
    Span::Time(time)
}

/// Creates a span of minutes of training time; negative numbers and NaN count as 0.
#[must_use]
pub fn minutes(minutes: f64) -> Span {
    secs(minutes * 60.0)
}

/// Creates a span that is a fraction of the run: `fraction(0.1)` is a tenth of its steps, or of its time.
#[must_use]
pub fn fraction(part: f64) -> Span {
    Span::Fraction(part)
}

/// Returns the Unix time in seconds, as in `run.json`; 0 if the system's clock is before 1970.
#[must_use]
pub fn now() -> f64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(step: u64) -> Clock {
        Clock::default().after(step)
    }

    #[test]
    fn clock_is_exact_to_the_nanosecond_in_json() {
        let elapsed = Duration::new(1_000_000, 123_456_789);
        let clock = Clock {
            step: 3,
            micro_batches: 12,
            tokens: 96,
            samples: 6,
            elapsed,
            batches_per_epoch: 10,
        };
        let text = serde_json::to_string(&clock).expect("a clock is plain numbers");
        assert!(text.contains(r#""elapsed":1000000.12345678"#), "{text}");
        assert_eq!(
            serde_json::from_str::<Clock>(&text).expect("as written above"),
            clock
        );
    }

    #[test]
    fn clocks_are_equal_if_the_work_is() {
        let clock = Clock { tokens: 8, ..at(3) };
        let reads_epochs = Clock {
            batches_per_epoch: 10,
            ..clock
        };
        assert_eq!(clock, reads_epochs);
        assert_ne!(clock, at(3));
        assert_ne!(clock, Clock { step: 4, ..clock });
        assert_ne!(
            clock,
            Clock {
                samples: 1,
                ..clock
            }
        );
        let micro_batches = 1;
        assert_ne!(
            clock,
            Clock {
                micro_batches,
                ..clock
            }
        );
        let elapsed = Duration::from_nanos(1);
        assert_ne!(clock, Clock { elapsed, ..clock });
    }

    #[test]
    fn a_span_takes_the_steps_that_complete_it() {
        let per_step = Clock {
            micro_batches: 4,
            tokens: 512,
            samples: 8,
            batches_per_epoch: 10,
            ..Clock::default()
        };
        for (span, resolved) in [
            (steps(7), Some(7)),
            (epochs(1), Some(3)),
            (epochs(2), Some(5)),
            (epochs(u64::MAX), Some(u64::MAX.div_ceil(4))),
            (tokens(512), Some(1)),
            (tokens(513), Some(2)),
            (samples(80), Some(10)),
            (minutes(1.0), None),
            (fraction(0.5), None),
        ] {
            assert_eq!(span.resolve_steps(&per_step), resolved, "{span}");
            if let Some(last) = resolved.filter(|steps| *steps < 100) {
                let length = RunLength::Steps(last);
                assert!(span.is_reached(&per_step.after(last), length), "{span}");
                assert!(
                    !span.is_reached(&per_step.after(last - 1), length),
                    "{span}"
                );
            }
        }
        for span in [epochs(1), tokens(1), samples(1)] {
            assert_eq!(span.resolve_steps(&Clock::default()), None, "{span}");
        }
    }

    #[test]
    fn epochs_of_unknown_length_are_never_completed() {
        let clock = Clock {
            micro_batches: u64::MAX,
            ..at(9)
        };
        assert_eq!(epochs(1).periods(&clock, RunLength::Steps(9)), Some(0));
        assert!(!epochs(1).is_reached(&clock, RunLength::Steps(9)));
    }

    #[test]
    fn negative_time_is_refused() {
        let text = r#"{"step":0,"micro_batches":0,"tokens":0,"samples":0,"elapsed":-1.0}"#;
        assert!(serde_json::from_str::<Clock>(text).is_err());
    }

    #[test]
    fn fractions_end_on_the_last_step() {
        for num_steps in (10..2_000).chain([1_000_003, 999_999_999]) {
            for parts in [2_u32, 3, 7, 10] {
                let part = fraction(1.0 / f64::from(parts));
                let periods = |step| part.periods(&at(step), num_steps.into());
                assert_eq!(
                    periods(num_steps),
                    Some(u64::from(parts)),
                    "{parts} parts of {num_steps}"
                );
                assert_eq!(periods(num_steps - 1), Some(u64::from(parts) - 1));
            }
        }
    }

    #[test]
    fn a_fraction_is_reached_on_the_step_that_completes_it() {
        let first = |part, num_steps| {
            let length = RunLength::Steps(num_steps);
            (0..=num_steps).find(|&step| fraction(part).is_reached(&at(step), length))
        };
        assert_eq!(first(0.1, 30), Some(3)); // 0.1 * 30.0 > 3.0
        assert_eq!(first(2.0 / 3.0, 30), Some(20));
        assert_eq!(first(0.1, 31), Some(4));
        assert_eq!(first(0.001, 10), Some(1));
        assert_eq!(first(0.0, 10), Some(0));
        assert_eq!(first(1.0, 10), Some(10));
    }

    #[test]
    fn a_fraction_of_a_timed_run_is_a_share_of_its_time() {
        let length = RunLength::Time(Duration::from_secs(30));
        let clock = |seconds| Clock {
            elapsed: Duration::from_secs_f64(seconds),
            ..at(1)
        };
        assert!(!fraction(0.1).is_reached(&clock(2.9), length));
        assert!(fraction(0.1).is_reached(&clock(3.0), length)); // 0.1 * 30.0 > 3.0
        assert_eq!(fraction(0.1).periods(&clock(29.9), length), Some(9));
        assert_eq!(fraction(0.1).periods(&clock(30.0), length), Some(10));
    }

    #[test]
    fn invalid_seconds_become_the_nearest_valid_time() {
        assert_eq!(secs(1.5), Span::Time(Duration::from_millis(1_500)));
        assert_eq!(minutes(2.0), Span::Time(Duration::from_mins(2)));
        assert_eq!(secs(-1.0), Span::Time(Duration::ZERO));
        assert_eq!(secs(f64::NAN), Span::Time(Duration::ZERO));
        assert_eq!(secs(f64::INFINITY), Span::Time(Duration::MAX));
    }
}
