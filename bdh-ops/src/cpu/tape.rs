//! Kernels with a backward pass of their own, on burn's tape.

use super::array::Array;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, AutodiffBackend, BackendTensor, DispatchAutodiffContext, DispatchTensor,
    DispatchTensorKind, Flex,
};
use std::fmt::Debug;

/// Computes something from `N` arrays, and the gradients of them from that of the result.
pub(crate) trait Kernel<const N: usize>: Debug + Send + 'static {
    /// What the backward pass needs.
    type Saved: Clone + Debug + Send + 'static;

    fn forward(&self, inputs: [Array; N]) -> (Array, Self::Saved);

    /// The gradients of those inputs that are `wanted`; of others nobody asks what it is.
    fn backward(
        &self,
        saved: Self::Saved,
        gradient: Array,
        wanted: [bool; N],
    ) -> [Option<Array>; N];
}

/// Runs a kernel on tensors of the CPU, with autodiff if one of them has it.
pub(crate) fn run<K: Kernel<N>, const N: usize>(
    kernel: K,
    inputs: [DispatchTensor; N],
) -> DispatchTensor {
    let context = inputs
        .iter()
        .fold(DispatchAutodiffContext::Disabled, |context, input| {
            if context == DispatchAutodiffContext::Disabled {
                input.autodiff
            } else {
                context
            }
        });
    let kind = if context == DispatchAutodiffContext::Disabled {
        let (output, _) = kernel.forward(inputs.map(|input| Array::new(plain(input))));
        DispatchTensorKind::Flex(BackendTensor::Float(output.into_tensor()))
    } else {
        let output = record(kernel, inputs.map(tracked));
        let inner = DispatchTensorKind::Flex(BackendTensor::Autodiff(output));
        DispatchTensorKind::Autodiff(Box::new(inner))
    };
    DispatchTensor {
        kind,
        autodiff: context,
    }
}

type Tracked = FloatTensor<Autodiff<Flex>>;

fn record<K: Kernel<N>, const N: usize>(kernel: K, inputs: [Tracked; N]) -> Tracked {
    let guards = inputs.each_ref().map(Tracked::node);
    let (output, saved) = kernel.forward(inputs.map(|input| Array::new(input.into_primitive())));
    // Nothing is recomputed in the backward pass under either strategy: each kernel keeps the little that it needs.
    match OnTape(kernel)
        .prepare::<NoCheckpointing>(guards)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(step) => step.finish(saved, output.into_tensor()),
        OpsKind::UnTracked(step) => step.finish(output.into_tensor()),
    }
}

/// A kernel as burn's tape wants it.
#[derive(Debug)]
struct OnTape<K>(K);

impl<K: Kernel<N>, const N: usize> Backward<Flex, N> for OnTape<K> {
    type State = K::Saved;

    fn backward(self, ops: Ops<K::Saved, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = Array::new(grads.consume::<Flex>(&ops.node));
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let gradients = self.0.backward(ops.state, gradient, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<Flex>(parent.id, gradient.into_tensor());
            }
        }
    }
}

/// Without autodiff.
///
/// # Panics
///
/// If the tensor is not on the CPU: [`takes`](super::takes) has looked.
pub(crate) fn plain(input: DispatchTensor) -> FlexTensor {
    match on_cpu(input.kind) {
        BackendTensor::Autodiff(tensor) => tensor.into_primitive(),
        tensor => tensor.float(),
    }
}

/// With autodiff: as it is, or as a constant.
fn tracked(input: DispatchTensor) -> Tracked {
    match on_cpu(input.kind) {
        BackendTensor::Autodiff(tensor) => tensor,
        tensor => <Autodiff<Flex> as AutodiffBackend>::from_inner(tensor.float()),
    }
}

/// burn keeps a tensor with autodiff in a box of its own.
fn on_cpu(kind: DispatchTensorKind) -> BackendTensor<Flex> {
    if let DispatchTensorKind::Autodiff(inner) = kind {
        return on_cpu(*inner);
    }
    let DispatchTensorKind::Flex(tensor) = kind else {
        unreachable!("`takes` has looked at the device");
    };
    tensor
}
