//! Learning rates over a run, and the sums of them that losses follow.

use super::early::Early;
use super::run::Run;

/// The learning rate of a whole run, as multiples of its peak over shares of the horizon.
///
/// So multipliers and learning rates say the same, and runs of any length share a schedule.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    /// Share of the run and multiplier, in order; not empty.
    points: Vec<(f64, f64)>,
}

/// Runs with more steps are not summed up: it takes a loop over all of them.
const MOST_STEPS: u64 = 1 << 24;

/// Of the run that a schedule must be recorded of to be known.
const ENOUGH: f64 = 0.95;

/// By how much of the peak two schedules may differ and count as the same.
const TOLERANCE: f64 = 0.05;

impl Schedule {
    /// Of a run that has ended; `None` if its learning rate was not recorded to the end.
    pub(super) fn of(run: &Run) -> Option<Self> {
        let whole = Early::new(run, run.horizon);
        let recorded_to = run.lr.last()?.0 as f64 / run.horizon as f64;
        (recorded_to >= ENOUGH && run.horizon <= MOST_STEPS)
            .then(|| Self::seen(whole))
            .flatten()
    }

    /// What is seen of one.
    pub(super) fn seen(run: Early<'_>) -> Option<Self> {
        let peak = run.lr().iter().map(|(_, lr)| *lr).fold(0.0, f64::max);
        let share = |step: u64| step as f64 / run.horizon() as f64;
        let points: Vec<_> = run
            .lr()
            .iter()
            .map(|(step, lr)| (share(*step), lr / peak))
            .collect();
        (peak > 0.0 && run.horizon() <= MOST_STEPS).then_some(Self { points })
    }

    /// The multiplier there: linear between two records, constant before and after all.
    fn at(&self, share: f64) -> f64 {
        let next = self.points.partition_point(|(at, _)| *at <= share);
        match (
            next.checked_sub(1).map(|before| self.points[before]),
            self.points.get(next).copied(),
        ) {
            (Some((from, start)), Some((to, end))) => {
                start + (end - start) * (share - from) / (to - from)
            }
            (Some((_, value)), None) | (None, Some((_, value))) => value,
            (None, None) => 0.0,
        }
    }

    /// Whether a beginning is that of this schedule; if so, by how much they differ.
    pub(super) fn distance(&self, seen: &Self) -> Option<f64> {
        let end = seen.points.last().map_or(0.0, |(share, _)| *share);
        let before = self.points.partition_point(|(share, _)| *share <= end);
        let peak = self.points[..before]
            .iter()
            .map(|(_, lr)| *lr)
            .fold(self.at(end), f64::max);
        let apart = |k: i32| {
            let share = end * f64::from(k) / 16.0;
            (self.at(share) / peak - seen.at(share)).abs()
        };
        let distance = (1..=16).map(apart).fold(0.0, f64::max);
        (distance <= TOLERANCE).then_some(distance)
    }

    /// Calls `visit` at each of `steps`, which rise and are within the horizon, with its number, S1, and S2 for each of
    /// the memories.
    ///
    /// `S1 = Σ η_i` and `S2 = Σ_i Σ_{k ≤ i} (η_{k-1} - η_k) λ^{i-k}`, both up to the step. Falls count from the peak on:
    /// warming up is no annealing.
    pub(super) fn sums(
        &self,
        horizon: u64,
        memories: &[f64],
        steps: &[u64],
        mut visit: impl FnMut(usize, f64, &[f64]),
    ) {
        let peak = self
            .points
            .iter()
            .find(|(_, lr)| *lr >= 1.0)
            .map_or(0.0, |(share, _)| *share);
        let (mut area, mut before) = (0.0, self.at(0.0));
        let mut momenta = vec![0.0; memories.len()];
        let mut annealed = vec![0.0; memories.len()];
        let mut next = 0;
        for step in 1..=steps.last().map_or(0, |last| (*last).min(horizon)) {
            let share = step as f64 / horizon as f64;
            let lr = self.at(share);
            let fall = if share > peak { before - lr } else { 0.0 };
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
    fn the_sums_are_the_double_sum_of_the_law() {
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
    fn a_beginning_is_recognized_in_spite_of_its_scale() {
        let whole =
            Schedule::of(&run(&[(0, 0.0), (4, 8.0), (10, 0.0)])).expect("recorded to the end");
        let of = |lr: &[(u64, f64)]| {
            whole.distance(&Schedule::seen(Early::new(&run(lr), 3)).expect("some"))
        };
        assert!(of(&[(0, 0.0), (2, 0.1), (3, 0.15)]).expect("the same so far") < 1e-9);
        assert_eq!(of(&[(0, 0.2), (2, 0.2)]), None, "that one does not warm up");
        assert!(
            Schedule::of(&run(&[(0, 0.0), (4, 8.0)])).is_none(),
            "who knows how it goes on"
        );
        assert!(
            Schedule::of(&run(&[(0, 0.0), (10, 0.0)])).is_none(),
            "there is no peak"
        );
        assert!(Schedule::of(&run(&[])).is_none());
    }
}
