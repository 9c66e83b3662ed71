//! Images of ten classes, as a dataset and a batcher of burn, which both sides use as they are.

use burn::data::dataloader::batcher::Batcher;
use burn::data::dataset::InMemDataset;
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub const SIDE: usize = 28;
pub const CLASSES: usize = 10;

#[derive(Debug, Clone)]
pub struct Image {
    pixels: Vec<f32>,
    class: i32,
}

#[derive(Debug, Clone)]
pub struct Images {
    /// `[batch, 1, 28, 28]`
    pub pixels: Tensor<4>,
    /// `[batch]`
    pub classes: Tensor<1, Int>,
}

#[derive(Debug, Clone)]
pub struct Stack;

impl Batcher<Image, Images> for Stack {
    fn batch(&self, images: Vec<Image>, device: &Device) -> Images {
        let shape = [images.len(), 1, SIDE, SIDE];
        let classes: Vec<i32> = images.iter().map(|image| image.class).collect();
        let pixels: Vec<f32> = images.into_iter().flat_map(|image| image.pixels).collect();
        Images {
            pixels: Tensor::from_data(TensorData::new(pixels, shape), device),
            classes: Tensor::from_ints(classes.as_slice(), device),
        }
    }
}

/// Generates images: the prototype of a class, under noise.
pub fn images(count: usize, seed: u64) -> InMemDataset<Image> {
    let mut random = ChaCha8Rng::seed_from_u64(u64::MAX);
    let prototypes = [(); CLASSES].map(|()| uniform(&mut random));
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut items = Vec::with_capacity(count);
    for index in 0..count {
        let class = index % CLASSES;
        let mut pixels = uniform(&mut random);
        for (pixel, prototype) in pixels.iter_mut().zip(&prototypes[class]) {
            *pixel = 0.7 * *pixel + 0.3 * prototype;
        }
        items.push(Image {
            pixels,
            class: class as i32,
        });
    }
    InMemDataset::new(items)
}

fn uniform(random: &mut ChaCha8Rng) -> Vec<f32> {
    (0..SIDE * SIDE).map(|_| random.random()).collect()
}
