//! Names of a type's settings, read from its `Deserialize` implementation.

use serde::de::value::Error;
use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

/// Returns the names of the fields of a struct, as a configuration spells them; none for any other type.
pub(super) fn of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    let _ = T::deserialize(Names(&mut names)); // always an error: `Names` has no data
    names
}

/// Deserializer without data, which keeps the names of the fields that a struct asks for.
struct Names<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("there is no data"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "the test reads the names of the fields only")]
    struct Settings {
        every: u64,
        #[serde(rename = "min")]
        least: f64,
        #[serde(skip)]
        seen: u64,
    }

    #[test]
    fn struct_has_names_and_number_has_none() {
        assert_eq!(of::<Settings>(), ["every", "min"]);
        assert_eq!(of::<u64>(), [""; 0]);
    }
}
