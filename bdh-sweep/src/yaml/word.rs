//! Unquoted words as PyYAML reads them, by YAML 1.1.

use serde_json::{Number, Value};

/// Returns why a word is rejected; `None` if it means the same to W&B and here, and a trial can have it as a value.
pub(super) fn why_not(word: &str) -> Option<String> {
    let theirs = Meaning::of(word)?;
    match theirs {
        Meaning::Merge => Some("`<<` merges keys in W&B only: write them out".to_owned()),
        Meaning::Broken(what) => Some(format!(
            "`{word}` is {what}: write \"{word}\" in quotes if it is a text"
        )),
        Meaning::Float(float) if !float.is_finite() => Some(format!(
            "`{word}` is not a finite number, so no trial can have it"
        )),
        _ => difference(word, theirs),
    }
}

/// Returns how a word differs between W&B and here; `None` if it does not.
fn difference(word: &str, theirs: Meaning) -> Option<String> {
    let ours: Value = serde_norway::from_str(word).unwrap_or_else(|_| word.into());
    if theirs.is(&ours) {
        return None;
    }
    let what = match theirs {
        Meaning::Text => "a text".to_owned(),
        _ => theirs.spelled(),
    };
    let here = match &ours {
        Value::String(text) => format!("the text \"{text}\""),
        value => spelled(value),
    };
    let value = match theirs {
        Meaning::Text => spelled(&ours),
        _ => theirs.spelled(),
    };
    Some(format!(
        "`{word}` is {what} to W&B, which reads YAML 1.1, and {here} here: write {value}, or \"{word}\" in quotes for the text"
    ))
}

/// Formats a value so that it means the same in both versions of YAML.
fn spelled(value: &Value) -> String {
    match value.as_f64() {
        Some(number) if value.is_f64() => float(number),
        _ => value.to_string(),
    }
}

/// Formats a number as YAML 1.1 requires: with a dot, and with a sign in its exponent.
fn float(x: f64) -> String {
    let text = format!("{x:?}");
    let Some((digits, exponent)) = text.split_once('e') else {
        return text;
    };
    let dot = if digits.contains('.') { "" } else { ".0" };
    let sign = if exponent.starts_with('-') { "" } else { "+" };
    format!("{digits}{dot}e{sign}{exponent}")
}

/// Meaning of a word in YAML 1.1.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Meaning {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text,
    /// The merge key `<<`.
    Merge,
    /// A value without a form in JSON, in which W&B stores a sweep.
    Broken(&'static str),
}

impl Meaning {
    /// Returns the meaning of a word; `None` if it is a text in all versions of YAML.
    fn of(word: &str) -> Option<Self> {
        let first = word.bytes().next()?;
        Some(match word {
            "~" | "null" | "Null" | "NULL" => Self::Null,
            "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
                Self::Bool(true)
            }
            "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
                Self::Bool(false)
            }
            ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Self::Float(f64::INFINITY),
            "-.inf" | "-.Inf" | "-.INF" => Self::Float(f64::NEG_INFINITY),
            ".nan" | ".NaN" | ".NAN" => Self::Float(f64::NAN),
            "<<" => Self::Merge,
            "=" => Self::Broken("not readable by W&B"),
            _ if first.is_ascii_digit() || b"+-.".contains(&first) => Self::of_number(word),
            _ => return None,
        })
    }

    fn of_number(word: &str) -> Self {
        if is_date(word) {
            return Self::Broken("a date to W&B");
        }
        let digits = word.strip_prefix(['-', '+']).unwrap_or(word);
        let is_negative = word.starts_with('-');
        if let Some(whole) = Whole::of(digits) {
            return Self::of_whole(&whole, is_negative);
        }
        // PyYAML takes `.5` for a number, and `-.5` for a text.
        let is_signed = digits.len() < word.len();
        if is_signed && digits.starts_with('.') {
            return Self::Text;
        }
        match fraction(digits) {
            Some(value) if is_negative => Self::Float(-value),
            Some(value) => Self::Float(value),
            None => Self::Text,
        }
    }

    fn of_whole(whole: &Whole, is_negative: bool) -> Self {
        match whole.value() {
            Some(value) if is_negative => Self::Int(-value),
            Some(value) => Self::Int(value),
            None => Self::Broken("a whole number of more than 127 bits"),
        }
    }

    /// Whether the reader here reads the same value.
    fn is(self, ours: &Value) -> bool {
        match (self, ours) {
            (Self::Null, Value::Null) | (Self::Text, Value::String(_)) => true,
            (Self::Bool(theirs), Value::Bool(ours)) => theirs == *ours,
            (Self::Int(theirs), Value::Number(ours)) => integer(ours) == Some(theirs),
            (Self::Float(theirs), Value::Number(ours)) => {
                ours.is_f64() && ours.as_f64() == Some(theirs)
            }
            _ => false,
        }
    }

    fn spelled(self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) => float(value),
            Self::Null | Self::Text | Self::Merge | Self::Broken(_) => "null".to_owned(),
        }
    }
}

