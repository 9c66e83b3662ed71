//! What the next trial is to be.

use crate::bayes::Bayes;
use crate::schema::{Method, Sweep};
use crate::trial::{Status, Trial};
use serde_json::{Map, Value};

/// Where a trial is, and its values.
pub(super) fn draw(
    sweep: &Sweep,
    seed: u64,
    number: u64,
    trials: &[Trial],
) -> (Vec<f64>, Map<String, Value>) {
    let (space, index) = (sweep.space(), number - 1);
    let point = match sweep.method {
        Method::Grid => {
            let grid = space.grid().ok();
            let values = grid.and_then(|mut grid| grid.nth(index as usize));
            return (Vec::new(), values.unwrap_or_default());
        }
        Method::Random => space.random_point(seed, index),
        Method::Bayes => known(sweep, trials).next(space.len(), seed, index),
    };
    let values = space.at(&point);
    (point, values)
}

/// What the trials so far tell.
fn known(sweep: &Sweep, trials: &[Trial]) -> Bayes {
    let goal = sweep
        .metric
        .as_ref()
        .map(|metric| metric.goal)
        .unwrap_or_default();
    let mut known = Bayes::default();
    for trial in trials {
        let point = trial.point.clone();
        match trial.status {
            Status::Running | Status::Interrupted => known.running(point),
            Status::Completed | Status::EndedEarly => {
                known.done(point, goal.rank(trial.value));
            }
            Status::Diverged | Status::Failed => known.done(point, f64::NAN),
        }
    }
    known
}
