//! The law that knows the learning rate's schedule.

use super::early::Early;
use super::power::{Line, late};
use super::run::Run;
use super::schedule::Schedule;
use super::silence::Silence;
use crate::cholesky::dot;

/// `L(s) = L0 + A S1^-α - C S2`, by H. Tissue et al., 2024 (arXiv:2408.11029).
///
/// λ (in S2), α and C are common to all runs that are learned from: λ and α from a grid, C in closed form. A and L0 are
/// each run's own: what is left of a curve once both are projected out is linear in C, so each run adds three sums to
/// each node of the grid, and a fit without some runs just does not add theirs.
///
/// How the learning rate of a run goes on after the cut is not read from the run: it is that of the finished run whose
/// schedule has been most like its own so far. A run that goes on now has nothing else to offer either.
#[derive(Debug)]
pub(super) struct Annealing {
    /// `None` for runs with nothing to learn from.
    members: Vec<Option<Member>>,
    /// Node by node, of each block of members.
    blocks: Vec<Sums>,
}

#[derive(Debug)]
struct Member {
    schedule: Schedule,
    horizon: u64,
    /// For each node: -Σ s y and Σ s², where s is S2 and y the curve, less what A and L0 explain; Σ y².
    sums: Sums,
}

type Sums = Vec<[f64; 3]>;

/// Members that are added up once for all. Taking one off a sum instead would leave a trace of it, by rounding.
const BLOCK: usize = 16;

/// The law common to some runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Common {
    memory: f64,
    exponent: f64,
    gain: f64,
}

/// The grid: how many λ, such that a fall of the learning rate is remembered for about 10 to 1,000 steps, and how many
/// α, from 0.1 to 2. Both are evenly spaced on a logarithmic axis.
const MEMORIES: usize = 28;
const EXPONENTS: usize = 32;

fn memory(index: usize) -> f64 {
    1.0 - 0.1 * (-0.25 * index as f64).exp2()
}

fn exponent(index: usize) -> f64 {
    0.1 * 1.1_f64.powf(index as f64)
}

/// Evaluations for two parameters, and one to see whether they fit.
const FEWEST: usize = 3;

impl Annealing {
    /// Of runs in this order.
    pub(super) fn of(runs: &[Run]) -> Self {
        let members: Vec<_> = runs.iter().map(Member::of).collect();
        let block = |members: &[Option<Member>]| {
            let mut sums = no_sums();
            members
                .iter()
                .flatten()
                .for_each(|member| add(&mut sums, &member.sums));
            sums
        };
        let blocks = members.chunks(BLOCK).map(block).collect();
        Self { members, blocks }
    }

    /// The law common to these runs.
    pub(super) fn common(&self, train: &[usize]) -> Result<Common, Silence> {
        let mut is_learned_from = vec![false; self.members.len()];
        for run in train {
            is_learned_from[*run] = true;
        }
        let learned = |run: usize| {
            is_learned_from[run]
                .then(|| self.members[run].as_ref())
                .flatten()
        };
        if (0..self.members.len()).filter_map(learned).count() < 2 {
            return Err(Silence::NoSchedule);
        }
        let mut sums = no_sums();
        for (block, whole) in self.blocks.iter().enumerate() {
            let runs = block * BLOCK..self.members.len().min((block + 1) * BLOCK);
            if is_learned_from[runs.clone()].iter().all(|is| *is) {
                add(&mut sums, whole);
            } else {
                runs.filter_map(learned)
                    .for_each(|member| add(&mut sums, &member.sums));
            }
        }
        let node = |(index, [sy, ss, yy]): (usize, [f64; 3])| {
            let gain = if ss > 0.0 { (sy / ss).max(0.0) } else { 0.0 };
            let error = yy - 2.0 * gain * sy + gain * gain * ss;
            let (memory, exponent) = (memory(index / EXPONENTS), exponent(index % EXPONENTS));
            (
                error,
                Common {
                    memory,
                    exponent,
                    gain,
                },
            )
        };
        let nodes = sums.into_iter().enumerate().map(node);
        nodes
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, common)| common)
            .ok_or(Silence::NoFit)
    }

    /// The end of a run by the law common to these.
    pub(super) fn predict(
        &self,
        common: Common,
        train: &[usize],
        run: Early<'_>,
    ) -> Result<f64, Silence> {
        let schedule = self.like(train, run).ok_or(Silence::NoSchedule)?;
        let points = late(run.metric());
        if points.len() < FEWEST {
            return Err(Silence::FewEvaluations { needed: FEWEST });
        }
        let Common {
            memory,
            exponent,
            gain,
        } = common;
        let mut steps: Vec<u64> = points.iter().map(|(step, _)| *step).collect();
        steps.push(run.horizon());
        let (areas, annealed) = sums(schedule, run.horizon(), &steps, &[memory]);
        let annealed: Vec<f64> = annealed.into_iter().flatten().collect();
        let powers: Vec<f64> = areas
            .iter()
            .map(|area| area.powf(exponent))
            .map(f64::recip)
            .collect();
        // What the curve would be without annealing.
        let values: Vec<f64> = points
            .iter()
            .zip(&annealed)
            .map(|((_, value), s2)| value + gain * s2)
            .collect();
        let seen = points.len();
        let line = Line::falling(&powers[..seen], &values, &vec![1.0; seen]);
        let value = line.limit + line.slope * powers[seen] - gain * annealed[seen];
        value.is_finite().then_some(value).ok_or(Silence::NoFit)
    }

    /// The schedule of the run that is most like this one so far; of equal ones, that of the most equal length.
    fn like(&self, train: &[usize], run: Early<'_>) -> Option<&Schedule> {
        let seen = Schedule::seen(run)?;
        let members = train
            .iter()
            .filter_map(|index| self.members[*index].as_ref());
        let rated = members.filter_map(|member| {
            let longer = (member.horizon as f64 / run.horizon() as f64).ln().abs();
            Some(((member.schedule.distance(&seen)?, longer), &member.schedule))
        });
        let by_rate =
            |a: &(f64, f64), b: &(f64, f64)| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1));
        rated
            .min_by(|a, b| by_rate(&a.0, &b.0))
            .map(|(_, schedule)| schedule)
    }
}

