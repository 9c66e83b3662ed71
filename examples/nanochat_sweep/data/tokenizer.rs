//! Tokenizer of a run: of bytes, from a file, or trained on the text.

use super::cache;
use super::source::{Files, Shards, Source, is_shared};
use crate::progress::Progress;
use bdh::BoxError;
use bdh_data::{GroupPosition, Prepared, Tokenizer};
use bdh_examples::args::{self, Args};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of text that a tokenizer is trained on at most.
const TRAINING_BYTES: u64 = 8 << 20;

/// Returns the tokenizer of the arguments. Token shards bring their own, unless a file is given.
pub(super) fn of(args: &Args, source: &Source) -> Result<Arc<Tokenizer>, BoxError> {
    let tokenizer = match (args.tokenizer(), source) {
        (args::Tokenizer::Path(path), _) => Tokenizer::load(&path)?,
        (_, Source::Shards(shards)) => return of_shards(args, shards),
        (args::Tokenizer::Bytes, _) => Tokenizer::Bytes,
        (args::Tokenizer::Bpe, Source::Text(corpus)) if !is_shared() => {
            Tokenizer::bpe(&corpus.train, args.vocab_size())?
        }
        (args::Tokenizer::Bpe, Source::Text(corpus) | Source::Documents(_, Some(corpus))) => {
            let shared = Shared::new(args, &corpus.train)?;
            shared.get(|_| Ok(Tokenizer::bpe(&corpus.train, shared.ids)?))?
        }
        (args::Tokenizer::Bpe, Source::Stream(files) | Source::Documents(files, None)) => {
            trained_on(args, files)?
        }
    };
    Ok(Arc::new(tokenizer))
}

/// Returns the tokenizer of the arguments for files of documents.
pub(crate) fn of_files(args: &Args, files: &Files) -> Result<Arc<Tokenizer>, BoxError> {
    let tokenizer = match args.tokenizer() {
        args::Tokenizer::Path(path) => Tokenizer::load(&path)?,
        args::Tokenizer::Bytes => Tokenizer::Bytes,
        args::Tokenizer::Bpe => trained_on(args, files)?,
    };
    Ok(Arc::new(tokenizer))
}

/// Returns the tokenizer of token shards: the prepared one, bytes if they are asked for, or the one in the directory.
fn of_shards(args: &Args, shards: &Shards) -> Result<Arc<Tokenizer>, BoxError> {
    if let Some(prepared) = &shards.prepared {
        return of_prepared(args, prepared);
    }
    if args.tokenizer == Some(args::Tokenizer::Bytes) {
        return Ok(Arc::new(Tokenizer::Bytes));
    }
    match beside(&shards.dir) {
        Some(path) => Ok(Arc::new(Tokenizer::load(&path)?)),
        None => Err(format!(
            "`{}` has token ids and no text, so no tokenizer can be trained on it: \
             give the one that it was made with, --tokenizer PATH",
            shards.dir.display()
        )
        .into()),
    }
}

/// Returns the tokenizer of prepared data, which must be of the kind that is asked for.
fn of_prepared(args: &Args, prepared: &Prepared) -> Result<Arc<Tokenizer>, BoxError> {
    let tokenizer = prepared.tokenizer();
    let is_bytes = tokenizer.id() == Tokenizer::Bytes.id();
    match &args.tokenizer {
        Some(kind) if is_bytes != (*kind == args::Tokenizer::Bytes) => Err(format!(
            "`{}` was prepared with another tokenizer than {kind}: leave --tokenizer {kind} out, \
             or prepare the text again",
            prepared.dir().display()
        )
        .into()),
        _ => Ok(Arc::clone(tokenizer)),
    }
}

/// Returns the file or directory with the tokenizer of token shards, if there is one.
pub(super) fn place(shards: &Shards) -> Option<PathBuf> {
    match shards.synthetic_ids() {
        Some(_) => None,
        None => beside(&shards.dir),
    }
}

