//! Kernel of a Muon step: matrix products and five passes.

use super::array::Array;
use super::gemm::{Before, Matrix, Threads, product};
use super::linear::sums_of_columns;
use super::math::sum;
use super::step::tensor;
use super::tape::plain;
use super::threads::{on_pairs, on_rows};
use crate::muon::{MOMENT_FLOOR, MuonStep, NORM_FLOOR, POLAR_EXPRESS, POLAR_MARGIN};
use burn::backend::DispatchTensor;

/// Returns `[weight, momentum, variance]` after a step.
pub(crate) fn step(
    [weight, gradient, momentum]: [DispatchTensor; 3],
    variance: Option<DispatchTensor>,
    how: MuonStep,
) -> [DispatchTensor; 3] {
    let array = |tensor| Array::new(plain(tensor));
    let (mut weight, gradient, mut momentum) = (array(weight), array(gradient), array(momentum));
    let shape = Shape::of(&weight);
    let mut update = vec![0.0; shape.inputs * shape.outputs];
    accelerate(
        &gradient,
        momentum.values_mut(),
        &mut update,
        how.momentum as f32,
    );
    shape.equalize(&mut update);
    let update = shape.orthogonalize(update);

    let mut variance = variance.map_or_else(|| shape.no_variance(), array);
    let factors = shape.factors(&update, variance.values_mut(), how.beta2 as f32);
    shape.move_by(&update, &factors, weight.values_mut(), how);
    [weight, momentum, variance].map(tensor)
}

/// Updates the average gradient, and computes the update with Nesterov momentum.
fn accelerate(gradient: &Array, momentum: &mut [f32], update: &mut [f32], kept: f32) {
    let gradient = gradient.values();
    on_pairs(
        momentum,
        update,
        #[inline(always)]
        |first, momentum, update| {
            let places = momentum.iter_mut().zip(update).zip(&gradient[first..]);
            for ((momentum, update), gradient) in places {
                *momentum = *momentum * kept + gradient * (1.0 - kept);
                *update = gradient * (1.0 - kept) + *momentum * kept;
            }
        },
    );
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    inputs: usize,
    outputs: usize,
}

impl Shape {
    fn of(array: &Array) -> Self {
        let [inputs, outputs] = *array.shape() else {
            unreachable!("`muon_step` takes matrices")
        };
        Self { inputs, outputs }
    }

    /// Returns whether the variance has one element for each input: if there are more inputs than outputs.
    fn is_by_input(self) -> bool {
        self.outputs < self.inputs
    }

    fn no_variance(self) -> Array {
        let shape = if self.is_by_input() {
            [self.inputs, 1]
        } else {
            [1, self.outputs]
        };
        Array::of(vec![0.0; shape[0] * shape[1]], &shape)
    }

    /// Scales every output's column to the same norm, and the whole matrix to a norm below 1.
    fn equalize(self, update: &mut [f32]) {
        let squares = sums_of_columns(update, self.outputs, |x| x * x);
        let mean = (squares.iter().sum::<f32>() / self.outputs as f32).sqrt();
        let to_mean = |square: &f32| mean / square.sqrt().max(NORM_FLOOR as f32);
        let mut factors: Vec<_> = squares.iter().map(to_mean).collect();
        let size = squares
            .iter()
            .zip(&factors)
            .map(|(square, factor)| square * factor * factor);
        let size = size.sum::<f32>().sqrt() * POLAR_MARGIN as f32 + NORM_FLOOR as f32;
        for factor in &mut factors {
            *factor /= size;
        }
        on_rows(
            update,
            self.outputs,
            #[inline(always)]
            |_, rows| {
                for row in rows.chunks_exact_mut(self.outputs) {
                    for (update, factor) in row.iter_mut().zip(&factors) {
                        *update *= factor;
                    }
                }
            },
        );
    }

