//! Which settings a type takes, asked of its `Deserialize`.

use serde::de::value::Error;
use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

/// The names of the fields of a struct, as a configuration spells them; none for anything else.
pub(super) fn of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    let _ = T::deserialize(Names(&mut names)); // it fails as soon as it has told
    names
}

/// Has no data, and listens to what is asked of it.
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
    #[expect(dead_code, reason = "only its names are looked at")]
    struct Settings {
        every: u64,
        #[serde(rename = "min")]
        least: f64,
        #[serde(skip)]
        seen: u64,
    }

    #[test]
    fn a_struct_tells_its_fields_and_a_number_has_none() {
        assert_eq!(of::<Settings>(), ["every", "min"]);
        assert_eq!(of::<u64>(), [""; 0]);
    }
}
