//! YAML that means the same to W&B and here, or is refused with its line.
//!
//! `wandb sweep` reads with PyYAML, which is YAML 1.1: there `off` is false, `010` is 8 and `1e-3` a text. The reader here
//! is YAML 1.2. A search that silently differs is worse than a file that is refused.

mod scan;
mod word;

use crate::error::SweepError;
use scan::Scan;
use serde::de::{
    Deserialize, DeserializeOwned, Deserializer, Error, IgnoredAny, MapAccess, Visitor,
};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// Collections within collections: libyaml's time grows with the square of that, and no search has so many.
const MAX_DEPTH: usize = 100;

/// Reads a file.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, SweepError> {
    let text = without_mark(text);
    let scan = Scan::of(text);
    if let Some(line) = scan.first_deeper_than(MAX_DEPTH) {
        return Err(SweepError::Invalid(format!(
            "line {line} has more than {MAX_DEPTH} lists and mappings inside one another"
        )));
    }
    // First whether it is YAML at all: of another text, the scan says nothing.
    serde_norway::from_str::<IgnoredAny>(text)?;
    for plain in scan.plain {
        if let Some(why) = word::why_not(plain.text) {
            return Err(SweepError::Invalid(format!(
                "{why}, at line {}",
                plain.line
            )));
        }
    }
    Ok(serde_norway::from_str(text)?)
}

/// The text behind the byte order mark that some editors put first.
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Reads a mapping whose keys may not come twice, where the reader would keep the last of them.
pub(crate) fn without_repeats<'de, D, V>(from: D) -> Result<BTreeMap<String, V>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    from.deserialize_map(Once(PhantomData))
}

/// [`without_repeats`] for a mapping that may be absent.
pub(crate) fn given_without_repeats<'de, D, V>(
    from: D,
) -> Result<Option<BTreeMap<String, V>>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    without_repeats(from).map(Some)
}

struct Once<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for Once<V> {
    type Value = BTreeMap<String, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("parameters by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut all = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if all.contains_key(&name) {
                return Err(A::Error::custom(format!("`{name}` stands here twice")));
            }
            let value = map.next_value()?;
            all.insert(name, value);
        }
        Ok(all)
    }
}
