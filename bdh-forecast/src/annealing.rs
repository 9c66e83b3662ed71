//! A scaling law that takes the learning-rate schedule into account.

use super::early::Early;
use super::no_prediction::NoPrediction;
use super::power::{Line, late};
use super::run::Run;
use super::scale::centred;
use super::schedule::Schedule;
use crate::cholesky::dot;

/// The law `L(s) = L0 + A S1^-α - C S2`, by H. Tissue et al., 2024 (arXiv:2408.11029).
///
/// λ (in S2), α and C are common to all training runs: λ and α come from a grid, C follows in closed form. A and L0
/// belong to one run. The rest of a curve, once both are projected out, is linear in C, so each run adds three sums to
/// each node of the grid, and a fit without some runs just does not add theirs.
///
/// The learning rate of a run after the cut is not read from the run: it is that of the finished run with the most
/// similar schedule so far. A run in progress has nothing else to offer either.
#[derive(Debug)]
pub(super) struct Annealing {
    /// One entry per run; `None` for runs with nothing to learn from.
    members: Vec<Option<Member>>,
    /// Sums of each block of members.
    blocks: Vec<Vec<Node>>,
}

/// A run to learn from.
#[derive(Debug)]
struct Member {
    schedule: Schedule,
    horizon: u64,
    nodes: Vec<Node>,
}

/// Sums at one node of the grid, where s is S2 and y the curve, both with A and L0 projected out.
#[derive(Debug, Clone, Copy, Default)]
struct Node {
    /// -Σ s y.
    product: f64,
    /// Σ s².
    annealing: f64,
    /// Σ y².
    curve: f64,
}

/// Members that are added up once for all fits. Subtracting a member from a sum instead would leave rounding errors.
const BLOCK: usize = 16;

/// The parameters common to some runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Common {
    memory: f64,
    exponent: f64,
    gain: f64,
}

/// Number of λ on the grid, which remember a decrease of the learning rate for about 10 to 1,000 steps.
///
/// Evenly spaced on a logarithmic axis, as are the exponents.
const MEMORIES: usize = 28;
/// Number of α on the grid, from 0.1 to 2.
const EXPONENTS: usize = 32;

fn memory(index: usize) -> f64 {
    1.0 - 0.1 * (-0.25 * index as f64).exp2()
}

fn exponent(index: usize) -> f64 {
    0.1 * 1.1_f64.powf(index as f64)
}

/// Least number of evaluations: two parameters, and one to check the fit.
const FEWEST: usize = 3;

impl Annealing {
    /// Prepares a law for runs in this order.
    pub(super) fn of(runs: &[Run]) -> Self {
        let members: Vec<_> = runs.iter().map(Member::of).collect();
        let mut blocks = Vec::with_capacity(members.len().div_ceil(BLOCK));
        for block in members.chunks(BLOCK) {
            blocks.push(sums_of(block));
        }
        Self { members, blocks }
    }

    /// Fits the parameters common to the runs with these indices.
    pub(super) fn common(&self, train: &[usize]) -> Result<Common, NoPrediction> {
        let mut best: Option<(f64, Common)> = None;
        for (index, node) in self.sums(train)?.into_iter().enumerate() {
            let gain = node.gain();
            let error = node.error(gain);
            if best.is_some_and(|(least, _)| error.total_cmp(&least).is_ge()) {
                continue;
            }
            best = Some((error, Common::at(index, gain)));
        }
        best.map(|(_, common)| common).ok_or(NoPrediction::NoFit)
    }

    /// Adds up the nodes of some runs, block by block where a block is complete.
    fn sums(&self, train: &[usize]) -> Result<Vec<Node>, NoPrediction> {
        let is_train = self.mask(train);
        // A law that is common to runs takes at least two of them.
        if self.count(&is_train) < 2 {
            return Err(NoPrediction::NoSchedule);
        }
        let mut sums = no_sums();
        for (block, whole) in self.blocks.iter().enumerate() {
            let from = block * BLOCK;
            let to = self.members.len().min(from + BLOCK);
            if is_train[from..to].iter().all(|is| *is) {
                add(&mut sums, whole);
                continue;
            }
            add_members(&mut sums, &self.members[from..to], &is_train[from..to]);
        }
        Ok(sums)
    }

    /// Returns for each run whether its index is among these.
    fn mask(&self, train: &[usize]) -> Vec<bool> {
        let mut is_train = vec![false; self.members.len()];
        for run in train {
            is_train[*run] = true;
        }
        is_train
    }

