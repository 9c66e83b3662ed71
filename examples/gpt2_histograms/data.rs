//! Training and validation data: token shards of a directory, or a text.

use crate::args::Args;
use bdh::data::{EvalData, TrainData};
use bdh::lm::{RandomCrops, Vocabulary};
use bdh::{BoxError, TokenBatch};
use bdh_data::{Corpus, DataSpec, PlainBytes, ShardSplit, TokenShards, fixed_crops, stream};
use serde_json::{Value, json};
use std::fmt;
use std::path::Path;

/// Data of a run.
pub(crate) enum Data {
    /// Text that was tokenized before, such as build-nanogpt's `edufineweb_train_000001.npy`.
    Shards(ShardSplit),
    /// Text that is tokenized when the run begins.
    Text(Corpus),
}

type Train = Box<dyn TrainData<Batch = TokenBatch>>;
type Val = Box<dyn EvalData<Batch = TokenBatch>>;

/// Opens the token shards of `--data`; `None` if it is no directory with shards.
pub(crate) fn shards(args: &Args) -> Result<Option<ShardSplit>, BoxError> {
    match args.data.as_deref().map(Path::new) {
        Some(dir) if dir.is_dir() => Ok(TokenShards::of_dir(dir)?),
        _ => Ok(None),
    }
}

impl Data {
    /// Takes the shards, or loads the text of `--data`.
    pub(crate) fn load(args: &Args, shards: Option<ShardSplit>) -> Result<Self, BoxError> {
        if let Some(shards) = shards {
            return Ok(Self::Shards(shards));
        }
        let data: DataSpec = args.data.as_deref().unwrap_or_default().parse()?;
        Ok(Self::Text(data.load()?))
    }

    /// Returns endless training batches.
    pub(crate) fn train(
        &self,
        args: &Args,
        vocabulary: Option<&dyn Vocabulary>,
    ) -> Result<Train, BoxError> {
        let (rows, seq_len) = (args.batch_size, args.block_size);
        let train: Train = match self {
            Self::Shards(shards) => Box::new(shards.train.batches(rows, seq_len)?),
            Self::Text(corpus) => {
                let tokens = stream(vocabulary.unwrap_or(&PlainBytes), &corpus.train);
                Box::new(RandomCrops::new(tokens, rows, seq_len, args.seed)?)
            }
        };
        Ok(train)
    }

    /// Returns the validation batches, if there is a validation split.
    pub(crate) fn val(
        &self,
        args: &Args,
        vocabulary: Option<&dyn Vocabulary>,
    ) -> Result<Option<Val>, BoxError> {
        let (rows, seq_len) = (args.batch_size, args.block_size);
        let val: Option<Val> = match self {
            Self::Shards(ShardSplit { val: None, .. }) => None,
            Self::Shards(ShardSplit { val: Some(val), .. }) => {
                let tokens = rows.saturating_mul(seq_len).saturating_mul(args.eval_iters);
                Some(Box::new(val.eval_batches(rows, seq_len, tokens)?))
            }
            Self::Text(corpus) => {
                let tokens = stream(vocabulary.unwrap_or(&PlainBytes), &corpus.val);
                Some(Box::new(fixed_crops(
                    tokens,
                    rows,
                    seq_len,
                    args.eval_iters,
                )?))
            }
        };
        Ok(val)
    }

    /// Returns the value by which a resumed run recognizes its data.
    pub(crate) fn identity(&self) -> Value {
        match self {
            Self::Shards(shards) => json!({
                "train": shards.train.identity(),
                "val": shards.val.as_ref().map(TokenShards::identity),
            }),
            Self::Text(corpus) => json!(corpus.name),
        }
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shards = match self {
            Self::Text(corpus) => return corpus.fmt(f),
            Self::Shards(shards) => shards,
        };
        let (train, format) = (shards.train.num_tokens(), shards.train.format());
        let val = shards.val.as_ref().map_or(0, TokenShards::num_tokens);
        let left_out = &shards.left_out;
        write!(
            f,
            "{train} training and {val} validation tokens in shards ({format}){left_out}"
        )
    }
}
