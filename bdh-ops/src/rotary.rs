//! Rotary positions.

#[cfg(feature = "flex")]
use crate::cpu;
use crate::precision::in_f32;
use burn::tensor::Tensor;

/// Rotates the heads in `x`, `[batch, seq_len, heads, head_size]`, by minus the angle of their position.
///
/// Channel `j` of a head pairs with channel `j + head_size / 2`. `cos` and `sin` of the angles are constants,
/// `[seq_len, head_size / 2]`. Below f32 it computes in f32 and casts the result back.
///
/// Source: Su et al., 2021, *RoFormer* (arXiv:2104.09864), in the half-split form.
#[must_use]
pub fn rotary(x: Tensor<4>, cos: Tensor<2>, sin: Tensor<2>) -> Tensor<4> {
    in_f32(x, |x| {
        let [cos, sin] = [cos, sin].map(|table| table.cast(x.dtype()));
        #[cfg(feature = "flex")]
        if cpu::takes(&x) && cpu::takes(&cos) && cpu::takes(&sin) {
            return cpu::rotary::rotary(x, cos, sin);
        }
        let [_, seq_len, _, head_size] = x.dims();
        let half = head_size / 2;
        let [cos, sin] = [cos, sin].map(|table| table.reshape([1, seq_len, 1, half]));
        let (first, second) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
        let turned = [
            first.clone() * cos.clone() + second.clone() * sin.clone(),
            second * cos - first * sin,
        ];
        Tensor::cat(turned.to_vec(), 3)
    })
}
