//! On which steps to act.
//!
//! A cadence is a pure function of the clock. It keeps no counter, so a resumed run acts on the steps
//! on which the uninterrupted one would have, and a plan can be printed before anything runs.

mod check;
mod parse;
mod text;

pub use check::CadenceError;

use crate::clock::{Clock, Span};
use std::ops::{BitAnd, BitOr};

/// Longer runs are not predicted step by step: the list alone would take a gigabyte.
pub(crate) const MOST_STEPS: u64 = 10_000_000;

/// The steps on which a callback acts.
///
/// `|` joins two cadences, `&` keeps the steps that they share. Each has a text form, for
/// configuration files and plans, that reads back as the same cadence:
///
/// | text                                        | acts                                              |
/// |---------------------------------------------|---------------------------------------------------|
/// | `every step`, `every 100 steps`             | on steps 100, 200, …                              |
/// | `every 1000000 tokens`, `every 64 samples`  | on the steps that complete a multiple             |
/// | `every 10%`                                 | on each tenth of the run, the last step included  |
/// | `every 30s`, `every 5min`, `every 2h`       | on the first step after each such stretch of time |
/// | `at 250,500,1000 steps`, `at 10%,50%`       | once at each                                      |
/// | `between 100 and 500 steps`                 | on every step from 100 to 500                     |
/// | `log-spaced 4 per decade`                   | on steps 1, 2, 3, 6, 10, 18, 32, 56, 100, …       |
/// | `start`, `first`, `last`                    | on step 0 (the untrained model), step 1, the last |
/// | `never`                                     | not at all                                        |
/// | <code>every 500 steps &#124; last</code>    | on both                                           |
/// | `every 10 steps & between 0% and 5%`        | on the steps of the first that the second has     |
///
/// `&` binds tighter than `|`; parentheses group. Of a list, the last unit is enough; without any, steps
/// are meant, and without a word, `every`: `100` is `every 100 steps`.
///
/// # Examples
///
/// ```
/// use bdh::{Cadence, Clock, every, first, last};
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
    /// On no step.
    Never,
    /// On step 0, the untrained model.
    Start,
    /// On step 1.
    First,
    /// On the last step that the run was given; one that is stopped early does not get there.
    Last,
    /// Each time the span is completed once more; not at the start.
    Every(Span),
    /// On the steps that reach these points of the run.
    At(Vec<Span>),
    /// On steps whose logarithms are evenly spaced: 10^(i / `per_decade`), rounded.
    LogSpaced {
        /// Firings from one power of ten to the next.
        per_decade: u32,
    },
    /// On every step from the one that reaches the first point to the one that reaches the second.
    Between(Span, Span),
    /// On the steps of either.
    Or(Box<Self>, Box<Self>),
    /// On the steps of both.
    And(Box<Self>, Box<Self>),
}

impl Cadence {
    /// On steps 1, 2, 3, …; not on step 0, which is no step of training.
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

    /// Whether the work in `(previous, now]` calls for an action, in a run of `horizon` steps.
    ///
    /// On step 0 `previous` is `None`. The answer depends on the arguments alone, so it may be asked
    /// before a step runs, with the clock as that step will leave it; `elapsed`, which nobody knows
    /// yet, must then stay as it was when asked, or what falls due during the step is skipped.
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::{Clock, every, tokens};
    ///
    /// let before = Clock { step: 3, tokens: 900, ..Clock::default() };
    /// let now = Clock { step: 4, tokens: 1_200, ..Clock::default() };
    /// assert!(every(tokens(1_000)).is_due(Some(&before), &now, 100));
    /// assert!(!every(10).is_due(Some(&before), &now, 100));
    /// ```
    #[must_use]
    pub fn is_due(&self, previous: Option<&Clock>, now: &Clock, horizon: u64) -> bool {
        let was_reached =
            |span: Span| previous.is_some_and(|clock| span.is_reached(clock, horizon));
        let arrives = |span: Span| span.is_reached(now, horizon) && !was_reached(span);
        match self {
            Self::Never => false,
            Self::Start => arrives(Span::Steps(0)),
            Self::First => arrives(Span::Steps(1)),
            Self::Last => arrives(Span::Steps(horizon)),
            Self::Every(span) => {
                let before = previous.map_or(Some(0), |clock| span.periods(clock, horizon));
                span.periods(now, horizon) > before
            }
            Self::At(spans) => spans.iter().any(|&span| arrives(span)),
            Self::LogSpaced { per_decade } => {
                let before = previous.map_or(0, |clock| log_points(clock.step, *per_decade));
                log_points(now.step, *per_decade) > before
            }
            Self::Between(from, until) => from.is_reached(now, horizon) && !was_reached(*until),
            Self::Or(a, b) => a.is_due(previous, now, horizon) || b.is_due(previous, now, horizon),
            Self::And(a, b) => a.is_due(previous, now, horizon) && b.is_due(previous, now, horizon),
        }
    }