impl Member {
    fn of(run: &Run) -> Option<Self> {
        let end = run.final_value()?;
        let schedule = Schedule::of(run)?;
        let mut points = late(Early::new(run, run.horizon).metric()).to_vec();
        if points.last().is_none_or(|(step, _)| *step < run.horizon) {
            points.push((run.horizon, end));
        }
        if points.len() <= FEWEST {
            return None;
        }
        let steps: Vec<u64> = points.iter().map(|(step, _)| *step).collect();
        let values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
        let memories: Vec<f64> = (0..MEMORIES).map(memory).collect();
        let (areas, annealed) = sums(&schedule, run.horizon, &steps, &memories);
        let whole = *areas.last()?;
        let values = centred(values);
        // Each power to length 1, and what of the curve is at right angles to it.
        let power = |index: usize| {
            let power = centred(
                areas
                    .iter()
                    .map(|area| (area / whole).powf(-exponent(index)))
                    .collect(),
            );
            let length = dot(&power, &power).sqrt();
            let power: Vec<f64> = power.into_iter().map(|x| x / length).collect();
            let along = dot(&values, &power);
            let rest: Vec<f64> = values
                .iter()
                .zip(&power)
                .map(|(y, x)| y - along * x)
                .collect();
            (power, rest)
        };
        let powers: Vec<_> = (0..EXPONENTS).map(power).collect();
        let mut nodes = Vec::with_capacity(MEMORIES * EXPONENTS);
        for annealed in annealed {
            let annealed = centred(annealed);
            let square = dot(&annealed, &annealed);
            nodes.extend(powers.iter().map(|(power, rest)| {
                let along = dot(&annealed, power);
                [
                    -dot(&annealed, rest),
                    square - along * along,
                    dot(rest, rest),
                ]
            }));
        }
        let is_finite = nodes.iter().flatten().all(|sum| sum.is_finite());
        is_finite.then_some(Self {
            schedule,
            horizon: run.horizon,
            sums: nodes,
        })
    }
}

/// S1 at each step, and S2 for each memory at each step.
fn sums(
    schedule: &Schedule,
    horizon: u64,
    steps: &[u64],
    memories: &[f64],
) -> (Vec<f64>, Vec<Vec<f64>>) {
    let (mut areas, mut annealed) = (Vec::new(), vec![Vec::new(); memories.len()]);
    schedule.sums(horizon, memories, steps, |_, area, sums| {
        areas.push(area);
        annealed
            .iter_mut()
            .zip(sums)
            .for_each(|(all, sum)| all.push(*sum));
    });
    (areas, annealed)
}

fn no_sums() -> Sums {
    vec![[0.0; 3]; MEMORIES * EXPONENTS]
}

fn add(sums: &mut [[f64; 3]], others: &[[f64; 3]]) {
    for (sum, other) in sums.iter_mut().zip(others) {
        for (sum, other) in sum.iter_mut().zip(other) {
            *sum += other;
        }
    }
}

fn centred(values: Vec<f64>) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.into_iter().map(|value| value - mean).collect()
}
