//! Kernels of elementwise functions.

use super::array::Array;
use super::math::{erf, exp, sigmoid, tanh};
use super::tape::{Kernel, run};
use super::threads::on_rows;
use crate::activation::TWICE_SQRT_2_OVER_PI;
use burn::backend::DispatchTensor;
use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};
use std::fmt::Debug;

pub(crate) fn gelu(x: DispatchTensor) -> DispatchTensor {
    run(Gelu, [x])
}

pub(crate) fn gelu_tanh(x: DispatchTensor) -> DispatchTensor {
    run(GeluTanh, [x])
}

pub(crate) fn relu(x: DispatchTensor) -> DispatchTensor {
    run(Relu, [x])
}

pub(crate) fn relu_squared(x: DispatchTensor) -> DispatchTensor {
    run(ReluSquared, [x])
}

pub(crate) fn soft_cap(x: DispatchTensor, cap: f32) -> DispatchTensor {
    run(SoftCap(cap), [x])
}

/// Function of one number, with its derivative.
trait Function: Debug + Copy + Send + Sync + 'static {
    fn value(self, x: f32) -> f32;
    fn slope(self, x: f32) -> f32;
}

impl<F: Function> Kernel<1> for F {
    type Saved = Array;

    fn forward(&self, [x]: [Array; 1]) -> (Array, Array) {
        let mut out = vec![0.0; x.values().len()];
        let values = x.values();
        on_rows(
            &mut out,
            1,
            #[inline(always)]
            |first, out| {
                for (out, x) in out.iter_mut().zip(&values[first..]) {
                    *out = self.value(*x);
                }
            },
        );
        (Array::of(out, x.shape()), x)
    }

    /// Overwrites the incoming gradient.
    fn backward(&self, x: Array, mut gradient: Array, _: [bool; 1]) -> [Option<Array>; 1] {
        let values = x.values();
        on_rows(
            gradient.values_mut(),
            1,
            #[inline(always)]
            |first, gradient| {
                for (gradient, x) in gradient.iter_mut().zip(&values[first..]) {
                    *gradient *= self.slope(*x);
                }
            },
        );
        [Some(gradient)]
    }
}

#[derive(Debug, Clone, Copy)]
struct Gelu;

impl Function for Gelu {
    #[inline(always)]
    fn value(self, x: f32) -> f32 {
        0.5 * x * (1.0 + erf(x * FRAC_1_SQRT_2))
    }

    #[inline(always)]
    fn slope(self, x: f32) -> f32 {
        let density = 0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2 * exp(-0.5 * x * x);
        0.5 * (1.0 + erf(x * FRAC_1_SQRT_2)) + x * density
    }
}

#[derive(Debug, Clone, Copy)]
struct GeluTanh;

impl GeluTanh {
    const CUBIC: f32 = 0.044_715;
}

impl Function for GeluTanh {
    #[inline(always)]
    fn value(self, x: f32) -> f32 {
        x * sigmoid(TWICE_SQRT_2_OVER_PI * x * (1.0 + Self::CUBIC * x * x))
    }

    #[inline(always)]
    fn slope(self, x: f32) -> f32 {
        let share = sigmoid(TWICE_SQRT_2_OVER_PI * x * (1.0 + Self::CUBIC * x * x));
        let inner = TWICE_SQRT_2_OVER_PI * (1.0 + 3.0 * Self::CUBIC * x * x);
        share + x * share * (1.0 - share) * inner
    }
}

#[derive(Debug, Clone, Copy)]
struct ReluSquared;

impl Function for ReluSquared {
    #[inline(always)]
    fn value(self, x: f32) -> f32 {
        let positive = if x < 0.0 { 0.0 } else { x };
        positive * positive
    }

    #[inline(always)]
    fn slope(self, x: f32) -> f32 {
        if x < 0.0 { 0.0 } else { 2.0 * x }
    }
}

#[derive(Debug, Clone, Copy)]
struct SoftCap(f32);

impl Function for SoftCap {
    #[inline(always)]
    fn value(self, x: f32) -> f32 {
        self.0 * tanh(x / self.0)
    }

    #[inline(always)]
    fn slope(self, x: f32) -> f32 {
        let bent = tanh(x / self.0);
        1.0 - bent * bent
    }
}

/// ReLU, which works in place: its gradient needs only the result.
#[derive(Debug)]
struct Relu;

impl Kernel<1> for Relu {
    type Saved = Array;

    fn forward(&self, [mut x]: [Array; 1]) -> (Array, Array) {
        on_rows(
            x.values_mut(),
            1,
            #[inline(always)]
            |_, x| {
                for x in x {
                    *x = if *x < 0.0 { 0.0 } else { *x };
                }
            },
        );
        (x.clone(), x)
    }

    fn backward(&self, result: Array, mut gradient: Array, _: [bool; 1]) -> [Option<Array>; 1] {
        relu_backward(&mut gradient, &result);
        [Some(gradient)]
    }
}

/// Sets the gradient to 0 where the result of a ReLU is 0.
pub(super) fn relu_backward(gradient: &mut Array, result: &Array) {
    let values = result.values();
    on_rows(
        gradient.values_mut(),
        1,
        #[inline(always)]
        |first, gradient| {
            for (gradient, result) in gradient.iter_mut().zip(&values[first..]) {
                *gradient = if *result > 0.0 { *gradient } else { 0.0 };
            }
        },
    );
}
