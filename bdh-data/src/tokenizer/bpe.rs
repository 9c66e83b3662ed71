//! Byte-pair encoding by ranks, with the ids of tiktoken.

use super::merge::Merger;
use super::split::Splitter;
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

/// Largest vocabulary, so that a number in a small file cannot ask for a large table.
pub(super) const MOST_IDS: usize = 1 << 20;

/// Byte-pair encoding with a pattern that splits text, and one token for each id.
///
/// A piece of text that is a token gets its id. In other pieces the adjacent pair of the lowest rank is merged until no
/// pair is a token. Special tokens in a text are plain text, as in tiktoken's `encode_ordinary`.
#[derive(Debug, Clone)]
pub struct Bpe {
    splitter: Splitter,
    /// Most characters of a piece; longer ones are cut.
    longest: Option<usize>,
    ids: Ids,
    /// Bytes of each id; empty for special tokens.
    tokens: Vec<Vec<u8>>,
    special: BTreeMap<String, i32>,
    bos: i32,
}

/// Id of each token, which is also its rank.
type Ids = HashMap<Vec<u8>, u32, BuildHasherDefault<Fast>>;

/// Content of a tokenizer, from which it is made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parts {
    pub(super) pattern: String,
    /// Most characters of a piece; longer ones are cut.
    pub(super) longest: Option<usize>,
    /// Bytes of each id; empty for special tokens.
    pub(super) tokens: Vec<Vec<u8>>,
    pub(super) special: BTreeMap<String, i32>,
}

/// Names of the token that starts a document, in the order in which they are looked for.
pub(super) const BOS_NAMES: [&str; 6] = [
    "<|bos|>",
    "<|endoftext|>",
    "<|begin_of_text|>",
    "<s>",
    "<bos>",
    "[CLS]",
];

impl Bpe {
    /// Checks the content of a tokenizer, and makes it.
    pub(super) fn new(parts: Parts) -> Result<Self, String> {
        check_special(&parts)?;
        Ok(Self {
            bos: bos_of(&parts.special)?,
            ids: ids_of(&parts.tokens)?,
            splitter: Splitter::new(parts.pattern)?,
            longest: parts.longest,
            tokens: parts.tokens,
            special: parts.special,
        })
    }

    pub(super) fn encode(&self, text: &str) -> Vec<i32> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        let mut merger = Merger::default();
        self.splitter.split(text, |piece| {
            for part in cut(piece, self.longest) {
                self.encode_piece(part.as_bytes(), &mut merger, &mut ids);
            }
        });
        ids
    }

    /// Encodes documents on all cores.
    pub(super) fn encode_all(&self, documents: &[String]) -> Vec<Vec<i32>> {
        documents.par_iter().map(|text| self.encode(text)).collect()
    }

    fn encode_piece(&self, piece: &[u8], merger: &mut Merger, ids: &mut Vec<i32>) {
        if let Some(id) = self.rank(piece) {
            ids.push(id as i32);
            return;
        }
        let mut start = 0;
        for end in merger.ends(piece, |bytes| self.rank(bytes)) {
            let id = self.rank(&piece[start..*end]);
            ids.push(id.expect("each byte is a token, and each merge makes one") as i32);
            start = *end;
        }
    }

    fn rank(&self, bytes: &[u8]) -> Option<u32> {
        self.ids.get(bytes).copied()
    }

    pub(super) fn bos(&self) -> i32 {
        self.bos
    }

    pub(super) fn tokens(&self) -> &[Vec<u8>] {
        &self.tokens
    }

    pub(super) fn special(&self) -> &BTreeMap<String, i32> {
        &self.special
    }

    pub(super) fn pattern(&self) -> &str {
        self.splitter.pattern()
    }

    pub(super) fn longest(&self) -> Option<usize> {
        self.longest
    }
}

/// Checks that each special token has an id of its own.
fn check_special(parts: &Parts) -> Result<(), String> {
    for (name, id) in &parts.special {
        let token = usize::try_from(*id)
            .ok()
            .and_then(|id| parts.tokens.get(id));
        if token.is_none_or(|token| !token.is_empty()) {
            return Err(format!(
                "the id {id} of its special token {name:?} is not free"
            ));
        }
    }
    Ok(())
}

