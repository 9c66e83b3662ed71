//! Batches of a run's data, for training and for evaluation.

use super::source::{Files, Shards, Source};
use super::{RunData, prepared};
use bdh::BoxError;
use bdh::data::{EvalData, Prefetch, TrainData};
use bdh::lm::TokenBatch;
use bdh_data::{
    Corpus, NanochatEval, NanochatLoader, Packed, Packing, Prepare, Prepared, Split, passages,
    val_batches,
};
use std::sync::Arc;

/// Micro-batches drawn ahead of training.
const AHEAD: usize = 8;

/// Batches of an evaluation, of any kind of data.
pub(crate) type BoxEval = Box<dyn EvalData<Batch = TokenBatch>>;

/// Endless training batches, of any kind of data.
pub(crate) type BoxTrain = Box<dyn TrainData<Batch = TokenBatch>>;

/// Batches of a run.
pub(crate) struct Batches {
    pub(crate) train: BoxTrain,
    pub(crate) val: BoxEval,
}

/// Sizes that decide the batches of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Sequences in a micro-batch.
    pub(crate) rows: usize,
    /// Tokens in a sequence.
    pub(crate) seq_len: usize,
    /// Devices that evaluate at the same time.
    pub(crate) devices: usize,
    /// Tokens of one evaluation.
    pub(crate) eval_tokens: usize,
    /// Seed of the order of documents.
    pub(crate) seed: u64,
    /// Whether documents that are not prepared stay so, for a run that is only planned.
    pub(crate) is_plan: bool,
    pub(crate) is_quiet: bool,
}

impl Shape {
    /// Returns the tokens of one evaluation, so that each device gets the same number of whole batches, at least one.
    ///
    /// Source: nanochat's `scripts/base_train.py`.
    pub(crate) fn whole_eval_tokens(&self) -> usize {
        let at_once = self.rows * self.seq_len * self.devices.max(1);
        at_once * (self.eval_tokens / at_once).max(1)
    }
}

impl RunData {
    /// Returns training batches, and validation batches that are the same for every run of the same shape.
    ///
    /// Documents are packed into shards first, unless that is done already.
    pub(crate) fn batches(&self, shape: &Shape) -> Result<Batches, BoxError> {
        match &self.source {
            Source::Text(corpus) => self.of_text(corpus, shape),
            Source::Stream(files) => self.of_stream(files, shape),
            Source::Documents(files, _) => {
                let request = self.request(files, shape);
                let dir = prepared::dir(&request)?;
                let prepared = match Prepared::open(&dir)? {
                    Some(prepared) => prepared,
                    None if shape.is_plan => return self.of_stream(files, shape),
                    None => prepared::make(&request, &dir, shape.is_quiet)?,
                };
                of_shards(&Shards::prepared(prepared), shape)
            }
            Source::Shards(shards) => of_shards(shards, shape),
        }
    }

    /// Returns the validation batches, without preparing anything.
    pub(crate) fn val(&self, shape: &Shape) -> Result<BoxEval, BoxError> {
        let plan = Shape {
            is_plan: true,
            ..*shape
        };
        match &self.source {
            Source::Text(corpus) => self.val_of_text(corpus, shape),
            _ => Ok(self.batches(&plan)?.val),
        }
    }

    fn of_text(&self, corpus: &Corpus, shape: &Shape) -> Result<Batches, BoxError> {
        let train = passages(&self.tokenizer, &corpus.train, shape.seq_len + 1);
        let val = self.val_of_text(corpus, shape)?;
        let train = Packed::new(train, shape.rows, shape.seq_len, shape.seed)?;
        Ok(Batches {
            train: Box::new(train),
            val,
        })
    }

    fn val_of_text(&self, corpus: &Corpus, shape: &Shape) -> Result<BoxEval, BoxError> {
        let val = passages(&self.tokenizer, &corpus.val, shape.seq_len + 1);
        let val = val_batches(&val, shape.rows, shape.seq_len, shape.eval_tokens)?;
        Ok(Box::new(val))
    }

    /// Returns nanochat's batches.
    fn of_stream(&self, files: &Files, shape: &Shape) -> Result<Batches, BoxError> {
        let Split { train, val } = files.split.clone();
        let (rows, seq_len) = (shape.rows, shape.seq_len);
        let tokenizer = || Arc::clone(&self.tokenizer);
        let train = NanochatLoader::new(train, tokenizer(), rows, seq_len)?;
        let tokens = shape.whole_eval_tokens();
        Ok(Batches {
            train: Box::new(Prefetch::new(train).capacity(AHEAD)),
            val: Box::new(NanochatEval::new(val, tokenizer(), rows, seq_len, tokens)?),
        })
    }

    /// Returns the request for shards of these documents.
    fn request(&self, files: &Files, shape: &Shape) -> Prepare {
        Prepare {
            data: files.split.clone(),
            tokenizer: Arc::clone(&self.tokenizer),
            seq_len: shape.seq_len,
            packing: Packing::BestFit,
            seed: shape.seed,
        }
    }
}

fn of_shards(shards: &Shards, shape: &Shape) -> Result<Batches, BoxError> {
    let (rows, seq_len) = (shape.rows, shape.seq_len);
    let train = shards.train.batches(rows, seq_len)?;
    let tokens = shape.whole_eval_tokens();
    Ok(Batches {
        train: Box::new(Prefetch::new(train).capacity(AHEAD)),
        val: Box::new(shards.val.eval_batches(rows, seq_len, tokens)?),
    })
}
