//! Settings of the model, and the tokenizer of its text.

use crate::args::Args;
use bdh::BoxError;
use bdh::lm::Vocabulary;
use bdh_data::{PlainBytes, ShardSplit, Tokenizer};
use bdh_models::gpt2::Gpt2Config;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Number of GPT-2's token ids, the vocabulary of shards that do not say another one.
const GPT2_VOCAB: usize = 50_257;

/// Files by which a directory of weights has a tokenizer.
const TOKENIZER_FILES: [&str; 3] = ["tokenizer.json", "vocab.json", "tokenizer.pkl"];

/// Tokenizer that threads share.
pub(crate) type Words = Arc<dyn Vocabulary + Sync>;

/// Settings of a model and its tokenizer.
pub(crate) struct Setup {
    pub(crate) config: Gpt2Config,
    /// Tokenizer; `None` for shards without one, whose text cannot be shown.
    pub(crate) words: Option<Words>,
}

impl Setup {
    /// Chooses model and tokenizer from the flags, a directory of weights, and the headers of shards.
    pub(crate) fn of(args: &Args, shards: Option<&ShardSplit>) -> Result<Self, BoxError> {
        let pretrained = match &args.weights {
            Some(dir) if dir.join("config.json").exists() => Some(pretrained(args, dir)?),
            _ => None,
        };
        let words = words(args, shards, pretrained.as_ref())?;
        let config = match pretrained {
            Some(config) => config,
            None => args.config(vocab_size(args, shards, words.as_deref())),
        };
        config.check()?;
        let setup = Self { config, words };
        setup.check_words(args)?;
        Ok(setup)
    }

    /// Returns the tokenizer.
    pub(crate) fn vocabulary(&self) -> Option<&dyn Vocabulary> {
        let words = self.words.as_deref()?;
        Some(words)
    }

    /// Checks that the model has the ids of the tokenizer.
    fn check_words(&self, args: &Args) -> Result<(), BoxError> {
        let Some(words) = &self.words else {
            return Ok(());
        };
        let (tokens, ids) = (words.token_bytes().len(), self.config.vocab_size);
        if tokens <= ids {
            return Ok(());
        }
        let source = match tokenizer_path(args) {
            Some(path) => format!("the tokenizer in `{}`", path.display()),
            None => "the vocabulary of bytes".to_owned(),
        };
        Err(format!("{source} has {tokens} tokens, and the model has {ids}").into())
    }
}

/// Returns the settings of the model in a directory of weights.
fn pretrained(args: &Args, dir: &Path) -> Result<Gpt2Config, BoxError> {
    let config = Gpt2Config {
        precision: args.hardware.precision(),
        ..Gpt2Config::from_dir(dir)?
    };
    let (longest, vocab_size) = (config.block_size, config.vocab_size);
    let shown = dir.display();
    if args.block_size > longest {
        let asked = args.block_size;
        let text = format!(
            "--block-size {asked} is longer than the {longest} tokens of the model in `{shown}`"
        );
        return Err(text.into());
    }
    if let Some(asked) = args.vocab_size
        && asked != vocab_size
    {
        let text = format!(
            "--vocab-size {asked} is not the {vocab_size} of the model in `{shown}`: leave it out"
        );
        return Err(text.into());
    }
    Ok(config)
}

/// Returns the number of token ids of a model with random weights.
fn vocab_size(
    args: &Args,
    shards: Option<&ShardSplit>,
    words: Option<&(dyn Vocabulary + Sync)>,
) -> usize {
    let in_header = shards.and_then(|shards| shards.train.vocab_size());
    let of_words = words.map(|words| words.token_bytes().len());
    args.vocab_size
        .or(in_header)
        .or(of_words)
        .unwrap_or(GPT2_VOCAB)
}

/// Returns the tokenizer: of `--tokenizer`, of the weights, or bytes for text.
fn words(
    args: &Args,
    shards: Option<&ShardSplit>,
    pretrained: Option<&Gpt2Config>,
) -> Result<Option<Words>, BoxError> {
    if let Some(path) = tokenizer_path(args) {
        return Ok(Some(Arc::new(Tokenizer::load(&path)?)));
    }
    let bytes = PlainBytes.token_bytes().len();
    match pretrained {
        _ if shards.is_some() => Ok(None),
        // Text is tokenized by GPT-2's rules, and the model's directory has no file for it.
        Some(config) if config.vocab_size != bytes => Err(format!(
            "cannot read the tokenizer in `{}`, which has no vocab.json with merges.txt and no tokenizer.json: \
             add them, or give --tokenizer",
            args.weights.as_deref().unwrap_or(Path::new("")).display()
        )
        .into()),
        _ => Ok(Some(Arc::new(PlainBytes))),
    }
}

/// Returns the place of the tokenizer: `--tokenizer`, or the directory of the weights if it has one.
fn tokenizer_path(args: &Args) -> Option<PathBuf> {
    if args.tokenizer.is_some() {
        return args.tokenizer.clone();
    }
    let dir = args.weights.as_ref()?;
    let has_file = TOKENIZER_FILES.iter().any(|file| dir.join(file).exists());
    has_file.then(|| dir.clone())
}
