//! Seeds as functions of (seed, step, micro-batch), so random numbers in one place do not change those in another.

use burn::tensor::Device;

/// Seeds a device, so a model that is created on it next has the same initial weights each time.
///
/// [`TrainerBuilder::seed`](crate::TrainerBuilder::seed) covers all random numbers of a run, but a model that is given to
/// [`Trainer::builder`](crate::Trainer::builder) is created before the run. burn initializes a parameter on first access,
/// which is in `build` at the latest: draw no other random numbers on the device between this call and `build`.
///
/// # Examples
///
/// ```
/// use bdh::burn::nn::LinearConfig;
///
/// let device = bdh::device("cpu")?;
/// let weight = || {
///     bdh::seed(&device, 7);
///     LinearConfig::new(3, 2).init(&device).weight.val().into_data()
/// };
/// assert_eq!(weight(), weight());
/// # Ok::<(), bdh::ConfigError>(())
/// ```
pub fn seed(device: &Device, seed: u64) {
    device.seed(seed);
}

/// Returns the seed of the forward pass of one micro-batch, for dropout and other random operations.
pub(crate) fn forward(seed: u64, step: u64, micro_batch: u64) -> u64 {
    [step, micro_batch]
        .into_iter()
        .fold(mix(seed), |state, part| mix(state ^ part))
}

/// Returns the seed of one intervention. Indices count down from `u64::MAX`, so they differ from those of micro-batches.
pub(crate) fn intervention(seed: u64, step: u64, index: u64) -> u64 {
    forward(seed, step, u64::MAX - index)
}

/// Returns the seed of a step's data, for training data that draws from the device's generator.
pub(crate) fn data(seed: u64, step: u64) -> u64 {
    forward(mix(!seed), step, 0)
}

/// Returns the seed for a purpose outside of training, such as a sampled text.
pub(crate) fn purpose(seed: u64, step: u64, purpose: &str) -> u64 {
    let state = mix(mix(seed) ^ step);
    purpose
        .bytes()
        .fold(state, |state, byte| mix(state ^ u64::from(byte)))
}

/// Returns a number in `[0, 1)` from a seed and a counter.
pub(crate) fn uniform(seed: u64, counter: u64) -> f64 {
    (mix(mix(seed) ^ counter) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Mixes bits with SplitMix64's output function: every bit of the input affects every bit of the output.
///
/// Source: Steele, Lea, Flood, 2014, *Fast splittable pseudorandom number generators*.
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn micro_batches_have_distinct_seeds() {
        let moments = (0..20_u64).flat_map(|step| (0..20).map(move |micro| (step, micro)));
        let seeds: HashSet<_> = moments
            .map(|(step, micro)| forward(3, step, micro))
            .collect();
        assert_eq!(seeds.len(), 400);
    }

    #[test]
    fn purposes_have_distinct_seeds() {
        let purposes = ["", "a", "b", "ab", "ba"];
        let moments = (0..20).flat_map(|step| purposes.map(|purpose| (step, purpose)));
        let seeds: HashSet<_> = moments
            .map(|(step, purpose)| super::purpose(3, step, purpose))
            .collect();
        assert_eq!(seeds.len(), 100);
    }
}
