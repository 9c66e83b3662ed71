//! Values of flags, and errors of wrong ones.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// Error of a flag's value; clap adds the flag and the value.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// The value is not a whole number, in digits or in exact scientific notation.
    #[error("expected a whole number, such as 250 or 1e5")]
    NotWhole,
    /// The value is not a number.
    #[error("expected a number, such as 0.02 or 1e-05")]
    NotANumber,
    /// The number is too small.
    #[error("must be at least {least}")]
    TooSmall {
        /// Smallest valid number.
        least: u64,
    },
    /// The number is 0, negative or not finite.
    #[error("must be a finite number above 0")]
    NotPositive,
    /// The number is negative or not finite.
    #[error("must be a finite number, 0 or more")]
    Negative,
    /// The number is not between 0 and 1.
    #[error("must be between 0 and 1")]
    NotAFraction,
    /// The value is not a cadence.
    #[error("expected a number of steps, or -1 for never")]
    NotACadence,
    /// The value is not a time above zero.
    #[error("expected a time, such as 90s, 5m or 2h")]
    NotATime,
    /// The value is not a list of steps or shares.
    #[error("expected steps such as 250,500,1000, shares of the run such as 10%,25%,50%, or `off`")]
    NotASavePoint,
    /// The run ends before the given steps.
    #[error("{flag} {given} never fires in a run of {steps} steps: use {instead}")]
    NeverFires {
        /// The flag.
        flag: &'static str,
        /// Value of the flag.
        given: String,
        /// Steps of the run.
        steps: u64,
        /// Suggested values.
        instead: String,
    },
    /// The value is not the name of a directory.
    #[error(
        "a run's name is the name of its directory: not empty, and without `/`, `\\` or a leading dot"
    )]
    NotAName,
    /// The value is no tokenizer.
    #[error("expected bytes, bpe, or the path of a tokenizer's file or directory")]
    NotATokenizer,
    /// The value is not a list of sinks.
    #[error("{why}")]
    NoSinks {
        /// Error of the names.
        why: String,
    },
    /// A prompt is empty.
    #[error("a prompt needs at least one byte, such as a line break")]
    EmptyPrompt,
    /// The number is too large.
    #[error("must be at most {most}")]
    TooLarge {
        /// Largest valid number.
        most: usize,
    },
}

/// Parses a count of at least 1.
///
/// # Errors
///
/// [`ValueError::NotWhole`] or [`ValueError::TooSmall`].
pub fn count(text: &str) -> Result<usize, ValueError> {
    let count = whole(text, 1)?;
    usize::try_from(count).map_err(|_| ValueError::NotWhole)
}

/// Parses a count of at least 1; -1, for all, is the largest count.
///
/// # Errors
///
/// [`ValueError::NotWhole`] or [`ValueError::TooSmall`].
pub fn count_or_all(text: &str) -> Result<usize, ValueError> {
    match text {
        "-1" => Ok(usize::MAX),
        text => count(text),
    }
}

/// Parses a number of steps, at least 1.
///
/// # Errors
///
/// [`ValueError::NotWhole`] or [`ValueError::TooSmall`].
pub fn steps(text: &str) -> Result<u64, ValueError> {
    whole(text, 1)
}

/// Parses a whole number, including 0.
///
/// # Errors
///
/// [`ValueError::NotWhole`] or [`ValueError::TooSmall`].
pub fn natural(text: &str) -> Result<u64, ValueError> {
    whole(text, 0)
}

/// Parses a number above 0.
///
/// # Errors
///
/// [`ValueError::NotANumber`] or [`ValueError::NotPositive`].
pub fn positive(text: &str) -> Result<f64, ValueError> {
    let value = number(text)?;
    if value.is_finite() && value > 0.0 {
        Ok(value)
    } else {
        Err(ValueError::NotPositive)
    }
}

/// Parses a number that is not negative.
///
/// # Errors
///
/// [`ValueError::NotANumber`] or [`ValueError::Negative`].
pub fn not_negative(text: &str) -> Result<f64, ValueError> {
    let value = number(text)?;
    if value.is_finite() && value >= 0.0 {
        Ok(value)
    } else {
        Err(ValueError::Negative)
    }
}

/// Parses a number between 0 and 1.
///
/// # Errors
///
/// [`ValueError::NotANumber`] or [`ValueError::NotAFraction`].
pub fn fraction(text: &str) -> Result<f64, ValueError> {
    let value = number(text)?;
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(ValueError::NotAFraction)
    }
}

/// Parses the name of a run, which must not lead out of the directory of runs.
///
/// # Errors
///
/// [`ValueError::NotAName`].
pub fn run_name(text: &str) -> Result<String, ValueError> {
    if text.is_empty() || text.starts_with('.') || text.contains(['/', '\\']) {
        return Err(ValueError::NotAName);
    }
    Ok(text.to_owned())
}

