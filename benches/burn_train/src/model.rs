//! The CNN, which both sides use as it is.

use crate::data::{CLASSES, Images, SIDE};
use crate::passes;
use bdh::BoxError;
use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

#[derive(Module, Debug)]
pub struct Cnn {
    conv1: Conv2d,
    norm1: BatchNorm,
    conv2: Conv2d,
    norm2: BatchNorm,
    pool: MaxPool2d,
    dropout: Dropout,
    head: Linear,
}

impl Cnn {
    pub fn new(device: &Device) -> Self {
        let conv =
            |channels| Conv2dConfig::new(channels, [3, 3]).with_padding(PaddingConfig2d::Same);
        Self {
            conv1: conv([1, 8]).init(device),
            norm1: BatchNormConfig::new(8).init(device),
            conv2: conv([8, 16]).init(device),
            norm2: BatchNormConfig::new(16).init(device),
            pool: MaxPool2dConfig::new([2, 2]).init(),
            dropout: DropoutConfig::new(0.25).init(),
            head: LinearConfig::new(16 * (SIDE / 4) * (SIDE / 4), CLASSES).init(device),
        }
    }

    /// Returns logits, `[batch, classes]`.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<2> {
        if self.head.weight.val().is_autodiff() {
            passes::count(pixels.dims()[0]);
        }
        let x = self
            .pool
            .forward(relu(self.norm1.forward(self.conv1.forward(pixels))));
        let x = self
            .pool
            .forward(relu(self.norm2.forward(self.conv2.forward(x))));
        self.head.forward(self.dropout.forward(x.flatten(1, 3)))
    }

    /// Returns the share of images that are classified correctly.
    pub fn accuracy(&self, images: Images) -> Result<f64, BoxError> {
        let [count] = images.classes.dims();
        let predicted = self
            .valid()
            .forward(images.pixels)
            .argmax(1)
            .reshape([count]);
        let right: Vec<f32> = predicted.equal(images.classes).float().try_into_vec_as()?;
        Ok(f64::from(right.iter().sum::<f32>()) / count as f64)
    }
}
