//! The model one token at a time, with a running sum in place of attention.

use super::model::{Bdh, Layer, encode, norm};
use bdh::burn::tensor::{Device, Int, Tensor, TensorData};
use bdh::lm::TokenStream;
use bdh::ops::upcast_f32;
use std::fmt;

/// A [`Bdh`] that reads a text token by token, at the same cost for each token.
///
/// Attention without a softmax is linear: `tril(R Rᵀ, −1) x` multiplies the rotated activity of a token by the sum of
/// activity times stream over all earlier tokens. That sum, the synapses, is the state of a layer,
/// `[heads, neurons, n_embd]`. The state is always in f32, because it sums over the whole text.
pub struct Recurrent<'a> {
    model: &'a Bdh,
    layer: Layer,
    /// State of each layer, `[heads, 1, neurons, n_embd]`.
    states: Vec<Tensor<4>>,
    position: usize,
    device: Device,
}

impl fmt::Debug for Recurrent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recurrent")
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl Bdh {
    /// Returns the model at the beginning of a text, which it then reads token by token.
    ///
    /// Use a model without autodiff, such as `model.valid()`: otherwise the autodiff graph grows with the text.
    #[must_use]
    pub fn recurrent(&self) -> Recurrent<'_> {
        let device = self.lm_head.val().device();
        let config = self.config();
        let neurons = config.neurons() / config.n_head;
        let state = Tensor::zeros([config.n_head, 1, neurons, config.n_embd], &device);
        Recurrent {
            model: self,
            layer: self.layer(),
            states: vec![state; config.n_layer],
            position: 0,
            device,
        }
    }
}

impl TokenStream for Recurrent<'_> {
    fn read(&mut self, token: i32) -> Tensor<1> {
        let Self {
            model,
            layer,
            states,
            position,
            device,
        } = self;
        let token = Tensor::<2, Int>::from_data(TensorData::from([[token]]), &*device);
        let rope = model.rope.at(*position, 1);
        let mut x = model.embedded(token); // [1, 1, n_embd]
        for state in states {
            let activity = encode(x.clone(), &layer.encoder);
            let rotated = upcast_f32(rope.rotate(activity.clone().unsqueeze_dim(1)));
            let read = rotated.clone().matmul(state.clone());
            let stream = upcast_f32(x.clone()).unsqueeze::<4>();
            *state = state.clone() + rotated.swap_dims(2, 3).matmul(stream);
            let read = norm(read).cast(x.dtype());
            let read_activity = encode(read.squeeze_dim(1), &layer.encoder_v);
            let update = layer.decode(layer.gated(activity, read_activity));
            x = norm(x + norm(update));
        }
        *position += 1;
        model.scores(x).reshape([-1])
    }
}
