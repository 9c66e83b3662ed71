//! Cadences: the steps on which a callback, an eval or a checkpoint is due.
//!
//! A cadence is a pure function of the clock. It keeps no counter, so a resumed run acts on the same steps
//! as an uninterrupted one, and a plan can be printed before anything runs.

mod check;
mod parse;
mod text;

pub use crate::clock::{Span, epochs, fraction, minutes, samples, secs, steps, tokens};
pub use check::CadenceError;

use crate::clock::{Clock, RunLength};
use std::ops::{BitAnd, BitOr};

/// Longest run, in steps, whose firings are predicted one by one. Beyond it, time and memory would matter.
pub(crate) const MOST_STEPS: u64 = 10_000_000;

/// The steps on which a callback acts.
///
/// `|` joins two cadences, `&` keeps the steps that they share. Configuration files and plans use the
/// text form, which parses back to the same cadence:
///
/// | text                                        | acts                                              |
/// |---------------------------------------------|---------------------------------------------------|
/// | `every step`, `every 100 steps`             | on steps 100, 200, …                              |
/// | `every 1000000 tokens`, `every 64 samples`  | on the steps that complete a multiple             |
/// | `every 1 epoch`, `every 2 epochs`           | on the steps that complete an epoch of the data   |
/// | `every 10%`                                 | on each tenth of the run, the last step included  |
/// | `every 30s`, `every 5min`, `every 2h`       | on the first step after each such period of time  |
/// | `at 250,500,1000 steps`, `at 10%,50%`       | once at each                                      |
/// | `between 100 and 500 steps`                 | on every step from 100 to 500                     |
/// | `log-spaced 4 per decade`                   | on steps 1, 2, 3, 6, 10, 18, 32, 56, 100, …       |
/// | `start`, `first`, `last`                    | on step 0 (the untrained model), step 1, the last |
/// | `never`                                     | not at all                                        |
/// | <code>every 500 steps &#124; last</code>    | on both                                           |
/// | `every 10 steps & between 0% and 5%`        | on every tenth step of the first 5% of the run    |
///
/// In a run that is limited by time, percentages are shares of the time.
///
/// `&` binds tighter than `|`; parentheses group. In a list, a unit also applies to the numbers before it
/// that have none. The default unit is steps and the default word is `every`: `100` is `every 100 steps`.
///
/// # Examples
///
/// ```
/// use bdh::{Cadence, Clock};
/// use bdh::cadence::{every, first, last};
///
/// let cadence = every(250) | last();
/// let per_step = Clock { tokens: 4_096, ..Clock::default() };
/// let steps: Vec<u64> = cadence.firings(&per_step, 600).collect();
/// assert_eq!(steps, [250, 500, 600]);
///
/// assert_eq!(cadence.to_string(), "every 250 steps | last");
/// assert_eq!("every 250 steps | last".parse(), Ok(cadence));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Cadence {
    /// No step.
    Never,
    /// Step 0, the untrained model.
    Start,
    /// Step 1.
    First,
    /// The last planned step, or the step that reaches the time limit; a run that is stopped early has neither.
    Last,
    /// Each step that completes another span; not step 0.
    Every(Span),
    /// Steps that reach these points of the run.
    At(Vec<Span>),
    /// Steps 10^(i / `per_decade`), rounded: their logarithms are evenly spaced.
    LogSpaced {
        /// Firings from one power of ten to the next.
        per_decade: u32,
    },
    /// Every step from the first point to the second, both included.
    Between(Span, Span),
    /// Steps of either cadence.
    Or(Box<Self>, Box<Self>),
    /// Steps that two cadences share.
    And(Box<Self>, Box<Self>),
}

impl Cadence {
    /// Steps 1, 2, 3, …; not step 0, the untrained model.
    pub const EVERY_STEP: Self = Self::Every(Span::Steps(1));

    /// Acts on steps 1, 2, 4, …, 512, then on every 1,000th.
    ///
    /// Training moves fastest at the start, so that is where checkpoints are closest together.
    /// Source: Biderman et al., 2023, *Pythia* (arXiv:2304.01373).
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::{Cadence, Clock};
    ///
    /// let steps: Vec<u64> = Cadence::pythia().firings(&Clock::default(), 2_500).collect();
    /// assert_eq!(steps, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_000, 2_000]);
    /// ```
    #[must_use]
    pub fn pythia() -> Self {
        at((0..10).map(|power| 1 << power)) | every(1_000)
    }

