//! Steps of optimizers, in place.

use super::array::Array;
use super::tape::plain;
use crate::adamw::Factors;
use burn::backend::{BackendTensor, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind};
use burn::tensor::Tensor;
use pulp::Arch;
use rayon::prelude::*;

/// Elements that a thread takes at a time.
const PIECE: usize = 16 * 1024;

pub(crate) fn adamw<const D: usize>(
    weight: Tensor<D>,
    gradient: Tensor<D>,
    average: Tensor<D>,
    square: Tensor<D>,
    factors: Factors,
) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
    let array = |tensor: Tensor<D>| Array::new(plain(tensor.into_dispatch()));
    let gradient = array(gradient);
    let (mut weight, mut average, mut square) = (array(weight), array(average), array(square));
    let pieces = weight.values_mut().par_chunks_mut(PIECE);
    let pieces = pieces.zip(gradient.values().par_chunks(PIECE));
    let pieces = pieces.zip(average.values_mut().par_chunks_mut(PIECE));
    let pieces = pieces.zip(square.values_mut().par_chunks_mut(PIECE));
    pieces.for_each(|(((weight, gradient), average), square)| {
        Arch::new().dispatch(
            #[inline(always)]
            || adamw_piece(weight, gradient, average, square, factors),
        );
    });
    (tensor(weight), tensor(average), tensor(square))
}

#[inline(always)]
fn adamw_piece(
    weight: &mut [f32],
    gradient: &[f32],
    average: &mut [f32],
    square: &mut [f32],
    factors: Factors,
) {
    let Factors { keep, betas, lr, correction, epsilon } = factors;
    let [keep, lr, correction, epsilon] = [keep, lr, 1.0 / correction, epsilon].map(|x| x as f32);
    let [kept, new] = [betas.0, 1.0 - betas.0].map(|x| x as f32);
    let [kept_square, new_square] = [betas.1, 1.0 - betas.1].map(|x| x as f32);
    let places = weight.iter_mut().zip(gradient).zip(average).zip(square);
    for (((weight, gradient), average), square) in places {
        *average = kept * *average + new * gradient;
        *square = kept_square * *square + new_square * gradient * gradient;
        *weight = keep * *weight - lr * *average / (square.sqrt() * correction + epsilon);
    }
}

fn tensor<const D: usize>(array: Array) -> Tensor<D> {
    let kind = DispatchTensorKind::Flex(BackendTensor::Float(array.into_tensor()));
    Tensor::from_dispatch(DispatchTensor { kind, autodiff: DispatchAutodiffContext::Disabled })
}
