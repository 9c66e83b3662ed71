//! Learning-rate schedules, and their sums that losses follow.

use super::early::Early;
use super::run::Run;

/// The learning rate of a whole run, as multiples of its peak over shares of the horizon.
///
/// In this form multipliers and learning rates are the same, and runs of any length share a schedule.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    /// Share of the run and multiplier, in order; not empty.
    points: Vec<(f64, f64)>,
}

/// Largest horizon with sums: computing them takes a loop over all steps.
const MOST_STEPS: u64 = 1 << 24;

/// Share of the run up to which the learning rate must be recorded.
const ENOUGH: f64 = 0.95;

/// Largest difference of two schedules that count as equal, as a share of the peak.
const TOLERANCE: f64 = 0.05;

/// Number of shares at which two schedules are compared.
const COMPARED: u32 = 16;

impl Schedule {
    /// Returns the schedule of a run that has ended; `None` if its learning rate was not recorded to the end.
    pub(super) fn of(run: &Run) -> Option<Self> {
        let recorded_to = run.lr.last()?.0 as f64 / run.horizon as f64;
        if recorded_to < ENOUGH {
            return None;
        }
        Self::seen(Early::new(run, run.horizon))
    }

    /// Returns the visible part of a run's schedule.
    pub(super) fn seen(run: Early<'_>) -> Option<Self> {
        let peak = run.lr().iter().map(|(_, lr)| *lr).fold(0.0, f64::max);
        if peak <= 0.0 || run.horizon() > MOST_STEPS {
            return None;
        }
        let mut points = Vec::with_capacity(run.lr().len());
        for (step, lr) in run.lr() {
            points.push((*step as f64 / run.horizon() as f64, lr / peak));
        }
        Some(Self { points })
    }

    /// Returns the multiplier at a share of the run: linear between records, constant before the first and after the
    /// last.
    fn at(&self, share: f64) -> f64 {
        let next = self.points.partition_point(|(at, _)| *at <= share);
        let (before, after) = self.points.split_at(next);
        match (before.last(), after.first()) {
            (Some((from, start)), Some((to, end))) => {
                start + (end - start) * (share - from) / (to - from)
            }
            (Some((_, value)), None) | (None, Some((_, value))) => *value,
            (None, None) => 0.0,
        }
    }

    /// Returns the largest difference from the beginning of a schedule; `None` if it exceeds [`TOLERANCE`].
    pub(super) fn distance(&self, seen: &Self) -> Option<f64> {
        let end = seen.points.last().map_or(0.0, |(share, _)| *share);
        // A beginning is known relative to its own peak, so this schedule is taken relative to its peak so far.
        let mut peak = self.at(end);
        for (share, lr) in &self.points {
            if *share <= end {
                peak = peak.max(*lr);
            }
        }
        let mut distance: f64 = 0.0;
        for k in 1..=COMPARED {
            let share = end * f64::from(k) / f64::from(COMPARED);
            distance = distance.max((self.at(share) / peak - seen.at(share)).abs());
        }
        (distance <= TOLERANCE).then_some(distance)
    }

    /// Calls `visit` at each of `steps` with its index, S1, and S2 for each of the memories.
    ///
    /// `S1 = Σ η_i` and `S2 = Σ_i Σ_{k ≤ i} (η_{k-1} - η_k) λ^{i-k}`, both up to the step. Decreases count from the peak
    /// on, so warm-up does not count as annealing. `steps` must increase and be within the horizon.
    pub(super) fn sums(
        &self,
        horizon: u64,
        memories: &[f64],
        steps: &[u64],
        mut visit: impl FnMut(usize, f64, &[f64]),
    ) {
        let peak = self.points.iter().find(|(_, lr)| *lr >= 1.0);
        let peak_share = peak.map_or(0.0, |(share, _)| *share);
        let (mut area, mut before) = (0.0, self.at(0.0));
        let mut momenta = vec![0.0; memories.len()];
        let mut annealed = vec![0.0; memories.len()];
        let mut next = 0;
        for step in 1..=steps.last().map_or(0, |last| (*last).min(horizon)) {
            let share = step as f64 / horizon as f64;
            let lr = self.at(share);
            let fall = if share > peak_share { before - lr } else { 0.0 };
            area += lr;
            before = lr;
            for ((momentum, sum), memory) in momenta.iter_mut().zip(&mut annealed).zip(memories) {
                *momentum = memory * *momentum + fall;
                *sum += *momentum;
            }
            if steps.get(next) == Some(&step) {
                visit(next, area, &annealed);
                next += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(lr: &[(u64, f64)]) -> Run {
        Run {
            horizon: 10,
            lr: lr.to_vec(),
            ..Run::default()
        }
    }

    #[test]
    fn sums_equal_the_double_sum_of_the_law() {
        let lr = [0.5, 1.0, 1.0, 0.8, 0.6, 0.6, 0.3, 0.2, 0.1, 0.0]; // of steps 1 to 10, twice the multiplier
        let recorded: Vec<_> = (1..=10).zip(lr.map(|lr| 2.0 * lr)).collect();
        let schedule = Schedule::of(&run(&recorded)).expect("recorded to the end");
        let memories = [0.5, 0.9];
        let mut seen = Vec::new();
        schedule.sums(10, &memories, &[4, 10], |_, area, annealed| {
            seen.push((area, annealed.to_vec()));
        });
        for (steps, (area, annealed)) in [4, 10].into_iter().zip(seen) {
            assert!((area - lr[..steps].iter().sum::<f64>()).abs() < 1e-12);
            for (memory, annealed) in memories.into_iter().zip(annealed) {
                let mut double: f64 = 0.0;
                for i in 2..steps {
                    double += (2..=i)
                        .map(|k| (lr[k - 1] - lr[k]) * f64::powi(memory, (i - k) as i32))
                        .sum::<f64>();
                }
                assert!((annealed - double).abs() < 1e-12, "{annealed} and {double}");
            }
        }
    }

    #[test]
    fn beginning_is_recognized_at_any_scale() {
        let whole =
            Schedule::of(&run(&[(0, 0.0), (4, 8.0), (10, 0.0)])).expect("recorded to the end");
        let of = |lr: &[(u64, f64)]| {
            whole.distance(&Schedule::seen(Early::new(&run(lr), 3)).expect("some"))
        };
        assert!(of(&[(0, 0.0), (2, 0.1), (3, 0.15)]).expect("the same so far") < 1e-9);
        assert_eq!(
            of(&[(0, 0.2), (2, 0.2)]),
            None,
            "this schedule has no warm-up"
        );
        assert!(
            Schedule::of(&run(&[(0, 0.0), (4, 8.0)])).is_none(),
            "the schedule is not recorded to the end"
        );
        assert!(
            Schedule::of(&run(&[(0, 0.0), (10, 0.0)])).is_none(),
            "there is no peak"
        );
        assert!(Schedule::of(&run(&[])).is_none());
    }
}
