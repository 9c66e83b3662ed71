//! Settings that are checked while the reader still knows their key and their line.

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// Reads a mapping as `W` and makes a `T` of it.
///
/// Serde's own `try_from` does so after the mapping was left, where an error would be told of what is around it.
pub(crate) fn checked<'de, W, T, D>(from: D, expects: &'static str) -> Result<T, D::Error>
where
    W: Deserialize<'de>,
    T: TryFrom<W, Error = String>,
    D: Deserializer<'de>,
{
    from.deserialize_map(Checked {
        expects,
        types: PhantomData::<(W, T)>,
    })
}

struct Checked<W, T> {
    expects: &'static str,
    types: PhantomData<(W, T)>,
}

impl<'de, W, T> Visitor<'de> for Checked<W, T>
where
    W: Deserialize<'de>,
    T: TryFrom<W, Error = String>,
{
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expects)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        let words = W::deserialize(MapAccessDeserializer::new(map))?;
        T::try_from(words).map_err(A::Error::custom)
    }
}
