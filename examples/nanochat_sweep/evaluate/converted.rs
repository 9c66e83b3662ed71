//! Checkpoint of nanochat in this project's form, for a replay.

use crate::checkpoint::Trained;
use bdh::burn::tensor::{DType, TensorData};
use bdh::checkpoint::{Checkpoint, State};
use bdh::stats::Tensors;
use bdh::{BoxError, Clock, save_weights};
use bdh_models::nanochat::{Gpt, NanochatCheckpoint};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Writes a checkpoint with the model, the step and the data position of nanochat's, and returns its path.
pub(super) fn write(
    trained: &Trained,
    found: &NanochatCheckpoint,
    scratch: &Path,
) -> Result<PathBuf, BoxError> {
    let path = scratch.join("checkpoint");
    let checkpoint = Checkpoint {
        model: tensors(&trained.model, &scratch.join("model.safetensors"))?,
        optimizer: Tensors::new(),
        copies: BTreeMap::new(),
        state: state(trained, found),
    };
    checkpoint.write(&path, false)?;
    Ok(path)
}

fn state(trained: &Trained, found: &NanochatCheckpoint) -> State {
    let (step, config) = (found.step, &trained.checkpoint.config);
    let at_once = trained.checkpoint.micro_batch * config.sequence_len;
    let micro_batches = (found.meta.total_batch_size / at_once.max(1)).max(1);
    State {
        clock: Clock {
            step,
            ..Clock::default()
        },
        pending_evals: None,
        seed: 0,
        data: found.meta.dataloader_state_dict.clone(),
        optimizer: BTreeMap::new(),
        callbacks: BTreeMap::new(),
        interventions: BTreeMap::new(),
        saved_as: BTreeMap::new(),
        record: Value::Null,
        config: json!({ "trainer": { "steps": step, "grad_accum_steps": micro_batches } }),
    }
}

/// Returns the tensors of a model under PyTorch's names and in its layouts, as a file of weights has them.
fn tensors(model: &Gpt, file: &Path) -> Result<Tensors, BoxError> {
    save_weights(model, file)?;
    let bytes = fs::read(file)?;
    let mut tensors = Tensors::new();
    for (name, view) in SafeTensors::deserialize(&bytes)?.tensors() {
        let shape = view.shape().to_vec();
        let data = TensorData::from_bytes_vec(view.data().to_vec(), shape, DType::F32);
        tensors.insert(name, data); // parameters are always f32
    }
    Ok(tensors)
}