/// Checks the names of sinks, and returns them unchanged.
///
/// # Errors
///
/// [`ValueError::NoSinks`].
pub fn log_backend(text: &str) -> Result<String, ValueError> {
    match bdh_callbacks::sinks(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(ValueError::NoSinks {
            why: error.to_string(),
        }),
    }
}

fn number(text: &str) -> Result<f64, ValueError> {
    text.parse().map_err(|_| ValueError::NotANumber)
}

/// Parses a whole number, also in the spellings of a float: `1e5`, `512.0`.
fn whole(text: &str, least: u64) -> Result<u64, ValueError> {
    // Up to this number, f64 represents every whole number exactly.
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
    let value = match text.parse::<u64>() {
        Ok(value) => value,
        Err(_) => match text.parse::<f64>().map_err(|_| ValueError::NotWhole)? {
            float if float < 0.0 => return Err(ValueError::TooSmall { least }),
            float if float.fract() == 0.0 && float <= EXACT => float as u64,
            _ => return Err(ValueError::NotWhole),
        },
    };
    if value < least {
        Err(ValueError::TooSmall { least })
    } else {
        Ok(value)
    }
}

/// Steps between two events. Like nanochat, -1 means never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// Never.
    Never,
    /// On each multiple of this number of steps.
    Steps(NonZeroU64),
}

impl FromStr for Every {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if matches!(text, "-1" | "0" | "never") {
            return Ok(Self::Never);
        }
        match whole(text, 1).map(NonZeroU64::new) {
            Ok(Some(steps)) => Ok(Self::Steps(steps)),
            _ => Err(ValueError::NotACadence),
        }
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Steps(steps) => steps.fmt(f),
        }
    }
}

impl Serialize for Every {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_have_several_exact_spellings() {
        assert_eq!(count("2048"), Ok(2048));
        assert_eq!(count("1e5"), Ok(100_000));
        assert_eq!(count("512.0"), Ok(512));
        assert_eq!(natural("0"), Ok(0));
        assert_eq!(natural("18446744073709551615"), Ok(u64::MAX));
    }

    #[test]
    fn minus_one_counts_all() {
        assert_eq!(count_or_all("-1"), Ok(usize::MAX));
        assert_eq!(count_or_all("500"), Ok(500));
        assert_eq!(count_or_all("0"), Err(ValueError::TooSmall { least: 1 }));
        assert_eq!(count_or_all("-2"), Err(ValueError::TooSmall { least: 1 }));
    }

    #[test]
    fn errors_distinguish_small_numbers_from_other_text() {
        let too_small = |least| Err(ValueError::TooSmall { least });
        assert_eq!(steps("0"), too_small(1));
        assert_eq!(steps("-5"), too_small(1));
        assert_eq!(natural("-1"), too_small(0));
        for text in [
            "",
            "ten",
            "1.5",
            "1e-05",
            "1e300",
            "nan",
            "inf",
            "9007199254740993.0e1",
        ] {
            assert_eq!(steps(text), Err(ValueError::NotWhole), "{text}");
        }
    }

    #[test]
    fn rates_are_finite_and_not_negative() {
        assert_eq!(positive("1e-05"), Ok(1e-5));
        for text in ["0", "-0.1", "nan", "inf"] {
            assert_eq!(positive(text), Err(ValueError::NotPositive), "{text}");
        }
        assert_eq!(positive("fast"), Err(ValueError::NotANumber));
        assert_eq!(not_negative("0"), Ok(0.0));
        assert_eq!(not_negative("-1"), Err(ValueError::Negative));
        assert_eq!(fraction("0.65"), Ok(0.65));
        assert_eq!(fraction("1.1"), Err(ValueError::NotAFraction));
        assert_eq!(fraction("nan"), Err(ValueError::NotAFraction));
    }

    #[test]
    fn run_name_stays_within_the_directory_of_runs() {
        assert_eq!(run_name("d8-w256.b"), Ok("d8-w256.b".to_owned()));
        for text in ["", ".", "..", ".hidden", "a/b", "/etc", "a\\b"] {
            assert_eq!(run_name(text), Err(ValueError::NotAName), "{text}");
        }
    }

    #[test]
    fn never_may_be_written_like_in_nanochat() {
        assert_eq!("-1".parse(), Ok(Every::Never));
        assert_eq!("never".parse(), Ok(Every::Never));
        assert_eq!(
            "250".parse::<Every>().map(|every| every.to_string()),
            Ok("250".to_owned())
        );
        assert_eq!("-2".parse::<Every>(), Err(ValueError::NotACadence));
    }
}
