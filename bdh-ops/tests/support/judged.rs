//! Evaluation of one function of the same numbers in several precisions.

use burn::tensor::{DType, Device, Tensor, TensorData};

/// Returns values that are neither regular nor random, different for each input.
pub(crate) fn wave(len: usize, which: usize) -> Vec<f64> {
    let angle = |k: usize| 0.7 * (k * k) as f64 + 1.3 * (which + 1) as f64;
    (0..len)
        .map(|k| 1.5 * angle(k).sin() + 0.3 * (0.01 * k as f64).cos())
        .collect()
}

/// Rounds values to bf16, so that a cast to it changes nothing.
pub(crate) fn rounded(values: &[f64]) -> Vec<f64> {
    TensorData::from(values)
        .convert_dtype(DType::BF16)
        .iter()
        .collect()
}

/// Creates a tensor that gets a gradient.
pub(crate) fn leaf(values: &[f64], dtype: DType) -> Tensor<1> {
    let device = Device::flex().autodiff();
    Tensor::from_data(TensorData::from(values), (&device, dtype)).require_grad()
}

pub(crate) fn numbers(tensor: Tensor<1>) -> Vec<f64> {
    tensor.into_data().iter().collect()
}

/// Returns the result of a function of leaves of one type, and the gradients of all leaves.
///
/// # Panics
///
/// If a gradient has another type than its leaf.
pub(crate) fn results(
    leaves: &[Tensor<1>],
    function: impl Fn(&[Tensor<1>]) -> Tensor<1>,
) -> Vec<Vec<f64>> {
    let dtype = leaves[0].dtype();
    let output = function(leaves).cast(dtype);
    let weights = rounded(&wave(output.dims()[0], 9));
    let weights = Tensor::from_data(
        TensorData::from(weights.as_slice()),
        (&output.device(), dtype),
    );
    let gradients = (output.clone() * weights).sum().backward();
    let of = leaves.iter().map(|leaf| {
        let gradient = leaf.grad(&gradients).expect("a gradient");
        assert_eq!(
            gradient.dtype(),
            leaf.dtype(),
            "a gradient has the precision of its leaf"
        );
        numbers(gradient)
    });
    std::iter::once(numbers(output.inner())).chain(of).collect()
}
