//! Tokenizer of a checkpoint: saved beside it, given, or made again from the run's text.

use super::{AnyCheckpoint, Origin};
use bdh::BoxError;
use bdh::checkpoint::State;
use bdh::data::TrainData;
use bdh_data::{DataSpec, Packed, Tokenizer, passages};
use bdh_examples::args;
use bdh_models::nanochat::GptConfig;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Returns the tokenizer of a checkpoint, or the given one, with the ids that the model knows.
pub(super) fn of(
    checkpoint: &AnyCheckpoint,
    given: Option<&Path>,
) -> Result<Arc<Tokenizer>, BoxError> {
    let found = given.map(Path::to_owned).or_else(|| place(checkpoint));
    let tokenizer = match (found, &checkpoint.origin) {
        (Some(path), _) => Arc::new(Tokenizer::load(&path)?),
        (None, Origin::Ours(state)) => of_old_run(&checkpoint.config, state)?,
        (None, Origin::Nanochat(_)) => {
            let path = checkpoint.path.display();
            return Err(format!(
                "there is no tokenizer beside `{path}`: give nanochat's with --tokenizer DIR"
            )
            .into());
        }
    };
    check(checkpoint, &tokenizer)?;
    Ok(tokenizer)
}

/// Checks that the model knows exactly the ids of the tokenizer.
fn check(checkpoint: &AnyCheckpoint, tokenizer: &Tokenizer) -> Result<(), BoxError> {
    let (ids, known) = (tokenizer.vocab_size(), checkpoint.config.vocab_size);
    if ids == known {
        return Ok(());
    }
    let path = checkpoint.path.display();
    Err(format!(
        "the tokenizer has {ids} ids, and the model of `{path}` knows {known}: \
         give the tokenizer that the model was trained with, --tokenizer PATH"
    )
    .into())
}

/// Returns the file or directory with the tokenizer that belongs to a checkpoint.
pub(super) fn place(checkpoint: &AnyCheckpoint) -> Option<PathBuf> {
    let places = match &checkpoint.origin {
        Origin::Ours(_) => vec![checkpoint.run_dir()?.join(Tokenizer::FILE)],
        Origin::Nanochat(_) => beside_nanochat(&checkpoint.path),
    };
    places.into_iter().find(|place| place.exists())
}

/// Returns the places of the tokenizer of nanochat's checkpoints: in the same home, or in the directory itself.
fn beside_nanochat(dir: &Path) -> Vec<PathBuf> {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let mut places = vec![dir.join("tokenizer")];
    places.extend(dir.ancestors().nth(2).map(|home| home.join("tokenizer")));
    places
}

/// Returns the tokenizer of a run that has not saved it. A trained one is trained again, on the same text.
///
/// The saved position of the data identifies the text.
fn of_old_run(config: &GptConfig, state: &State) -> Result<Arc<Tokenizer>, BoxError> {
    let args = super::ours::args(state)?;
    let is_bytes = config.vocab_size == Tokenizer::Bytes.vocab_size();
    if is_bytes && args.tokenizer != Some(args::Tokenizer::Bpe) {
        return Ok(Arc::new(Tokenizer::Bytes));
    }
    let data = args.data.as_deref().unwrap_or_default();
    let corpus = data.parse::<DataSpec>()?.load()?;
    let tokenizer = Arc::new(Tokenizer::bpe(&corpus.train, config.vocab_size)?);
    let documents = passages(&tokenizer, &corpus.train, config.sequence_len + 1);
    let mut data = Packed::new(documents, 1, config.sequence_len, args.seed)?;
    data.load_state(&state.data).map_err(|_| {
        let origin = &corpus.origin;
        format!("the run was trained on another text than {origin}")
    })?;
    Ok(tokenizer)
}
