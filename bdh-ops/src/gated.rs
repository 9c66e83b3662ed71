//! Products of two activities, with dropout.

#[cfg(feature = "flex")]
use crate::cpu;
use crate::precision::in_f32;
use burn::tensor::{Distribution, Tensor};

/// `x · y`, of which a share of `dropout` is dropped and the rest made larger by as much, so that the mean stays.
///
/// With a `dropout` of 0, the product alone. Which elements are dropped follows from the device's generator
/// (`device.seed`). On the CPU no mask is kept: an element's fate is computed from a seed and its number, forward and
/// backward, to within `2⁻³²` of the share.
///
/// Computed in what `x` and `y` are in, but for the factor that makes the rest larger: in bf16 that would be off by up to
/// 1/256 of itself, and all that training sees with it.
///
/// Source: Srivastava et al., 2014, *Dropout: A Simple Way to Prevent Neural Networks from Overfitting*.
///
/// # Panics
///
/// If `x` and `y` differ in shape.
#[must_use]
pub fn gated<const D: usize>(x: Tensor<D>, y: Tensor<D>, dropout: f64) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if cpu::takes(&x) && cpu::takes(&y) {
        assert_eq!(x.dims(), y.dims(), "factors have one shape");
        let seed = if dropout > 0.0 { seed(&x) } else { 0 };
        let out = cpu::gated::gated([x.into_dispatch(), y.into_dispatch()], dropout, seed);
        return Tensor::from_dispatch(out);
    }
    let product = x * y;
    if dropout == 0.0 {
        return product;
    }
    let mask = product.random_like(Distribution::Bernoulli(1.0 - dropout));
    in_f32(product * mask, |kept| kept * (1.0 / (1.0 - dropout)))
}

/// A number from the generator of the device that `x` is on.
#[cfg(feature = "flex")]
fn seed<const D: usize>(x: &Tensor<D>) -> u64 {
    let halves = Distribution::Uniform(0.0, f64::from(1 << 30));
    let halves =
        Tensor::<1, burn::tensor::Int>::random([2], halves, &x.device().inner()).into_data();
    halves
        .iter::<i64>()
        .fold(0, |seed, half| seed << 30 | half.cast_unsigned())
}