/// Returns the id of each token. Every byte must be one, so that every text has ids.
fn ids_of(tokens: &[Vec<u8>]) -> Result<Ids, String> {
    let mut ids = Ids::with_capacity_and_hasher(tokens.len(), BuildHasherDefault::default());
    for (id, token) in tokens.iter().enumerate() {
        if !token.is_empty() && ids.insert(token.clone(), id as u32).is_some() {
            let token = String::from_utf8_lossy(token);
            return Err(format!("it has the token {token:?} twice"));
        }
    }
    match (0..=u8::MAX).find(|byte| !ids.contains_key(&[*byte][..])) {
        Some(byte) => Err(format!("it has no token for the byte {byte:#04x}")),
        None => Ok(ids),
    }
}

/// Returns the id of the special token that starts a document.
pub(super) fn bos_of(special: &BTreeMap<String, i32>) -> Result<i32, String> {
    let found = BOS_NAMES.iter().find_map(|name| special.get(*name));
    found.copied().ok_or_else(|| {
        let mut names: Vec<_> = special.keys().take(20).map(String::as_str).collect();
        if names.is_empty() {
            names.push("none");
        }
        format!(
            "none of its special tokens ({}) starts a document: it needs one of {}",
            names.join(", "),
            BOS_NAMES.join(", ")
        )
    })
}

/// Cuts a piece after each `longest` characters.
fn cut(piece: &str, longest: Option<usize>) -> impl Iterator<Item = &str> {
    let longest = longest.unwrap_or(usize::MAX).max(1);
    let mut rest = piece;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = rest.len();
        // A character has a byte or more, so most pieces need no look at their characters.
        if end > longest {
            end = rest.char_indices().nth(longest).map_or(end, |(at, _)| at);
        }
        let (part, after) = rest.split_at(end);
        rest = after;
        Some(part)
    })
}

/// Hash of short byte strings. The standard one resists attacks, and takes most of the time of encoding.
///
/// Source of the multiplier: FxHash, from Firefox.
#[derive(Debug, Default, Clone, Copy)]
struct Fast(u64);

impl Hasher for Fast {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.add(u64::from_le_bytes(*word));
        }
        let mut word = 0;
        for byte in rest {
            word = word << 8 | u64::from(*byte);
        }
        self.add(word);
    }

    fn write_usize(&mut self, length: usize) {
        self.add(length as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32) // a product mixes the high bits, and the table uses the low ones
    }
}

impl Fast {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517C_C1B7_2722_0A95);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_between_characters() {
        let parts = |text, longest| cut(text, longest).collect::<Vec<_>>();
        assert_eq!(parts("aéüxyz!", Some(3)), ["aéü", "xyz", "!"]);
        assert_eq!(parts("éü", Some(2)), ["éü"]);
        assert_eq!(parts("abc", None), ["abc"]);
        assert!(parts("", Some(2)).is_empty());
    }

    #[test]
    fn faults_of_the_content_are_named() {
        let bytes = || (0..=u8::MAX).map(|byte| vec![byte]).collect::<Vec<_>>();
        let error = |tokens: Vec<Vec<u8>>, special: &[(&str, i32)]| {
            let special = special.iter().map(|(name, id)| ((*name).to_owned(), *id));
            let parts = Parts {
                pattern: ".".to_owned(),
                longest: None,
                special: special.collect(),
                tokens,
            };
            Bpe::new(parts).expect_err("a fault")
        };
        let with = |more: &[&[u8]]| {
            let more = more.iter().map(|token| token.to_vec());
            bytes().into_iter().chain(more).collect::<Vec<_>>()
        };
        let bos = [("<|bos|>", 256)];
        assert_eq!(
            error(with(&[b"", b"ab", b"ab"]), &bos),
            "it has the token \"ab\" twice"
        );
        assert_eq!(
            error(with(&[b"ab"]), &bos),
            "the id 256 of its special token \"<|bos|>\" is not free"
        );
        assert_eq!(
            error(with(&[b""])[1..].to_vec(), &[("<|bos|>", 255)]),
            "it has no token for the byte 0x00"
        );
        assert!(error(with(&[b""]), &[("<|x|>", 256)]).contains("(<|x|>) starts a document"));
        assert!(error(bytes(), &[]).contains("(none) starts a document"));
    }
}
