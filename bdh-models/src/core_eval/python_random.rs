//! CPython's `random.Random`, with the same numbers.
//!
//! nanochat draws CORE's items and few-shot examples with it. Another draw would be another benchmark: with 500 items
//! per task, the scores of two draws differ by their standard error.
//!
//! Source: CPython, `Lib/random.py` and `Modules/_randommodule.c`, unchanged since Python 3.2.

use rand_mt::Mt;
use std::collections::HashSet;

/// Python's `random.Random(seed)`.
///
/// # Examples
///
/// ```
/// use bdh_models::core_eval::PythonRandom;
///
/// let mut items = ["a", "b", "c", "d", "e"];
/// PythonRandom::new(1337).shuffle(&mut items);
/// assert_eq!(items, ["b", "a", "d", "c", "e"]);
/// ```
#[derive(Debug, Clone)]
pub struct PythonRandom(Mt);

impl PythonRandom {
    /// Seeds the generator like `random.seed` with a whole number, by its digits in base 2³².
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let digits = [seed as u32, (seed >> 32) as u32];
        let count = if digits[1] == 0 { 1 } else { 2 };
        Self(Mt::new_with_key(digits.into_iter().take(count)))
    }

    /// Draws a number in [0, 1) with 53 random bits, like `random()`.
    pub fn random(&mut self) -> f64 {
        let (high, low) = (self.0.next_u32() >> 5, self.0.next_u32() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// Shuffles in place, like `shuffle(items)`.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// Draws `count` different numbers below `population`, like `sample(range(population), count)`.
    ///
    /// # Panics
    ///
    /// If `count` is larger than `population`.
    pub fn sample(&mut self, population: usize, count: usize) -> Vec<usize> {
        assert!(
            count <= population,
            "cannot sample {count} different numbers from {population}"
        );
        // CPython uses a list or a set, whichever takes less memory, and both draw in different ways.
        let set_size = if count > 5 {
            21 + power_of_4_from(3 * count)
        } else {
            21
        };
        if population <= set_size {
            self.sample_from_list(population, count)
        } else {
            self.sample_with_set(population, count)
        }
    }

    fn sample_from_list(&mut self, population: usize, count: usize) -> Vec<usize> {
        let mut left: Vec<usize> = (0..population).collect();
        let mut sample = Vec::with_capacity(count);
        for _ in 0..count {
            let index = self.below(left.len());
            sample.push(left.swap_remove(index));
        }
        sample
    }

    fn sample_with_set(&mut self, population: usize, count: usize) -> Vec<usize> {
        let mut seen = HashSet::with_capacity(count);
        let mut sample = Vec::with_capacity(count);
        while sample.len() < count {
            let number = self.below(population);
            if seen.insert(number) {
                sample.push(number);
            }
        }
        sample
    }

    /// Draws a number below `n`, which is at least 1, like `_randbelow(n)`.
    fn below(&mut self, n: usize) -> usize {
        let bits = usize::BITS - n.leading_zeros();
        loop {
            let number = self.bits(bits);
            if number < n as u64 {
                return number as usize;
            }
        }
    }

    /// Draws 1 to 64 bits, like `getrandbits(count)`: the lower half first, and the upper bits of each draw.
    fn bits(&mut self, count: u32) -> u64 {
        if count <= 32 {
            return u64::from(self.0.next_u32() >> (32 - count));
        }
        let low = u64::from(self.0.next_u32());
        u64::from(self.0.next_u32() >> (64 - count)) << 32 | low
    }
}

/// Returns the smallest power of 4 that is at least `least`.
fn power_of_4_from(least: usize) -> usize {
    let power = least.next_power_of_two();
    if power.trailing_zeros().is_multiple_of(2) {
        power
    } else {
        power * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that CPython 3.11 prints. `tests/core/judged.rs` compares many more with the installed CPython.
    #[test]
    fn numbers_equal_those_of_cpython() {
        let mut items: Vec<usize> = (0..12).collect();
        PythonRandom::new(1337).shuffle(&mut items);
        assert_eq!(items, [6, 0, 1, 4, 10, 7, 3, 11, 2, 5, 8, 9]);
        let sample = |population| PythonRandom::new(1234).sample(population, 10);
        assert_eq!(sample(85), [56, 14, 0, 11, 74, 4, 10, 12, 45, 30]);
        assert_eq!(
            sample(86),
            [56, 14, 0, 11, 74, 4, 85, 10, 12, 45],
            "a set takes over here"
        );
        assert_eq!(sample(499), [494, 398, 225, 59, 3, 46, 466, 482, 480, 413]);
        assert_eq!(PythonRandom::new(0).random(), 0.844_421_851_525_048_1);
    }

    #[test]
    fn seeds_and_ranges_may_be_larger_than_32_bits() {
        let mut random = PythonRandom::new(1234 + (1 << 40));
        let sample = random.sample(1_000_000_000_000, 3);
        assert_eq!(sample, [364_196_599_367, 933_010_755_054, 665_991_496_600]);
    }

    #[test]
    fn size_of_a_set_is_a_power_of_four() {
        let sizes = [1, 2, 4, 5, 16, 17, 30, 64, 65].map(power_of_4_from);
        assert_eq!(sizes, [1, 4, 4, 16, 16, 64, 64, 64, 256]);
    }
}
