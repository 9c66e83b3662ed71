//! Data of a run, with its tokenizer.
//!
//! ```text
//! --data ──Source::open──> Text        in memory, packed anew in each run
//!                          Stream      documents, tokenized while the model trains (--packing nanochat)
//!                          Documents   documents, packed once into shards in the cache
//!                          Shards      token shards, as they are
//! ```
//!
//! | file           | does                                                             |
//! |----------------|------------------------------------------------------------------|
//! | `source.rs`    | finds out which of these the data is                             |
//! | `tokenizer.rs` | reads the tokenizer, trains it, and checks that it fits the data |
//! | `batches.rs`   | makes batches for training and evaluation                        |
//! | `prepared.rs`  | packs documents into shards, once for all runs                   |
//! | `cache.rs`     | the cache directory, and its locks                               |

mod batches;
mod cache;
pub(crate) mod prepared;
mod source;
mod tokenizer;

pub(crate) use batches::{Batches, BoxEval, BoxTrain, Shape};
pub(crate) use source::{Files, Source};
pub(crate) use tokenizer::of_files as tokenizer_of;

use crate::page::say;
use bdh::BoxError;
use bdh_data::{NgramBaselines, Tokenizer};
use bdh_examples::args::{self, Args};
use std::path::Path;
use std::sync::Arc;

/// Data of a run with its tokenizer, before the batches are made.
pub(crate) struct RunData {
    pub(crate) source: Source,
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// Losses of n-gram models; only known for text in memory.
    pub(crate) baselines: Option<NgramBaselines>,
}

impl RunData {
    /// Opens the data of the arguments, and reads or trains the tokenizer. `run` is the directory of a run to resume.
    pub(crate) fn load(args: &Args, run: Option<&Path>) -> Result<Self, BoxError> {
        let source = Source::open(args)?;
        let saved = run.map(|run| run.join(Tokenizer::FILE));
        let tokenizer = match saved.filter(|file| file.exists()) {
            Some(file) => Arc::new(Tokenizer::load(&file)?),
            None => tokenizer::of(args, &source)?,
        };
        Self::with(source, tokenizer)
    }

    /// Combines data with the tokenizer of a model, which must fit it.
    pub(crate) fn with(source: Source, tokenizer: Arc<Tokenizer>) -> Result<Self, BoxError> {
        tokenizer::check(&source, &tokenizer)?;
        Ok(Self {
            baselines: source.corpus().map(bdh_data::Corpus::ngram_baselines),
            source,
            tokenizer,
        })
    }

    /// Returns the arguments with the tokenizer that token shards bring along, if they name none.
    pub(crate) fn settle(&self, mut args: Args) -> Args {
        if let (None, Source::Shards(shards)) = (&args.tokenizer, &self.source) {
            args.tokenizer = tokenizer::place(shards).map(args::Tokenizer::Path);
        }
        args
    }

    /// Returns the number of token ids.
    pub(crate) fn vocab_size(&self) -> usize {
        let synthetic = match &self.source {
            Source::Shards(shards) => shards.synthetic_ids(),
            _ => None,
        };
        synthetic.unwrap_or(self.tokenizer.vocab_size())
    }

    /// Returns whether the data is read by nanochat's loader, with nanochat's positions.
    pub(crate) fn is_streamed(&self) -> bool {
        matches!(self.source, Source::Stream(_))
    }

    /// Prints a description of the data, and baselines for a model on it.
    pub(crate) fn print(&self) {
        say(format_args!("text     {}", self.source));
        self.print_baselines();
    }

    /// Prints the losses of n-gram models, if they are known.
    pub(crate) fn print_baselines(&self) {
        if let Some(baselines) = &self.baselines {
            say(format_args!("baseline {baselines}, of n-gram models"));
        }
    }
}
