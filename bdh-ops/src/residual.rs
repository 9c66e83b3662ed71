//! Weighted sums of residual streams.

#[cfg(feature = "flex")]
use crate::cpu;
use crate::precision::in_f32;
use burn::tensor::Tensor;

/// Computes the weighted sum `a·x + b·y` of two streams, with trainable weights of one element each.
///
/// Below f32 it computes in f32 and casts the result back: bf16 has too few digits for a learned weight, and for its
/// gradient, which is a sum over all elements.
///
/// # Panics
///
/// If `x` and `y` differ in shape, or a weight is not one number.
#[must_use]
pub fn residual_mix<const D: usize>(
    (a, x): (Tensor<1>, Tensor<D>),
    (b, y): (Tensor<1>, Tensor<D>),
) -> Tensor<D> {
    in_f32(x, |x| {
        let [a, b] = [a, b].map(|weight| weight.cast(x.dtype()));
        let y = y.cast(x.dtype());
        #[cfg(feature = "flex")]
        if cpu::takes(&a) && cpu::takes(&x) && cpu::takes(&b) && cpu::takes(&y) {
            assert_eq!(x.dims(), y.dims(), "both streams must have the same shape");
            assert!(
                a.dims() == [1] && b.dims() == [1],
                "a weight must have one element"
            );
            let (a, b) = (a.into_dispatch(), b.into_dispatch());
            let out = cpu::residual::residual_mix([a, x.into_dispatch(), b, y.into_dispatch()]);
            return Tensor::from_dispatch(out);
        }
        x * a.unsqueeze() + y * b.unsqueeze()
    })
}
