//! YAML that means the same to W&B and here; other YAML is rejected with its line.
//!
//! `wandb sweep` reads with PyYAML, which implements YAML 1.1: there `off` is false, `010` is 8 and `1e-3` is a string. The
//! reader here implements YAML 1.2. A search that silently differs is worse than a rejected file.

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

/// Deepest nesting of collections; libyaml's time grows with the square of the depth, and no real file is that deep.
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
    // Checks first that the text is YAML; the scan of any other text is meaningless.
    serde_norway::from_str::<IgnoredAny>(text)?;
    check_words(&scan)?;
    Ok(serde_norway::from_str(text)?)
}

/// Rejects the first word that means something else to W&B.
fn check_words(scan: &Scan<'_>) -> Result<(), SweepError> {
    for plain in &scan.plain {
        if let Some(why) = word::why_not(plain.text) {
            let line = plain.line;
            return Err(SweepError::Invalid(format!("{why}, at line {line}")));
        }
    }
    Ok(())
}

/// Removes the byte order mark that some editors write first.
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Reads a mapping and rejects repeated keys; the reader alone would silently keep the last value.
pub(crate) fn without_repeats<'de, D, V>(from: D) -> Result<BTreeMap<String, V>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    from.deserialize_map(Once(PhantomData))
}

/// Reads an optional mapping that is present and rejects repeated keys.
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
            // Checked before the value is read, while the reader is still at the line of the key.
            if all.contains_key(&name) {
                return Err(A::Error::custom(format!("`{name}` occurs here twice")));
            }
            let value = map.next_value()?;
            all.insert(name, value);
        }
        Ok(all)
    }
}