    /// Number of training runs with something to learn from.
    fn count(&self, is_train: &[bool]) -> usize {
        let members = self.members.iter().zip(is_train);
        members
            .filter(|(member, is_train)| member.is_some() && **is_train)
            .count()
    }

    /// Predicts the end of a run by the law common to the runs with these indices.
    pub(super) fn predict(
        &self,
        common: Common,
        train: &[usize],
        run: Early<'_>,
    ) -> Result<f64, NoPrediction> {
        let Some(schedule) = self.most_similar_schedule(train, run) else {
            return Err(NoPrediction::NoSchedule);
        };
        let points = late(run.metric());
        if points.len() < FEWEST {
            return Err(NoPrediction::FewEvaluations { needed: FEWEST });
        }
        let value = common.end_of(schedule, points, run.horizon());
        if value.is_finite() {
            Ok(value)
        } else {
            Err(NoPrediction::NoFit)
        }
    }

    /// Returns the training schedule most similar to a run's so far; of equal ones, that of the most similar length.
    fn most_similar_schedule(&self, train: &[usize], run: Early<'_>) -> Option<&Schedule> {
        let seen = Schedule::seen(run)?;
        let mut best: Option<([f64; 2], &Schedule)> = None;
        for index in train {
            let Some(member) = &self.members[*index] else {
                continue;
            };
            let Some(rating) = member.difference(&seen, run.horizon()) else {
                continue;
            };
            if best.is_none_or(|(least, _)| rating < least) {
                best = Some((rating, &member.schedule));
            }
        }
        best.map(|(_, schedule)| schedule)
    }
}

impl Common {
    /// Returns the parameters at a node of the grid.
    fn at(node: usize, gain: f64) -> Self {
        Self {
            memory: memory(node / EXPONENTS),
            exponent: exponent(node % EXPONENTS),
            gain,
        }
    }

    /// Fits A and L0 to a curve and returns the value at the horizon.
    fn end_of(self, schedule: &Schedule, points: &[(u64, f64)], horizon: u64) -> f64 {
        let mut steps: Vec<u64> = points.iter().map(|(step, _)| *step).collect();
        steps.push(horizon);
        let (powers, annealed) = self.terms(schedule, horizon, &steps);
        let values = self.without_annealing(points, &annealed);
        let seen = points.len();
        let line = Line::falling(&powers[..seen], &values, &vec![1.0; seen]);
        line.limit + line.slope * powers[seen] - self.gain * annealed[seen]
    }

    /// Returns the values that a curve would have without annealing.
    fn without_annealing(self, points: &[(u64, f64)], annealed: &[f64]) -> Vec<f64> {
        let mut values = Vec::with_capacity(points.len());
        for ((_, value), s2) in points.iter().zip(annealed) {
            values.push(value + self.gain * s2);
        }
        values
    }

    /// Returns `S1^-α` and S2 at each step.
    fn terms(self, schedule: &Schedule, horizon: u64, steps: &[u64]) -> (Vec<f64>, Vec<f64>) {
        let (mut powers, mut annealed) = (Vec::new(), Vec::new());
        schedule.sums(horizon, &[self.memory], steps, |_, area, sums| {
            powers.push(area.powf(self.exponent).recip());
            annealed.push(sums[0]);
        });
        (powers, annealed)
    }
}

impl Member {
    /// Computes the sums of a finished run; `None` if there is nothing to learn from it.
    fn of(run: &Run) -> Option<Self> {
        let end = run.final_value()?;
        let schedule = Schedule::of(run)?;
        let points = late_with_end(run, end);
        if points.len() <= FEWEST {
            return None;
        }
        let nodes = nodes_of(&schedule, &points, run.horizon);
        nodes.iter().all(Node::is_finite).then_some(Self {
            schedule,
            horizon: run.horizon,
            nodes,
        })
    }

    /// Compares with another run by its schedule so far, then by its length; `None` if the schedules differ.
    fn difference(&self, seen: &Schedule, horizon: u64) -> Option<[f64; 2]> {
        let distance = self.schedule.distance(seen)?;
        let length = (self.horizon as f64 / horizon as f64).ln().abs();
        Some([distance, length])
    }
}

/// Returns the late evaluations of a finished run, and its end.
fn late_with_end(run: &Run, end: f64) -> Vec<(u64, f64)> {
    let mut points = late(Early::new(run, run.horizon).metric()).to_vec();
    if points.last().is_none_or(|(step, _)| *step < run.horizon) {
        points.push((run.horizon, end));
    }
    points
}

