//! Parsers of the values of flags.

use jiff::SignedDuration;
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Largest number of CUDA devices of one machine.
const MAX_DEVICES: u32 = 64;

/// Numbers of CUDA devices.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Devices(pub(super) Vec<u32>);

/// Value that a flag cannot have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ValueError {
    Jobs,
    Regret,
    Timeout,
    /// Contains the value.
    Devices(String),
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Jobs => f.write_str("use a number from 1"),
            Self::Regret => f.write_str("use a number from 0, in units of the metric"),
            Self::Timeout => f.write_str("use a number with s, m or h, such as 90s, 30m or 1.5h"),
            Self::Devices(text) => write!(
                f,
                "`{text}` is not a list of CUDA devices: use cuda:0-7 or cuda:0,cuda:2 (a process cannot be limited \
                 to another kind of device)"
            ),
        }
    }
}

impl Error for ValueError {}

pub(super) fn jobs(text: &str) -> Result<usize, ValueError> {
    match text.parse::<usize>() {
        Ok(jobs) if jobs > 0 => Ok(jobs),
        _ => Err(ValueError::Jobs),
    }
}

pub(super) fn regret(text: &str) -> Result<f64, ValueError> {
    match text.parse::<f64>() {
        Ok(regret) if regret.is_finite() && regret >= 0.0 => Ok(regret),
        _ => Err(ValueError::Regret),
    }
}

/// Parses a time with its unit.
pub(super) fn timeout(text: &str) -> Result<Duration, ValueError> {
    match text.parse::<SignedDuration>() {
        Ok(time) if time.is_positive() => Duration::try_from(time).map_err(|_| ValueError::Timeout),
        _ => Err(ValueError::Timeout),
    }
}

/// Parses `cuda:0-7`, or several such parts with commas.
pub(super) fn devices(text: &str) -> Result<Devices, ValueError> {
    let mut devices = Vec::new();
    for part in text.split(',') {
        match device_range(part.trim()) {
            Some((first, last)) if first <= last && last < MAX_DEVICES => {
                devices.extend(first..=last);
            }
            _ => return Err(ValueError::Devices(text.to_owned())),
        }
    }
    Ok(Devices(devices))
}

/// Parses `cuda:0-7` or `cuda:0` as the first and the last number.
fn device_range(text: &str) -> Option<(u32, u32)> {
    let numbers = text.strip_prefix("cuda:")?;
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    Some((first.parse().ok()?, last.parse().ok()?))
}
