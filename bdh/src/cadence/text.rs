//! Text form of a cadence, such as `every 500 steps | last`, and its serde implementations.

use super::Cadence;
use crate::clock::{RunLength, Span};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt::{self, Display, Formatter};
use std::mem;
use std::time::Duration;

/// Units of time with their length in nanoseconds, the longest first.
pub(super) const TIME_UNITS: [(&str, u128); 6] = [
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl Display for Cadence {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Start => f.write_str("start"),
            Self::First => f.write_str("first"),
            Self::Last => f.write_str("last"),
            Self::Every(Span::Steps(1)) => f.write_str("every step"),
            Self::Every(span) => write!(f, "every {span}"),
            Self::At(spans) => write!(f, "at {}", List(spans, ",")),
            Self::LogSpaced { per_decade } => write!(f, "log-spaced {per_decade} per decade"),
            Self::Between(from, until) => {
                write!(f, "between {}", List(&[*from, *until], " and "))
            }
            Self::Or(a, b) => write!(f, "{} | {}", Operand(a, 0), Operand(b, 1)),
            Self::And(a, b) => write!(f, "{} & {}", Operand(a, 1), Operand(b, 2)),
        }
    }
}

/// One side of `|` or `&` with the least tightness that needs no parentheses.
///
/// Operators group to the left, so a right side must bind tighter than a left one.
struct Operand<'a>(&'a Cadence, u8);

impl Display for Operand<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(cadence, least) = self;
        let tightness = match cadence {
            Cadence::Or(..) => 0,
            Cadence::And(..) => 1,
            _ => 2,
        };
        if tightness < *least {
            write!(f, "({cadence})")
        } else {
            write!(f, "{cadence}")
        }
    }
}

/// List of spans that prints a unit once if the next span has the same: `250,500 steps`.
struct List<'a>(&'a [Span], &'static str);

impl Display for List<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(spans, separator) = *self;
        if let [span] = spans {
            return write!(f, "{span}"); // singular for `1 step`; a list has `1,2 steps`
        }
        for (i, span) in spans.iter().enumerate() {
            if i > 0 {
                f.write_str(separator)?;
            }
            write_item(f, span, spans.get(i + 1))?;
        }
        Ok(())
    }
}

/// Writes a span of a list, without its unit if the next span has the same.
fn write_item(f: &mut Formatter<'_>, span: &Span, next: Option<&Span>) -> fmt::Result {
    let Some(n) = span.count() else {
        return write!(f, "{span}");
    };
    if next.map(mem::discriminant) == Some(mem::discriminant(span)) {
        write!(f, "{n}")
    } else {
        write!(f, "{n} {}s", span.unit())
    }
}

impl Display for Span {
    /// Writes `500 steps`, `3 epochs`, `1 token`, `10%` or `90min`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(n) | Self::Epochs(n) | Self::Tokens(n) | Self::Samples(n) => {
                let plural = if *n == 1 { "" } else { "s" };
                write!(f, "{n} {}{plural}", self.unit())
            }
            Self::Time(time) => write_time(f, *time, ""),
            Self::Fraction(part) => write!(f, "{}{}", percent(*part), self.unit()),
        }
    }
}

impl Display for RunLength {
    /// Writes `2000 steps` or `5 min`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(n) => Span::Steps(*n).fmt(f),
            Self::Time(time) => write_time(f, *time, " "),
        }
    }
}

impl Span {
    /// Returns the number of a span that is counted in whole units.
    pub(super) fn count(&self) -> Option<u64> {
        match self {
            Self::Steps(n) | Self::Epochs(n) | Self::Tokens(n) | Self::Samples(n) => Some(*n),
            Self::Time(_) | Self::Fraction(_) => None,
        }
    }

    /// Returns the unit in the singular; for time, which has several, the second.
    fn unit(&self) -> &'static str {
        match self {
            Self::Steps(_) => "step",
            Self::Epochs(_) => "epoch",
            Self::Tokens(_) => "token",
            Self::Samples(_) => "sample",
            Self::Time(_) => "s",
            Self::Fraction(_) => "%",
        }
    }
}

