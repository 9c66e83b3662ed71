//! GPT-2's letters for bytes, in vocabularies of `vocab.json` and `tokenizer.json`.

use tokenizers::Model;

/// Returns the bytes of each token of a byte-level vocabulary, in the order of the ids.
pub(super) fn bytes_of_tokens(model: &impl Model) -> Vec<Vec<u8>> {
    let size = model.get_vocab_size() as u32;
    let mut tokens = Vec::with_capacity(size as usize);
    for id in 0..size {
        let token = model.id_to_token(id).unwrap_or_default();
        tokens.push(bytes_of(&token));
    }
    tokens
}

/// Decodes a token in GPT-2's letters.
pub(super) fn bytes_of(token: &str) -> Vec<u8> {
    token.chars().map(byte_of).collect()
}

/// Decodes GPT-2's letter of a byte: printable bytes are themselves, the others are letters from U+0100 on.
///
/// Source: `bytes_to_unicode` in GPT-2's `encoder.py`.
fn byte_of(letter: char) -> u8 {
    match letter as u32 {
        code @ 0..=0xFF => code as u8,
        code @ 0x100..=0x120 => (code - 0x100) as u8, // control characters and space
        code @ 0x121..=0x142 => (code - 0x121 + 0x7F) as u8, // DEL to no-break space
        _ => 0xAD,                                    // soft hyphen, the last one
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    #[test]
    fn letter_of_every_byte_decodes_to_the_byte() {
        let mut bytes: Vec<_> = ByteLevel::alphabet().into_iter().map(byte_of).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
    }
}