    /// Whether the cadence is due after the work in `(previous, now]`, in a run of this length.
    ///
    /// A number as `length` is a number of steps. On step 0 `previous` is `None`. The result depends on the arguments alone, so a trainer may call this
    /// before a step runs, with the clock as the step will leave it. `elapsed` is not known then: the same
    /// value must be `previous.elapsed` of the next call, or time that passes during the step is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::Clock;
    /// use bdh::cadence::{every, tokens};
    ///
    /// let before = Clock { step: 3, tokens: 900, ..Clock::default() };
    /// let now = Clock { step: 4, tokens: 1_200, ..Clock::default() };
    /// assert!(every(tokens(1_000)).is_due(Some(&before), &now, 100));
    /// assert!(!every(10).is_due(Some(&before), &now, 100));
    /// ```
    #[must_use]
    pub fn is_due(
        &self,
        previous: Option<&Clock>,
        now: &Clock,
        length: impl Into<RunLength>,
    ) -> bool {
        let window = Window {
            previous,
            now,
            length: length.into(),
        };
        self.is_due_in(&window)
    }

    fn is_due_in(&self, window: &Window<'_>) -> bool {
        match self {
            Self::Never => false,
            Self::Start => window.reaches(Span::Steps(0)),
            Self::First => window.reaches(Span::Steps(1)),
            Self::Last => window.reaches_end(),
            Self::Every(span) => window.completes(*span),
            Self::At(spans) => spans.iter().any(|span| window.reaches(*span)),
            Self::LogSpaced { per_decade } => window.reaches_log_point(*per_decade),
            Self::Between(from, until) => window.ends_after(*from) && !window.starts_after(*until),
            Self::Or(a, b) => a.is_due_in(window) || b.is_due_in(window),
            Self::And(a, b) => a.is_due_in(window) && b.is_due_in(window),
        }
    }

    /// Returns the steps from 0 to `num_steps` that are due if each step completes `per_step`.
    ///
    /// Calls [`is_due`](Self::is_due) for every step, some nanoseconds each, so the two cannot disagree.
    /// Spans of time are as accurate as the estimate in `per_step.elapsed`; see
    /// [`is_predictable`](Self::is_predictable).
    pub fn firings<'a>(
        &'a self,
        per_step: &Clock,
        num_steps: u64,
    ) -> impl Iterator<Item = u64> + use<'a> {
        let per_step = *per_step;
        (0..=num_steps).filter(move |&step| {
            let previous = step.checked_sub(1).map(|step| per_step.after(step));
            self.is_due(previous.as_ref(), &per_step.after(step), num_steps)
        })
    }

    /// Whether [`firings`](Self::firings) is exact: no part of the cadence reads the time.
    ///
    /// In a run that is limited by [time](RunLength::Time), fractions and `last` read the time too, and no firing is
    /// certain: the number of steps is not known.
    #[must_use]
    pub fn is_predictable(&self) -> bool {
        self.spans()
            .iter()
            .all(|span| !matches!(span, Span::Time(_)))
    }

    /// Whether the due steps depend on the size of the batches.
    pub(crate) fn counts_data(&self) -> bool {
        self.spans()
            .iter()
            .any(|span| matches!(span, Span::Tokens(_) | Span::Samples(_)))
    }

    fn spans(&self) -> Vec<Span> {
        match self {
            Self::Every(span) => vec![*span],
            Self::At(spans) => spans.clone(),
            Self::Between(from, until) => vec![*from, *until],
            Self::Or(a, b) | Self::And(a, b) => [a.spans(), b.spans()].concat(),
            Self::Never | Self::Start | Self::First | Self::Last | Self::LogSpaced { .. } => vec![],
        }
    }
}

/// Work of one step: after `previous`, up to `now`.
struct Window<'a> {
    /// `None` on step 0.
    previous: Option<&'a Clock>,
    now: &'a Clock,
    /// Length of the run.
    length: RunLength,
}

impl Window<'_> {
    fn starts_after(&self, span: Span) -> bool {
        self.previous
            .is_some_and(|previous| span.is_reached(previous, self.length))
    }

    fn ends_after(&self, span: Span) -> bool {
        span.is_reached(self.now, self.length)
    }

    fn reaches(&self, span: Span) -> bool {
        self.ends_after(span) && !self.starts_after(span)
    }

    fn reaches_end(&self) -> bool {
        let was_over = self
            .previous
            .is_some_and(|previous| self.length.is_reached(previous));
        self.length.is_reached(self.now) && !was_over
    }

    /// Returns whether another span is completed; false for a span of zero.
    fn completes(&self, span: Span) -> bool {
        let before = match self.previous {
            Some(previous) => span.periods(previous, self.length),
            None => Some(0),
        };
        span.periods(self.now, self.length) > before
    }

    fn reaches_log_point(&self, per_decade: u32) -> bool {
        let before = self
            .previous
            .map_or(0, |previous| log_points(previous.step, per_decade));
        log_points(self.now.step, per_decade) > before
    }
}

