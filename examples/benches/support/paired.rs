//! Times variants alternately in one run, so that a noisy machine disturbs all of them alike.

use std::time::{Duration, Instant};

/// One thing to time: a name, and a function that does it once.
pub(crate) struct Variant<'a> {
    /// What the table calls it.
    pub(crate) name: String,
    /// Does it once and tells how long the part that counts took.
    pub(crate) once: Box<dyn FnMut() -> Duration + 'a>,
}

impl<'a> Variant<'a> {
    /// A variant that measures itself.
    pub(crate) fn new(name: impl Into<String>, once: impl FnMut() -> Duration + 'a) -> Self {
        Self {
            name: name.into(),
            once: Box::new(once),
        }
    }
}

/// The times of one variant, round by round.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// The time in the middle.
    pub(crate) fn median(&self) -> Duration {
        let mut times = self.0.clone();
        times.sort();
        times[times.len() / 2]
    }

    /// How many times as long as `base` it took, in the middle of the rounds.
    pub(crate) fn ratio(&self, base: &Self) -> f64 {
        let pairs = self.0.iter().zip(&base.0);
        let mut ratios: Vec<_> = pairs
            .map(|(a, b)| a.as_secs_f64() / b.as_secs_f64())
            .collect();
        ratios.sort_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    }
}

/// Runs all variants `rounds` times in turn, after one round that does not count. Every other round goes
/// through them backwards, so that none is always the one after the slowest.
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

/// How long `work` takes.
pub(crate) fn time(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}
