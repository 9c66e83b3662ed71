//! Parser of the text form of cadences and durations.
//!
//! ```text
//! any   = all { "|" all }
//! all   = term { "&" term }
//! term  = "(" any ")" | "every" span | span | "at" span { "," span } | "between" span "and" span
//!       | "log-spaced" number "per" "decade" | "start" | "first" | "last" | "never"
//! span  = number [ unit ] | singular, such as "step"
//! ```

use super::text::TIME_UNITS;
use super::{Cadence, CadenceError};
use crate::clock::Span;
use std::str::FromStr;
use std::time::Duration;

/// Largest number of `|`, `&` and `(` in one text.
///
/// Each nests the cadence one level deeper, and all functions of a cadence are recursive: without a limit,
/// a long text would overflow the stack.
const MOST_JOINTS: usize = 200;

const TERM: &str =
    "`every`, `at`, `between`, `log-spaced`, `start`, `first`, `last`, `never` or `(`";
const NUMBER: &str = "a number, as in `100 steps`, `10%` or `30s`";
const WHOLE_NUMBER: &str = "a whole number below 2^64";
const UNIT: &str = "`steps`, `epochs`, `tokens`, `samples`, `%`, `h`, `min`, `s` or `ms`";
const JOINT: &str = "`|`, `&` or the end";

impl FromStr for Cadence {
    type Err = CadenceError;

    /// Parses the text form; [`Cadence`] has a table of it.
    fn from_str(text: &str) -> Result<Self, CadenceError> {
        let mut parser = Parser::new("cadence", text);
        let cadence = parser.any()?;
        parser.end(JOINT)?;
        cadence.check_values()?;
        Ok(cadence)
    }
}

impl FromStr for Span {
    type Err = CadenceError;

    /// Parses `2000 steps`, `3 epochs`, `1000000 tokens`, `64 samples`, `5min` or `10%`; a number alone counts steps.
    ///
    /// # Errors
    ///
    /// [`CadenceError::Syntax`] for another text. Zero and more than 100% are valid: they depend on the use.
    fn from_str(text: &str) -> Result<Self, CadenceError> {
        let mut parser = Parser::new("duration", text);
        let span = parser.period()?;
        parser.end("the end")?;
        Ok(span)
    }
}

/// Recursive descent parser of one text.
struct Parser<'a> {
    /// Kind of the text, for errors.
    kind: &'static str,
    text: &'a str,
    /// Part of `text` that has not been parsed.
    rest: &'a str,
    /// Number of `|`, `&` and `(` so far.
    joints: usize,
}

/// A number, a word or a sign; empty at the end of the text.
#[derive(Clone, Copy)]
struct Token<'a> {
    word: &'a str,
    /// Position in the text, in bytes.
    offset: usize,
}

impl Token<'_> {
    fn is_number(self) -> bool {
        self.word.starts_with(|c: char| c.is_ascii_digit())
    }

    fn is_word(self) -> bool {
        self.word.starts_with(is_letter)
    }
}

/// A number with an optional unit.
type Amount<'a> = (Token<'a>, Option<Token<'a>>);

impl<'a> Parser<'a> {
    fn new(kind: &'static str, text: &'a str) -> Self {
        Self {
            kind,
            text,
            rest: text,
            joints: 0,
        }
    }

    fn any(&mut self) -> Result<Cadence, CadenceError> {
        let mut cadence = self.all()?;
        while self.accept_joint("|")? {
            cadence = cadence | self.all()?;
        }
        Ok(cadence)
    }

    fn all(&mut self) -> Result<Cadence, CadenceError> {
        let mut cadence = self.term()?;
        while self.accept_joint("&")? {
            cadence = cadence & self.term()?;
        }
        Ok(cadence)
    }

    fn term(&mut self) -> Result<Cadence, CadenceError> {
        if self.accept_joint("(")? {
            let cadence = self.any()?;
            self.expect(")", "`|`, `&` or `)`")?;
            return Ok(cadence);
        }
        if self.peek().is_number() {
            return Ok(Cadence::Every(self.period()?));
        }
        let token = self.advance();
        match token.word {
            "every" => Ok(Cadence::Every(self.period()?)),
            "at" => self.list(),
            "between" => self.window(),
            "log-spaced" => self.log_spaced(),
            "start" => Ok(Cadence::Start),
            "first" => Ok(Cadence::First),
            "last" => Ok(Cadence::Last),
            "never" => Ok(Cadence::Never),
            _ => Err(self.unexpected(token, TERM)),
        }
    }

