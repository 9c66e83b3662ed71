//! Values formatted by Python's `str`, as W&B's agent writes them on a command line.

use serde_json::{Number, Value};

/// Formats a value as `str(value)` does: strings without quotes, `True`, `None`, `1e-05`.
pub(crate) fn str(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => repr(value),
    }
}

/// Formats a value as `repr(value)` does: strings in quotes.
fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number_repr(number),
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(repr).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(entries) => {
            let mut pairs = Vec::with_capacity(entries.len());
            for (key, value) in entries {
                pairs.push(format!("{}: {}", quoted(key), repr(value)));
            }
            format!("{{{}}}", pairs.join(", "))
        }
    }
}

/// Formats a number: a float has the fewest digits that read back as the same, with an exponent below 1e-4 and from
/// 1e16.
fn number_repr(number: &Number) -> String {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else {
        return number.to_string();
    };
    let text = format!("{float:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    match exponent.parse::<i32>() {
        Ok(-4..16) if float.fract() == 0.0 => format!("{float:.1}"),
        Ok(-4..16) | Err(_) => float.to_string(),
        Ok(exponent) => with_exponent(digits, exponent),
    }
}

fn with_exponent(digits: &str, exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

fn quote_for(text: &str) -> char {
    if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    }
}

/// Puts a text in single quotes, or in double ones if it has single quotes only.
fn quoted(text: &str) -> String {
    let quote = quote_for(text);
    let mut quoted = String::from(quote);
    for char in text.chars() {
        match char {
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            char if char == quote => quoted.extend(['\\', quote]),
            char if char.is_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(char))),
            char => quoted.push(char),
        }
    }
    quoted.push(quote);
    quoted
}
