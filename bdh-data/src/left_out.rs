//! Files of a directory that are not used as text, with the reasons.

use std::fmt;

/// Number of names that are printed. The others are counted.
const SHOWN: usize = 5;

/// First bytes of formats that are often mistaken for text.
const SIGNS: [(&[u8], &str); 7] = [
    (b"\x1f\x8b", "compressed by gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd"),
    (b"\xfd7zXZ", "compressed by xz"),
    (b"BZh", "compressed by bzip2"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
];

/// Files of a directory that are not read as text, each with the reason.
///
/// `Display` writes the end of a sentence, or nothing for no files.
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
        let mut shown = Vec::new();
        for (name, why) in self.0.iter().take(SHOWN) {
            // Escaped: a name may contain control sequences of a terminal.
            shown.push(format!("{name:?} ({why})"));
        }
        write!(f, "; left out: {}", shown.join(", "))?;
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Returns why bytes are not text, or `None` if they are UTF-8 without a NUL.
pub(super) fn why_not_text(bytes: &[u8]) -> Option<String> {
    let invalid = std::str::from_utf8(bytes).err();
    // NUL is valid UTF-8, but occurs only in binary files.
    let has_nul = bytes.contains(&0);
    if invalid.is_none() && !has_nul {
        return None;
    }
    let format = SIGNS.iter().find(|(sign, _)| bytes.starts_with(sign));
    Some(match (format, invalid) {
        (Some((_, name)), _) => (*name).to_owned(),
        (None, Some(invalid)) if !has_nul => {
            let byte = invalid.valid_up_to();
            format!("not UTF-8 from byte {byte} on, perhaps Latin-1")
        }
        _ => "it has NUL bytes".to_owned(),
    })
}
