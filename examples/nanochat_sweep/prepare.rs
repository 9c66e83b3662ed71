//! What a run needs before it can be composed: text, tokens, the recipe.

use bdh::BoxError;
use bdh::lm::TokenBatch;
use bdh_examples::args::{self, Args};
use bdh_examples::data::{Corpus, DataSpec, Levels, Packed, Tokenizer, passages, val_batches};
use bdh_examples::scaling::Recipe;
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
        Ok(Self { corpus, levels, tokenizer: Arc::new(tokenizer) })
    }

    /// The training stream of a run.
    pub(crate) fn train(&self, recipe: &Recipe, seed: u64) -> Result<Packed, BoxError> {
        let seq_len = recipe.config.sequence_len;
        let train = passages(&self.tokenizer, &self.corpus.train, seq_len + 1);
        Ok(Packed::new(train, recipe.micro_batch, seq_len, seed)?)
    }

    /// The validation batches of a run, the same for every run of the same shape.
    pub(crate) fn val(&self, recipe: &Recipe, tokens: usize) -> Result<Vec<TokenBatch>, BoxError> {
        let seq_len = recipe.config.sequence_len;
        let val = passages(&self.tokenizer, &self.corpus.val, seq_len + 1);
        Ok(val_batches(&val, recipe.micro_batch, seq_len, tokens)?)
    }

    /// What a reader needs in order to judge a model on this text.
    pub(crate) fn print(&self) {
        println!("text     {}", self.corpus);
        println!("levels   {} (of the validation text, for comparison)", self.levels);
    }
}
