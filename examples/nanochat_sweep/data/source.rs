//! Kinds of data, and the choice between them.

use bdh::BoxError;
use bdh_data::{
    Corpus, DataSpec, DocumentKind, Documents, Packing, Prepared, ShardSplit, Split, TokenShards,
    Tokenizer,
};
use bdh_examples::args::{self, Args};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Largest text, in bytes, that is kept in memory.
const IN_MEMORY: u64 = 64 << 20;

/// Endings of files that hold documents in another form than plain text.
const DOCUMENTS: [&str; 6] = ["parquet", "jsonl", "ndjson", "gz", "zst", "zstd"];

/// Data of a run.
pub(crate) enum Source {
    /// Text in memory.
    Text(Corpus),
    /// Documents that are tokenized while the model trains, by nanochat's rules.
    Stream(Files),
    /// Documents that are packed into shards before the run. Text of at most 64 MiB is in memory too.
    Documents(Files, Option<Corpus>),
    /// Token shards of a directory.
    Shards(Shards),
}

/// Files of documents.
pub(crate) struct Files {
    pub(crate) name: String,
    pub(crate) split: Split,
    /// Whether all files are text.
    is_text: bool,
    /// Number of files, their size, and the files that are not read.
    pub(crate) origin: String,
}

/// Token shards of both splits.
pub(crate) struct Shards {
    pub(crate) dir: PathBuf,
    pub(crate) train: TokenShards,
    pub(crate) val: TokenShards,
    /// Result of `prepare`, which has a tokenizer.
    pub(crate) prepared: Option<Box<Prepared>>,
    left_out: String,
}

impl Source {
    /// Opens the data of the arguments. Text in memory is read, and of other files only their heads.
    pub(crate) fn open(args: &Args) -> Result<Self, BoxError> {
        let data = args.data.as_deref().unwrap_or("rust");
        match data.parse::<DataSpec>()? {
            DataSpec::Path(path) => Self::of_path(&path, args),
            _ if args.packing == Packing::Nanochat => Err(format!(
                "--packing nanochat streams files of documents, and `{data}` is not one: \
                 give a path, or --packing best-fit"
            )
            .into()),
            spec => Ok(Self::Text(spec.load()?)),
        }
    }

    fn of_path(path: &Path, args: &Args) -> Result<Self, BoxError> {
        if path.is_dir()
            && let Some(mut shards) = Shards::of_dir(path, args.strict_data)?
        {
            if let Some(count) = args.num_shards {
                shards.train = first_shards(path, count)?;
            }
            return Ok(Self::Shards(shards));
        }
        let streams = args.packing == Packing::Nanochat;
        if !streams && is_small_text(path) {
            return Self::of_text(path, args);
        }
        let files = Files::open(path, args.strict_data)?;
        Ok(if streams {
            Self::Stream(files)
        } else {
            Self::Documents(files, None)
        })
    }

    /// Reads text into memory. The trials of a sweep that need a trained tokenizer pack it once for all of them.
    fn of_text(path: &Path, args: &Args) -> Result<Self, BoxError> {
        let corpus = DataSpec::Path(path.to_owned()).load()?;
        let is_packed = is_shared() && args.tokenizer() == args::Tokenizer::Bpe;
        if !is_packed && !args.strict_data {
            return Ok(Self::Text(corpus));
        }
        match Files::open(path, args.strict_data) {
            Ok(files) if is_packed && files.is_text => Ok(Self::Documents(files, Some(corpus))),
            Err(error) if args.strict_data => Err(error),
            _ => Ok(Self::Text(corpus)), // a text such as `package.json` has the name of another format
        }
    }

    /// Returns the text, if it is in memory.
    pub(crate) fn corpus(&self) -> Option<&Corpus> {
        match self {
            Self::Text(corpus) => Some(corpus),
            Self::Documents(_, corpus) => corpus.as_ref(),
            Self::Stream(_) | Self::Shards(_) => None,
        }
    }

    /// Returns the short name of the data.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Text(corpus) => corpus.name.clone(),
            Self::Stream(files) | Self::Documents(files, _) => files.name.clone(),
            Self::Shards(shards) => shards.dir.display().to_string(),
        }
    }
}

impl Files {
    /// Opens the files of documents at a path.
    pub(crate) fn open(path: &Path, is_strict: bool) -> Result<Self, BoxError> {
        let mut documents = Documents::open(path)?;
        if is_strict {
            documents = documents.strict()?;
        }
        let (files, megabytes) = (documents.num_files(), documents.bytes() as f64 / 1e6);
        let (kind, left_out) = (kind(documents.kind()), documents.left_out());
        let plural = if files == 1 { "file" } else { "files" };
        let origin = format!("{files} {kind} {plural}, {megabytes:.1} MB{left_out}");
        Ok(Self {
            name: path.display().to_string(),
            is_text: documents.kind() == DocumentKind::Text,
            split: documents.split()?,
            origin,
        })
    }
}