/// Returns the tokenizer in the directory of token shards, or in the directory `tokenizer` there.
fn beside(dir: &Path) -> Option<PathBuf> {
    let places = ["tokenizer", "tokenizer.pkl", Tokenizer::FILE].map(|name| dir.join(name));
    places.into_iter().find(|place| place.exists())
}

/// Checks that token shards have the ids of this tokenizer.
pub(super) fn check(source: &Source, tokenizer: &Tokenizer) -> Result<(), BoxError> {
    let Source::Shards(shards) = source else {
        return Ok(());
    };
    if shards.synthetic_ids().is_some() {
        return Ok(()); // the ids stand for no text
    }
    let dir = shards.dir.display();
    let (ids, of_shards) = (tokenizer.vocab_size(), shards.train.vocab_size());
    if let Some(of_shards) = of_shards
        && of_shards != ids
    {
        return Err(format!(
            "the token shards of `{dir}` are for {of_shards} ids, and the tokenizer has {ids}: \
             give the one that they were made with, --tokenizer PATH"
        )
        .into());
    }
    match &shards.prepared {
        Some(prepared) if prepared.tokenizer().id() != tokenizer.id() => Err(format!(
            "`{dir}` was prepared with another tokenizer: leave --tokenizer out, or prepare the text again"
        )
        .into()),
        _ => Ok(()),
    }
}

/// Tokenizer that runs on the same text share. The first of them trains it.
struct Shared {
    dir: PathBuf,
    ids: usize,
    is_quiet: bool,
}

impl Shared {
    /// Finds the directory of the tokenizer that is trained on this text.
    fn new(args: &Args, text: impl Hash) -> Result<Self, BoxError> {
        let ids = args.vocab_size();
        let mut hasher = DefaultHasher::new();
        (ids, text).hash(&mut hasher);
        let key = format!("{:016x}", hasher.finish());
        Ok(Self {
            dir: cache::dir("tokenizers")?.join(key),
            ids,
            is_quiet: args.quiet,
        })
    }

    /// Reads the tokenizer, or trains and saves it. Another process that trains it at the moment is waited for.
    fn get(
        &self,
        train: impl FnOnce(&mut Progress) -> Result<Tokenizer, BoxError>,
    ) -> Result<Tokenizer, BoxError> {
        let file = self.dir.join(Tokenizer::FILE);
        if file.exists() {
            return Ok(Tokenizer::load(&file)?);
        }
        let what = format!("tokenizer of {} ids", self.ids);
        let mut progress = Progress::new(what, self.is_quiet);
        let _lock = cache::lock(&self.dir, &progress)?;
        if file.exists() {
            return Ok(Tokenizer::load(&file)?); // another process has just trained it
        }
        let tokenizer = train(&mut progress)?;
        tokenizer.save(&self.dir)?;
        progress.finish("trained");
        Ok(tokenizer)
    }
}

/// Returns the tokenizer that is trained on files, by this run or by an earlier one.
fn trained_on(args: &Args, files: &Files) -> Result<Tokenizer, BoxError> {
    let shared = Shared::new(args, files.split.train.identity().to_string())?;
    shared.get(|progress| train(files, shared.ids, progress))
}

/// Trains a tokenizer on the documents of the training split.
fn train(files: &Files, ids: usize, progress: &mut Progress) -> Result<Tokenizer, BoxError> {
    let mut failed = None;
    let groups = files
        .split
        .train
        .groups_from(GroupPosition { file: 0, group: 0 });
    let texts = groups.map_while(|group| match group {
        Ok(group) => Some(group.texts),
        Err(error) => {
            failed = Some(error);
            None
        }
    });
    let total = files.split.train.bytes().min(TRAINING_BYTES);
    let tokenizer = Tokenizer::train(texts.flatten(), ids, |training| {
        progress.show(training.bytes, total);
    });
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(tokenizer?),
    }
}
