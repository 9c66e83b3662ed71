//! Kernel of an AdamW step, in place.

use super::array::Array;
use super::tape::plain;
use super::threads::PIECE;
use crate::adamw::Factors;
use burn::backend::{BackendTensor, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Returns the parameter and both averages after a step.
pub(crate) fn adamw(
    [weight, gradient, average, square]: [DispatchTensor; 4],
    factors: Factors,
) -> [DispatchTensor; 3] {
    let array = |tensor| Array::new(plain(tensor));
    let gradient = array(gradient);
    let (mut weight, mut average, mut square) = (array(weight), array(average), array(square));
    let pieces = weight.values_mut().par_chunks_mut(PIECE);
    let pieces = pieces.zip(gradient.values().par_chunks(PIECE));
    let pieces = pieces.zip(average.values_mut().par_chunks_mut(PIECE));
    let pieces = pieces.zip(square.values_mut().par_chunks_mut(PIECE));
    pieces.for_each(|(((weight, gradient), average), square)| {
        Arch::new().dispatch(AdamWPiece {
            weight,
            gradient,
            average,
            square,
            factors,
        });
    });
    [weight, average, square].map(tensor)
}

struct AdamWPiece<'a> {
    weight: &'a mut [f32],
    gradient: &'a [f32],
    average: &'a mut [f32],
    square: &'a mut [f32],
    factors: Factors,
}

impl WithSimd for AdamWPiece<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Factors {
            keep,
            betas,
            lr,
            correction,
            epsilon,
        } = self.factors;
        let [keep, lr, scale, epsilon] = [keep, lr, 1.0 / correction, epsilon].map(|x| x as f32);
        let [kept, new] = [betas.0, 1.0 - betas.0].map(|x| x as f32);
        let [kept_square, new_square] = [betas.1, 1.0 - betas.1].map(|x| x as f32);
        let places = self.weight.iter_mut().zip(self.gradient);
        let places = places.zip(self.average).zip(self.square);
        for (((weight, gradient), average), square) in places {
            *average = kept * *average + new * gradient;
            *square = kept_square * *square + new_square * gradient * gradient;
            *weight = keep * *weight - lr * *average / (square.sqrt() * scale + epsilon);
        }
    }
}

/// Converts an array to a tensor without autodiff.
pub(super) fn tensor(array: Array) -> DispatchTensor {
    let kind = DispatchTensorKind::Flex(BackendTensor::Float(array.into_tensor()));
    DispatchTensor {
        kind,
        autodiff: DispatchAutodiffContext::Disabled,
    }
}
