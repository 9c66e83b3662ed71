//! Reasons for a missing prediction.

use serde::{Serialize, Serializer};

/// Reason why a predictor makes no prediction. The report prints it after "no prediction: ".
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NoPrediction {
    /// The run was not evaluated before the cut.
    #[error("no evaluation before the cut")]
    NoEvaluation,
    /// The run was not evaluated at three steps t, 2 t and 4 t.
    #[error("no three evaluations at steps t, 2t, 4t before the cut")]
    NoDoublingSteps,
    /// The run has too few evaluations before the cut.
    #[error("fewer than {needed} evaluations between step 0 and the cut")]
    FewEvaluations {
        /// Evaluations needed.
        needed: usize,
    },
    /// There are too few other runs to learn from.
    #[error("fewer than {needed} other runs to learn from")]
    FewRuns {
        /// Runs needed.
        needed: usize,
    },
    /// All runs have the same settings.
    #[error("no setting differs between the runs")]
    NoSettings,
    /// No norm is recorded in every run.
    #[error("no norm is recorded before the cut in all runs")]
    NoNorms,
    /// No finished run has had a learning-rate schedule like this one so far.
    #[error("no finished run with a similar learning-rate schedule so far")]
    NoSchedule,
    /// The equations have no solution in 64-bit floats.
    #[error("the fit has no finite solution")]
    NoFit,
}

impl Serialize for NoPrediction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
