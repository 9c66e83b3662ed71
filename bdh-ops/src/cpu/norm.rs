//! Kernels of row norms. The forward pass keeps its input and the factors of each row.

use super::array::Array;
use super::math::{sum, sum_of_pairs};
use super::tape::{Kernel, run};
use super::threads::{add_up, on_rows};
use burn::backend::DispatchTensor;

pub(crate) fn layer_norm(
    x: DispatchTensor,
    gain: Option<DispatchTensor>,
    bias: Option<DispatchTensor>,
    epsilon: f32,
) -> DispatchTensor {
    let kernel = LayerNorm {
        epsilon,
        has_gain: gain.is_some(),
        has_bias: bias.is_some(),
    };
    match (gain, bias) {
        (None, None) => run(kernel, [x]),
        (Some(one), None) | (None, Some(one)) => run(kernel, [x, one]),
        (Some(gain), Some(bias)) => run(kernel, [x, gain, bias]),
    }
}

pub(crate) fn rms_norm(x: DispatchTensor, size: f32, epsilon: f32) -> DispatchTensor {
    run(RmsNorm { size, epsilon }, [x])
}

/// Layer norm of `x`, with the gain and the bias as further inputs if they exist.
#[derive(Debug)]
struct LayerNorm {
    epsilon: f32,
    has_gain: bool,
    has_bias: bool,
}

/// Mean of a row, and one over its standard deviation.
type Row = (f32, f32);

impl LayerNorm {
    fn gain<'a, const N: usize>(&self, inputs: &'a [Array; N]) -> Option<&'a [f32]> {
        self.has_gain.then(|| inputs[1].values())
    }

    #[inline(always)]
    fn row(&self, x: &[f32]) -> Row {
        let mean = sum(x, |x| x) / x.len() as f32;
        let variance = sum(x, |x| (x - mean) * (x - mean)) / x.len() as f32;
        (mean, 1.0 / (variance + self.epsilon).sqrt())
    }
}

impl<const N: usize> Kernel<N> for LayerNorm {
    type Saved = ([Array; N], Vec<Row>);

    fn forward(&self, inputs: [Array; N]) -> (Array, Self::Saved) {
        let (x, width) = (inputs[0].values(), inputs[0].width());
        let (gain, bias) = (
            self.gain(&inputs),
            self.has_bias.then(|| inputs[N - 1].values()),
        );
        let mut out = vec![0.0; x.len()];
        let rows = on_rows(
            &mut out,
            width,
            #[inline(always)]
            |first, out| {
                let x = &x[first * width..][..out.len()];
                let mut factors = Vec::with_capacity(x.len() / width);
                for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                    let (mean, factor) = self.row(x);
                    for (out, x) in out.iter_mut().zip(x) {
                        *out = (x - mean) * factor;
                    }
                    if let Some(gain) = gain {
                        for (out, gain) in out.iter_mut().zip(gain) {
                            *out *= gain;
                        }
                    }
                    if let Some(bias) = bias {
                        for (out, bias) in out.iter_mut().zip(bias) {
                            *out += bias;
                        }
                    }
                    factors.push((mean, factor));
                }
                factors
            },
        );
        (Array::of(out, inputs[0].shape()), (inputs, rows.concat()))
    }

    /// Overwrites the incoming gradient with that of `x`.
    fn backward(
        &self,
        (inputs, rows): Self::Saved,
        mut gradient: Array,
        _: [bool; N],
    ) -> [Option<Array>; N] {
        let (x, width) = (inputs[0].values(), inputs[0].width());
        let gain = self.gain(&inputs);
        let sums = on_rows(
            gradient.values_mut(),
            width,
            #[inline(always)]
            |first, gradient| {
                let x = &x[first * width..][..gradient.len()];
                let mut sums = [
                    vec![0.0; if self.has_gain { width } else { 0 }],
                    vec![0.0; if self.has_bias { width } else { 0 }],
                ];
                let places = x.chunks_exact(width).zip(gradient.chunks_exact_mut(width));
                for ((x, gradient), (mean, factor)) in places.zip(&rows[first..]) {
                    backward_row(x, gradient, (*mean, *factor), gain, &mut sums);
                }
                sums
            },
        );
        let (of_gain, of_bias): (Vec<_>, Vec<_>) = sums
            .into_iter()
            .map(|[of_gain, of_bias]| (of_gain, of_bias))
            .unzip();
        let mut gradients = [const { None }; N];
        if self.has_bias {
            gradients[N - 1] = Some(Array::of(add_up(of_bias), &[width]));
        }
        if self.has_gain {
            gradients[1] = Some(Array::of(add_up(of_gain), &[width]));
        }
        gradients[0] = Some(gradient);
        gradients
    }
}