/// Computes the sums of a curve at each node of the grid.
fn nodes_of(schedule: &Schedule, points: &[(u64, f64)], horizon: u64) -> Vec<Node> {
    let (steps, values): (Vec<u64>, Vec<f64>) = points.iter().copied().unzip();
    let (areas, annealed) = path(schedule, horizon, &steps);
    let projections = projections(&areas, &values);
    let mut nodes = Vec::with_capacity(MEMORIES * EXPONENTS);
    for annealed in annealed {
        let (_, annealed) = centred(&annealed);
        let square = dot(&annealed, &annealed);
        for projection in &projections {
            nodes.push(projection.node(&annealed, square));
        }
    }
    nodes
}

/// Projects the law of each exponent of the grid out of a curve.
fn projections(areas: &[f64], values: &[f64]) -> Vec<Projection> {
    let (_, values) = centred(values);
    let mut projections = Vec::with_capacity(EXPONENTS);
    for index in 0..EXPONENTS {
        projections.push(Projection::of(areas, &values, exponent(index)));
    }
    projections
}

/// Returns S1 at each step, and S2 at each step for each memory of the grid.
fn path(schedule: &Schedule, horizon: u64, steps: &[u64]) -> (Vec<f64>, Vec<Vec<f64>>) {
    let memories: Vec<f64> = (0..MEMORIES).map(memory).collect();
    let mut areas = Vec::with_capacity(steps.len());
    let mut annealed = vec![Vec::new(); MEMORIES];
    schedule.sums(horizon, &memories, steps, |_, area, sums| {
        areas.push(area);
        for (all, sum) in annealed.iter_mut().zip(sums) {
            all.push(*sum);
        }
    });
    (areas, annealed)
}

/// A curve with the power law of one exponent projected out.
struct Projection {
    /// The centred power of S1, scaled to length 1.
    power: Vec<f64>,
    /// The part of the curve orthogonal to it.
    rest: Vec<f64>,
}

impl Projection {
    fn of(areas: &[f64], values: &[f64], exponent: f64) -> Self {
        let whole = areas.last().copied().unwrap_or(f64::NAN);
        // Shares of the whole area keep the powers near 1.
        let powers: Vec<f64> = areas.iter().map(|s| (s / whole).powf(-exponent)).collect();
        let (_, mut power) = centred(&powers);
        let length = dot(&power, &power).sqrt();
        for x in &mut power {
            *x /= length;
        }
        let along = dot(values, &power);
        let mut rest = Vec::with_capacity(values.len());
        for (y, x) in values.iter().zip(&power) {
            rest.push(y - along * x);
        }
        Self { power, rest }
    }

    /// Returns the sums for a centred S2 and its squared length.
    fn node(&self, annealed: &[f64], square: f64) -> Node {
        let along = dot(annealed, &self.power);
        Node {
            product: -dot(annealed, &self.rest),
            annealing: square - along * along,
            curve: dot(&self.rest, &self.rest),
        }
    }
}

impl Node {
    /// Returns the C with the least error; not negative, because annealing lowers the loss.
    fn gain(&self) -> f64 {
        if self.annealing > 0.0 {
            (self.product / self.annealing).max(0.0)
        } else {
            0.0
        }
    }

    /// Returns the squared error for a given C.
    fn error(&self, gain: f64) -> f64 {
        self.curve - 2.0 * gain * self.product + gain * gain * self.annealing
    }

    fn is_finite(&self) -> bool {
        self.product.is_finite() && self.annealing.is_finite() && self.curve.is_finite()
    }
}

/// Adds up the nodes of a block of members.
fn sums_of(block: &[Option<Member>]) -> Vec<Node> {
    let mut sums = no_sums();
    for member in block.iter().flatten() {
        add(&mut sums, &member.nodes);
    }
    sums
}

fn no_sums() -> Vec<Node> {
    vec![Node::default(); MEMORIES * EXPONENTS]
}

/// Adds the nodes of those members that are trained on.
fn add_members(sums: &mut [Node], members: &[Option<Member>], is_train: &[bool]) {
    for (member, is_train) in members.iter().zip(is_train) {
        if let Some(member) = member
            && *is_train
        {
            add(sums, &member.nodes);
        }
    }
}

fn add(sums: &mut [Node], others: &[Node]) {
    for (sum, other) in sums.iter_mut().zip(others) {
        sum.product += other.product;
        sum.annealing += other.annealing;
        sum.curve += other.curve;
    }
}
