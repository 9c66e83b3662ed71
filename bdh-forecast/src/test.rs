//! Putting predictors to the test.

use super::ENOUGH;
use super::annealing::Annealing;
use super::early::{Cut, Early};
use super::predictor::{Fold, Predictor, Saying};
use super::protocol::Protocol;
use super::report::{Cell, Comparison, CutTest, Test, Versus};
use super::run::{End, Run};
use super::score::{Point, Score, Setting};
use super::silence::Silence;
use super::table::Table;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// What is seen of all runs at one cut.
#[derive(Debug)]
pub(super) struct Sight<'a> {
    cut: Cut,
    pub(super) table: Table<'a>,
    diverged: Vec<(usize, f64)>,
    ended: usize,
    unseen: usize,
}

impl<'a> Sight<'a> {
    pub(super) fn of(runs: &'a [Run], cut: Cut) -> Self {
        let over = runs
            .iter()
            .enumerate()
            .filter(|(_, run)| run.end != End::Unfinished);
        let all: Vec<(usize, Early<'a>)> = over
            .filter_map(|(index, run)| Some((index, Early::new(run, cut.step(run.horizon)?))))
            .collect();
        let ended = runs.iter().filter(|run| run.end != End::Unfinished).count() - all.len();
        let (diverged, going): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(_, run)| run.has_diverged());
        // Where none has been evaluated, settings can still speak.
        let any = going.iter().any(|(_, run)| !run.metric().is_empty());
        let (seen, unseen): (Vec<_>, Vec<_>) = going
            .into_iter()
            .partition(|(_, run)| !any || !run.metric().is_empty());
        let share =
            |(index, run): &(usize, Early<'a>)| (*index, run.step as f64 / run.horizon() as f64);
        Self {
            cut,
            table: Table::new(&seen),
            diverged: diverged.iter().map(share).collect(),
            ended,
            unseen: unseen.len(),
        }
    }
}

/// All predictors by one protocol at all cuts, on as many threads as there are cores. What comes out does not depend on
/// their number.
pub(super) fn run(
    runs: &[Run],
    annealing: &Annealing,
    sights: &[Sight<'_>],
    protocol: Protocol,
) -> Test {
    let folds: Vec<Vec<Fold>> = sights
        .iter()
        .map(|sight| protocol.folds(runs, &sight.table))
        .collect();
    // The most expensive predictors are the last: begun first, they do not keep one thread busy alone at the end.
    let jobs: Vec<(Predictor, usize)> = (Predictor::ALL.into_iter().rev())
        .flat_map(|predictor| (0..sights.len()).map(move |cut| (predictor, cut)))
        .collect();
    let mut said = in_parallel(jobs.len(), |job| {
        let (predictor, cut) = jobs[job];
        let of_fold = |fold: &Fold| {
            let said = predictor.say(&sights[cut].table, annealing, fold);
            fold.targets.iter().copied().zip(said).collect::<Said>()
        };
        folds[cut].iter().flat_map(of_fold).collect::<Said>()
    });
    said.reverse(); // weakest first, and of each the last cut first
    let of_cut = |cut: usize| -> Vec<&Said> {
        said.iter()
            .skip(sights.len() - 1 - cut)
            .step_by(sights.len())
            .collect()
    };
    let cuts = in_parallel(sights.len(), |cut| {
        CutTest::of(runs, &sights[cut], &protocol, &of_cut(cut))
    });
    Test { protocol, cuts }
}

/// What each predictor said of each row, or why it did not.
type Said = Vec<(usize, Result<Saying, Silence>)>;

impl CutTest {
    fn of(runs: &[Run], sight: &Sight<'_>, protocol: &Protocol, said: &[&Said]) -> Self {
        let rows = &sight.table.rows;
        let targets = said[0].iter().map(|(row, _)| &rows[*row]);
        let mut seen: Vec<(usize, f64)> = targets
            .map(|row| (row.run, row.early.step as f64 / row.early.horizon() as f64))
            .collect();
        let predicted = seen.len();
        let diverged = if *protocol == Protocol::Prequential {
            &[][..]
        } else {
            &sight.diverged
        };
        seen.extend(diverged);
        seen.sort_by_key(|(run, _)| *run);
        let finished = seen
            .iter()
            .filter(|(run, _)| runs[*run].final_value().is_some())
            .count();
        let at = Setting::new(runs, seen, finished >= ENOUGH);
        let cells = cells(sight, said, &at);
        Self {
            cut: sight.cut,
            predicted,
            diverged_by_then: diverged.len(),
            ended_by_then: sight.ended,
            unseen_by_then: sight.unseen,
            comparison: Comparison::of(&cells, &at),
            cells,
        }
    }
}

fn cells(sight: &Sight<'_>, said: &[&Said], at: &Setting<'_>) -> Vec<Cell> {
    let point = |(row, saying): &(usize, Result<Saying, Silence>)| {
        let (run, saying) = (sight.table.rows[*row].run, saying.ok()?);
        let Saying {
            value,
            interval,
            is_last_value,
        } = saying;
        let truth = at.runs[run].final_value();
        Some(Point {
            run,
            predicted: value,
            truth,
            interval,
            is_last_value,
        })
    };
    let points = |said: &Said| {
        let mut points: Vec<Point> = said.iter().filter_map(point).collect();
        points.sort_by_key(|point| point.run);
        points
    };
    let squares = |points: &[Point]| {
        at.misses(points)
            .iter()
            .flatten()
            .map(|x| x * x)
            .sum::<f64>()
    };
    let squares_of_mean = squares(&points(said[0])); // of the mean of the others, which is the first
    let cell = |(predictor, said): (&Predictor, &&Said)| {
        let points = points(said);
        let mut silent = said
            .iter()
            .filter_map(|(row, saying)| Some((row, saying.err()?)));
        let first = silent.next().map(|(_, why)| why);
        let silent = first.map(|why| (1 + silent.count(), why));
        let score = silent.is_none() && !points.is_empty();
        Cell {
            predictor: *predictor,
            last_values: points.iter().filter(|point| point.is_last_value).count(),
            score: score.then(|| Score::of(&points, at, *predictor, squares_of_mean)),
            points,
            silent,
        }
    };
    Predictor::ALL.iter().zip(said).map(cell).collect()
}

impl Comparison {
    fn of(cells: &[Cell], at: &Setting<'_>) -> Option<Self> {
        let mae = |cell: &&Cell| cell.mae();
        let least = |of: &dyn Fn(Predictor) -> bool| {
            let rated = cells
                .iter()
                .filter(|cell| of(cell.predictor))
                .filter_map(|cell| Some((mae(&cell)?, cell)));
            rated.min_by(|a, b| a.0.total_cmp(&b.0))
        };
        let is_line = |who| matches!(who, Predictor::LastValue | Predictor::Affine);
        let (best_mae, best) =
            least(&|who| !is_line(who) && !who.is_baseline() && who != Predictor::Mean)?;
        let of_best = at.misses(&best.points);
        let versus = |(mae, cell): (f64, &Cell)| {
            let of_baseline = at.misses(&cell.points);
            let gains = of_baseline
                .iter()
                .zip(&of_best)
                .map(|(a, b)| Some((*a)? - (*b)?));
            let gain = at.mean_between(&gains.collect::<Vec<_>>())?;
            Some(Versus {
                baseline: cell.predictor,
                mae,
                gain,
            })
        };
        let baselines = [least(&is_line), least(&Predictor::sees_settings_only)];
        let against = baselines.into_iter().flatten().filter_map(versus).collect();
        Some(Self {
            best: best.predictor,
            mae: best_mae,
            against,
        })
    }
}

/// What each of these jobs gives, in their order.
fn in_parallel<T: Send>(jobs: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(jobs)));
    let worker = || {
        loop {
            let job = next.fetch_add(1, Ordering::Relaxed);
            if job >= jobs {
                break;
            }
            let result = work(job);
            done.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((job, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(jobs) {
            // Where the system has no thread to give, this one does it all.
            let _ = std::thread::Builder::new().spawn_scoped(scope, worker);
        }
        worker();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(job, _)| *job);
    done.into_iter().map(|(_, result)| result).collect()
}
