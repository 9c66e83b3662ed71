//! The same model one token at a time: what attention reads is summed up as it goes.

use super::model::{Bdh, Layer, fires, norm};
use bdh::burn::tensor::{Device, Int, Tensor, TensorData};
use bdh::lm::TokenStream;
use bdh::ops::widened;

/// A [`Bdh`] that reads a text token by token, at the same cost each, however long it has become.
///
/// Attention without a softmax is linear: `tril(R Rᵀ, −1) x` is each token's turned activity times the sum of all
/// earlier ones, each as the product of its activity with its stream. That sum is the state, for each layer
/// `[heads, neurons, n_embd]`: the synapses. It is in f32 whatever the model computes in, since it sums over the text.
pub struct Recurrent<'a> {
    model: &'a Bdh,
    layer: Layer,
    /// For each layer, `[heads, 1, neurons, n_embd]`.
    states: Vec<Tensor<4>>,
    position: usize,
    device: Device,
}

impl Bdh {
    /// The model at the beginning of a text, to be read token by token.
    ///
    /// For a model without tape, as `model.valid()` is: otherwise the tape grows with the text.
    #[must_use]
    pub fn recurrent(&self) -> Recurrent<'_> {
        let device = self.lm_head.val().device();
        let config = self.config();
        let neurons = config.neurons() / config.n_head;
        let state = |_| Tensor::zeros([config.n_head, 1, neurons, config.n_embd], &device);
        let states = (0..config.n_layer).map(state).collect();
        Recurrent {
            model: self,
            layer: self.layer(),
            states,
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
            let firing = fires(x.clone(), &layer.encoder);
            let turned = widened(rope.turn(firing.clone().unsqueeze_dim(1)));
            let read = turned.clone().matmul(state.clone());
            let stream = widened(x.clone()).unsqueeze::<4>();
            *state = state.clone() + turned.swap_dims(2, 3).matmul(stream);
            let read = norm(read).cast(x.dtype());
            let read_firing = fires(read.squeeze_dim(1), &layer.encoder_v);
            let y = layer.decode(layer.gated(firing, read_firing));
            x = norm(x + norm(y));
        }
        *position += 1;
        model.scores(x).reshape([-1])
    }
}
