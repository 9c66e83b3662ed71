//! Products of two activities, with dropout.

#[cfg(feature = "flex")]
use crate::cpu;
use crate::precision::in_f32;
use burn::tensor::{Distribution, Tensor};

/// Computes `x · y` with dropout: a share of `dropout` becomes 0, and the rest is scaled up so that the mean stays.
///
/// The device's random generator (`device.seed`) decides which elements are dropped. On the CPU no mask is kept:
/// forward and backward pass compute it from a seed and the index of an element, with an error of the share below
/// `2⁻³²`.
///
/// The product is computed in the inputs' precision, the scaling in f32 at least. In bf16 the factor would have an
/// error of up to 1/256, which would affect every activation.
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
        assert_eq!(x.dims(), y.dims(), "both factors must have the same shape");
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

/// Draws 60 bits from the random generator of the device of `x`.
#[cfg(feature = "flex")]
fn seed<const D: usize>(x: &Tensor<D>) -> u64 {
    // Two halves, because the generator's floats have too few bits for a whole seed.
    let range = Distribution::Uniform(0.0, f64::from(1 << 30));
    let halves = Tensor::<1, burn::tensor::Int>::random([2], range, &x.device().inner());
    let mut seed = 0;
    for half in halves.into_data().iter::<i64>() {
        seed = seed << 30 | half.cast_unsigned();
    }
    seed
}
