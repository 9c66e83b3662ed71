//! Normalization along the last axis.

#[cfg(feature = "flex")]
use crate::cpu;
use crate::precision::in_f32;
use burn::tensor::Tensor;

/// Normalizes each row of `x`, `[…, width]`, to a mean of 0 and a variance of 1, then applies `gain` and `bias`,
/// `[width]`.
///
/// `epsilon` is added to the variance, which has the width in its denominator. Below f32 it computes in f32, including
/// gain and bias, and casts the result back.
///
/// Source: Ba et al., 2016, *Layer Normalization* (arXiv:1607.06450).
///
/// # Panics
///
/// If `gain` or `bias` has another width than a row.
#[must_use]
pub fn layer_norm<const D: usize>(
    x: Tensor<D>,
    gain: Option<Tensor<1>>,
    bias: Option<Tensor<1>>,
    epsilon: f64,
) -> Tensor<D> {
    for part in [&gain, &bias].into_iter().flatten() {
        assert_eq!(
            part.dims(),
            [x.dims()[D - 1]],
            "gain and bias must have the width of a row"
        );
    }
    in_f32(x, |x| {
        let [gain, bias] = [gain, bias].map(|part| part.map(|part| part.cast(x.dtype())));
        #[cfg(feature = "flex")]
        if cpu::takes(&x)
            && [&gain, &bias]
                .iter()
                .all(|part| part.as_ref().is_none_or(cpu::takes))
        {
            let [gain, bias] = [gain, bias].map(|part| part.map(Tensor::into_dispatch));
            let out = cpu::norm::layer_norm(x.into_dispatch(), gain, bias, epsilon as f32);
            return Tensor::from_dispatch(out);
        }
        plain_layer_norm(x, gain, bias, epsilon)
    })
}

/// Computes the layer norm with burn's operations.
fn plain_layer_norm<const D: usize>(
    x: Tensor<D>,
    gain: Option<Tensor<1>>,
    bias: Option<Tensor<1>>,
    epsilon: f64,
) -> Tensor<D> {
    let centered = x.clone() - x.mean_dim(D - 1);
    let variance = centered.clone().square().mean_dim(D - 1);
    let mut normed = centered * (variance + epsilon).sqrt().recip();
    if let Some(gain) = gain {
        normed = normed * gain.unsqueeze();
    }
    if let Some(bias) = bias {
        normed = normed + bias.unsqueeze();
    }
    normed
}

/// Scales each row of `x`, `[…, width]`, to a root mean square of `size`.
///
/// `epsilon` is added to the mean square. Below f32 it computes in f32 and casts the result back.
///
/// Source: Zhang and Sennrich, 2019, *Root Mean Square Layer Normalization* (arXiv:1910.07467), without gains.
#[must_use]
pub fn rms_norm<const D: usize>(x: Tensor<D>, size: f64, epsilon: f64) -> Tensor<D> {
    in_f32(x, |x| {
        #[cfg(feature = "flex")]
        if cpu::takes(&x) {
            let out = cpu::norm::rms_norm(x.into_dispatch(), size as f32, epsilon as f32);
            return Tensor::from_dispatch(out);
        }
        // `size` multiplies the factors, one for each row, instead of every element.
        let factors = (x.clone().square().mean_dim(D - 1) + epsilon)
            .sqrt()
            .recip()
            * size;
        x * factors
    })
}
