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
        Self { name: name.into(), once: Box::new(once) }
    }
}

/// Runs all variants `rounds` times in turn, after one round that does not count; the median of each.
pub(crate) fn medians(variants: &mut [Variant<'_>], rounds: usize) -> Vec<Duration> {
    let mut times = vec![Vec::with_capacity(rounds); variants.len()];
    for round in 0..=rounds {
        for (variant, times) in variants.iter_mut().zip(&mut times) {
            let time = (variant.once)();
            if round > 0 {
                times.push(time);
            }
        }
    }
    times
        .into_iter()
        .map(|mut times| {
            times.sort();
            times[times.len() / 2]
        })
        .collect()
}

/// How long `work` takes.
pub(crate) fn time(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}
