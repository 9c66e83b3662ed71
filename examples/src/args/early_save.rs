//! Steps of early checkpoints: the value of `--early-save`.

use std::fmt;
use std::str::FromStr;

use bdh::Cadence;
use bdh::cadence::{Span, at};
use bdh::clock::RunLength;
use serde::{Serialize, Serializer};

use super::values::{ValueError, steps};

/// Points of a run at which checkpoints are kept; none turns it off.
///
/// # Examples
///
/// ```
/// use bdh_examples::args::EarlySave;
///
/// let early = EarlySave::default();
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
    /// Returns the points as a cadence, or `None` if a run of this length reaches none of them.
    #[must_use]
    pub fn cadence(&self, length: impl Into<RunLength>) -> Option<Cadence> {
        let (mut reached, length) = (self.0.clone(), length.into());
        reached.retain(|point| !is_beyond(point, length));
        if reached.is_empty() {
            return None;
        }
        Some(at(reached))
    }

    /// Returns the steps that a run of this length never reaches. If it is limited by time, that is not known, and none
    /// is returned.
    #[must_use]
    pub fn beyond(&self, length: impl Into<RunLength>) -> Vec<u64> {
        let (mut beyond, length) = (Vec::new(), length.into());
        for point in &self.0 {
            if let Span::Steps(step) = point
                && is_beyond(point, length)
            {
                beyond.push(*step);
            }
        }
        beyond
    }
}

/// Returns whether a point is known to be after the end of a run. Shares of the run never are.
fn is_beyond(point: &Span, length: RunLength) -> bool {
    match (point, length.steps()) {
        (Span::Steps(step), Some(steps)) => *step > steps,
        _ => false,
    }
}

impl FromStr for EarlySave {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "off" {
            return Ok(Self(Vec::new()));
        }
        let mut points = Vec::new();
        for part in text.split(',') {
            points.push(point(part).ok_or(ValueError::NotASavePoint)?);
        }
        Ok(Self(points))
    }
}

/// Parses `250` or `25%`. Step 0 is not valid: the seed determines the untrained model.
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
        if self.0.is_empty() {
            return f.write_str("off");
        }
        for (index, point) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match point {
                Span::Steps(step) => write!(f, "{step}")?, // without the unit
                share => write!(f, "{share}")?,
            }
        }
        Ok(())
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
    use std::time::Duration;

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
    fn steps_and_shares_may_be_mixed() {
        assert_eq!(firings("250,500,1000", 600), [250, 500]);
        assert_eq!(firings("10%,25%,50%", 80), [8, 20, 40]);
        assert_eq!(firings("3,50%", 10), [3, 5]);
        assert_eq!(firings("1000", 600), [0; 0]);
        assert_eq!(firings("off", 600), [0; 0]);
    }

    #[test]
    fn a_run_limited_by_time_may_reach_every_point() {
        let (early, time) = (EarlySave::default(), Duration::from_mins(5));
        assert_eq!(early.cadence(time), Some(at([250, 500, 1000])));
        assert_eq!(early.beyond(time), [0; 0]);
    }

    #[test]
    fn printed_points_parse_to_the_same_points() {
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