impl Shards {
    /// Opens the shards of a directory, which `prepare` or another program wrote; `None` if there are none.
    fn of_dir(dir: &Path, is_strict: bool) -> Result<Option<Self>, BoxError> {
        if let Some(prepared) = prepared_in(dir)? {
            return Ok(Some(Self::prepared(prepared)));
        }
        let Some(ShardSplit {
            train,
            val,
            left_out,
        }) = TokenShards::of_dir(dir)?
        else {
            return Ok(None);
        };
        let (shown, left_out) = (dir.display(), left_out.to_string());
        if is_strict && !left_out.is_empty() {
            return Err(format!("`{shown}` has other files than token shards{left_out}").into());
        }
        let val = val.ok_or_else(|| {
            format!("`{shown}` has no shard for validation: add one, such as `val_00000.bin`")
        })?;
        Ok(Some(Self {
            dir: dir.to_owned(),
            train,
            val,
            prepared: None,
            left_out,
        }))
    }

    /// Returns the shards of prepared data.
    pub(crate) fn prepared(prepared: Prepared) -> Self {
        Self {
            dir: prepared.dir().to_owned(),
            train: prepared.train().clone(),
            val: prepared.val().clone(),
            prepared: Some(Box::new(prepared)),
            left_out: String::new(),
        }
    }
}

impl Shards {
    /// Returns the number of token ids of synthetic shards, which have no tokenizer.
    pub(super) fn synthetic_ids(&self) -> Option<usize> {
        let manifest = self.prepared.as_ref()?.manifest();
        manifest.is_synthetic.then_some(manifest.vocab_size)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(corpus) => corpus.fmt(f),
            Self::Stream(files) => write!(f, "{} · {} · streamed", files.name, files.origin),
            Self::Documents(files, _) => write!(f, "{} · {}", files.name, files.origin),
            Self::Shards(shards) => shards.fmt(f),
        }
    }
}

impl fmt::Display for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} · {} tokens train · {} tokens val · token shards{}",
            self.dir.display(),
            count(&self.train),
            count(&self.val),
            self.left_out
        )
    }
}

/// Returns the number of tokens in digits, or in millions.
fn count(shards: &TokenShards) -> String {
    match shards.num_tokens() {
        count @ ..1_000_000 => count.to_string(),
        count => format!("{:.1} million", count as f64 / 1e6),
    }
}

/// Opens the result of `prepare` in a directory; `None` for a directory of anything else.
fn prepared_in(dir: &Path) -> Result<Option<Prepared>, BoxError> {
    let has = |name: &str| dir.join(name).exists();
    let is_ours = has("train_00000.bin") || has(Tokenizer::FILE);
    // A manifest.json alone may be that of any other program.
    if is_ours && has("manifest.json") {
        return Ok(Prepared::open(dir)?);
    }
    if is_ours && has(".lock") {
        let dir = dir.display();
        return Err(
            format!("`{dir}` is not complete: run `prepare` with --out {dir} again").into(),
        );
    }
    Ok(None)
}

/// Opens the first shards of a directory for training.
fn first_shards(dir: &Path, count: usize) -> Result<TokenShards, BoxError> {
    let mut paths = entries(dir);
    paths.retain(|path| is_training_shard(path));
    paths.sort();
    paths.truncate(count);
    Ok(TokenShards::open(paths)?)
}

fn is_training_shard(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    (ending == "bin" || ending == "npy") && stem.split('_').any(|part| part == "train")
}

fn kind(kind: DocumentKind) -> &'static str {
    match kind {
        DocumentKind::Parquet => "parquet",
        DocumentKind::Lines => "JSONL",
        DocumentKind::Text => "text",
        _ => "mixed",
    }
}

/// Returns whether this run is a trial of a sweep, whose trials share what is made of their data.
pub(crate) fn is_shared() -> bool {
    bdh_sweep::trial_dir().is_some()
}

/// Returns whether a path is plain text that fits into memory.
///
/// A path that cannot be read counts as text: the error of reading it as text is the clearest.
fn is_small_text(root: &Path) -> bool {
    let mut bytes = 0;
    let mut paths = vec![root.to_owned()];
    while let Some(path) = paths.pop() {
        // A link to a directory is not followed: it may lead to a parent, without end.
        if path.is_dir() && (path == root || !path.is_symlink()) {
            paths.extend(entries(&path));
            continue;
        }
        let ending = path.extension().unwrap_or_default();
        if DOCUMENTS.iter().any(|other| ending == *other) {
            return false;
        }
        bytes += path.metadata().map_or(0, |found| found.len());
    }
    bytes <= IN_MEMORY
}

/// Returns the paths in a directory, without hidden ones.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths
}
