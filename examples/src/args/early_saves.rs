//! At which early steps a checkpoint is kept for good.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::values::{ValueError, positive, steps};

/// One early step at which to save a checkpoint for good.
#[derive(Debug, Clone, Copy, PartialEq)]
enum SavePoint {
    Step(u64),
    Percent(f64),
}

/// The early steps at which checkpoints are saved for good.
///
/// Steps compare runs at equal updates, shares of the run at equal phases of the learning rate schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct EarlySaves(Vec<SavePoint>);

impl EarlySaves {
    /// Steps at which a run of this length saves, in order.
    ///
    /// A share is rounded to the nearest step and is at least the first; steps after the last are left out,
    /// see [`beyond`](Self::beyond).
    #[must_use]
    pub fn steps(&self, num_iterations: u64) -> Vec<u64> {
        self.resolve(num_iterations).into_iter().filter(|&step| step <= num_iterations).collect()
    }

    /// Steps that were asked for, but that a run of this length never reaches.
    #[must_use]
    pub fn beyond(&self, num_iterations: u64) -> Vec<u64> {
        self.resolve(num_iterations).into_iter().filter(|&step| step > num_iterations).collect()
    }

    fn resolve(&self, num_iterations: u64) -> Vec<u64> {
        let mut steps: Vec<u64> = self.0.iter().map(|point| point.step(num_iterations)).collect();
        steps.sort_unstable();
        steps.dedup();
        steps
    }
}

impl SavePoint {
    fn step(self, num_iterations: u64) -> u64 {
        match self {
            Self::Step(step) => step,
            Self::Percent(percent) => {
                ((num_iterations as f64 * percent / 100.0).round() as u64).max(1)
            }
        }
    }
}

impl FromStr for SavePoint {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let point = match text.strip_suffix('%') {
            None => steps(text).map(Self::Step),
            Some(percent) => positive(percent).map(Self::Percent),
        };
        point
            .ok()
            .filter(|point| !matches!(point, Self::Percent(percent) if *percent > 100.0))
            .ok_or(ValueError::NotASavePoint)
    }
}

impl FromStr for EarlySaves {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "off" {
            return Ok(Self(Vec::new()));
        }
        text.split(',').map(|point| point.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for EarlySaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("off");
        }
        for (at, point) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match point {
                SavePoint::Step(step) => write!(f, "{comma}{step}")?,
                SavePoint::Percent(percent) => write!(f, "{comma}{percent}%")?,
            }
        }
        Ok(())
    }
}

impl Serialize for EarlySaves {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_saves_are_steps_or_shares_of_the_run() {
        let saves = |text: &str| text.parse::<EarlySaves>().expect("valid save points");
        assert_eq!(saves("1000,250, 500").steps(2520), [250, 500, 1000]);
        assert_eq!(saves("250,500,1000").steps(672), [250, 500]);
        assert_eq!(saves("250,500,1000").beyond(672), [1000]);
        assert_eq!(saves("10%,25%,50%").steps(2520), [252, 630, 1260]);
        assert_eq!(saves("1%,10%,100%").steps(10), [1, 10], "shares that meet save once");
        assert!(saves("off").steps(10).is_empty());
    }

    #[test]
    fn early_saves_print_as_they_are_read() {
        for text in ["250,500,1000", "10%,12.5%", "250,50%", "off"] {
            assert_eq!(
                text.parse::<EarlySaves>().map(|saves| saves.to_string()),
                Ok(text.to_owned())
            );
        }
        for text in ["", "0", "-250", "101%", "0%", "250,,500", "half"] {
            assert_eq!(text.parse::<EarlySaves>(), Err(ValueError::NotASavePoint), "{text}");
        }
    }
}
