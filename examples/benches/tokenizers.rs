//! Time of the BPE tokenizers on text without spaces, which is a single piece for GPT-2.
//!
//! ```text
//! cargo bench --profile dev -p bdh-examples --bench tokenizers
//! ```
//!
//! Our tokenizer is trained on burn's Rust sources, and GPT-2's encoder has the same number of merges of the same text.
//! They encode only the letters of that text, one repeated letter, and the whole text. One µs per KB is one ms per MB.
//! `growth` is the exponent of the time: 1 is linear, 2 is quadratic.
//!
//! Then our tokenizer and Python's tiktoken encode the same text with the same merges, alternately and on one thread
//! each. The text is that of `--data shakespeare`, or burn's sources if it is not available.

#![expect(clippy::print_stdout, reason = "a bench prints a table")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot run fails at once")]

#[path = "support/grown.rs"]
mod grown;
#[path = "../../bdh-callbacks/tests/support/judges.rs"]
mod judges;
#[path = "support/paired.rs"]
mod paired;
#[path = "support/tiktoken.rs"]
mod tiktoken;

use bdh_data::{Corpus, DataSpec, Tokenizer};
use grown::grow;
use paired::{Variant, measure, time};
use std::hint::black_box;
use std::path::Path;
use tiktoken::Tiktoken;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    AddedToken, DecoderWrapper, Model, NormalizerWrapper, PostProcessorWrapper, TokenizerImpl,
};

/// Sizes of the texts in KB.
const SIZES: [u64; 5] = [50, 100, 200, 400, 2_000];

/// Number of token ids of both tokenizers.
const VOCAB: usize = 4_096;

/// Rounds of the comparison with tiktoken.
const ROUNDS: usize = 15;

fn main() {
    let corpus = DataSpec::Rust.load().unwrap();
    let ours = Tokenizer::bpe(&corpus.train, VOCAB).unwrap();
    let dir = tempfile::tempdir().unwrap();
    gpt2_files(&corpus.train, dir.path());
    let gpt2 = Tokenizer::gpt2(dir.path()).unwrap();

    let text = corpus.train.concat();
    let letters: String = text.chars().filter(char::is_ascii_alphabetic).collect();
    let cut = |size: u64| letters[..1_000 * size as usize].to_owned();
    let one = |size: u64| "a".repeat(1_000 * size as usize);
    let encode =
        |tokenizer: &Tokenizer, text: String| time(|| drop(black_box(tokenizer.encode(&text))));
    for (name, tokenizer) in [("ours", &ours), ("GPT-2's", &gpt2)] {
        let what = |text| format!("{name}, {text}, KB");
        grow(&what("letters"), "KB", &SIZES, 3, |size| {
            encode(tokenizer, cut(size))
        });
        grow(&what("one letter"), "KB", &SIZES, 3, |size| {
            encode(tokenizer, one(size))
        });
        grow(&what("as it is"), "KB", &SIZES, 3, |size| {
            encode(
                tokenizer,
                text[..text.floor_char_boundary(1_000 * size as usize)].to_owned(),
            )
        });
    }
    grow("ours, trained on letters, KB", "KB", &SIZES, 1, |size| {
        let documents = [cut(size)];
        time(|| drop(black_box(Tokenizer::bpe(&documents, VOCAB).unwrap())))
    });
    println!("\n{} and {} ids", ours.vocab_size(), gpt2.vocab_size());
    compare(&DataSpec::Shakespeare.load().unwrap_or(corpus));
}

/// Compares our time with tiktoken's on the same text, with merges of this text.
fn compare(corpus: &Corpus) {
    let text = corpus.train.concat();
    let ours = Tokenizer::bpe(&corpus.train, VOCAB).unwrap();
    let Some(mut original) = Tiktoken::start(&ours, &text) else {
        return;
    };
    let (mut ids, mut theirs) = (0, 0);
    let mut variants = [
        Variant::new("ours", || {
            time(|| ids = black_box(ours.encode(&text)).len())
        }),
        Variant::new("tiktoken", || {
            let (time, count) = original.time();
            theirs = count;
            time
        }),
    ];
    let times = measure(&mut variants, ROUNDS);
    let megabytes = text.len() as f64 / 1e6;
    println!("\n{:<44} {:>12} {:>14}", corpus.name, "ms", "MB/s");
    for (variant, times) in variants.iter().zip(&times) {
        let seconds = times.median().as_secs_f64();
        let speed = megabytes / seconds;
        println!("{:<44} {:>12.1} {speed:>14.1}", variant.name, 1e3 * seconds);
    }
    println!(
        "{:<44} {:>12.2}",
        "ratio of the times",
        times[0].ratio(&times[1])
    );
    drop(variants);
    println!("{:<44} {ids:>12} {theirs:>14}", "ids, ours and tiktoken's");
}

/// Writes `vocab.json` and `merges.txt`, with merges of these documents after GPT-2's split.
fn gpt2_files(documents: &[String], dir: &Path) {
    type Bpe =
        TokenizerImpl<BPE, NormalizerWrapper, ByteLevel, PostProcessorWrapper, DecoderWrapper>;
    let mut tokenizer = Bpe::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    let mut trainer = BpeTrainer::builder()
        .vocab_size(VOCAB)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![AddedToken::from("<|endoftext|>", true)])
        .show_progress(false)
        .build();
    tokenizer.train(&mut trainer, documents.iter()).unwrap();
    tokenizer.get_model().save(dir, None).unwrap();
}
