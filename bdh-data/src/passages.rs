//! Documents as token ids, in passages that fit a row.

use crate::tokenizer::Tokenizer;
use std::sync::Arc;

/// Encodes documents and cuts them into passages of at most `longest` ids, including BOS.
///
/// Every passage starts with BOS, also inside a document. With `longest = seq_len + 1` each passage fits a row.
/// [`Packed`](crate::packing::Packed) uses at most one row of a document, so of an uncut file of a megabyte it would
/// use only the first row. `usize::MAX` cuts nothing, like nanochat, which has millions of documents.
///
/// The ids are in an [`Arc`] because the runs of a sweep share them.
#[must_use]
pub fn passages(tokenizer: &Tokenizer, documents: &[String], longest: usize) -> Arc<[Vec<i32>]> {
    let room = longest.saturating_sub(1).max(1); // BOS takes one
    let bos = tokenizer.bos();
    let mut passages = Vec::new();
    for ids in tokenizer.encode_all(documents) {
        for piece in ids.chunks(room) {
            let mut passage = Vec::with_capacity(piece.len() + 1);
            passage.push(bos);
            passage.extend_from_slice(piece);
            passages.push(passage);
        }
    }
    passages.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_documents_are_cut_without_losing_tokens() {
        let documents = ["abcdefg".to_owned(), String::new(), "hi".to_owned()];
        let cut = passages(&Tokenizer::Bytes, &documents, 4);
        let text: Vec<_> = cut.iter().map(|ids| Tokenizer::Bytes.decode(ids)).collect();
        assert_eq!(text, ["abc", "def", "g", "hi"]);
        assert!(
            cut.iter()
                .all(|ids| ids[0] == Tokenizer::Bytes.bos() && ids.len() <= 4)
        );
        assert_eq!(passages(&Tokenizer::Bytes, &documents, usize::MAX).len(), 2);
        assert_eq!(passages(&Tokenizer::Bytes, &documents, 0).len(), 9);
    }
}
