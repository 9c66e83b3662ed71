//! Kernels with their own backward pass, registered with burn's autodiff.

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

/// Operation on `N` arrays, with its gradients.
pub(crate) trait Kernel<const N: usize>: Debug + Send + 'static {
    /// Values for the backward pass.
    type Saved: Clone + Debug + Send + 'static;

    /// Computes the result, and the values for the backward pass.
    fn forward(&self, inputs: [Array; N]) -> (Array, Self::Saved);

    /// Computes the gradients of the inputs that are `wanted`; entries for other inputs are ignored.
    fn backward(
        &self,
        saved: Self::Saved,
        gradient: Array,
        wanted: [bool; N],
    ) -> [Option<Array>; N];
}

/// Runs a kernel on CPU tensors, with autodiff if one of them has it.
pub(crate) fn run<K: Kernel<N>, const N: usize>(
    kernel: K,
    inputs: [DispatchTensor; N],
) -> DispatchTensor {
    let mut context = DispatchAutodiffContext::Disabled;
    for input in &inputs {
        if context == DispatchAutodiffContext::Disabled {
            context = input.autodiff;
        }
    }
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
    // Both strategies are the same for a kernel: it saves few values, and the backward pass recomputes nothing.
    match OnTape(kernel)
        .prepare::<NoCheckpointing>(guards)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(step) => step.finish(saved, output.into_tensor()),
        OpsKind::UnTracked(step) => step.finish(output.into_tensor()),
    }
}

/// Kernel in the form of burn's autodiff.
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

/// Returns a tensor without autodiff.
///
/// # Panics
///
/// If the tensor is not on the CPU, which [`takes`](super::takes) has checked.
pub(crate) fn plain(input: DispatchTensor) -> FlexTensor {
    match on_cpu(input.kind) {
        BackendTensor::Autodiff(tensor) => tensor.into_primitive(),
        tensor => tensor.float(),
    }
}

/// Returns a tensor with autodiff; one without it becomes a constant.
fn tracked(input: DispatchTensor) -> Tracked {
    match on_cpu(input.kind) {
        BackendTensor::Autodiff(tensor) => tensor,
        tensor => <Autodiff<Flex> as AutodiffBackend>::from_inner(tensor.float()),
    }
}

/// Returns the CPU tensor, which burn wraps in a box for autodiff.
fn on_cpu(kind: DispatchTensorKind) -> BackendTensor<Flex> {
    if let DispatchTensorKind::Autodiff(inner) = kind {
        return on_cpu(*inner);
    }
    let DispatchTensorKind::Flex(tensor) = kind else {
        unreachable!("`takes` has checked the device");
    };
    tensor
}