    fn period(&mut self) -> Result<Span, CadenceError> {
        if let Some(span) = singular(self.peek().word) {
            self.advance();
            return Ok(span);
        }
        let amount = self.amount()?;
        Ok(self.spans(&[amount])?[0])
    }

    fn list(&mut self) -> Result<Cadence, CadenceError> {
        let mut amounts = vec![self.amount()?];
        while self.accept(",") {
            amounts.push(self.amount()?);
        }
        Ok(Cadence::At(self.spans(&amounts)?))
    }

    fn window(&mut self) -> Result<Cadence, CadenceError> {
        let from = self.amount()?;
        self.expect("and", "`and`, as in `between 100 and 500 steps`")?;
        let until = self.amount()?;
        let spans = self.spans(&[from, until])?;
        Ok(Cadence::Between(spans[0], spans[1]))
    }

    fn log_spaced(&mut self) -> Result<Cadence, CadenceError> {
        let number = self.advance();
        let per_decade = number.word.parse().map_err(|_| {
            self.unexpected(number, "a whole number, as in `log-spaced 4 per decade`")
        })?;
        self.expect("per", "`per decade`")?;
        self.expect("decade", "`decade`")?;
        Ok(Cadence::LogSpaced { per_decade })
    }

    fn amount(&mut self) -> Result<Amount<'a>, CadenceError> {
        let number = self.advance();
        if !number.is_number() {
            return Err(self.unexpected(number, NUMBER));
        }
        let unit = self.peek();
        if is_unit(unit.word) {
            self.advance();
            return Ok((number, Some(unit)));
        }
        if unit.is_word() && unit.word != "and" {
            return Err(self.unexpected(unit, UNIT)); // `stesp` is not the end of a term
        }
        Ok((number, None))
    }

    /// Converts amounts to spans. An amount without a unit has the unit of the next one that has one, or steps.
    fn spans(&self, amounts: &[Amount<'a>]) -> Result<Vec<Span>, CadenceError> {
        let mut unit = "steps";
        let mut spans = Vec::with_capacity(amounts.len());
        for &(number, own) in amounts.iter().rev() {
            unit = own.map_or(unit, |own| own.word);
            spans.push(self.span(number, unit)?);
        }
        spans.reverse();
        // `at 10%,20` could mean 20 steps or 20%: an error is better than a guess.
        if let [others @ .., (number, None)] = amounts
            && others.iter().any(|(_, unit)| unit.is_some())
        {
            return Err(self.unexpected(*number, "a number with its unit, as in `at 10%,20%`"));
        }
        Ok(spans)
    }

    fn span(&self, number: Token<'a>, unit: &str) -> Result<Span, CadenceError> {
        let digits = number.word.replace('_', "");
        let (span, expected) = match unit {
            "step" | "steps" => (digits.parse().map(Span::Steps).ok(), WHOLE_NUMBER),
            "epoch" | "epochs" => (digits.parse().map(Span::Epochs).ok(), WHOLE_NUMBER),
            "token" | "tokens" => (digits.parse().map(Span::Tokens).ok(), WHOLE_NUMBER),
            "sample" | "samples" => (digits.parse().map(Span::Samples).ok(), WHOLE_NUMBER),
            "%" => (percentage(&digits), NUMBER),
            _ => (time(&digits, unit).map(Span::Time), NUMBER),
        };
        span.ok_or_else(|| self.unexpected(number, expected))
    }

    fn accept_joint(&mut self, sign: &str) -> Result<bool, CadenceError> {
        let found = self.accept(sign);
        self.joints += usize::from(found);
        if self.joints > MOST_JOINTS {
            return Err(CadenceError::TooLong { limit: MOST_JOINTS });
        }
        Ok(found)
    }

    fn accept(&mut self, word: &str) -> bool {
        let found = self.peek().word == word;
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, word: &str, expected: &'static str) -> Result<(), CadenceError> {
        let token = self.advance();
        if token.word == word {
            Ok(())
        } else {
            Err(self.unexpected(token, expected))
        }
    }

    fn end(&self, expected: &'static str) -> Result<(), CadenceError> {
        let token = self.peek();
        if token.word.is_empty() {
            Ok(())
        } else {
            Err(self.unexpected(token, expected))
        }
    }

    fn advance(&mut self) -> Token<'a> {
        let token = self.peek();
        self.rest = &self.text[token.offset + token.word.len()..];
        token
    }

    fn peek(&self) -> Token<'a> {
        let rest = self.rest.trim_start();
        let end = match rest.chars().next() {
            Some(c) if c.is_ascii_digit() => rest.find(|c| !is_digit(c)),
            Some(c) if is_letter(c) => rest.find(|c| !is_letter(c)),
            Some(sign) => Some(sign.len_utf8()),
            None => Some(0),
        };
        Token {
            word: &rest[..end.unwrap_or(rest.len())],
            offset: self.text.len() - rest.len(),
        }
    }

    fn unexpected(&self, token: Token<'a>, expected: &'static str) -> CadenceError {
        let found = match token.word {
            "" => "the end".to_string(),
            word => format!("`{word}`"),
        };
        let column = self.text[..token.offset].chars().count() + 1;
        CadenceError::Syntax {
            kind: self.kind,
            text: self.text.to_string(),
            found,
            column,
            expected,
        }
    }
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit() || c == '.' || c == '_'
}

