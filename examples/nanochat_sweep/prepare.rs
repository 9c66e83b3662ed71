//! Text of a run, with its tokenizer and batches.

use crate::page::say;
use bdh::BoxError;
use bdh::lm::TokenBatch;
use bdh_data::{Corpus, DataSpec, NgramBaselines, Packed, Tokenizer, passages, val_batches};
use bdh_examples::args::{self, Args};
use bdh_models::scaling::Recipe;
use std::sync::Arc;

/// Text with its tokenizer, which the trials of a sweep share.
pub(crate) struct Text {
    pub(crate) corpus: Corpus,
    pub(crate) baselines: NgramBaselines,
    pub(crate) tokenizer: Arc<Tokenizer>,
}

impl Text {
    /// Loads the text of the arguments, and trains a tokenizer if requested.
    pub(crate) fn load(args: &Args) -> Result<Self, BoxError> {
        let data = args.data.as_deref().unwrap_or_default();
        let corpus = data.parse::<DataSpec>()?.load()?;
        let tokenizer = match args.tokenizer() {
            args::Tokenizer::Bytes => Tokenizer::Bytes,
            args::Tokenizer::Bpe => Tokenizer::bpe(&corpus.train, args.vocab_size())?,
        };
        let baselines = corpus.ngram_baselines();
        Ok(Self {
            corpus,
            baselines,
            tokenizer: Arc::new(tokenizer),
        })
    }

    /// Returns training batches, and validation batches that are the same for every run of the same shape.
    pub(crate) fn batches(
        &self,
        recipe: &Recipe,
        args: &Args,
    ) -> Result<(Packed, Vec<TokenBatch>), BoxError> {
        let (rows, seq_len) = (recipe.micro_batch, recipe.config.sequence_len);
        let train = passages(&self.tokenizer, &self.corpus.train, seq_len + 1);
        let val = passages(&self.tokenizer, &self.corpus.val, seq_len + 1);
        let val = val_batches(&val, rows, seq_len, args.eval_tokens())?;
        let train = Packed::new(train, rows, seq_len, args.seed)?;
        Ok((train, val))
    }

    /// Prints a description of the text, and baselines for a model on it.
    pub(crate) fn print(&self) {
        say(format_args!("text     {}", self.corpus));
        say(format_args!(
            "baseline {}, of n-gram models",
            self.baselines
        ));
    }
}
