//! `nanochat_sweep prepare`: documents packed into token shards, which any number of runs share.

use crate::data::{Files, prepared, tokenizer_of};
use crate::page::say;
use bdh::BoxError;
use bdh_data::{Packing, Prepare, Prepared, TokenShards, synthetic_shards};
use bdh_examples::args::values::{count, natural};
use bdh_examples::args::{self, Args, Tokenizer};
use bdh_examples::nanochat_home::NanochatHome;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Packs documents into token shards once, for any number of runs
///
/// Without --out the shards are in the cache, where runs on the same documents find them.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub(crate) struct PrepareArgs {
    /// Documents: a file or a directory of parquet, JSONL or text, plain or compressed by gzip or zstd
    #[arg(
        long,
        value_name = "PATH",
        required_unless_present = "synthetic",
        conflicts_with = "synthetic"
    )]
    data: Option<PathBuf>,
    /// Number of tokens to make up instead, such as 1.3e9, to measure how fast shards are read; needs --out
    #[arg(long, value_name = "TOKENS", value_parser = count, requires = "out")]
    synthetic: Option<usize>,
    /// Tokenizer: `bytes`, `bpe`, or a tokenizer's file or directory [default: bpe, or that of NANOCHAT_BASE_DIR]
    #[arg(long, value_name = "KIND|PATH")]
    tokenizer: Option<Tokenizer>,
    /// Number of token ids of the bpe tokenizer [default: 32768]
    #[arg(long, value_name = "IDS", value_parser = count)]
    vocab_size: Option<usize>,
    /// Tokens of a row, the longest context to train with
    #[arg(long, value_name = "TOKENS", default_value = "2048", value_parser = count)]
    max_seq_len: usize,
    /// Packing of documents into rows: best-fit cuts long documents into pieces, nanochat crops them
    #[arg(long, value_name = "PACKING", default_value = "best-fit")]
    packing: Packing,
    /// Seed of the order of documents
    #[arg(long, value_name = "SEED", default_value = "42", value_parser = natural)]
    seed: u64,
    /// Directory for the shards [default: below the cache directory]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Refuses documents with files that cannot be read, which are otherwise left out with a note
    #[arg(long)]
    strict_data: bool,
}

/// Prepares the documents of the arguments, and prints a table of the result.
pub(crate) fn main(args: &PrepareArgs) -> Result<ExitCode, BoxError> {
    let began = Instant::now();
    let prepared = match (&args.out, args.synthetic) {
        (Some(out), Some(tokens)) => {
            let ids = args.vocab_size.unwrap_or(32_768);
            synthetic_shards(out, tokens as u64, ids, args.max_seq_len, args.seed)?
        }
        _ => args.prepare()?,
    };
    print(&prepared, began);
    Ok(ExitCode::SUCCESS)
}

impl PrepareArgs {
    fn prepare(&self) -> Result<Prepared, BoxError> {
        let path = self.data.clone().unwrap_or_default();
        let files = Files::open(&path, self.strict_data)?;
        say(format_args!("data     {} · {}", files.name, files.origin));
        let request = Prepare {
            data: files.split.clone(),
            tokenizer: tokenizer_of(&self.training_args()?, &files)?,
            seq_len: self.max_seq_len,
            packing: self.packing,
            seed: self.seed,
        };
        let dir = match &self.out {
            Some(dir) => checked(dir)?,
            None => prepared::dir(&request)?,
        };
        prepared::make(&request, &dir, false)
    }

    /// Returns the arguments of a run that decide the tokenizer.
    fn training_args(&self) -> Result<Args, BoxError> {
        let mut args = args::try_parse_from(["nanochat_sweep"])?;
        args.vocab_size = self.vocab_size;
        args.tokenizer.clone_from(&self.tokenizer);
        if let Some(home) = NanochatHome::given() {
            args = args.with_home(&home);
        }
        args.tokenizer = args.tokenizer.or(Some(Tokenizer::Bpe)); // the default depends on the device
        Ok(args)
    }
}

/// Returns a directory to prepare data in, unless it has token shards of another program, which would be deleted.
fn checked(dir: &Path) -> Result<PathBuf, BoxError> {
    let is_ours = ["manifest.json", ".lock"]
        .iter()
        .any(|name| dir.join(name).exists());
    if !is_ours && dir.is_dir() && TokenShards::of_dir(dir)?.is_some() {
        let dir = dir.display();
        return Err(
            format!("`{dir}` has token shards of another program: give another --out").into(),
        );
    }
    Ok(dir.to_owned())
}

/// Prints sizes, and the flags that train on the shards.
fn print(prepared: &Prepared, began: Instant) {
    let (manifest, dir) = (prepared.manifest(), prepared.dir().display());
    say("\nsplit  shards        rows          tokens");
    for (name, shards, tokens) in [
        ("train", &manifest.train, manifest.train_tokens()),
        ("val", &manifest.val, manifest.val_tokens()),
    ] {
        let rows: u64 = shards.iter().map(|shard| shard.rows).sum();
        let shards = shards.len();
        say(format_args!(
            "{name:<5} {shards:>7} {rows:>11} {tokens:>15}"
        ));
    }
    say(format_args!(
        "\n{} documents, {} bytes of text, {} tokens that no row has, in {:.1} s",
        manifest.documents,
        manifest.text_bytes,
        manifest.dropped_tokens,
        began.elapsed().as_secs_f64()
    ));
    let row = manifest.seq_len;
    say(format_args!(
        "To train on it:  --data {dir} --max-seq-len {row}"
    ));
}
