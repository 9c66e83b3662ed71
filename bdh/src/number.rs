//! JSON forms of floating-point numbers, including NaN and the infinities.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

/// Number in a [state](crate::Callback::state) that may be NaN or infinite, for options, lists and maps.
///
/// `serde_json` writes these values as `null`, which loses them. This type writes the strings `"NaN"`,
/// `"Infinity"` and `"-Infinity"`, as in `metrics.jsonl`. It reads `null`, from older checkpoints, as NaN. For a plain `f64`
/// field, `#[serde(with = "bdh::number")]` does the same.
///
/// # Examples
///
/// ```
/// use bdh::number::Number;
///
/// let best = serde_json::to_value(Some(Number(f64::INFINITY)))?;
/// assert_eq!(best, "Infinity");
/// let best: Option<Number> = serde_json::from_value(best)?;
/// assert_eq!(best, Some(Number(f64::INFINITY)));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Number(#[serde(with = "self")] pub f64);

impl From<f64> for Number {
    fn from(number: f64) -> Self {
        Self(number)
    }
}

/// Converts a number to JSON: `"NaN"`, `"Infinity"` and `"-Infinity"` are strings, as in `metrics.jsonl`.
#[must_use]
pub fn to_json(number: f64) -> Value {
    if number.is_finite() {
        json!(number)
    } else if number.is_nan() {
        json!("NaN")
    } else {
        json!(if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        })
    }
}

/// Reads a number that [`to_json`] wrote; `None` for any other value.
#[must_use]
pub fn from_json(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        _ => value.as_f64(),
    }
}

/// Serializes a number in the form of [`to_json`].
///
/// # Errors
///
/// The errors of the serializer.
pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    to_json(*value).serialize(serializer)
}

/// Deserializes a number that [`serialize`] wrote; reads `null` as NaN.
///
/// # Errors
///
/// Fails for all other values.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = Value::deserialize(deserializer)?;
    if value.is_null() {
        return Ok(f64::NAN);
    }
    from_json(&value).ok_or_else(|| {
        let expected = "a number, \"NaN\", \"Infinity\" or \"-Infinity\"";
        D::Error::custom(format!("found {value}, expected {expected}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_number_survives_json(bits: u64) {
            for number in [f64::from_bits(bits), f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0] {
                let text = serde_json::to_string(&[Number(number)]).expect("JSON");
                let [Number(back)] = serde_json::from_str(&text).expect("a number");
                prop_assert!(back.to_bits() == number.to_bits() || back.is_nan() && number.is_nan());
            }
        }
    }

    #[test]
    fn null_is_nan_for_a_number_and_none_for_an_option() {
        assert!(
            serde_json::from_str::<Number>("null")
                .expect("a number")
                .0
                .is_nan()
        );
        assert_eq!(
            serde_json::from_str::<Option<Number>>("null").expect("none"),
            None
        );
        let error = serde_json::from_str::<Number>("\"inf\"")
            .expect_err("a word")
            .to_string();
        assert!(
            error.contains("found \"inf\", expected a number"),
            "{error}"
        );
    }

    #[test]
    fn non_finite_numbers_become_strings() {
        let texts =
            [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.1].map(|loss| to_json(loss).to_string());
        assert_eq!(texts, ["\"NaN\"", "\"Infinity\"", "\"-Infinity\"", "0.1"]);
    }
}
