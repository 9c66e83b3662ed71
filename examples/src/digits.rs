//! Images of digits, 28 × 28 pixels: generated, or MNIST itself with the feature `mnist-download`.

use bdh::burn::data::dataloader::batcher::Batcher;
use bdh::burn::data::dataset::Dataset;
#[cfg(not(feature = "mnist-download"))]
use bdh::burn::data::dataset::InMemDataset;
#[cfg(feature = "mnist-download")]
use bdh::burn::data::dataset::vision::MnistDataset;
use bdh::burn::tensor::{Device, Int, Tensor, TensorData};
use std::sync::Arc;

/// Width and height of an image, in pixels.
pub const SIDE: usize = 28;

/// An image of a digit.
#[derive(Debug, Clone, PartialEq)]
pub struct Digit {
    /// Brightness of the pixels from 0 to 1, row by row.
    pub pixels: Vec<f32>,
    /// The digit, from 0 to 9.
    pub label: u8,
}

/// Images of a batch, on the host.
#[derive(Debug, Clone)]
pub struct Images {
    /// Brightness of the pixels, `[batch, 1, 28, 28]`.
    pub pixels: TensorData,
    /// Class of each image, `[batch]`: the digit, or what a program makes of it.
    pub labels: Vec<i32>,
}

impl Images {
    /// Makes a batch of digits.
    #[must_use]
    pub fn of(digits: &[Digit]) -> Self {
        let mut pixels = Vec::with_capacity(digits.len() * SIDE * SIDE);
        let mut labels = Vec::with_capacity(digits.len());
        for digit in digits {
            pixels.extend_from_slice(&digit.pixels);
            labels.push(i32::from(digit.label));
        }
        Self {
            pixels: TensorData::new(pixels, [digits.len(), 1, SIDE, SIDE]),
            labels,
        }
    }

    /// Copies the batch to a device: pixels, `[batch, 1, 28, 28]`, and classes, `[batch]`.
    #[must_use]
    pub fn to_device(&self, device: &Device) -> (Tensor<4>, Tensor<1, Int>) {
        let pixels = Tensor::from_data(self.pixels.clone(), device);
        (pixels, Tensor::from_ints(self.labels.as_slice(), device))
    }
}

/// Batcher that stacks digits to [`Images`].
#[derive(Debug, Clone, Copy)]
pub struct Stack;

impl Batcher<Digit, Images> for Stack {
    fn batch(&self, digits: Vec<Digit>, _: &Device) -> Images {
        Images::of(&digits)
    }
}

/// Returns at most `count` images for training.
///
/// Generated images are a digit of seven segments at a random place, under noise: equal in every program, and harder
/// for some digits than for others. With the feature `mnist-download` burn downloads MNIST, 11 MB, on the first call; it
/// panics if it cannot.
#[must_use]
pub fn train(count: usize) -> Arc<dyn Dataset<Digit>> {
    #[cfg(feature = "mnist-download")]
    {
        downloaded::first(MnistDataset::train(), count)
    }
    #[cfg(not(feature = "mnist-download"))]
    {
        Arc::new(InMemDataset::new(generated(count, 0)))
    }
}

/// Returns at most `count` images that are not among those for training.
#[must_use]
pub fn test(count: usize) -> Arc<dyn Dataset<Digit>> {
    #[cfg(feature = "mnist-download")]
    {
        downloaded::first(MnistDataset::test(), count)
    }
    #[cfg(not(feature = "mnist-download"))]
    {
        Arc::new(InMemDataset::new(generated(count, 1)))
    }
}

/// Segments of each digit, as in a calculator: top, upper right, lower right, bottom, lower left, upper left, middle.
const SEGMENTS: [[bool; 7]; 10] = {
    const O: bool = false;
    const X: bool = true;
    [
        [X, X, X, X, X, X, O],
        [O, X, X, O, O, O, O],
        [X, X, O, X, X, O, X],
        [X, X, X, X, O, O, X],
        [O, X, X, O, O, X, X],
        [X, O, X, X, O, X, X],
        [X, O, X, X, X, X, X],
        [X, X, X, O, O, O, O],
        [X, X, X, X, X, X, X],
        [X, X, X, X, O, X, X],
    ]
};

/// Rectangles of the segments: columns, then rows, each from the first to behind the last.
const RECTANGLES: [[usize; 4]; 7] = [
    [8, 20, 4, 7],
    [17, 20, 4, 14],
    [17, 20, 13, 24],
    [8, 20, 21, 24],
    [8, 11, 13, 24],
    [8, 11, 4, 14],
    [8, 20, 12, 15],
];