/// Computes the gradient of a row: `(h − mean(h) − x̂·mean(h·x̂))` over the standard deviation.
///
/// `h` is the gradient times the gain, and `x̂` the normed row.
#[inline(always)]
fn backward_row(
    x: &[f32],
    gradient: &mut [f32],
    (mean, factor): Row,
    gain: Option<&[f32]>,
    [of_gain, of_bias]: &mut [Vec<f32>; 2],
) {
    for (sum, gradient) in of_bias.iter_mut().zip(&*gradient) {
        *sum += gradient;
    }
    for ((sum, gradient), x) in of_gain.iter_mut().zip(&*gradient).zip(x) {
        *sum += gradient * (x - mean) * factor;
    }
    if let Some(gain) = gain {
        for (gradient, gain) in gradient.iter_mut().zip(gain) {
            *gradient *= gain;
        }
    }
    let width = x.len() as f32;
    let along_ones = sum(gradient, |h| h) / width;
    let along_x = sum_of_pairs(gradient, x, |h, x| h * (x - mean)) * factor / width;
    for (gradient, x) in gradient.iter_mut().zip(x) {
        *gradient = factor * (*gradient - along_ones - (x - mean) * factor * along_x);
    }
}

#[derive(Debug)]
struct RmsNorm {
    size: f32,
    epsilon: f32,
}

impl RmsNorm {
    /// Returns one over the root mean square of a row.
    #[inline(always)]
    fn factor(&self, x: &[f32]) -> f32 {
        1.0 / (sum(x, |x| x * x) / x.len() as f32 + self.epsilon).sqrt()
    }
}

impl Kernel<1> for RmsNorm {
    type Saved = Array;

    fn forward(&self, [x]: [Array; 1]) -> (Array, Array) {
        let (values, width) = (x.values(), x.width());
        let mut out = vec![0.0; values.len()];
        on_rows(
            &mut out,
            width,
            #[inline(always)]
            |first, out| {
                let x = &values[first * width..][..out.len()];
                for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                    let factor = self.factor(x) * self.size;
                    for (out, x) in out.iter_mut().zip(x) {
                        *out = x * factor;
                    }
                }
            },
        );
        (Array::of(out, x.shape()), x)
    }

    /// Computes `size · r · (h − x·r²·mean(h·x))`, where `r` is one over the root mean square.
    fn backward(&self, x: Array, mut gradient: Array, _: [bool; 1]) -> [Option<Array>; 1] {
        let (values, width) = (x.values(), x.width());
        on_rows(
            gradient.values_mut(),
            width,
            #[inline(always)]
            |first, gradient| {
                let x = &values[first * width..][..gradient.len()];
                for (x, gradient) in x.chunks_exact(width).zip(gradient.chunks_exact_mut(width)) {
                    let factor = self.factor(x);
                    let along = sum_of_pairs(gradient, x, |h, x| h * x) / width as f32;
                    let (own, shared) = (self.size * factor, self.size * factor.powi(3) * along);
                    for (gradient, x) in gradient.iter_mut().zip(x) {
                        *gradient = own * *gradient - shared * x;
                    }
                }
            },
        );
        [Some(gradient)]
    }
}
