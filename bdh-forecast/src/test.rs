//! Tests of the predictors on finished runs.

use super::ENOUGH;
use super::annealing::Annealing;
use super::bootstrap::BootstrapInterval;
use super::early::{Cut, Early};
use super::no_prediction::NoPrediction;
use super::predictor::{Estimate, Fold, Predictor};
use super::protocol::Protocol;
use super::report::{Cell, Comparison, CutTest, Test, Versus};
use super::run::Run;
use super::score::{Point, Score, ScoredRuns};
use super::table::Table;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The visible parts of all ended runs at one cut.
#[derive(Debug)]
pub(super) struct CutView<'a> {
    cut: Cut,
    pub(super) table: Table<'a>,
    /// Indices of the runs that had diverged by the cut, each with its visible share.
    diverged: Vec<(usize, f64)>,
    /// Number of runs that had ended by the cut.
    ended: usize,
    /// Number of runs without an evaluation before the cut.
    unseen: usize,
}

impl<'a> CutView<'a> {
    pub(super) fn of(runs: &'a [Run], cut: Cut) -> Self {
        let (mut diverged, mut ended, mut running) = (Vec::new(), 0, Vec::new());
        for (index, run) in runs.iter().enumerate() {
            if !run.has_ended() {
                continue;
            }
            let Some(step) = cut.step(run.horizon) else {
                ended += 1;
                continue;
            };
            let early = Early::new(run, step);
            if early.has_diverged() {
                diverged.push((index, early.share()));
            } else {
                running.push((index, early));
            }
        }
        let unseen = drop_unseen(&mut running);
        Self {
            cut,
            table: Table::new(&running),
            diverged,
            ended,
            unseen,
        }
    }
}

/// Drops the runs without an evaluation and returns their number.
///
/// If no run has been evaluated, all are kept: predictions from settings are still possible.
fn drop_unseen(runs: &mut Vec<(usize, Early<'_>)>) -> usize {
    let all = runs.len();
    if runs.iter().any(|(_, early)| early.has_metric()) {
        runs.retain(|(_, early)| early.has_metric());
    }
    all - runs.len()
}

impl CutView<'_> {
    /// Returns the diverged runs that a protocol scores, each with its visible share.
    fn scored_diverged(&self, protocol: &Protocol) -> &[(usize, f64)] {
        // The prequential protocol counts only the runs that it predicts.
        match protocol {
            Protocol::Prequential => &[],
            _ => &self.diverged,
        }
    }

    /// Returns the runs of some rows, each with its visible share.
    fn runs_of(&self, estimates: &[RowEstimate]) -> Vec<(usize, f64)> {
        let mut runs = Vec::with_capacity(estimates.len());
        for (row, _) in estimates {
            let row = &self.table.rows[*row];
            runs.push((row.run, row.early.share()));
        }
        runs
    }
}

/// A row of the table with its estimate, or the reason why there is none.
type RowEstimate = (usize, Result<Estimate, NoPrediction>);

