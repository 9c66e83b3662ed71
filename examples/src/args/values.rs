//! What the text behind a flag means, and what is said when it means nothing.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// Why the text behind a flag was refused; clap puts the flag and the text in front.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// Not a whole number, in digits or exactly in scientific notation.
    #[error("expected a whole number, such as 250 or 1e5")]
    NotWhole,
    /// Not a number at all.
    #[error("expected a number, such as 0.02 or 1e-05")]
    NotANumber,
    /// Too small to make sense.
    #[error("must be at least {least}")]
    TooSmall {
        /// Smallest number that works.
        least: u64,
    },
    /// Zero, negative or not finite.
    #[error("must be a finite number above 0")]
    NotPositive,
    /// Negative or not finite.
    #[error("must be a finite number, 0 or more")]
    Negative,
    /// Not a share of a whole.
    #[error("must lie between 0 and 1")]
    NotAFraction,
    /// Not a cadence.
    #[error("expected a number of steps, or -1 for never")]
    NotACadence,
    /// Not a step at which to save.
    #[error("expected steps such as 250,500,1000, shares of the run such as 10%,25%,50%, or `off`")]
    NotASavePoint,
    /// Steps that a run never reaches.
    #[error("{flag} {given} never fires in a run of {steps} steps: use {instead}")]
    NeverFires {
        /// What was given.
        flag: &'static str,
        /// Its value.
        given: String,
        /// Steps of the run.
        steps: u64,
        /// What would work.
        instead: String,
    },
    /// Not the name of a directory.
    #[error(
        "a run's name is the name of its directory: not empty, and without `/`, `\\` or a leading dot"
    )]
    NotAName,
    /// Not names of sinks.
    #[error("{why}")]
    NoSinks {
        /// What is wrong, and what would work.
        why: String,
    },
}

/// Parses a count of things that there must be at least one of.
///
/// # Errors
///
/// [`ValueError::NotWhole`] or [`ValueError::TooSmall`].
pub fn count(text: &str) -> Result<usize, ValueError> {
    let count = whole(text, 1)?;
    usize::try_from(count).map_err(|_| ValueError::NotWhole)
}

/// Parses a number of steps, at least one.
///
/// # Errors
///
/// [`ValueError::NotWhole`] or [`ValueError::TooSmall`].
pub fn steps(text: &str) -> Result<u64, ValueError> {
    whole(text, 1)
}

/// Parses a whole number, zero included.
///
/// # Errors
///
/// [`ValueError::NotWhole`] or [`ValueError::TooSmall`].
pub fn natural(text: &str) -> Result<u64, ValueError> {
    whole(text, 0)
}

/// Parses a number above zero.
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

/// Parses a number that is not below zero.
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

/// Parses a share of a whole.
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

/// Parses the name of a run, which must stay within the directory of runs.
///
/// # Errors
///
/// [`ValueError::NotAName`].
pub fn run_name(text: &str) -> Result<String, ValueError> {
    let leaves = text.is_empty() || text.starts_with('.') || text.contains(['/', '\\']);
    if leaves {
        Err(ValueError::NotAName)
    } else {
        Ok(text.to_owned())
    }
}

/// Takes the names of sinks, if they are some; kept as they were written.
///
/// # Errors
///
/// [`ValueError::NoSinks`].
pub fn log_backend(text: &str) -> Result<String, ValueError> {
    let wrong = |error: bdh::ConfigError| ValueError::NoSinks {
        why: error.to_string(),
    };
    bdh_callbacks::sinks(text)
        .map(|_| text.to_owned())
        .map_err(wrong)
}

fn number(text: &str) -> Result<f64, ValueError> {
    text.parse().map_err(|_| ValueError::NotANumber)
}

/// Parses a whole number, also in the spellings of a float: `1e5`, `512.0`.
fn whole(text: &str, least: u64) -> Result<u64, ValueError> {
    // Up to here every whole number has its own f64, so the text was exact.
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

/// How often something happens; nanochat writes never as -1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// Not on a schedule.
    Never,
    /// On each multiple of this many steps.
    Steps(NonZeroU64),
}

impl FromStr for Every {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if matches!(text, "-1" | "0" | "never") {
            return Ok(Self::Never);
        }
        let steps = whole(text, 1).map_err(|_| ValueError::NotACadence)?;
        NonZeroU64::new(steps)
            .map(Self::Steps)
            .ok_or(ValueError::NotACadence)
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
    fn whole_numbers_come_in_every_exact_spelling() {
        assert_eq!(count("2048"), Ok(2048));
        assert_eq!(count("1e5"), Ok(100_000));
        assert_eq!(count("512.0"), Ok(512));
        assert_eq!(natural("0"), Ok(0));
        assert_eq!(natural("18446744073709551615"), Ok(u64::MAX));
    }

    #[test]
    fn what_is_no_whole_number_is_refused_for_its_own_reason() {
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
    fn rates_are_finite_and_on_the_right_side_of_zero() {
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
    fn a_run_name_stays_within_the_directory_of_runs() {
        assert_eq!(run_name("d8-w256.b"), Ok("d8-w256.b".to_owned()));
        for text in ["", ".", "..", ".hidden", "a/b", "/etc", "a\\b"] {
            assert_eq!(run_name(text), Err(ValueError::NotAName), "{text}");
        }
    }

    #[test]
    fn never_has_nanochats_spelling_too() {
        assert_eq!("-1".parse(), Ok(Every::Never));
        assert_eq!("never".parse(), Ok(Every::Never));
        assert_eq!(
            "250".parse::<Every>().map(|every| every.to_string()),
            Ok("250".to_owned())
        );
        assert_eq!("-2".parse::<Every>(), Err(ValueError::NotACadence));
    }
}
