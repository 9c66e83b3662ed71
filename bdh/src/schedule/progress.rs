//! Progress of a run, the argument of a schedule.

use crate::cadence::MOST_STEPS;
use crate::clock::{Clock, RunLength};

/// Progress of a run before an update: the argument of a [`Schedule`](super::Schedule).
///
/// # Examples
///
/// ```
/// use bdh::schedule::Progress;
///
/// let middle = Progress::new(500, 1_000);
/// assert_eq!((middle.step, middle.share), (500, 0.5));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// Number of completed updates: 0 before the first.
    pub step: u64,
    /// Number of updates in the whole run; `None` if it is not known beforehand, as in a run limited by time.
    pub steps: Option<u64>,
    /// Share of the run that is done, from 0 to 1: `step / steps`, or the elapsed share of a limit in time.
    pub share: f64,
    /// Number of completed epochs, with the fraction of the current one: 1.5 is the middle of the second. `None` if the
    /// training data does not know its length.
    pub epoch: Option<f64>,
}

impl Progress {
    /// Returns the progress before update `step` (0 is the first) in a run of `steps` updates.
    #[must_use]
    pub fn new(step: u64, steps: u64) -> Self {
        Self {
            step,
            steps: Some(steps),
            share: (step as f64 / steps.max(1) as f64).min(1.0),
            epoch: None,
        }
    }

    /// Returns the progress before update `step` (0 is the first) in a run whose number of updates is not known, when
    /// `share` of it is done.
    #[must_use]
    pub fn of_share(step: u64, share: f64) -> Self {
        Self {
            step,
            steps: None,
            share,
            epoch: None,
        }
    }

    /// Returns the progress of a run of this length at a clock.
    pub(crate) fn at(clock: &Clock, length: RunLength) -> Self {
        Self {
            step: clock.step,
            steps: length.steps(),
            share: length.share(clock),
            epoch: clock.epoch(),
        }
    }
}

/// Returns at most `count` points of a run in order, evenly spaced, the first and the last update among them.
///
/// The last point is at most ten million updates from the start. Each step does the work of `per_step`. A run limited by
/// time is taken to be of `count` updates.
pub(super) fn points(length: RunLength, per_step: &Clock, count: u64) -> Vec<Progress> {
    let last = length
        .steps()
        .unwrap_or(count)
        .min(MOST_STEPS)
        .saturating_sub(1);
    let mut points = Vec::new();
    for step in evenly(last, count) {
        let mut point = Progress::at(&per_step.after(step), length);
        if point.steps.is_none() {
            point.share = step as f64 / last.max(1) as f64;
        }
        points.push(point);
    }
    points
}

/// Returns at most `count` numbers from 0 to `last`, both of them included.
fn evenly(last: u64, count: u64) -> Vec<u64> {
    if last < count {
        return (0..=last).collect();
    }
    let gaps = count.saturating_sub(1).max(1);
    (0..=gaps).map(|index| index * last / gaps).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn points_include_the_first_and_the_last_update() {
        let steps = |steps, count| {
            let points = points(RunLength::Steps(steps), &Clock::default(), count);
            points.iter().map(|point| point.step).collect::<Vec<_>>()
        };
        assert_eq!(steps(3, 5), [0, 1, 2]);
        assert_eq!(steps(101, 5), [0, 25, 50, 75, 100]);
        assert_eq!(steps(1, 5), [0]);
        assert_eq!(steps(u64::MAX, 2), [0, MOST_STEPS - 1]);
    }

    #[test]
    fn points_know_share_and_epoch() {
        let per_step = Clock {
            micro_batches: 2,
            batches_per_epoch: 8,
            ..Clock::default()
        };
        let points = |length| points(length, &per_step, 5);
        let counted = points(RunLength::Steps(5));
        assert_eq!(
            counted[4],
            Progress {
                epoch: Some(1.0),
                ..Progress::new(4, 5)
            }
        );
        let timed = points(RunLength::Time(Duration::from_secs(9)));
        let shares: Vec<_> = timed.iter().map(|point| point.share).collect();
        assert_eq!(shares, [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!((timed[2].steps, timed[2].epoch), (None, Some(0.5)));
    }

    #[test]
    fn progress_follows_the_clock() {
        let clock = Clock {
            elapsed: Duration::from_secs(3),
            ..Clock::default().after(20)
        };
        let counted = Progress::at(&clock, RunLength::Steps(80));
        assert_eq!(counted, Progress::new(20, 80));
        let timed = Progress::at(&clock, RunLength::Time(Duration::from_secs(12)));
        assert_eq!(timed, Progress::of_share(20, 0.25));
    }
}
