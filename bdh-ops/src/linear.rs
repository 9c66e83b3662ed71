//! Products with weights.

#[cfg(feature = "flex")]
use crate::cpu;
use burn::tensor::Tensor;

/// Computes `x · weight + bias`: `[…, inputs]` with a weight of `[inputs, outputs]` to `[…, outputs]`.
///
/// The result has the precision of `x`. Weight and bias are cast to it, and their gradients are in their own precision.
///
/// On the CPU the product is added to the bias in one operation, and the backward pass is two products over all rows.
///
/// # Panics
///
/// If the last axis of `x` is not the first of `weight`.
#[must_use]
pub fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    let (weight, bias) = (
        weight.cast(x.dtype()),
        bias.map(|bias| bias.cast(x.dtype())),
    );
    #[cfg(feature = "flex")]
    if cpu::takes(&x) && cpu::takes(&weight) && bias.as_ref().is_none_or(cpu::takes) {
        let bias = bias.map(Tensor::into_dispatch);
        let out = cpu::linear::linear(x.into_dispatch(), weight.into_dispatch(), bias);
        return Tensor::from_dispatch(out);
    }
    plain(x, weight, bias)
}

/// Computes the logits of tokens by their embedding table, `x · tableᵀ`.
///
/// `x` is `[…, width]`, the table is `[vocab, width]`. The result is `[…, vocab]` in the precision of `x`, to which the
/// table is cast.
///
/// # Panics
///
/// If the last axis of `x` is not that of `table`.
#[must_use]
pub fn tied_head<const D: usize>(x: Tensor<D>, table: Tensor<2>) -> Tensor<D> {
    let table = table.cast(x.dtype());
    #[cfg(feature = "flex")]
    if cpu::takes(&x) && cpu::takes(&table) {
        let out = cpu::linear::tied_head(x.into_dispatch(), table.into_dispatch());
        return Tensor::from_dispatch(out);
    }
    plain(x, table.transpose(), None)
}

/// Computes a linear layer as one product over all rows.
///
/// burn's own makes one product for each sequence if its length is a multiple of 32, and adds the gradients of the
/// weight in the activations' precision.
fn plain<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
    let mut shape = x.dims();
    let rows = shape[..D - 1].iter().product();
    let out = x.reshape([rows, shape[D - 1]]).matmul(weight);
    let out = match bias {
        Some(bias) => out + bias.unsqueeze(),
        None => out,
    };
    shape[D - 1] = out.dims()[1];
    out.reshape(shape)
}