/// Share of the pixels that noise replaces.
const NOISE: f32 = 0.45;

/// Farthest shift of a digit from the middle, in pixels.
const SHIFT: u64 = 3;

/// Makes `count` images; those of two seeds differ.
#[must_use]
pub fn generated(count: usize, seed: u64) -> Vec<Digit> {
    let mut random = Random(seed << 32);
    let mut digits = Vec::with_capacity(count);
    for _ in 0..count {
        let label = random.below(10) as u8;
        let pixels = pixels(label, &mut random);
        digits.push(Digit { pixels, label });
    }
    digits
}

fn pixels(label: u8, random: &mut Random) -> Vec<f32> {
    let [left, up] = [random.below(2 * SHIFT + 1), random.below(2 * SHIFT + 1)];
    let mut pixels = Vec::with_capacity(SIDE * SIDE);
    for index in 0..SIDE * SIDE {
        // Moved to the right and down by the largest shift, then back by a random one, so that no number is negative.
        let column = index % SIDE + left as usize;
        let row = index / SIDE + up as usize;
        let is_ink = is_ink(label, column, row);
        let [replaced, brightness] = [random.share(), random.share()];
        pixels.push(match is_ink {
            _ if replaced < NOISE => brightness,
            true => 1.0,
            false => 0.0,
        });
    }
    pixels
}

/// Whether a pixel is in a segment of the digit, whose rectangles are moved by the largest shift.
fn is_ink(label: u8, column: usize, row: usize) -> bool {
    let segments = SEGMENTS[usize::from(label)];
    for ([left, right, top, bottom], is_on) in RECTANGLES.into_iter().zip(segments) {
        let shift = SHIFT as usize;
        let columns = left + shift..right + shift;
        let rows = top + shift..bottom + shift;
        if is_on && columns.contains(&column) && rows.contains(&row) {
            return true;
        }
    }
    false
}

/// Generator of random numbers, SplitMix64.
///
/// Source: Steele, Lea, Flood, 2014, *Fast splittable pseudorandom number generators*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a number below `count`. The remainder favours none of so few.
    fn below(&mut self, count: u64) -> u64 {
        self.next() % count
    }

    /// Returns a number from 0 to below 1.
    fn share(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u64 << 24) as f32
    }
}

/// MNIST, downloaded by burn.
#[cfg(feature = "mnist-download")]
mod downloaded {
    use super::Digit;
    use bdh::burn::data::dataset::Dataset;
    use bdh::burn::data::dataset::transform::{Mapper, MapperDataset, PartialDataset};
    use bdh::burn::data::dataset::vision::{MnistDataset, MnistItem};
    use std::sync::Arc;

    struct ToDigit;

    impl Mapper<MnistItem, Digit> for ToDigit {
        fn map(&self, item: &MnistItem) -> Digit {
            let pixels = item.image.as_flattened().iter();
            Digit {
                pixels: pixels.map(|brightness| brightness / 255.0).collect(),
                label: item.label,
            }
        }
    }

    /// Returns the first `count` images, or all.
    pub(super) fn first(images: MnistDataset, count: usize) -> Arc<dyn Dataset<Digit>> {
        let count = count.min(images.len());
        let first = PartialDataset::<_, MnistItem>::new(images, 0, count);
        Arc::new(MapperDataset::<_, _, MnistItem>::new(first, ToDigit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_equal_in_every_program_and_differ_from_each_other() {
        let digits = generated(50, 3);
        assert_eq!(digits, generated(50, 3));
        assert_eq!(digits[..20], generated(20, 3));
        assert_ne!(digits, generated(50, 4));
        for (index, digit) in digits.iter().enumerate() {
            assert_eq!(digit.pixels.len(), SIDE * SIDE);
            assert!(!digits[..index].contains(digit));
        }
    }

    #[test]
    fn each_digit_occurs_and_is_brighter_where_its_segments_are() {
        let digits = generated(2_000, 0);
        let mean = |label: u8, index: usize| {
            let of_label = digits.iter().filter(|digit| digit.label == label);
            let pixels: Vec<_> = of_label.map(|digit| digit.pixels[index]).collect();
            assert!(pixels.len() > 100, "{} images of {label}", pixels.len());
            pixels.iter().sum::<f32>() / pixels.len() as f32
        };
        let (middle, corner) = (13 * SIDE + 13, 0);
        assert!(mean(8, middle) > mean(0, middle) + 0.05);
        for label in 0..10 {
            assert!((mean(label, corner) - NOISE / 2.0).abs() < 0.1);
        }
    }
}
