//! Randomness as a function of (seed, step, micro-batch), so that nobody can shift anybody else's.

use burn::tensor::Device;

/// Seeds a device, so that the model that is made on it next has the same first weights each time.
///
/// [`TrainerBuilder::seed`](crate::TrainerBuilder::seed) covers all that a run draws, and the model is there before the run.
/// burn draws a parameter when it is first looked at, which is in `build` at the latest: between this call and `build`
/// nothing else should draw on the device.
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

/// The seed of the forward pass of one micro-batch: dropout and whatever else it draws.
pub(crate) fn forward(seed: u64, step: u64, micro_batch: u64) -> u64 {
    [step, micro_batch]
        .into_iter()
        .fold(mix(seed), |state, part| mix(state ^ part))
}

/// The seed of one intervention's turn: counted from the other end, where no micro-batch is.
pub(crate) fn intervention(seed: u64, step: u64, index: u64) -> u64 {
    forward(seed, step, u64::MAX - index)
}

/// The seed of a step's data, for a task that draws its batches from the device's generator.
pub(crate) fn data(seed: u64, step: u64) -> u64 {
    forward(mix(!seed), step, 0)
}

/// The seed of something random that training knows nothing of, such as a sampled text.
pub(crate) fn purpose(seed: u64, step: u64, purpose: &str) -> u64 {
    let state = mix(mix(seed) ^ step);
    purpose
        .bytes()
        .fold(state, |state, byte| mix(state ^ u64::from(byte)))
}

/// A number in `[0, 1)` from a seed and a counter.
pub(crate) fn uniform(seed: u64, counter: u64) -> f64 {
    (mix(mix(seed) ^ counter) >> 11) as f64 / (1_u64 << 53) as f64
}

/// SplitMix64's output function: every bit of the input reaches every bit of the output.
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
    fn no_two_moments_share_a_seed() {
        let moments = (0..20_u64).flat_map(|step| (0..20).map(move |micro| (step, micro)));
        let seeds: HashSet<_> = moments
            .map(|(step, micro)| forward(3, step, micro))
            .collect();
        assert_eq!(seeds.len(), 400);
    }

    #[test]
    fn no_two_purposes_share_a_seed() {
        let purposes = ["", "a", "b", "ab", "ba"];
        let moments = (0..20).flat_map(|step| purposes.map(|purpose| (step, purpose)));
        let seeds: HashSet<_> = moments
            .map(|(step, purpose)| super::purpose(3, step, purpose))
            .collect();
        assert_eq!(seeds.len(), 100);
    }
}