/// Counts the points 10^(i / `per_decade`), rounded, that are at most `step`.
fn log_points(step: u64, per_decade: u32) -> u64 {
    // A point rounds to at most `step` if it lies below `step + 0.5`; below 1 there is none.
    (f64::from(per_decade) * (step as f64 + 0.5).log10()).ceil() as u64
}

impl Default for Cadence {
    /// Returns [`Cadence::EVERY_STEP`].
    fn default() -> Self {
        Self::EVERY_STEP
    }
}

impl From<Span> for Cadence {
    /// Converts a span to [`Cadence::Every`].
    fn from(span: Span) -> Self {
        Self::Every(span)
    }
}

impl From<u64> for Cadence {
    /// Converts a number of steps to [`Cadence::Every`].
    fn from(steps: u64) -> Self {
        Self::Every(Span::Steps(steps))
    }
}

impl BitOr for Cadence {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self::Or(Box::new(self), Box::new(other))
    }
}

impl BitAnd for Cadence {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self::And(Box::new(self), Box::new(other))
    }
}

/// Acts each time another span is completed: `every(250)`, `every(epochs(1))`, `every(tokens(1_000_000))`.
#[must_use]
pub fn every(span: impl Into<Span>) -> Cadence {
    Cadence::Every(span.into())
}

/// Acts once at each point of the run: `at([250, 500, 1000])`, `at([fraction(0.1), fraction(0.5)])`.
#[must_use]
pub fn at<S: Into<Span>>(spans: impl IntoIterator<Item = S>) -> Cadence {
    Cadence::At(spans.into_iter().map(Into::into).collect())
}

/// Acts on every step between two points of the run, both included.
#[must_use]
pub fn between(from: impl Into<Span>, until: impl Into<Span>) -> Cadence {
    Cadence::Between(from.into(), until.into())
}

/// Acts on steps 10^(i / `per_decade`), rounded: often at first, then less and less often.
#[must_use]
pub fn log_spaced(per_decade: u32) -> Cadence {
    Cadence::LogSpaced { per_decade }
}

/// Acts on step 0, the untrained model.
#[must_use]
pub fn start() -> Cadence {
    Cadence::Start
}

/// Acts on step 1.
#[must_use]
pub fn first() -> Cadence {
    Cadence::First
}

/// Acts on the last step of the run. In a run that is limited by time, that is the step that reaches the limit.
#[must_use]
pub fn last() -> Cadence {
    Cadence::Last
}