fn is_letter(c: char) -> bool {
    c.is_alphabetic() || c == '-'
}

fn is_unit(word: &str) -> bool {
    let singular = word.strip_suffix('s').unwrap_or(word);
    matches!(singular, "step" | "epoch" | "token" | "sample")
        || word == "%"
        || time_unit(word).is_some()
}

/// Returns the span of a unit without a number, as in `every step`.
fn singular(word: &str) -> Option<Span> {
    match word {
        "step" => Some(Span::Steps(1)),
        "epoch" => Some(Span::Epochs(1)),
        "token" => Some(Span::Tokens(1)),
        "sample" => Some(Span::Samples(1)),
        "second" => Some(Span::Time(Duration::from_secs(1))),
        "minute" => Some(Span::Time(Duration::from_mins(1))),
        "hour" => Some(Span::Time(Duration::from_hours(1))),
        _ => None,
    }
}

/// Converts a percentage to a fraction.
fn percentage(digits: &str) -> Option<Span> {
    // The exponent is part of the text, because dividing by 100.0 would round a second time.
    format!("{digits}e-2").parse().map(Span::Fraction).ok()
}

/// Returns the length of a unit of time, in nanoseconds.
fn time_unit(word: &str) -> Option<u128> {
    let short = match word {
        "hour" | "hours" => "h",
        "minute" | "minutes" | "m" => "min",
        "second" | "seconds" | "sec" | "secs" => "s",
        short => short,
    };
    TIME_UNITS
        .iter()
        .find(|(unit, _)| *unit == short)
        .map(|(_, size)| *size)
}

/// Converts a number of units to a duration: whole numbers exactly, `1.5h` to the nearest nanosecond.
fn time(digits: &str, unit: &str) -> Option<Duration> {
    const SECOND: u128 = 1_000_000_000;
    let size = time_unit(unit)?;
    if digits.contains('.') {
        let units: f64 = digits.parse().ok()?;
        return Duration::try_from_secs_f64(units * size as f64 / SECOND as f64).ok();
    }
    let nanos = digits.parse::<u128>().ok()?.checked_mul(size)?;
    let seconds = u64::try_from(nanos / SECOND).ok()?;
    Some(Duration::new(seconds, (nanos % SECOND) as u32))
}

#[cfg(test)]
mod tests {
    use crate::cadence::{Cadence, CadenceError, at, every, first, last, log_spaced, start};
    use crate::clock::{Span, epochs, fraction, minutes, samples, secs, steps, tokens};

    fn parse(text: &str) -> Result<Cadence, CadenceError> {
        text.parse()
    }

    #[test]
    fn short_and_long_forms_mean_the_same() {
        for (text, cadence) in [
            ("100", every(100)),
            ("every 100", every(100)),
            ("10% | last", every(fraction(0.1)) | last()),
            ("at 250, 500, 1_000", at([250, 500, 1_000])),
            ("at 10,50%", at([fraction(0.1), fraction(0.5)])),
            ("at 1 step, 2 tokens", at([steps(1), tokens(2)])),
            ("every 5 minutes", every(minutes(5.0))),
            ("every minute", every(minutes(1.0))),
            ("5m", every(minutes(5.0))),
            ("every epoch", every(epochs(1))),
            ("2 epochs | last", every(epochs(2)) | last()),
            ("at 1,3 epochs", at([epochs(1), epochs(3)])),
            ("every 1.5h", every(minutes(90.0))),
            ("  every\tstep ", Cadence::EVERY_STEP),
            ("((log-spaced 4 per decade))", log_spaced(4)),
            ("start|first&last", start() | first() & last()),
            ("(start|first)&last", (start() | first()) & last()),
            ("every 30s", every(secs(30.0))),
        ] {
            assert_eq!(parse(text), Ok(cadence), "{text}");
        }
    }

