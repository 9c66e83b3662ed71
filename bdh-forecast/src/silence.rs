//! Why a predictor says nothing.

use serde::{Serialize, Serializer};

/// Why a predictor says nothing of a run. Its text completes "silent: …".
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Silence {
    /// Nothing was evaluated by then.
    #[error("no evaluation by then")]
    NoEvaluation,
    /// No three evaluations at steps t, 2 t and 4 t.
    #[error("no three evaluations at steps t, 2t, 4t by then")]
    NoDoublingSteps,
    /// Evaluations by then are too few.
    #[error("fewer than {needed} evaluations after step 0 by then")]
    FewEvaluations {
        /// How many it takes.
        needed: usize,
    },
    /// Too few others to learn from.
    #[error("fewer than {needed} others to learn from")]
    FewRuns {
        /// How many it takes.
        needed: usize,
    },
    /// All runs have the same settings.
    #[error("no setting differs between the runs")]
    NoSettings,
    /// No norm is recorded in every run.
    #[error("no norm is recorded in all runs by then")]
    NoNorms,
    /// No finished run shows how the learning rate goes on.
    #[error("no finished run with a learning rate like its own so far")]
    NoSchedule,
    /// The equations have no solution in 64 bits.
    #[error("no fit")]
    NoFit,
}

impl Serialize for Silence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
