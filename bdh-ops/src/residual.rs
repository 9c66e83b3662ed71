//! Sums of streams.

#[cfg(feature = "flex")]
use crate::cpu;
use crate::precision::in_f32;
use burn::tensor::Tensor;

/// `a·x + b·y`, with weights of one element each, which have gradients too.
///
/// Computed in f32 where `x` and `y` are in less, and given back in what `x` is in: a weight is learned to more digits
/// than bf16 has, and its gradient is a sum over everything.
///
/// # Panics
///
/// If `x` and `y` differ in shape, or a weight is not one number.
#[must_use]
pub fn mix<const D: usize>(
    (a, x): (Tensor<1>, Tensor<D>),
    (b, y): (Tensor<1>, Tensor<D>),
) -> Tensor<D> {
    in_f32(x, |x| {
        let [a, b] = [a, b].map(|weight| weight.cast(x.dtype()));
        let y = y.cast(x.dtype());
        #[cfg(feature = "flex")]
        if cpu::takes(&a) && cpu::takes(&x) && cpu::takes(&b) && cpu::takes(&y) {
            assert_eq!(x.dims(), y.dims(), "what is mixed has one shape");
            assert!(a.dims() == [1] && b.dims() == [1], "a weight is one number");
            let (a, b) = (a.into_dispatch(), b.into_dispatch());
            let out = cpu::residual::mix([a, x.into_dispatch(), b, y.into_dispatch()]);
            return Tensor::from_dispatch(out);
        }
        x * a.unsqueeze() + y * b.unsqueeze()
    })
}
