//! Outline of a schedule for people: where its curve begins, bends and ends.

use super::progress::points;
use super::shape::{Decay, Shape};
use super::{Form, Progress, Schedule};
use crate::clock::{Clock, RunLength};
use std::cmp::Ordering;

/// Runs of at most this many updates are examined whole; longer ones at 1,000 points and where a built-in shape bends.
const MOST_EXAMINED: u64 = 100_000;

/// Milestones beyond this number are left out.
const MOST_SHOWN: usize = 6;

/// Updates in a row with one rate.
struct Stretch {
    /// Step of the first one; 1 is the first of the run.
    first: u64,
    last: u64,
    rate: f64,
}

impl Stretch {
    /// Whether a rate is this one up to rounding.
    fn has(&self, rate: f64) -> bool {
        (rate - self.rate).abs() <= self.rate.abs() * 1e-12
    }

    /// Whether it is more than the meeting of two lines.
    fn is_level(&self) -> bool {
        self.last - self.first > 1
    }

    fn describe(&self) -> String {
        let (rate, first, last) = (short(self.rate), self.first, self.last);
        match (self.is_level(), first) {
            (true, _) => format!("{rate} (steps {first} to {last})"),
            (false, 1) => rate,
            (false, _) => format!("{rate} (step {first})"),
        }
    }
}

/// Describes the curve over a run of `steps` updates.
pub(super) fn over(schedule: &Schedule, steps: u64, per_step: &Clock) -> String {
    let stretches = milestones(stretches(schedule, steps, per_step));
    if let [only] = &*stretches {
        return short(only.rate);
    }
    let mut shown = Vec::new();
    for stretch in &stretches {
        shown.push(stretch.describe());
    }
    if shown.len() > MOST_SHOWN {
        shown.splice(MOST_SHOWN - 2..shown.len() - 1, ["…".to_owned()]);
    }
    shown.join(" → ")
}

/// Describes the curve of a built-in shape over a run whose number of updates is not known.
pub(super) fn over_time(shape: &Shape) -> String {
    let first = shape.lr(&Progress::of_share(0, 0.0));
    let last = shape.lr(&Progress::of_share(shape.warmup, 1.0));
    let mut text = short(first);
    if shape.warmup > 1 {
        text += &format!(" → {} (step {})", short(shape.peak), shape.warmup);
    }
    if let Decay::Warmdown(fraction) = shape.decay {
        let percent = 100.0 * (1.0 - fraction);
        text += &format!(" → {} (at {percent:.0} % of the run)", short(shape.peak));
    }
    if shape.decay != Decay::None {
        text += &format!(" → {} (at the end)", short(last));
    }
    text
}

/// Describes the start of a curve that is not known beforehand.
pub(super) fn at_first(schedule: &Schedule, per_step: &Clock) -> String {
    let first = schedule.lr_at(&Progress {
        epoch: per_step.after(0).epoch(),
        ..Progress::of_share(0, 0.0)
    });
    format!("{} at first", short(first))
}

/// Returns the updates of a run, with those of one rate together.
fn stretches(schedule: &Schedule, steps: u64, per_step: &Clock) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    for progress in examined(schedule, steps, per_step) {
        let (step, rate) = (progress.step + 1, schedule.lr_at(&progress));
        match stretches.last_mut() {
            Some(stretch) if stretch.has(rate) => stretch.last = step,
            _ => stretches.push(Stretch {
                first: step,
                last: step,
                rate,
            }),
        }
    }
    stretches
}

fn examined(schedule: &Schedule, steps: u64, per_step: &Clock) -> Vec<Progress> {
    let length = RunLength::Steps(steps);
    if steps <= MOST_EXAMINED {
        return points(length, per_step, MOST_EXAMINED);
    }
    let mut points = points(length, per_step, 1_000);
    if let Form::Shape(shape) = &schedule.0 {
        for update in shape.bends(steps) {
            points.push(Progress::new(update, steps));
        }
        points.push(Progress::new(steps - 1, steps));
        points.sort_by_key(|point| point.step);
    }
    points
}

/// Keeps the first and the last stretch, level ones, and those where the curve turns.
fn milestones(stretches: Vec<Stretch>) -> Vec<Stretch> {
    let mut kept = Vec::new();
    let last = stretches.len().saturating_sub(1);
    let directions = directions(&stretches);
    for (index, stretch) in stretches.into_iter().enumerate() {
        let is_end = index == 0 || index == last;
        if is_end || stretch.is_level() || directions[index - 1] != directions[index] {
            kept.push(stretch);
        }
    }
    kept
}