/// Returns a number that JSON stores as an integer.
fn integer(number: &Number) -> Option<i128> {
    match number.as_i64() {
        Some(integer) => Some(integer.into()),
        None => Some(number.as_u64()?.into()),
    }
}

/// A whole number without its sign; `190:20:30` has digits to the base 60.
struct Whole {
    radix: u32,
    digits: String,
}

impl Whole {
    /// Parses a word; `None` if it is not a whole number in YAML 1.1.
    fn of(word: &str) -> Option<Self> {
        if let Some(digits) = word.strip_prefix("0b") {
            return Self::with_radix(2, digits);
        }
        if let Some(digits) = word.strip_prefix("0x") {
            return Self::with_radix(16, digits);
        }
        if let Some(digits) = word.strip_prefix('0') {
            if digits.is_empty() {
                return Self::with_radix(8, "0");
            }
            // The zero counts, so that `0_` is 0.
            Self::with_radix(8, digits)?;
            return Self::with_radix(8, word);
        }
        Self::decimal(word)
    }

    /// Parses a number to the base 10 or 60.
    fn decimal(word: &str) -> Option<Self> {
        let (first, rest) = word.split_once(':').unwrap_or((word, "0"));
        if !first.starts_with(|c: char| c.is_ascii_digit())
            || !has_digits(first, 10)
            || !rest.split(':').all(is_sixtieth)
        {
            return None;
        }
        Some(Self {
            radix: 10,
            digits: word.replace('_', ""),
        })
    }

    fn with_radix(radix: u32, digits: &str) -> Option<Self> {
        has_digits(digits, radix).then(|| Self {
            radix,
            digits: digits.replace('_', ""),
        })
    }

    /// Returns the value; `None` if it does not fit into 127 bits.
    fn value(&self) -> Option<i128> {
        let mut value: i128 = 0;
        for part in self.digits.split(':') {
            let part = i128::from_str_radix(part, self.radix).ok()?;
            value = value.checked_mul(60)?.checked_add(part)?;
        }
        Some(value)
    }
}

/// Whether a text has digits or underscores, and nothing else.
fn has_digits(text: &str, radix: u32) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_digit(radix) || c == '_')
}

/// Whether a text is a digit to the base 60.
fn is_sixtieth(digits: &str) -> bool {
    match digits.as_bytes() {
        [ones] => ones.is_ascii_digit(),
        [tens, ones] => (b'0'..=b'5').contains(tens) && ones.is_ascii_digit(),
        _ => false,
    }
}

/// Parses a number with a dot and without its sign.
fn fraction(word: &str) -> Option<f64> {
    let (before, after) = word.split_once('.')?;
    if before.contains(':') {
        return sixtieths(before, after);
    }
    let (digits, exponent) = split_exponent(after);
    let first = if before.is_empty() { digits } else { before };
    if !first.starts_with(|c: char| c.is_ascii_digit())
        || !is_digits(before)
        || !is_digits(digits)
        || !exponent.is_none_or(is_exponent)
    {
        return None;
    }
    word.replace('_', "").parse().ok()
}

/// Splits the digits after a dot from the exponent.
fn split_exponent(text: &str) -> (&str, Option<&str>) {
    match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, Some(exponent)),
        None => (text, None),
    }
}

/// Whether a text has only digits and underscores; may be empty.
fn is_digits(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'_')
}