/// Acts on no step.
#[must_use]
pub fn never() -> Cadence {
    Cadence::Never
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{epochs, fraction, minutes, samples, secs, tokens};
    use std::collections::BTreeSet;

    /// Returns the due steps of a run with 300 tokens and 4 samples per step.
    fn firings(cadence: &Cadence, num_steps: u64) -> Vec<u64> {
        let per_step = Clock {
            tokens: 300,
            samples: 4,
            ..Clock::default()
        };
        cadence.firings(&per_step, num_steps).collect()
    }

    #[test]
    fn each_cadence_fires_on_its_steps() {
        assert!(firings(&never(), 3).is_empty());
        assert_eq!(firings(&start(), 3), [0]);
        assert_eq!(firings(&first(), 3), [1]);
        assert_eq!(firings(&last(), 3), [3]);
        assert_eq!(firings(&Cadence::default(), 3), [1, 2, 3]);
        assert_eq!(firings(&every(100), 350), [100, 200, 300]);
        assert_eq!(firings(&at([0, 2, 9]), 3), [0, 2]);
        assert_eq!(firings(&between(2, 4), 9), [2, 3, 4]);
        assert_eq!(firings(&between(0, fraction(0.1)), 31), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn token_and_sample_cadences_fire_on_completed_multiples() {
        assert_eq!(firings(&every(tokens(1_000)), 11), [4, 7, 10]);
        assert_eq!(firings(&every(tokens(100)), 3), [1, 2, 3]); // three multiples a step, one firing
        assert_eq!(firings(&every(samples(8)), 6), [2, 4, 6]);
        assert_eq!(firings(&at([tokens(301)]), 6), [2]);
    }

    #[test]
    fn epoch_cadences_fire_on_the_step_that_completes_the_pass() {
        let per_step = Clock {
            micro_batches: 4,
            batches_per_epoch: 10,
            ..Clock::default()
        };
        let firings = |cadence: Cadence| -> Vec<u64> { cadence.firings(&per_step, 12).collect() };
        assert_eq!(firings(every(epochs(1))), [3, 5, 8, 10]);
        assert_eq!(firings(every(epochs(2))), [5, 10]);
        assert_eq!(firings(at([epochs(1), epochs(3)])), [3, 8]);
        assert_eq!(firings(between(epochs(1), epochs(2))), [3, 4, 5]);

        let unknown = Clock {
            batches_per_epoch: 0,
            ..per_step
        };
        assert_eq!(every(epochs(1)).firings(&unknown, 12).count(), 0);
    }

    #[test]
    fn every_tenth_of_the_run_ends_with_the_run() {
        assert_eq!(
            firings(&every(fraction(0.1)), 30),
            [3, 6, 9, 12, 15, 18, 21, 24, 27, 30]
        );
        assert_eq!(firings(&every(fraction(0.3)), 10), [3, 6, 9]);
        assert_eq!(firings(&every(fraction(0.001)), 3), [1, 2, 3]);
        assert_eq!(firings(&at([fraction(0.1), fraction(1.0)]), 30), [3, 30]);
    }

    #[test]
    fn time_cadences_fire_on_the_first_step_after_each_period() {
        let clock = |step, seconds| Clock {
            elapsed: std::time::Duration::from_secs(seconds),
            ..Clock::default().after(step)
        };
        let cadence = every(minutes(1.0));
        assert!(!cadence.is_due(Some(&clock(1, 0)), &clock(2, 59), 100));
        assert!(cadence.is_due(Some(&clock(2, 59)), &clock(3, 61), 100));
        assert!(!cadence.is_due(Some(&clock(3, 61)), &clock(4, 119), 100));
        assert!(!cadence.is_predictable());
        assert!(!(last() | at([secs(30.0)])).is_predictable());
        assert!((every(tokens(5)) | last()).is_predictable());
    }

    #[test]
    fn in_a_timed_run_fractions_and_the_end_are_times() {
        let length = RunLength::Time(std::time::Duration::from_secs(100));
        let clocks: Vec<Clock> = [0, 20, 45, 55, 99, 101]
            .iter()
            .zip(0..)
            .map(|(&seconds, step)| Clock {
                elapsed: std::time::Duration::from_secs(seconds),
                ..Clock::default().after(step)
            })
            .collect();
        let due = |cadence: Cadence| -> Vec<u64> {
            let windows = clocks.windows(2).map(|pair| (&pair[0], &pair[1]));
            windows
                .filter(|(previous, now)| cadence.is_due(Some(previous), now, length))
                .map(|(_, now)| now.step)
                .collect()
        };
        assert_eq!(due(last()), [5]);
        assert_eq!(due(at([fraction(0.5), fraction(1.0)])), [3, 5]);
        assert_eq!(due(every(fraction(0.25))), [2, 3, 4, 5]); // the step to 99 s completes three quarters
        assert_eq!(due(every(2)), [2, 4]);
        assert!(!last().is_due(None, &clocks[0], length));
    }

    #[test]
    fn log_spaced_steps_are_distinct_rounded_powers() {
        assert_eq!(
            firings(&log_spaced(4), 1_000),
            [1, 2, 3, 6, 10, 18, 32, 56, 100, 178, 316, 562, 1_000]
        );
        for per_decade in 1..60 {
            let power = |i: i32| 10_f64.powf(f64::from(i) / f64::from(per_decade)).round() as u64;
            let powers: BTreeSet<u64> = (0..=per_decade * 3).map(power).collect();
            let fired = firings(&log_spaced(per_decade.unsigned_abs()), 1_000);
            assert!(
                fired.iter().eq(&powers),
                "{per_decade} per decade: {fired:?}"
            );
        }
    }

    #[test]
    fn bare_integers_are_steps() {
        let cadence: Cadence = 100.into();
        assert_eq!(cadence, every(100));
        assert_eq!(Cadence::from(tokens(7)), every(tokens(7)));
    }

    #[test]
    fn invalid_cadences_never_fire_and_never_panic() {
        for cadence in [
            every(0),
            every(fraction(0.0)),
            every(fraction(f64::NAN)),
            log_spaced(0),
        ] {
            assert!(firings(&cadence, 5).is_empty(), "{cadence:?}");
        }
    }
}
