//! Norms along the last axis.

#[cfg(feature = "flex")]
use crate::cpu;
use crate::precision::in_f32;
use burn::tensor::Tensor;

/// Shifts each row of `x`, `[…, width]`, to a mean of 0 and scales it to a variance of 1; then scales by `gain` and
/// shifts by `bias`, `[width]`, where there are any.
///
/// `epsilon` is added to the variance, which has the width in its denominator. Computed in f32 where `x` is in less, gain
/// and bias included, and given back in what `x` is in.
///
/// Source: Ba et al., 2016, *Layer Normalization* (arXiv:1607.06450).
///
/// # Panics
///
/// If `gain` or `bias` is of another width than a row.
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
            "a gain and a bias for each element of a row"
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
        let x = x.clone() - x.mean_dim(D - 1);
        let factor = (x.clone().square().mean_dim(D - 1) + epsilon)
            .sqrt()
            .recip();
        let x = x * factor;
        let x = match gain {
            Some(gain) => x * gain.unsqueeze(),
            None => x,
        };
        match bias {
            Some(bias) => x + bias.unsqueeze(),
            None => x,
        }
    })
}

/// Scales each row of `x`, `[…, width]`, to a root mean square of `size`; `epsilon` is added to the mean square. Computed
/// in f32 where `x` is in less, and given back in what `x` is in.
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
        // The size goes into the factors, one a row, where it costs nothing.
        let factors = (x.clone().square().mean_dim(D - 1) + epsilon)
            .sqrt()
            .recip()
            * size;
        x * factors
    })
}