    /// The steps, of 0 to `horizon`, on which it will act if each step completes `per_step`.
    ///
    /// It asks [`is_due`](Self::is_due) of every step, some nanoseconds each, so the two cannot
    /// disagree. Spans of time are as good as the guess in `per_step.elapsed`; see
    /// [`is_predictable`](Self::is_predictable).
    pub fn firings<'a>(
        &'a self,
        per_step: &Clock,
        horizon: u64,
    ) -> impl Iterator<Item = u64> + use<'a> {
        let per_step = *per_step;
        (0..=horizon).filter(move |&step| {
            let previous = step.checked_sub(1).map(|step| per_step.after(step));
            self.is_due(previous.as_ref(), &per_step.after(step), horizon)
        })
    }

    /// Whether [`firings`](Self::firings) is exact: no part of the cadence reads the time.
    #[must_use]
    pub fn is_predictable(&self) -> bool {
        self.spans()
            .iter()
            .all(|span| !matches!(span, Span::Time(_)))
    }

    /// Whether when it fires depends on how much a batch holds.
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

/// How many of the points 10^(i / `per_decade`), rounded, are at most `step`.
fn log_points(step: u64, per_decade: u32) -> u64 {
    // A point rounds to at most `step` if it lies below `step + 0.5`; below 1 there is none.
    (f64::from(per_decade) * (step as f64 + 0.5).log10()).ceil() as u64
}

/// Every step.
impl Default for Cadence {
    fn default() -> Self {
        Self::EVERY_STEP
    }
}

/// Each time the span is completed once more.
impl From<Span> for Cadence {
    fn from(span: Span) -> Self {
        Self::Every(span)
    }
}

/// Every `steps` steps.
impl From<u64> for Cadence {
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

/// Acts each time a span is completed once more: `every(250)`, `every(tokens(1_000_000))`.
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

/// Acts on steps 10^(i / `per_decade`), rounded: often at first, then ever more rarely.
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

/// Acts on the last step of the run.
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
    use crate::clock::{fraction, minutes, samples, secs, tokens};
    use std::collections::BTreeSet;

    /// The firings of a run in which every step sees 300 tokens and 4 samples.
    fn firings(cadence: &Cadence, horizon: u64) -> Vec<u64> {
        let per_step = Clock {
            tokens: 300,
            samples: 4,
            ..Clock::default()
        };
        cadence.firings(&per_step, horizon).collect()
    }

    #[test]
    fn each_cadence_fires_on_the_steps_it_names() {
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
    fn multiples_of_tokens_and_samples_fire_on_the_step_that_completes_them() {
        assert_eq!(firings(&every(tokens(1_000)), 11), [4, 7, 10]);
        assert_eq!(firings(&every(tokens(100)), 3), [1, 2, 3]); // three multiples a step, one firing
        assert_eq!(firings(&every(samples(8)), 6), [2, 4, 6]);
        assert_eq!(firings(&at([tokens(301)]), 6), [2]);
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
    fn time_fires_on_the_first_step_after_each_stretch() {
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
    fn log_spaced_steps_are_rounded_powers_without_repeats() {
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
    fn bare_integers_are_steps_wherever_a_span_or_a_cadence_goes() {
        let cadence: Cadence = 100.into();
        assert_eq!(cadence, every(100));
        assert_eq!(Cadence::from(tokens(7)), every(tokens(7)));
    }

    #[test]
    fn senseless_cadences_are_quiet_rather_than_fatal() {
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
