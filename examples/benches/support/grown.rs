//! Growth of the time of some work with its size.

use crate::paired::{Variant, measure};
use std::time::Duration;

/// Measures `once` at each size, and prints the growth of its time.
///
/// The first size may be 0, for the fixed part of the time.
pub(crate) fn grow(
    what: &str,
    unit: &str,
    sizes: &[u64],
    rounds: usize,
    once: impl Fn(u64) -> Duration,
) {
    let once = &once;
    let variant = |size: &u64| {
        let size = *size;
        Variant::new(size.to_string(), move || once(size))
    };
    let times = measure(&mut sizes.iter().map(variant).collect::<Vec<_>>(), rounds);
    let micros: Vec<_> = times
        .iter()
        .map(|times| times.median().as_secs_f64() * 1e6)
        .collect();
    let base = if sizes[0] == 0 { micros[0] } else { 0.0 };
    println!(
        "\n{what:<44} {:>12} {:>14} {:>8}",
        "µs",
        format!("µs a {unit}"),
        "growth"
    );
    for (place, (size, time)) in sizes.iter().zip(&micros).enumerate() {
        let over = time - base;
        let each = if *size == 0 {
            String::new()
        } else {
            format!("{:.3}", over / *size as f64)
        };
        let growth = place
            .checked_sub(1)
            .filter(|before| sizes[*before] > 0)
            .map(|before| {
                let factor = (*size as f64 / sizes[before] as f64).ln();
                format!("{:.2}", (over / (micros[before] - base)).ln() / factor)
            });
        println!(
            "{size:<44} {time:>12.1} {each:>14} {:>8}",
            growth.unwrap_or_default()
        );
    }
    if sizes[0] == 0 {
        println!("{:<44} {:>12.0}", "steps/s of the empty loop", 1e6 / base);
    }
}
