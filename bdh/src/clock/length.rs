//! The length of a run: a number of steps, or a time.

use super::{Clock, Span};
use std::time::Duration;

/// Length of a run: a number of steps, or a time.
///
/// A run that is limited by time ends with the step on which [`Clock::elapsed`] reaches the limit, so its number of
/// steps is not known before the end. `Display` writes `2000 steps` or `5 min`.
///
/// # Examples
///
/// ```
/// use bdh::Clock;
/// use bdh::clock::RunLength;
/// use std::time::Duration;
///
/// let clock = Clock { step: 500, elapsed: Duration::from_mins(1), ..Clock::default() };
/// let (counted, timed) = (RunLength::Steps(2_000), RunLength::Time(Duration::from_mins(5)));
/// assert_eq!((counted.share(&clock), timed.share(&clock)), (0.25, 0.2));
/// assert_eq!((counted.steps(), timed.steps()), (Some(2_000), None));
/// assert_eq!(format!("{counted}, {timed}"), "2000 steps, 5 min");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunLength {
    /// Number of optimizer updates.
    Steps(u64),
    /// Training time.
    Time(Duration),
}

impl RunLength {
    /// Returns the number of steps; `None` if the run is limited by time.
    #[must_use]
    pub fn steps(self) -> Option<u64> {
        match self {
            Self::Steps(steps) => Some(steps),
            Self::Time(_) => None,
        }
    }

    /// Returns the share of the run that is done at `clock`, from 0 to 1. An empty run is done at once.
    #[must_use]
    pub fn share(self, clock: &Clock) -> f64 {
        // `min` ignores NaN, which 0 of 0 steps is.
        (self.done(clock) / self.total()).min(1.0)
    }

    /// Whether `clock` has reached the end of the run.
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::Clock;
    /// use bdh::clock::RunLength;
    ///
    /// let length = RunLength::from(100);
    /// assert!(!length.is_reached(&Clock::default().after(99)));
    /// assert!(length.is_reached(&Clock::default().after(100)));
    /// ```
    #[must_use]
    pub fn is_reached(self, clock: &Clock) -> bool {
        match self {
            Self::Steps(steps) => clock.step >= steps,
            Self::Time(limit) => clock.elapsed >= limit,
        }
    }

    /// Returns the steps or seconds at `clock`.
    pub(super) fn done(self, clock: &Clock) -> f64 {
        match self {
            Self::Steps(_) => clock.step as f64,
            Self::Time(_) => clock.elapsed.as_secs_f64(),
        }
    }

    /// Returns the steps or seconds of the whole run.
    pub(super) fn total(self) -> f64 {
        match self {
            Self::Steps(steps) => steps as f64,
            Self::Time(limit) => limit.as_secs_f64(),
        }
    }
}

// The only conversion from an integer type: with a second one, `is_due(.., 100)` would be ambiguous.
impl From<u64> for RunLength {
    fn from(steps: u64) -> Self {
        Self::Steps(steps)
    }
}

impl From<Duration> for RunLength {
    fn from(limit: Duration) -> Self {
        Self::Time(limit)
    }
}

impl From<RunLength> for Span {
    fn from(length: RunLength) -> Self {
        match length {
            RunLength::Steps(steps) => Self::Steps(steps),
            RunLength::Time(limit) => Self::Time(limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(step: u64, seconds: u64) -> Clock {
        Clock {
            elapsed: Duration::from_secs(seconds),
            ..Clock::default().after(step)
        }
    }

    #[test]
    fn share_and_end_follow_the_unit_of_the_length() {
        let (counted, timed) = (RunLength::Steps(8), RunLength::Time(Duration::from_mins(1)));
        for (step, seconds, by_step, by_time) in [
            (0, 0, 0.0, 0.0),
            (2, 45, 0.25, 0.75),
            (8, 59, 1.0, 59.0 / 60.0),
            (9, 90, 1.0, 1.0), // the last step of a timed run ends after the limit
        ] {
            let clock = at(step, seconds);
            assert_eq!(counted.share(&clock), by_step);
            assert_eq!(timed.share(&clock), by_time);
            assert_eq!(counted.is_reached(&clock), by_step == 1.0);
            assert_eq!(timed.is_reached(&clock), by_time == 1.0);
        }
    }

    #[test]
    fn an_empty_run_is_over_before_it_begins() {
        for length in [RunLength::Steps(0), RunLength::Time(Duration::ZERO)] {
            assert_eq!(length.share(&at(0, 0)), 1.0);
            assert!(length.is_reached(&at(0, 0)));
        }
    }

    #[test]
    fn a_length_without_end_is_never_reached() {
        for length in [RunLength::Steps(u64::MAX), RunLength::Time(Duration::MAX)] {
            assert!(length.share(&at(1_000_000, 1_000_000)) < 1e-6);
            assert!(!length.is_reached(&at(1_000_000, 1_000_000)));
        }
    }

    #[test]
    fn a_length_is_a_span_of_its_unit() {
        let minute = Duration::from_mins(1);
        assert_eq!(Span::from(RunLength::Steps(7)), Span::Steps(7));
        assert_eq!(Span::from(RunLength::Time(minute)), Span::Time(minute));
    }

    #[test]
    fn text_has_the_number_and_its_unit() {
        let time = |seconds| RunLength::Time(Duration::from_secs(seconds)).to_string();
        assert_eq!(RunLength::from(2_000).to_string(), "2000 steps");
        assert_eq!(RunLength::from(1).to_string(), "1 step");
        assert_eq!([time(300), time(7_200), time(90)], ["5 min", "2 h", "90 s"]);
    }
}