/// Tests all predictors by one protocol at all cuts, on one thread per core.
///
/// The result does not depend on the number of threads.
pub(super) fn run(
    runs: &[Run],
    annealing: &Annealing,
    views: &[CutView<'_>],
    protocol: Protocol,
) -> Test {
    let mut folds: Vec<Vec<Fold>> = Vec::with_capacity(views.len());
    for view in views {
        folds.push(protocol.folds(runs, &view.table));
    }
    let predictions = predict_all(annealing, views, &folds);
    let cuts = in_parallel(views.len(), |cut| {
        let of_cut = predictions.iter().skip(views.len() - 1 - cut);
        let by_predictor: Vec<&Vec<RowEstimate>> = of_cut.step_by(views.len()).collect();
        CutTest::of(runs, &views[cut], &protocol, &by_predictor)
    });
    Test { protocol, cuts }
}

/// Predicts by all predictors at all cuts: the weakest predictor is first, and each begins with the last cut.
fn predict_all(
    annealing: &Annealing,
    views: &[CutView<'_>],
    folds: &[Vec<Fold>],
) -> Vec<Vec<RowEstimate>> {
    // The last predictors are the most expensive: started first, they do not occupy a single thread at the end.
    let mut predictions = in_parallel(Predictor::ALL.len() * views.len(), |job| {
        let cut = job % views.len();
        let predictor = Predictor::ALL[Predictor::ALL.len() - 1 - job / views.len()];
        predict_folds(predictor, &views[cut].table, annealing, &folds[cut])
    });
    predictions.reverse();
    predictions
}

/// Predicts the targets of all folds.
fn predict_folds(
    predictor: Predictor,
    table: &Table<'_>,
    annealing: &Annealing,
    folds: &[Fold],
) -> Vec<RowEstimate> {
    let mut predictions = Vec::new();
    for fold in folds {
        let estimates = predictor.predict(table, annealing, fold);
        predictions.extend(fold.targets.iter().copied().zip(estimates));
    }
    predictions
}

impl CutTest {
    fn of(
        runs: &[Run],
        view: &CutView<'_>,
        protocol: &Protocol,
        by_predictor: &[&Vec<RowEstimate>],
    ) -> Self {
        // All predictors have the same targets.
        let mut seen = view.runs_of(by_predictor[0]);
        let predicted = seen.len();
        let diverged = view.scored_diverged(protocol);
        seen.extend(diverged);
        seen.sort_by_key(|(run, _)| *run);
        let finished = seen
            .iter()
            .filter(|(run, _)| runs[*run].is_finished())
            .count();
        let scored = ScoredRuns::new(runs, seen, finished >= ENOUGH);
        let cells = cells(view, by_predictor, &scored);
        Self {
            cut: view.cut,
            predicted,
            diverged_by_then: diverged.len(),
            ended_by_then: view.ended,
            unseen_by_then: view.unseen,
            comparison: Comparison::of(&cells, &scored),
            cells,
        }
    }
}

/// Returns one cell per predictor.
fn cells(
    view: &CutView<'_>,
    by_predictor: &[&Vec<RowEstimate>],
    scored: &ScoredRuns<'_>,
) -> Vec<Cell> {
    let mut cells = Vec::with_capacity(by_predictor.len());
    let mut squares_of_mean = 0.0;
    for (predictor, predictions) in Predictor::ALL.into_iter().zip(by_predictor) {
        let points = points(view, predictions, scored);
        // The mean of the others is the first predictor; the others are compared with it.
        if predictor == Predictor::Mean {
            squares_of_mean = squared_error(&points, scored);
        }
        let cell = Cell::without_score(predictor, points, missing(predictions));
        cells.push(cell.with_score(scored, squares_of_mean));
    }
    cells
}

/// Returns the sum of the squared errors of some predictions.
fn squared_error(points: &[Point], scored: &ScoredRuns<'_>) -> f64 {
    let misses = scored.misses(points);
    misses.iter().flatten().map(|miss| miss * miss).sum()
}

impl Cell {
    fn without_score(
        predictor: Predictor,
        points: Vec<Point>,
        silent: Option<(usize, NoPrediction)>,
    ) -> Self {
        Self {
            predictor,
            last_values: points.iter().filter(|point| point.is_last_value).count(),
            points,
            silent,
            score: None,
        }
    }

    /// Scores the predictions, if none is missing.
    fn with_score(mut self, scored: &ScoredRuns<'_>, squares_of_mean: f64) -> Self {
        if self.silent.is_none() && !self.points.is_empty() {
            let score = Score::of(&self.points, scored, self.predictor, squares_of_mean);
            self.score = Some(score);
        }
        self
    }
}

/// Returns the predictions that there are, in the order of runs.
fn points(view: &CutView<'_>, predictions: &[RowEstimate], scored: &ScoredRuns<'_>) -> Vec<Point> {
    let mut points = Vec::with_capacity(predictions.len());
    for (row, estimate) in predictions {
        let Ok(estimate) = estimate else {
            continue;
        };
        let run = view.table.rows[*row].run;
        points.push(Point {
            run,
            predicted: estimate.value,
            truth: scored.runs[run].final_value(),
            interval: estimate.interval,
            is_last_value: estimate.is_last_value,
        });
    }
    points.sort_by_key(|point| point.run);
    points
}

/// Returns the number of missing predictions and the reason for the first; `None` if none is missing.
fn missing(predictions: &[RowEstimate]) -> Option<(usize, NoPrediction)> {
    let mut missing = None;
    for (_, estimate) in predictions {
        if let Err(reason) = estimate {
            let (count, first) = missing.unwrap_or((0, *reason));
            missing = Some((count + 1, first));
        }
    }
    missing
}

impl Comparison {
    /// Compares the best predictor with the baselines; `None` if no predictor has an error.
    fn of(cells: &[Cell], scored: &ScoredRuns<'_>) -> Option<Self> {
        let is_line = |who| matches!(who, Predictor::LastValue | Predictor::Affine);
        let (mae, best) = least_error(cells, |who| {
            !is_line(who) && !who.is_baseline() && who != Predictor::Mean
        })?;
        let misses = scored.misses(&best.points);
        let line = least_error(cells, is_line);
        let settings = least_error(cells, Predictor::sees_settings_only);
        let mut against = Vec::new();
        for baseline in [line, settings].into_iter().flatten() {
            against.extend(Versus::of(baseline, &misses, scored));
        }
        Some(Self {
            best: best.predictor,
            mae,
            against,
        })
    }
}

impl Versus {
    /// Compares a baseline with the errors of the best predictor.
    fn of(
        (mae, cell): (f64, &Cell),
        of_best: &[Option<f64>],
        scored: &ScoredRuns<'_>,
    ) -> Option<Self> {
        Some(Self {
            baseline: cell.predictor,
            mae,
            gain: gain(&scored.misses(&cell.points), of_best, scored)?,
        })
    }
}

/// Returns the cell with the least mean absolute error among some predictors.
fn least_error(cells: &[Cell], is_eligible: impl Fn(Predictor) -> bool) -> Option<(f64, &Cell)> {
    let mut least: Option<(f64, &Cell)> = None;
    for cell in cells {
        if !is_eligible(cell.predictor) {
            continue;
        }
        if let Some(mae) = cell.mae()
            && least.is_none_or(|(least, _)| mae.total_cmp(&least).is_lt())
        {
            least = Some((mae, cell));
        }
    }
    least
}

/// Returns the bootstrap interval of how much greater the errors of a baseline are.
fn gain(
    of_baseline: &[Option<f64>],
    of_best: &[Option<f64>],
    scored: &ScoredRuns<'_>,
) -> Option<BootstrapInterval> {
    let mut gains = Vec::with_capacity(of_best.len());
    for pair in of_baseline.iter().zip(of_best) {
        gains.push(match pair {
            (Some(baseline), Some(best)) => Some(baseline - best),
            _ => None,
        });
    }
    scored.mean_between(&gains)
}

/// Runs jobs on one thread per core and returns their results in the order of jobs.
fn in_parallel<T: Send>(jobs: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(jobs)));
    let worker = || {
        loop {
            // Relaxed: the counter only hands out numbers, and the lock orders the results.
            let job = next.fetch_add(1, Ordering::Relaxed);
            if job >= jobs {
                break;
            }
            let result = work(job);
            // A poisoned list is whole: `push` does not panic halfway, and the scope passes the panic on.
            done.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((job, result));
        }
    };
    on_threads(threads.min(jobs), &worker);
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    // Threads finish in any order.
    done.sort_by_key(|(job, _)| *job);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Calls a worker on several threads, including this one, and waits for all.
fn on_threads(threads: usize, worker: &(impl Fn() + Sync)) {
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // If the system cannot start a thread, this one does the work.
            let _ = std::thread::Builder::new().spawn_scoped(scope, worker);
        }
        worker();
    });
}
