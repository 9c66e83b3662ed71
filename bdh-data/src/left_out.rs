//! Files that are no text, and why: whoever gives a directory should see what of it is not learned from.

use std::fmt;

/// Names that are shown; the rest is counted.
const SHOWN: usize = 5;

/// How files begin that are often taken for text.
const SIGNS: [(&[u8], &str); 7] = [
    (b"\x1f\x8b", "compressed by gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd"),
    (b"\xfd7zXZ", "compressed by xz"),
    (b"BZh", "compressed by bzip2"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
];

/// Files of a directory that are not read as text, each with its reason. Displays as the end of a sentence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut(Vec<(String, String)>);

impl LeftOut {
    pub(super) fn add(&mut self, name: String, why: impl Into<String>) {
        self.0.push((name, why.into()));
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        // Quoted as in Rust: a name may hold anything, also what a terminal would obey.
        let shown = self
            .0
            .iter()
            .take(SHOWN)
            .map(|(name, why)| format!("{name:?} ({why})"));
        let shown: Vec<_> = shown.collect();
        write!(f, "; left out: {}", shown.join(", "))?;
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Why bytes are no text, as far as they show it; `None` if they are UTF-8 without a NUL.
pub(super) fn why_no_text(bytes: &[u8]) -> Option<String> {
    let broken = std::str::from_utf8(bytes).err();
    // NUL is valid UTF-8, and the plainest sign of a binary file.
    let has_nul = bytes.contains(&0);
    if broken.is_none() && !has_nul {
        return None;
    }
    let sign = SIGNS.iter().find(|(sign, _)| bytes.starts_with(sign));
    Some(match (sign, broken) {
        (Some((_, what)), _) => (*what).to_owned(),
        (None, Some(broken)) if !has_nul => {
            format!(
                "not UTF-8 from byte {} on, perhaps Latin-1",
                broken.valid_up_to()
            )
        }
        _ => "it has NUL bytes".to_owned(),
    })
}
