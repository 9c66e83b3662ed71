//! Values as TensorBoard's messages: a tensor each, with the plugin that shows it on the first value of a key.

use crate::markdown;
use crate::png;
use crate::proto::{DataClass, DataType, Dim, Metadata, PluginData, Shape, Tensor, Value};
use crate::shown::Shown;
use std::collections::HashMap;

/// Part of TensorBoard that shows a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plugin {
    Scalars,
    Histograms,
    Images,
    Text,
    CustomScalars,
}

impl Plugin {
    fn metadata(self) -> Metadata {
        let (name, class) = match self {
            Self::Scalars => ("scalars", DataClass::Scalar),
            Self::Histograms => ("histograms", DataClass::Tensor),
            Self::Images => ("images", DataClass::BlobSequence),
            Self::Text => ("text", DataClass::Tensor),
            Self::CustomScalars => ("custom_scalars", DataClass::Tensor),
        };
        let plugin = PluginData {
            plugin_name: name.to_owned(),
            content: Vec::new(),
        };
        Metadata {
            plugin_data: Some(plugin),
            data_class: class.into(),
        }
    }

    /// Returns the first value of a tag in its file.
    pub(crate) fn first_value(self, tag: &str, tensor: Tensor) -> Value {
        Value {
            metadata: Some(self.metadata()),
            ..later_value(tag, tensor)
        }
    }
}

fn later_value(tag: &str, tensor: Tensor) -> Value {
    Value {
        tag: tag.to_owned(),
        tensor: Some(tensor),
        metadata: None,
    }
}

/// Plugin of each tag that one file contains.
#[derive(Debug, Default)]
pub(crate) struct Summaries {
    plugins: HashMap<String, Plugin>,
}

impl Summaries {
    /// Returns the messages for the values of a step, without those that TensorBoard would not show.
    pub(crate) fn of<'a>(
        &mut self,
        step: impl IntoIterator<Item = (&'a str, Shown<'a>)>,
    ) -> Vec<Value> {
        let mut values = Vec::new();
        for (key, shown) in step {
            if let Some((plugin, tensor)) = tensor_of(&shown) {
                values.extend(self.value(key, plugin, tensor));
            }
            if let Shown::Histogram {
                non_finite: count @ 1..,
                ..
            } = shown
            {
                let count = scalar(count as f64);
                values.extend(self.value(&format!("{key}/nonfinite"), Plugin::Scalars, count));
            }
        }
        values
    }

    /// Returns a value's message; `None` if its kind differs from the first of its tag: no reader would show it.
    fn value(&mut self, tag: &str, plugin: Plugin, tensor: Tensor) -> Option<Value> {
        match self.plugins.get(tag) {
            Some(first) if *first == plugin => Some(later_value(tag, tensor)),
            Some(_) => None,
            None => {
                self.plugins.insert(tag.to_owned(), plugin);
                Some(plugin.first_value(tag, tensor))
            }
        }
    }
}

fn tensor_of(shown: &Shown<'_>) -> Option<(Plugin, Tensor)> {
    Some(match shown {
        Shown::Scalar(value) => (Plugin::Scalars, scalar(*value)),
        Shown::Histogram { edges, counts, .. } => (Plugin::Histograms, histogram(edges, counts)),
        Shown::Text(words) => (Plugin::Text, text(markdown::plain(words))),
        Shown::Table { columns, rows } => (Plugin::Text, text(markdown::table(columns, rows))),
        Shown::Image(png) => (Plugin::Images, image(png)?),
    })
}

/// Returns a number in single precision: TensorBoard's default reader accepts no other.
fn scalar(value: f64) -> Tensor {
    Tensor {
        floats: vec![value as f32],
        ..tensor(DataType::Float, &[])
    }
}

/// Returns a scalar tensor of one string.
pub(crate) fn text(text: impl Into<Vec<u8>>) -> Tensor {
    Tensor {
        strings: vec![text.into()],
        ..tensor(DataType::String, &[])
    }
}

/// Returns rows of left edge, right edge and count, `[bins, 3]`.
fn histogram(edges: &[f64], counts: &[u64]) -> Tensor {
    let mut content = Vec::new();
    let mut num_bins = 0;
    for (edges, count) in edges.windows(2).zip(counts) {
        let Some((left, right)) = bin(edges[0], edges[1]) else {
            continue;
        };
        for value in [left, right, *count as f64] {
            content.extend(value.to_le_bytes());
        }
        num_bins += 1;
    }
    Tensor {
        content,
        ..tensor(DataType::Double, &[num_bins, 3])
    }
}

/// Returns edges that can be drawn: a non-finite one is replaced by the other, and no width is negative.
fn bin(left: f64, right: f64) -> Option<(f64, f64)> {
    match (left.is_finite(), right.is_finite()) {
        (true, true) => Some((left, right.max(left))),
        (true, false) => Some((left, left)),
        (false, true) => Some((right, right)),
        (false, false) => None,
    }
}

/// Returns the width, the height and the file itself; `None` if `png` is not a PNG or has no pixels.
fn image(png: &[u8]) -> Option<Tensor> {
    let (width, height) = png::size(png)?;
    if width == 0 || height == 0 {
        return None;
    }
    let parts = vec![
        width.to_string().into_bytes(),
        height.to_string().into_bytes(),
        png.to_vec(),
    ];
    Some(Tensor {
        strings: parts,
        ..tensor(DataType::String, &[3])
    })
}

fn tensor(dtype: DataType, shape: &[usize]) -> Tensor {
    let dim = shape
        .iter()
        .map(|size| Dim { size: *size as i64 })
        .collect();
    Tensor {
        dtype: dtype.into(),
        shape: Some(Shape { dim }),
        ..Tensor::default()
    }
}
