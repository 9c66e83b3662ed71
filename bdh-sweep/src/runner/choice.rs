//! The choice of the next trial.

use crate::bayes::Bayes;
use crate::goal::Goal;
use crate::schema::{Method, Sweep};
use crate::space::Space;
use crate::trial::{Status, Trial};
use serde_json::{Map, Value};

/// Returns the position of a trial in the unit cube, and its values.
pub(super) fn draw(
    sweep: &Sweep,
    seed: u64,
    number: u64,
    trials: &[Trial],
) -> (Vec<f64>, Map<String, Value>) {
    let (space, index) = (sweep.space(), number - 1);
    let point = match sweep.method {
        Method::Grid => {
            return (Vec::new(), grid_values(&space, index));
        }
        Method::Random => space.random_point(seed, index),
        Method::Bayes => learned(sweep, trials).next(space.len(), seed, index),
    };
    let values = space.at(&point);
    (point, values)
}

/// Returns the values at a position of the grid; empty beyond its end.
fn grid_values(space: &Space, index: u64) -> Map<String, Value> {
    match space.grid() {
        Ok(mut grid) => grid.nth(index as usize).unwrap_or_default(),
        Err(_) => Map::new(),
    }
}

/// Returns a search that has learned from the trials so far.
fn learned(sweep: &Sweep, trials: &[Trial]) -> Bayes {
    let goal = goal(sweep);
    let mut search = Bayes::default();
    for trial in trials {
        let point = trial.point.clone();
        match trial.status {
            Status::Running | Status::Interrupted => search.running(point),
            Status::Completed | Status::EndedEarly => search.done(point, goal.rank(trial.value)),
            Status::Diverged | Status::Failed => search.done(point, f64::NAN),
        }
    }
    search
}

fn goal(sweep: &Sweep) -> Goal {
    match &sweep.metric {
        Some(metric) => metric.goal,
        None => Goal::default(),
    }
}