    /// Runs the Polar Express iterations, with the Gram matrix of the shorter side.
    fn orthogonalize(self, mut x: Vec<f32>) -> Vec<f32> {
        let Self { inputs, outputs } = self;
        let side = inputs.min(outputs);
        let (mut gram, mut inner) = (vec![0.0; side * side], vec![0.0; side * side]);
        let mut next = vec![0.0; x.len()];
        for factors in POLAR_EXPRESS {
            let [a, b, c] = factors.map(|factor| factor as f32);
            let own = Matrix::new(&x, inputs, outputs);
            let (left, right) = if inputs < outputs {
                (own, own.transposed())
            } else {
                (own.transposed(), own)
            };
            product(&mut gram, side, Before::Replaced, left, right, Threads::All);
            inner.copy_from_slice(&gram);
            let before = Before::Mixed { kept: b, new: c };
            product(
                &mut inner,
                side,
                before,
                square(&gram, side),
                square(&gram, side),
                Threads::All,
            );
            next.copy_from_slice(&x);
            let (left, right) = if inputs < outputs {
                (square(&inner, side), own)
            } else {
                (own, square(&inner, side))
            };
            let before = Before::Mixed { kept: a, new: 1.0 };
            product(&mut next, outputs, before, left, right, Threads::All);
            std::mem::swap(&mut x, &mut next);
        }
        x
    }

    /// Returns the factor of each input or output of an update: the required norm over its usual size.
    fn factors(self, update: &[f32], variance: &mut [f32], beta2: f32) -> Vec<f32> {
        let (squares, count) = if self.is_by_input() {
            (sums_of_rows(update, self.outputs), self.outputs)
        } else {
            (
                sums_of_columns(update, self.outputs, |x| x * x),
                self.inputs,
            )
        };
        let wanted = (self.inputs.min(self.outputs) as f32).sqrt();
        let scale = wanted / squares.iter().sum::<f32>().sqrt().max(NORM_FLOOR as f32);
        let (mut before, mut after) = (0.0, 0.0);
        let mut factors = Vec::with_capacity(squares.len());
        for (square, variance) in squares.into_iter().zip(variance) {
            let now = scale * scale * square / count as f32;
            *variance = *variance * beta2 + now * (1.0 - beta2);
            let factor = 1.0 / variance.max(MOMENT_FLOOR as f32).sqrt();
            before += now * count as f32;
            after += now * factor * factor * count as f32;
            factors.push(factor);
        }
        let scale = scale * before.sqrt() / after.sqrt().max(MOMENT_FLOOR as f32);
        factors.into_iter().map(|factor| factor * scale).collect()
    }

    /// Subtracts the update, and decays the weights with the same sign as the update.
    fn move_by(self, update: &[f32], factors: &[f32], weight: &mut [f32], how: MuonStep) {
        let (lr, decay) = (how.lr as f32, how.decay as f32);
        on_rows(
            weight,
            self.outputs,
            #[inline(always)]
            |first, weight| {
                let update = &update[first * self.outputs..][..weight.len()];
                let rows = weight.chunks_exact_mut(self.outputs);
                let rows = rows.zip(update.chunks_exact(self.outputs)).enumerate();
                for (row, (weight, update)) in rows {
                    if self.is_by_input() {
                        let factor = factors[first + row];
                        for (weight, update) in weight.iter_mut().zip(update) {
                            *weight = moved(*weight, update * factor, lr, decay);
                        }
                    } else {
                        for ((weight, update), factor) in weight.iter_mut().zip(update).zip(factors)
                        {
                            *weight = moved(*weight, update * factor, lr, decay);
                        }
                    }
                }
            },
        );
    }
}

#[inline(always)]
fn moved(weight: f32, update: f32, lr: f32, decay: f32) -> f32 {
    let shrink = if update * weight < 0.0 {
        0.0
    } else {
        weight * decay
    };
    weight - update * lr - shrink
}

fn square(values: &[f32], side: usize) -> Matrix<'_> {
    Matrix::new(values, side, side)
}

/// Sums the squares of each row of `width`.
fn sums_of_rows(values: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0; values.len() / width.max(1)];
    on_rows(
        &mut sums,
        1,
        #[inline(always)]
        |first, sums| {
            let rows = values[first * width..].chunks_exact(width);
            for (total, row) in sums.iter_mut().zip(rows) {
                *total = sum(row, |x| x * x);
            }
        },
    );
    sums
}
