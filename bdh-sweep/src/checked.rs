//! Validation while the reader still knows the key and the line.

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use std::fmt::{self, Display};
use std::marker::PhantomData;

/// Reads a mapping as `R` and converts it to a `T`.
///
/// Serde's own `try_from` converts after the reader has left the mapping, so its errors point to the enclosing key.
pub(crate) fn checked<'de, R, T, D>(from: D, expects: &'static str) -> Result<T, D::Error>
where
    R: Deserialize<'de>,
    T: TryFrom<R, Error: Display>,
    D: Deserializer<'de>,
{
    from.deserialize_map(Checked {
        expects,
        types: PhantomData::<(R, T)>,
    })
}

struct Checked<R, T> {
    expects: &'static str,
    types: PhantomData<(R, T)>,
}

impl<'de, R, T> Visitor<'de> for Checked<R, T>
where
    R: Deserialize<'de>,
    T: TryFrom<R, Error: Display>,
{
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expects)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        let raw = R::deserialize(MapAccessDeserializer::new(map))?;
        T::try_from(raw).map_err(A::Error::custom)
    }
}
