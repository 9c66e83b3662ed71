//! Rotary positions.

#[cfg(feature = "flex")]
use crate::cpu;
use crate::precision::in_f32;
use burn::tensor::Tensor;

/// Turns the heads in `x`, `[batch, seq_len, heads, head_size]`, by minus the angle of their position.
///
/// Channel `j` of a head pairs with channel `j + head_size / 2`. `cos` and `sin` are of the angles, `[seq_len, head_size
/// / 2]`; they are constants. Computed in f32 where `x` is in less, and given back in what `x` is in.
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
        let table = |table: Tensor<2>| table.reshape([1, seq_len, 1, half]);
        let (cos, sin) = (table(cos), table(sin));
        let (first, second) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
        let turned = [
            first.clone() * cos.clone() + second.clone() * sin.clone(),
            second * cos - first * sin,
        ];
        Tensor::cat(turned.to_vec(), 3)
    })
}