    #[test]
    fn syntax_errors_name_the_word_and_its_alternatives() {
        for (text, problem) in [
            ("", "found the end at column 1, expected `every`, `at`"),
            (
                "ever 100 steps",
                "found `ever` at column 1, expected `every`, `at`",
            ),
            (
                "every 100 stesp",
                "found `stesp` at column 11, expected `steps`, `epochs`, `tokens`",
            ),
            ("every", "found the end at column 6, expected a number"),
            (
                "every 1.5 steps",
                "found `1.5` at column 7, expected a whole number below 2^64",
            ),
            (
                "every 0.5 epochs",
                "found `0.5` at column 7, expected a whole number below 2^64",
            ),
            ("every 0 epochs", "has a period of zero"),
            (
                "every 1.2.3h",
                "found `1.2.3` at column 7, expected a number, as in",
            ),
            (
                "at 10%,20",
                "found `20` at column 8, expected a number with its unit",
            ),
            (
                "between 10% and 20",
                "found `20` at column 17, expected a number with its unit",
            ),
            (
                "every 99999999999999999999 steps",
                "column 7, expected a whole number below 2^64",
            ),
            (
                "at 250 500",
                "found `500` at column 8, expected `|`, `&` or the end",
            ),
            ("at 250,", "found the end at column 8, expected a number"),
            ("between 1", "found the end at column 10, expected `and`"),
            (
                "log-spaced 4",
                "found the end at column 13, expected `per decade`",
            ),
            (
                "(first",
                "found the end at column 7, expected `|`, `&` or `)`",
            ),
            (
                "first)",
                "found `)` at column 6, expected `|`, `&` or the end",
            ),
            ("é last", "found `é` at column 1"),
            ("first | # last", "found `#` at column 9"),
            ("every 0 steps", "has a period of zero"),
            ("at 150%", "reaches outside the run"),
        ] {
            assert!(
                parse(text).is_err_and(|error| error.to_string().contains(problem)),
                "{:?}",
                parse(text)
            );
        }
    }

    #[test]
    fn a_duration_is_a_number_with_a_unit() {
        for (text, span) in [
            ("3 epochs", epochs(3)),
            ("1 epoch", epochs(1)),
            ("epoch", epochs(1)),
            ("2000 steps", steps(2_000)),
            ("1_000_000 tokens", tokens(1_000_000)),
            ("64 samples", samples(64)),
            (" 2000 ", steps(2_000)),
            ("5min", minutes(5.0)),
            ("5 m", minutes(5.0)),
            ("1.5h", minutes(90.0)),
            ("150%", fraction(1.5)),
            ("0", steps(0)),
        ] {
            assert_eq!(text.parse(), Ok(span), "{text}");
            assert_eq!(span.to_string().parse(), Ok(span), "{text}");
        }
    }

    #[test]
    fn errors_of_a_duration_name_the_word_and_its_alternatives() {
        for (text, error) in [
            (
                "",
                "cannot read duration ``: found the end at column 1, expected a number, \
                 as in `100 steps`, `10%` or `30s`",
            ),
            (
                "every 2 epochs",
                "cannot read duration `every 2 epochs`: found `every` at column 1, expected a number, \
                 as in `100 steps`, `10%` or `30s`",
            ),
            (
                "2 epochs | last",
                "cannot read duration `2 epochs | last`: found `|` at column 10, expected the end",
            ),
            (
                "1 and",
                "cannot read duration `1 and`: found `and` at column 3, expected the end",
            ),
            (
                "1.5 epochs",
                "cannot read duration `1.5 epochs`: found `1.5` at column 1, \
                 expected a whole number below 2^64",
            ),
        ] {
            let message = text.parse::<Span>().map_err(|error| error.to_string());
            assert_eq!(message, Err(error.to_owned()));
        }
    }

    #[test]
    fn deep_nesting_is_an_error() {
        let deep = format!("{}first{}", "(".repeat(100_000), ")".repeat(100_000));
        let long = vec!["first"; 100_000].join(" | ");
        for text in [deep, long] {
            assert_eq!(
                text.parse::<Cadence>(),
                Err(CadenceError::TooLong { limit: 200 })
            );
        }
        assert!(vec!["first"; 200].join(" | ").parse::<Cadence>().is_ok());
    }
}