/// Returns whether the rate rises or falls after each stretch but the last.
fn directions(stretches: &[Stretch]) -> Vec<Option<Ordering>> {
    let pairs = stretches.windows(2);
    pairs
        .map(|pair| pair[1].rate.partial_cmp(&pair[0].rate))
        .collect()
}

/// Writes a rate with up to three digits: `3e-4`, `1.25e-3`.
fn short(rate: f64) -> String {
    if rate == 0.0 {
        return "0".to_owned();
    }
    let text = format!("{rate:.2e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let digits = digits.trim_end_matches('0').trim_end_matches('.');
            format!("{digits}e{exponent}")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use crate::clock::{Clock, RunLength};
    use crate::schedule::*;
    use std::time::Duration;

    const TIMED: RunLength = RunLength::Time(Duration::from_mins(5));

    #[test]
    fn outlines_have_start_peak_bends_and_end() {
        let outline = |schedule: Schedule, steps| schedule.outline(steps);
        let cosine = warmup_cosine(3e-4, 100).to(0.1);
        assert_eq!(
            outline(cosine, 2_000),
            "3e-6 → 3e-4 (step 100) → 3e-5 (step 2000)"
        );
        let hold = warmup_stable_decay(3e-4, 100, 0.65).to(0.05);
        assert_eq!(
            outline(hold, 2_000),
            "3e-6 → 3e-4 (steps 100 to 701) → 1.52e-5 (step 2000)"
        );
        assert_eq!(outline(constant(1.25e-3), 2_000), "1.25e-3");
        assert_eq!(
            outline(warmup_constant(1e-3, 4), 3),
            "2.5e-4 → 7.5e-4 (step 3)"
        );
        assert_eq!(outline(warmup_linear(1e-3, 0), 1), "1e-3");
    }

    #[test]
    fn long_runs_keep_the_bends_of_a_built_in_shape() {
        let steps = 2_000_000;
        let hold = warmup_stable_decay(3e-4, 1_234, 0.5);
        assert_eq!(
            hold.outline(steps),
            "2.43e-7 → 3e-4 (steps 1234 to 1000001) → 3e-10 (step 2000000)"
        );
        let endless = warmup_linear(1e-3, 10).outline(u64::MAX);
        assert!(
            endless.starts_with("1e-4 → 1e-3 (steps 10 to "),
            "{endless}"
        );
        assert!(
            endless.ends_with(" → 0 (step 18446744073709551615)"),
            "{endless}"
        );
    }

    #[test]
    fn functions_are_outlined_by_their_turns_and_levels() {
        let stairs = Schedule::new("stairs", |progress| {
            0.1 * 0.5_f64.powi((progress.step / 10) as i32)
        });
        assert_eq!(
            stairs.outline(25),
            "1e-1 (steps 1 to 10) → 5e-2 (steps 11 to 20) → 2.5e-2 (steps 21 to 25), by `stairs`"
        );
        let many = stairs.outline(100);
        assert!(
            many.contains("(steps 31 to 40) → … → 1.95e-4 (steps 91 to 100)"),
            "{many}"
        );
        let waves = Schedule::new("waves", |progress| 0.1 + 0.1 * (progress.step % 10) as f64);
        assert_eq!(
            waves.outline(15),
            "1e-1 → 1e0 (step 10) → 1e-1 (step 11) → 5e-1 (step 15), by `waves`"
        );
    }

    #[test]
    fn outlines_of_runs_limited_by_time_name_shares() {
        let hold = warmup_stable_decay(3e-4, 100, 0.65).to(0.1);
        assert_eq!(
            hold.outline(TIMED),
            "3e-6 → 3e-4 (step 100) → 3e-4 (at 35 % of the run) → 3e-5 (at the end)"
        );
        assert_eq!(constant(1e-3).outline(TIMED), "1e-3");
        let own = Schedule::new("own", |progress| 1e-3 / (1.0 + progress.share));
        assert_eq!(own.outline(TIMED), "1e-3 at first, by `own`");
    }

    #[test]
    fn outlines_of_functions_of_the_epoch_use_the_length_of_an_epoch() {
        let halving = Schedule::new("halving", |progress| {
            0.5_f64.powf(progress.epoch.unwrap_or(0.0).floor())
        });
        let per_step = Clock {
            micro_batches: 2,
            batches_per_epoch: 20,
            ..Clock::default()
        };
        assert_eq!(
            halving.outline_with(RunLength::Steps(20), &per_step),
            "1e0 (steps 1 to 10) → 5e-1 (steps 11 to 20), by `halving`"
        );
        assert_eq!(
            halving.outline_with(TIMED, &per_step),
            "1e0 at first, by `halving`"
        );
    }
}
