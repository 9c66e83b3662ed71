//! Alternating measurement of variants, so that a noisy machine disturbs all of them equally.

use std::time::{Duration, Instant};

/// Variant with a name and a function that runs it once.
pub(crate) struct Variant<'a> {
    /// Name in the table.
    pub(crate) name: String,
    /// Runs the variant once, and returns the time of the measured part.
    pub(crate) once: Box<dyn FnMut() -> Duration + 'a>,
}

impl<'a> Variant<'a> {
    /// Creates a variant that measures its own time.
    pub(crate) fn new(name: impl Into<String>, once: impl FnMut() -> Duration + 'a) -> Self {
        Self {
            name: name.into(),
            once: Box::new(once),
        }
    }
}

/// Times of one variant by round.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// Returns the median time.
    pub(crate) fn median(&self) -> Duration {
        let mut times = self.0.clone();
        times.sort();
        times[times.len() / 2]
    }

    /// Returns the median over rounds of the ratio to the time of `base`.
    pub(crate) fn ratio(&self, base: &Self) -> f64 {
        let pairs = self.0.iter().zip(&base.0);
        let mut ratios: Vec<_> = pairs
            .map(|(a, b)| a.as_secs_f64() / b.as_secs_f64())
            .collect();
        ratios.sort_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    }
}

/// Runs all variants alternately for `rounds` rounds, after one round that does not count.
///
/// The order is reversed in every second round, so that no variant always follows the slowest one.
pub(crate) fn measure(variants: &mut [Variant<'_>], rounds: usize) -> Vec<Times> {
    let mut times: Vec<_> = variants
        .iter()
        .map(|_| Times(Vec::with_capacity(rounds)))
        .collect();
    for round in 0..=rounds {
        let mut order: Vec<_> = variants.iter_mut().zip(&mut times).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for (variant, times) in order {
            let time = (variant.once)();
            if round > 0 {
                times.0.push(time);
            }
        }
    }
    times
}

/// Measures the time of `work`.
pub(crate) fn time(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}
