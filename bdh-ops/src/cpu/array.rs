//! Contiguous arrays, the operands of kernels.

use burn::backend::flex::FlexTensor;
use burn::tensor::TensorData;

/// `f32` values in row-major order.
#[derive(Debug, Clone)]
pub(crate) struct Array(FlexTensor);

impl Array {
    /// Converts a tensor. A view with gaps is copied.
    pub(crate) fn new(tensor: FlexTensor) -> Self {
        Self(if tensor.is_contiguous() {
            tensor
        } else {
            tensor.to_contiguous()
        })
    }

    /// Creates an array of values in row-major order.
    pub(crate) fn of(values: Vec<f32>, shape: &[usize]) -> Self {
        Self(FlexTensor::from_data(TensorData::new(
            values,
            shape.to_vec(),
        )))
    }

    pub(crate) fn shape(&self) -> &[usize] {
        self.0.layout().shape()
    }

    /// Returns the length of the last axis.
    pub(crate) fn width(&self) -> usize {
        self.shape().last().copied().unwrap_or(1)
    }

    pub(crate) fn values(&self) -> &[f32] {
        self.0
            .as_slice()
            .expect("an array is contiguous and of f32")
    }

    /// Returns the values for writing. They are copied first if another tensor shares them.
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
