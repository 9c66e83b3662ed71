//! What a run needs before it can be composed: text, tokens, the recipe.

use crate::page::say;
use bdh::BoxError;
use bdh::lm::TokenBatch;
use bdh_data::{Corpus, DataSpec, Levels, Packed, Tokenizer, passages, val_batches};
use bdh_examples::args::{self, Args};
use bdh_models::scaling::Recipe;
use std::sync::Arc;

/// A text and its tokens; trials of a sweep share it.
pub(crate) struct Text {
    pub(crate) corpus: Corpus,
    pub(crate) levels: Levels,
    pub(crate) tokenizer: Arc<Tokenizer>,
}

impl Text {
    /// Loads the text that the arguments name, and trains a tokenizer where one is asked for.
    pub(crate) fn load(args: &Args) -> Result<Self, BoxError> {
        let data = args.data.as_deref().unwrap_or_default();
        let corpus = data.parse::<DataSpec>()?.load()?;
        let tokenizer = match args.tokenizer() {
            args::Tokenizer::Bytes => Tokenizer::Bytes,
            args::Tokenizer::Bpe => Tokenizer::bpe(&corpus.train, args.vocab_size())?,
        };
        let levels = corpus.levels();
        Ok(Self {
            corpus,
            levels,
            tokenizer: Arc::new(tokenizer),
        })
    }

    /// What the model learns from and what it is measured on; the latter is the same for every run of a shape.
    pub(crate) fn batches(
        &self,
        recipe: &Recipe,
        args: &Args,
    ) -> Result<(Packed, Vec<TokenBatch>), BoxError> {
        let (rows, seq_len) = (recipe.micro_batch, recipe.config.sequence_len);
        let cut = |documents: &[String]| passages(&self.tokenizer, documents, seq_len + 1);
        let val = val_batches(&cut(&self.corpus.val), rows, seq_len, args.eval_tokens())?;
        Ok((
            Packed::new(cut(&self.corpus.train), rows, seq_len, args.seed)?,
            val,
        ))
    }

    /// What a reader needs in order to judge a model on this text.
    pub(crate) fn print(&self) {
        say(format_args!("text     {}", self.corpus));
        say(format_args!("levels   {} by counting alone", self.levels));
    }
}