/// Formats a fraction as a percentage by moving the decimal point of its shortest text two places.
///
/// Multiplying would round: `0.07 * 100.0` is 7.000000000000001, which does not parse back to 0.07.
fn percent(part: f64) -> String {
    if !part.is_finite() || part < 0.0 {
        return (part * 100.0).to_string(); // for an error message only
    }
    let text = part.to_string();
    let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
    let padded = format!("{decimals:0<2}");
    let (hundredths, rest) = padded.split_at(2);
    let digits = format!("{whole}{hundredths}");
    let percents = match digits.trim_start_matches('0') {
        "" => "0",
        percents => percents,
    };
    if rest.is_empty() {
        return percents.to_owned();
    }
    format!("{percents}.{rest}")
}

/// Writes a time as a whole number of the longest unit that divides it: `90min`, `1500ms`. The gap is between the number
/// and its unit.
fn write_time(f: &mut Formatter<'_>, time: Duration, gap: &str) -> fmt::Result {
    let nanos = time.as_nanos();
    for (unit, size) in TIME_UNITS {
        if nanos >= size && nanos.is_multiple_of(size) {
            return write!(f, "{}{gap}{unit}", nanos / size);
        }
    }
    write!(f, "0{gap}s")
}

impl Serialize for Cadence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cadence {
    /// Reads the text form, or an integer `n` as `every n steps`.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CadenceVisitor)
    }
}

struct CadenceVisitor;

impl de::Visitor<'_> for CadenceVisitor {
    type Value = Cadence;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("a number of steps, or a cadence such as `every 100 steps | last`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Cadence, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, steps: u64) -> Result<Cadence, E> {
        let cadence = Cadence::from(steps);
        cadence.check_values().map_err(E::custom)?;
        Ok(cadence)
    }

    fn visit_i64<E: de::Error>(self, steps: i64) -> Result<Cadence, E> {
        // TOML has signed integers only.
        let steps = u64::try_from(steps)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(steps), &self))?;
        self.visit_u64(steps)
    }
}

#[cfg(test)]
mod tests {
    use crate::cadence::{Cadence, at, between, every, first, last, never, start};
    use crate::clock::{epochs, fraction, minutes, samples, secs, steps, tokens};

    #[test]
    fn text_has_its_shortest_form_and_parses_back() {
        for (cadence, text) in [
            (Cadence::EVERY_STEP, "every step"),
            (every(tokens(1_000_000)), "every 1000000 tokens"),
            (every(samples(1)), "every 1 sample"),
            (every(epochs(1)), "every 1 epoch"),
            (every(epochs(2)), "every 2 epochs"),
            (at([epochs(1), epochs(3)]), "at 1,3 epochs"),
            (between(epochs(1), epochs(3)), "between 1 and 3 epochs"),
            (every(secs(30.0)), "every 30s"),
            (every(minutes(120.0)), "every 2h"),
            (every(minutes(90.0)), "every 90min"),
            (every(secs(1.5)), "every 1500ms"),
            (every(fraction(0.07)), "every 7%"),
            (every(fraction(0.125)), "every 12.5%"),
            (every(fraction(0.000_1)), "every 0.01%"),
            (at([250, 500, 1_000]), "at 250,500,1000 steps"),
            (at([1]), "at 1 step"),
            (at([fraction(0.1), fraction(1.0)]), "at 10%,100%"),
            (
                at([steps(1), steps(2), tokens(9), fraction(0.5)]),
                "at 1,2 steps,9 tokens,50%",
            ),
            (between(100, 500), "between 100 and 500 steps"),
            (between(100, fraction(0.5)), "between 100 steps and 50%"),
            (start() | first() | last(), "start | first | last"),
            (start() | (first() | last()), "start | (first | last)"),
            ((start() | first()) & last(), "(start | first) & last"),
            (start() | first() & last(), "start | first & last"),
            (never() & (first() & last()), "never & (first & last)"),
        ] {
            assert_eq!(cadence.to_string(), text);
            assert_eq!(text.parse(), Ok(cadence));
        }
    }

    #[test]
    fn serde_reads_text_or_a_number_of_steps() {
        let read = |json: &str| serde_json::from_str::<Cadence>(json).map_err(|e| e.to_string());
        assert_eq!(
            read(r#""every 10% | last""#),
            Ok(every(fraction(0.1)) | last())
        );
        assert_eq!(read("100"), Ok(every(100)));
        assert!(read("0").is_err_and(|error| error.contains("`every 0 steps`")));
        assert!(read("true").is_err_and(|error| error.contains("a number of steps, or a cadence")));
        assert!(read("-5").is_err_and(|error| error.contains("integer `-5`")));

        let table: toml::Table = toml::from_str("every = 250").expect("plain TOML");
        assert_eq!(table["every"].clone().try_into(), Ok(every(250)));
    }
}
