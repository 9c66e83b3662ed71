//! What kernels work on: values one after the other.

use burn::backend::flex::FlexTensor;
use burn::tensor::TensorData;

/// `f32` values in row-major order.
#[derive(Debug, Clone)]
pub(crate) struct Array(FlexTensor);

impl Array {
    /// Takes a tensor; one that is a view with gaps is copied.
    pub(crate) fn new(tensor: FlexTensor) -> Self {
        Self(if tensor.is_contiguous() {
            tensor
        } else {
            tensor.to_contiguous()
        })
    }

    pub(crate) fn of(values: Vec<f32>, shape: &[usize]) -> Self {
        Self(FlexTensor::from_data(TensorData::new(
            values,
            shape.to_vec(),
        )))
    }

    pub(crate) fn shape(&self) -> &[usize] {
        self.0.layout().shape()
    }

    /// The length of the last axis.
    pub(crate) fn width(&self) -> usize {
        self.shape().last().copied().unwrap_or(1)
    }

    pub(crate) fn values(&self) -> &[f32] {
        self.0
            .as_slice()
            .expect("an array is contiguous and of f32")
    }

    /// To write over; they are copied first if anybody else holds them.
    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        let (begin, end) = self
            .0
            .layout()
            .contiguous_offsets()
            .expect("an array is contiguous");
        &mut self.0.storage_mut()[begin..end]
    }

    pub(crate) fn into_tensor(self) -> FlexTensor {
        self.0
    }
}
