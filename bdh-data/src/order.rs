//! Random choices that are the same on every machine and in every version.
//!
//! `rand` may change how it draws from a range. The words of ChaCha do not change, so we draw from these.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Returns the order of the documents in one epoch.
pub(super) fn epoch_order(seed: u64, epoch: u64, documents: usize) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch); // so that an epoch can be resumed without drawing the earlier ones
    let mut order: Vec<u32> = (0..documents as u32).collect();
    shuffle(&mut order, &mut rng);
    order
}

/// Shuffles in place (Fisher and Yates).
pub(super) fn shuffle<T>(items: &mut [T], rng: &mut impl Rng) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(last + 1, rng));
    }
}

/// Draws a number below `bound`; the bias is `bound / 2^64`.
pub(super) fn below(bound: usize, rng: &mut impl Rng) -> usize {
    ((u128::from(rng.next_u64()) * bound as u128) >> 64) as usize
}

/// Draws from `[0, 1)`.
pub(super) fn unit(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_epoch_visits_all_documents_in_its_own_order() {
        let (first, second) = (epoch_order(7, 0, 100), epoch_order(7, 1, 100));
        assert_ne!(first, second);
        assert_eq!(first, epoch_order(7, 0, 100));
        assert_ne!(first, epoch_order(8, 0, 100));
        for mut order in [first, second] {
            order.sort_unstable();
            assert_eq!(order, (0..100).collect::<Vec<u32>>());
        }
    }

    #[test]
    fn draws_cover_their_range_evenly() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut counts = [0; 5];
        (0..50_000).for_each(|_| counts[below(5, &mut rng)] += 1);
        assert!(
            counts.iter().all(|count| (9_600..10_400).contains(count)),
            "{counts:?}"
        ); // 4 sd
        assert!((0..1000).all(|_| (0.0..1.0).contains(&unit(&mut rng))));
    }
}