/// Whether a text is an exponent of YAML 1.1: a sign, and digits.
fn is_exponent(text: &str) -> bool {
    let Some(digits) = text.strip_prefix(['-', '+']) else {
        return false;
    };
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Parses `190:20:30.15`, to the base 60.
fn sixtieths(before: &str, after: &str) -> Option<f64> {
    let (first, rest) = before.split_once(':')?;
    if !first.starts_with(|c: char| c.is_ascii_digit())
        || !is_digits(first)
        || !rest.split(':').all(is_sixtieth)
        || !is_digits(after)
    {
        return None;
    }
    let text = format!("{before}.{after}").replace('_', "");
    let mut value = 0.0;
    for part in text.split(':') {
        value = value * 60.0 + part.parse::<f64>().ok()?;
    }
    Some(value)
}

/// Whether a word is a date, or a date with a time, such as `2026-11-30`.
fn is_date(word: &str) -> bool {
    let mut parts = word.splitn(3, '-');
    let (Some(year), Some(month), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (day, time) = rest.split_at(end);
    if year.len() != 4 || ![year, month, day].into_iter().all(has_only_digits) {
        return false;
    }
    if time.is_empty() {
        return month.len() == 2 && day.len() == 2;
    }
    month.len() <= 2 && day.len() <= 2 && is_time(time)
}

/// Whether a text after a date looks like a time.
fn is_time(text: &str) -> bool {
    text.contains(':')
        && text
            .bytes()
            .all(|byte| b"0123456789:.+- \tTtZz".contains(&byte))
}

fn has_only_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Meanings of words in PyYAML 6.0; `None` for a text.
    const WORDS: [(&str, Option<Meaning>); 62] = [
        ("yes", Some(Meaning::Bool(true))),
        ("Off", Some(Meaning::Bool(false))),
        ("ON", Some(Meaning::Bool(true))),
        ("oN", None),
        ("y", None),
        ("n", None),
        ("~", Some(Meaning::Null)),
        ("NULL", Some(Meaning::Null)),
        ("nULL", None),
        ("0", Some(Meaning::Int(0))),
        ("-0", Some(Meaning::Int(0))),
        ("+7", Some(Meaning::Int(7))),
        ("010", Some(Meaning::Int(8))),
        ("-010", Some(Meaning::Int(-8))),
        ("00", Some(Meaning::Int(0))),
        ("0_7", Some(Meaning::Int(7))),
        ("08", None),
        ("0o10", None),
        ("0x_fF", Some(Meaning::Int(255))),
        ("-0x10", Some(Meaning::Int(-16))),
        ("0xg", None),
        ("0X10", None),
        ("0b1_1", Some(Meaning::Int(3))),
        ("0b2", None),
        ("524_288", Some(Meaning::Int(524_288))),
        ("1_", Some(Meaning::Int(1))),
        ("_1", None),
        ("12:30", Some(Meaning::Int(750))),
        ("-190:20:30", Some(Meaning::Int(-685_230))),
        ("12:60", None),
        ("12:5", Some(Meaning::Int(725))),
        ("0:30", None),
        ("1:2:", None),
        (
            "9223372036854775808",
            Some(Meaning::Int(9_223_372_036_854_775_808)),
        ),
        ("1.", Some(Meaning::Float(1.0))),
        ("0.5", Some(Meaning::Float(0.5))),
        (".5", Some(Meaning::Float(0.5))),
        ("-.5", None),
        ("+.5", None),
        ("-0.5", Some(Meaning::Float(-0.5))),
        ("._5", None),
        ("1_0.5_0", Some(Meaning::Float(10.5))),
        ("1e-3", None),
        ("1E5", None),
        ("1.0e-3", Some(Meaning::Float(0.001))),
        ("1.e+3", Some(Meaning::Float(1000.0))),
        ("1.0e3", None),
        ("1.0E+3", Some(Meaning::Float(1000.0))),
        (".1e+2", Some(Meaning::Float(10.0))),
        ("1.0e+", None),
        ("190:20:30.5", Some(Meaning::Float(685_230.5))),
        ("0:30.5", Some(Meaning::Float(30.5))),
        ("1.2.3", None),
        ("1.5x", None),
        (".", None),
        ("-", None),
        ("+", None),
        ("inf", None),
        ("nan", None),
        ("-.INF", Some(Meaning::Float(f64::NEG_INFINITY))),
        ("2026-11-30x", None),
        ("1-2-3", None),
    ];

    #[test]
    fn words_mean_the_same_as_in_pyyaml() {
        for (word, expected) in WORDS {
            let meaning = Meaning::of(word).filter(|meaning| *meaning != Meaning::Text);
            assert_eq!(meaning, expected, "{word}");
        }
        for date in [
            "2026-11-30",
            "2026-1-3T4:05:06",
            "2026-11-30 12:00:00.5 +1:00",
        ] {
            assert!(
                matches!(Meaning::of(date), Some(Meaning::Broken(_))),
                "{date}"
            );
        }
    }

    #[test]
    fn unambiguous_words_are_accepted() {
        for word in [
            "true", "False", "null", "~", "8", "-3", "0x10", "0.001", "1.0e-7", ".5", "-1.5",
            "adam", "08", "1.2.3", "-x", "y",
        ] {
            assert_eq!(why_not(word), None, "{word}");
        }
    }

    #[test]
    fn ambiguous_words_are_rejected_with_a_correction() {
        for (word, parts) in [
            (
                "off",
                &[
                    "is false to W&B",
                    "the text \"off\" here",
                    "write false, or \"off\" in quotes",
                ][..],
            ),
            ("010", &["is 8 to W&B", "write 8"]),
            ("524_288", &["is 524288 to W&B", "write 524288"]),
            (
                "1e-3",
                &["is a text to W&B", "and 0.001 here", "write 0.001"],
            ),
            ("1e-7", &["write 1.0e-7"]),
            ("2.5e20", &["write 2.5e+20"]),
            ("0o17", &["is a text to W&B", "write 15"]),
            ("12:30", &["is 750 to W&B"]),
            (".inf", &["not a finite number"]),
            ("1.0e+999", &["not a finite number"]),
            (".nan", &["not a finite number"]),
            ("<<", &["merges keys"]),
            ("2026-11-30", &["a date to W&B", "in quotes"]),
            (
                "999999999999999999999999999999999999999999",
                &["whole number"],
            ),
            ("99999999999999999999", &["W&B"]),
        ] {
            let why = why_not(word).unwrap_or_else(|| panic!("{word} is accepted"));
            for part in parts {
                assert!(
                    why.contains(part),
                    "`{part}` is missing for {word} in: {why}"
                );
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn words_never_panic(word in "[-+.0-9:_eExob~é<=T]{0,14}") {
            why_not(&word);
        }
    }
}
