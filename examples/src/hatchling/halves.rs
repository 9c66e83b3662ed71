//! Neurons in two halves: those of even number and those of odd.
//!
//! Rotary positions turn neuron `2i` against neuron `2i + 1`. With the two in one tensor, each turn shuffles a tensor
//! of all neurons and tokens, the largest there are; apart, it is four products. Nothing else depends on the order of
//! neurons, so the weights are cut in halves once for each pass and every tensor of neurons is two.

use super::dropout::drop_some;
use super::rope::Rope;
use bdh::burn::nn::Dropout;
use bdh::burn::tensor::Tensor;
use bdh::burn::tensor::activation::relu;

/// What is known of the even neurons, and of the odd.
#[derive(Debug, Clone)]
pub(super) struct Halves<const D: usize> {
    pub(super) even: Tensor<D>,
    pub(super) odd: Tensor<D>,
}

impl<const D: usize> Halves<D> {
    /// Does the same to both.
    pub(super) fn map<const E: usize>(
        self,
        mut change: impl FnMut(Tensor<D>) -> Tensor<E>,
    ) -> Halves<E> {
        Halves { even: change(self.even), odd: change(self.odd) }
    }

    /// Joins both with those of others.
    pub(super) fn zip<const E: usize, const F: usize>(
        self,
        other: Halves<E>,
        mut join: impl FnMut(Tensor<D>, Tensor<E>) -> Tensor<F>,
    ) -> Halves<F> {
        Halves { even: join(self.even, other.even), odd: join(self.odd, other.odd) }
    }

    /// The sum over all neurons of the products that `join` makes of each half's.
    pub(super) fn product<const E: usize>(
        self,
        other: Halves<E>,
        join: impl FnMut(Tensor<D>, Tensor<E>) -> Tensor<D>,
    ) -> Tensor<D> {
        let Halves { even, odd } = self.zip(other, join);
        even + odd
    }
}

impl Halves<3> {
    /// Of an encoder, `[heads, n_embd, neurons]`: each half is `[heads, n_embd, neurons / 2]`.
    pub(super) fn of_encoder(encoder: Tensor<3>) -> Self {
        let [heads, width, neurons] = encoder.dims();
        let pairs = encoder.reshape([heads, width, neurons / 2, 2]);
        let half = |which| pairs.clone().narrow(3, which, 1).reshape([heads, width, neurons / 2]);
        Self { even: half(0), odd: half(1) }
    }

    /// Of a decoder, `[heads * neurons, n_embd]`: each half is `[heads, neurons / 2, n_embd]`.
    pub(super) fn of_decoder(decoder: Tensor<2>, heads: usize) -> Self {
        let [all, width] = decoder.dims();
        let half_size = all / heads / 2;
        let pairs = decoder.reshape([heads, half_size, 2, width]);
        let half = |which| pairs.clone().narrow(2, which, 1).reshape([heads, half_size, width]);
        Self { even: half(0), odd: half(1) }
    }

    /// The neurons that fire at `x`, `[heads or 1, tokens, n_embd]`, through this encoder: `[heads, tokens, neurons / 2]`.
    pub(super) fn firing(&self, x: &Tensor<3>) -> Self {
        self.clone().map(|encoder| relu(x.clone().matmul(encoder)))
    }

    /// Back through this decoder: `[heads, tokens, neurons / 2]` to `[1, tokens, n_embd]`.
    pub(super) fn decode(&self, neurons: Self) -> Tensor<3> {
        neurons.product(self.clone(), Tensor::matmul).sum_dim(0)
    }

    /// Each neuron's activity times the other's, some dropped in training.
    pub(super) fn gated(self, other: Self, dropout: &Dropout) -> Self {
        self.zip(other, |x, y| drop_some(dropout, x * y))
    }

    /// A row for each token, with all neurons of all heads: even ones first within each head.
    pub(super) fn by_token(&self) -> Tensor<2> {
        let [heads, tokens, half] = self.even.dims();
        let both = Tensor::cat(vec![self.even.clone(), self.odd.clone()], 2);
        both.swap_dims(0, 1).reshape([tokens, heads * 2 * half])
    }
}

impl Halves<4> {
    /// Turns the pairs of neurons, `[heads, batch, tokens, neurons / 2]`, by the angles of the tokens' positions.
    pub(super) fn turned(self, rope: &Rope) -> Self {
        let Self { even, odd } = self;
        let (cos, sin) = (rope.cos.clone(), rope.sin.clone());
        Self {
            even: even.clone() * cos.clone() - odd.clone() * sin.clone(),
            odd: odd * cos + even * sin,
        }
    }
}
