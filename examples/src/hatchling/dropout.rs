//! Dropout that draws its random bits many at a time.

use bdh::burn::nn::Dropout;
use bdh::burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// `x` with a share of its elements dropped and the others made larger, in training.
///
/// burn draws a random `f64` for each element, on one thread; on the CPU that was a quarter of the time of a step. Here it
/// draws a seed, and the mask comes from 16 bits an element, which is the share to within 1/65,536. Elsewhere the
/// mask is made where the model is, by burn.
pub(super) fn drop_some<const D: usize>(dropout: &Dropout, x: Tensor<D>) -> Tensor<D> {
    let trains = dropout.training.is_enabled() && x.device().is_autodiff() && dropout.prob > 0.0;
    let is_on_cpu = || bdh::device("cpu").is_ok_and(|cpu| x.device().inner() == cpu);
    if !trains || !is_on_cpu() {
        return dropout.forward(x);
    }
    let kept = 1.0 - dropout.prob;
    let mask = mask(seed(&x.device()), x.shape().num_elements(), kept);
    let mask = Tensor::from_data(TensorData::new(mask, x.shape()), &x.device());
    x * mask
}

/// A number from the generator that the trainer seeds for each step.
fn seed(device: &Device) -> u64 {
    let halves = Distribution::Uniform(0.0, f64::from(1 << 30));
    let halves = Tensor::<1, Int>::random([2], halves, device).into_data();
    halves.iter::<i64>().fold(0, |seed, half| seed << 30 | half as u64)
}

/// Zero where an element is dropped, and elsewhere what keeps the mean.
fn mask(seed: u64, elements: usize, kept: f64) -> Vec<f32> {
    let bound = (kept * f64::from(1 << 16)).round() as u32;
    let scale = (f64::from(1 << 16) / f64::from(bound)) as f32;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut mask = Vec::with_capacity(elements);
    let mut bits = [0_u8; 4096]; // a large buffer would be new pages each time
    while mask.len() < elements {
        rng.fill_bytes(&mut bits);
        let (pairs, _) = bits.as_chunks::<2>();
        let keeps = |pair: &[u8; 2]| u32::from(u16::from_le_bytes(*pair)) < bound;
        let values = pairs.iter().map(|pair| if keeps(pair) { scale } else { 0.0 });
        mask.extend(values.take(elements - mask.len()));
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_that_is_kept_is_as_asked_and_the_mean_stays() {
        for kept in [0.9, 0.5, 0.1] {
            let mask = mask(7, 1_000_000, kept);
            let count = mask.iter().filter(|value| **value > 0.0).count() as f64 / 1e6;
            let mean = mask.iter().map(|value| f64::from(*value)).sum::<f64>() / 1e6;
            // Five standard deviations of a share of a million.
            let near = 5.0 * (kept * (1.0 - kept) / 1e6).sqrt();
            assert!((count - kept).abs() < near, "{count} of {kept}");
            assert!((mean - 1.0).abs() < near / kept, "{mean}");
        }
    }

    #[test]
    fn a_seed_of_the_step_gives_the_same_mask_again() {
        let device = Device::flex().autodiff();
        let of = |seed_of_step| {
            device.seed(seed_of_step);
            [seed(&device), seed(&device)]
        };
        assert_eq!(of(3), of(3));
        assert_ne!(of(3)[0], of(3)[1]);
        assert_ne!(of(3), of(4));
    }
}
