//! Byte-pair encoding by ranks, with the ids of tiktoken.

use super::merge;
use fancy_regex::{Regex, RegexBuilder};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

/// Byte-pair encoding with a pattern that splits text, and one token for each id.
///
/// A piece of text that is a token gets its id. In other pieces the adjacent pair of the lowest rank is merged until no pair
/// is a token. Special tokens in a text are plain text, as in tiktoken's `encode_ordinary`.
#[derive(Debug, Clone)]
pub struct Bpe {
    pattern: Regex,
    /// Most characters of a piece; longer ones are cut.
    longest: Option<usize>,
    /// Id of each token, which is also its rank.
    ids: HashMap<Vec<u8>, u32, BuildHasherDefault<Fast>>,
    /// Bytes of each id; empty for special tokens.
    tokens: Vec<Vec<u8>>,
    special: BTreeMap<String, i32>,
    bos: i32,
}

/// Content of a tokenizer, from which it is made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parts {
    pub(super) pattern: String,
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
        let pattern = RegexBuilder::new(&parts.pattern)
            .backtrack_limit(usize::MAX) // a text must never be refused for its length
            .build()
            .map_err(|error| format!("its pattern is no regular expression ({error})"))?;
        let mut ids = HashMap::with_capacity_and_hasher(parts.tokens.len(), BuildHasherDefault::default());
        for (id, token) in parts.tokens.iter().enumerate() {
            if !token.is_empty() && ids.insert(token.clone(), id as u32).is_some() {
                return Err(format!("it has the token {:?} twice", String::from_utf8_lossy(token)));
            }
        }
        if let Some(byte) = (0..=u8::MAX).find(|byte| !ids.contains_key(&[*byte][..])) {
            return Err(format!("it has no token for the byte {byte:#04x}"));
        }
        for (name, id) in &parts.special {
            let token = usize::try_from(*id).ok().and_then(|id| parts.tokens.get(id));
            if token.is_none_or(|token| !token.is_empty()) {
                return Err(format!("the id {id} of its special token {name:?} is not free"));
            }
        }
        Ok(Self {
            bos: bos_of(&parts.special)?,
            pattern,
            longest: parts.longest,
            ids,
            tokens: parts.tokens,
            special: parts.special,
        })
    }

    pub(super) fn encode(&self, text: &str) -> Vec<i32> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        let mut end = 0;
        for piece in self.pattern.find_iter(text) {
            let Ok(piece) = piece else { break };
            self.encode_piece(&text[end..piece.start()], &mut ids); // nothing, if the pattern matches every text
            self.encode_piece(piece.as_str(), &mut ids);
            end = piece.end();
        }
        self.encode_piece(&text[end..], &mut ids);
        ids
    }

    /// Encodes documents on all cores.
    pub(super) fn encode_all(&self, documents: &[String]) -> Vec<Vec<i32>> {
        documents.par_iter().map(|text| self.encode(text)).collect()
    }

    fn encode_piece(&self, mut piece: &str, ids: &mut Vec<i32>) {
        if let Some(longest) = self.longest {
            while piece.len() > longest {
                let Some((cut, _)) = piece.char_indices().nth(longest) else {
                    break;
                };
                self.encode_bytes(&piece.as_bytes()[..cut], ids);
                piece = &piece[cut..];
            }
        }
        self.encode_bytes(piece.as_bytes(), ids);
    }

    fn encode_bytes(&self, piece: &[u8], ids: &mut Vec<i32>) {
        if let Some(id) = self.rank(piece) {
            ids.push(id as i32);
            return;
        }
        let mut start = 0;
        for end in merge::ends(piece, |bytes| self.rank(bytes)) {
            let id = self.rank(&piece[start..end]);
            ids.push(id.expect("each byte is a token, and each merge makes one") as i32);
            start = end;
        }
    }

    fn rank(&self, bytes: &[u8]) -> Option<u32> {
        self.ids.get(bytes).copied()
    }

    /// Returns the bytes of an id, none for an unknown one.
    pub(super) fn token(&self, id: i32) -> &[u8] {
        match usize::try_from(id) {
            Ok(id) if id < self.tokens.len() => &self.tokens[id],
            _ => &[],
        }
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

    /// Returns the content, to save it.
    pub(super) fn parts(&self) -> Parts {
        Parts {
            pattern: self.pattern.as_str().to_owned(),
            longest: self.longest,
            tokens: self.tokens.clone(),
            special: self.special.clone(),
        }
    }
}

/// Returns the id of the special token that starts a document.
pub(super) fn bos_of(special: &BTreeMap<String, i32>) -> Result<i32, String> {
    let found = BOS_NAMES.iter().find_map(|name| special.get(*name));
    found.copied().ok_or_else(|| {
        let names: Vec<_> = special.keys().take(20).map(String::as_str).collect();
        format!(
            "none of its special tokens starts a document: it needs one of {}, and has {}",
            BOS_NAMES.join(", "),
            names.join(", ")
        )
    })
}

/// Hash of short byte strings. The standard one resists attacks, and takes most of the time of encoding.
#[derive(Debug, Default, Clone, Copy)]
struct Fast(u64);

impl Hasher for Fast {
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.add(u64::from_le_bytes(chunk.try_into().expect("eight bytes")));
        }
        let rest = chunks.remainder().iter().rev();
        self.add(rest.fold(0, |word, byte| word << 8 | u64::from(*byte)));
    }

    fn write_usize(&mut self, length: usize) {
        self.add(length as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32) // the table uses the low bits, and a product mixes the high ones
    }
}

impl Fast {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517C_C1B7_2722_0A95); // FxHash, from Firefox
    }
}
