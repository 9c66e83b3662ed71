//! Training time as the length of a run: the value of `--time-budget`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bdh::cadence::Span;
use bdh::clock::RunLength;
use serde::{Serialize, Serializer};

use super::values::ValueError;

/// Training time of a run, in place of a number of steps.
///
/// # Examples
///
/// ```
/// use bdh_examples::args::TimeBudget;
///
/// let budget: TimeBudget = "5m".parse()?;
/// assert_eq!(budget.to_string(), "5min");
/// assert_eq!(TimeBudget::length_or(Some(budget), 400).to_string(), "5 min");
/// assert_eq!(TimeBudget::length_or(None, 400).to_string(), "400 steps");
/// # Ok::<(), bdh_examples::args::ValueError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeBudget(Duration);

impl TimeBudget {
    /// Returns the length of a run: the time if one is given, otherwise the number of steps.
    #[must_use]
    pub fn length_or(budget: Option<Self>, steps: u64) -> RunLength {
        match budget {
            Some(Self(time)) => RunLength::Time(time),
            None => RunLength::Steps(steps),
        }
    }
}

impl FromStr for TimeBudget {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.parse() {
            Ok(Span::Time(time)) if !time.is_zero() => Ok(Self(time)),
            _ => Err(ValueError::NotATime),
        }
    }
}

impl fmt::Display for TimeBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Span::Time(self.0).fmt(f)
    }
}

impl Serialize for TimeBudget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_several_spellings() {
        let seconds = |text: &str| text.parse::<TimeBudget>().map(|budget| budget.0.as_secs());
        for (text, expected) in [
            ("90s", 90),
            ("5m", 300),
            ("5min", 300),
            ("1.5 hours", 5_400),
            ("2h", 7_200),
        ] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in [
            "", "5", "5 steps", "0s", "-5m", "10%", "5 mni", "1h30m", "inf s",
        ] {
            assert_eq!(seconds(text), Err(ValueError::NotATime), "{text}");
        }
    }

    #[test]
    fn printed_times_parse_to_the_same_times() {
        for text in ["90s", "5min", "2h", "1500ms"] {
            let budget: TimeBudget = text.parse().expect("a time");
            assert_eq!(budget.to_string(), text);
        }
    }
}
