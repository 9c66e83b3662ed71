//! The place at which a new run begins, if it is not step 0.

use crate::clock::Clock;
use crate::params::Tensors;
use serde_json::Value;
use std::collections::BTreeMap;

/// Place at which a new run begins: clock, optimizer state and data position of another program's run.
///
/// [`TrainerBuilder::start_from`](crate::TrainerBuilder::start_from) takes it. The weights are those of the model. A
/// run of this crate is continued with [`TrainerBuilder::resume`](crate::TrainerBuilder::resume) instead.
///
/// # Examples
///
/// ```
/// use bdh::Clock;
/// use bdh::checkpoint::Start;
///
/// // Forty steps of 256 tokens, whose optimizer state is lost.
/// let per_step = Clock { micro_batches: 2, samples: 4, tokens: 256, ..Clock::default() };
/// let start = Start { clock: per_step.after(40), ..Start::default() };
/// let trainer = bdh::testing::tiny_run(45).start_from(start).build()?;
/// assert!(trainer.plan().notes.iter().any(|note| note.starts_with("starts at step 40")));
/// # Ok::<(), bdh::ConfigError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// Work that the other run has completed. Schedules, cadences and the length of the new run count from it.
    pub clock: Clock,
    /// State tensors of the optimizers, named `<parameter>.<field>`, as in `optimizer.safetensors` of a checkpoint: in
    /// burn's layouts, where a `Linear` weight is `[in, out]`. An optimizer without any entry starts anew.
    pub optimizer: Tensors,
    /// Counters of the optimizers, `<parameter>.<field>`.
    pub counters: BTreeMap<String, Value>,
    /// Position that the training data [loads](crate::data::TrainData::load_state); null if it begins at its start.
    pub data: Value,
}
