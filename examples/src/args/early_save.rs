//! When early checkpoints are saved: what `--early-save` means.

use std::fmt;
use std::str::FromStr;

use bdh::{Cadence, Span, at};
use serde::{Serialize, Serializer};

use super::values::{ValueError, steps};

/// Points of a run at which it is saved for good; none turns it off.
///
/// # Examples
///
/// ```
/// use bdh_examples::args::EarlySave;
///
/// let early = EarlySave::default(); // the request's
/// assert_eq!(early.to_string(), "250,500,1000");
/// assert_eq!(early.beyond(600), [1000]);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct EarlySave(Vec<Span>);

impl Default for EarlySave {
    fn default() -> Self {
        Self([250, 500, 1000].map(Span::Steps).into())
    }
}

impl EarlySave {
    /// The points as a cadence, if a run of so many steps reaches any.
    #[must_use]
    pub fn cadence(&self, steps: u64) -> Option<Cadence> {
        let reached = self
            .0
            .iter()
            .filter(|point| !is_beyond(point, steps))
            .copied();
        let reached: Vec<_> = reached.collect();
        (!reached.is_empty()).then(|| at(reached))
    }

    /// The points that a run of so many steps never reaches.
    #[must_use]
    pub fn beyond(&self, steps: u64) -> Vec<u64> {
        let step = |point: &Span| match point {
            Span::Steps(step) if is_beyond(point, steps) => Some(*step),
            _ => None,
        };
        self.0.iter().filter_map(step).collect()
    }
}

/// A share of the run is always in it.
fn is_beyond(point: &Span, steps: u64) -> bool {
    matches!(point, Span::Steps(step) if *step > steps)
}

impl FromStr for EarlySave {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "off" {
            return Ok(Self(Vec::new()));
        }
        text.split(',')
            .map(point)
            .collect::<Option<_>>()
            .map(Self)
            .ok_or(ValueError::NotASavePoint)
    }
}

/// Reads `250` or `25%`. Step 0 is no point: the untrained model follows from the seed.
fn point(text: &str) -> Option<Span> {
    match text.strip_suffix('%') {
        None => steps(text).ok().map(Span::Steps),
        Some(percent) => {
            let share = percent.parse::<f64>().ok()? / 100.0;
            (share > 0.0 && share <= 1.0).then_some(Span::Fraction(share))
        }
    }
}

impl fmt::Display for EarlySave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let point = |point: &Span| match point {
            Span::Steps(step) => step.to_string(),
            share => share.to_string(),
        };
        let points: Vec<_> = self.0.iter().map(point).collect();
        if points.is_empty() {
            f.write_str("off")
        } else {
            f.write_str(&points.join(","))
        }
    }
}

impl Serialize for EarlySave {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bdh::Clock;

    fn firings(text: &str, steps: u64) -> Vec<u64> {
        let early: EarlySave = text.parse().expect("save points");
        let one_step = Clock {
            step: 1,
            ..Clock::default()
        };
        early
            .cadence(steps)
            .map_or(Vec::new(), |at| at.firings(&one_step, steps).collect())
    }

    #[test]
    fn steps_and_shares_are_told_apart() {
        assert_eq!(firings("250,500,1000", 600), [250, 500]);
        assert_eq!(firings("10%,25%,50%", 80), [8, 20, 40]);
        assert_eq!(firings("3,50%", 10), [3, 5]);
        assert_eq!(firings("1000", 600), [0; 0]);
        assert_eq!(firings("off", 600), [0; 0]);
    }

    #[test]
    fn it_prints_as_it_is_read() {
        for text in ["off", "5", "250,500,1000", "12.5%,50%", "3,50%"] {
            assert_eq!(
                text.parse::<EarlySave>().map(|early| early.to_string()),
                Ok(text.into())
            );
        }
        for text in ["", "x", "0", "-5", "0%", "101%", "5,", "5 steps", "1.5"] {
            assert_eq!(
                text.parse::<EarlySave>(),
                Err(ValueError::NotASavePoint),
                "{text}"
            );
        }
    }
}
