//! What is shown as TensorBoard's values: a tensor each, and on the first of a key the plugin that shows it.

use crate::markdown;
use crate::png;
use crate::proto::{DataClass, DataType, Dim, Metadata, PluginData, Shape, Tensor, Value};
use crate::shown::Shown;
use std::collections::HashMap;

/// The part of TensorBoard that shows a value.
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

    /// A value under a tag that is new in its file.
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

/// What one file holds of each tag so far.
#[derive(Debug, Default)]
pub(crate) struct Summaries {
    plugins: HashMap<String, Plugin>,
}

impl Summaries {
    /// The values of a step, without those of which TensorBoard shows nothing.
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

    /// `None` for a value of another kind than the first of its tag: no reader would show it.
    fn value(&mut self, tag: &str, plugin: Plugin, tensor: Tensor) -> Option<Value> {
        let Some(first) = self.plugins.get(tag) else {
            self.plugins.insert(tag.to_owned(), plugin);
            return Some(plugin.first_value(tag, tensor));
        };
        (*first == plugin).then(|| later_value(tag, tensor))
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

/// Single precision is all that TensorBoard's default reader takes.
fn scalar(value: f64) -> Tensor {
    Tensor {
        floats: vec![value as f32],
        ..tensor(DataType::Float, &[])
    }
}

/// A string that is not in a list.
pub(crate) fn text(text: impl Into<Vec<u8>>) -> Tensor {
    Tensor {
        strings: vec![text.into()],
        ..tensor(DataType::String, &[])
    }
}

/// Rows of left edge, right edge and count, `[bins, 3]`.
fn histogram(edges: &[f64], counts: &[u64]) -> Tensor {
    let bins = edges.windows(2).zip(counts);
    let rows = bins.filter_map(|(edges, count)| Some((bin(edges[0], edges[1])?, *count)));
    let rows = rows.flat_map(|((left, right), count)| [left, right, count as f64]);
    let content: Vec<u8> = rows.flat_map(f64::to_le_bytes).collect();
    let bins = content.len() / (3 * size_of::<f64>());
    Tensor {
        content,
        ..tensor(DataType::Double, &[bins, 3])
    }
}

/// Edges that can be drawn: one that is not finite becomes the other, and no width is negative.
fn bin(left: f64, right: f64) -> Option<(f64, f64)> {
    match (left.is_finite(), right.is_finite()) {
        (true, true) => Some((left, right.max(left))),
        (true, false) => Some((left, left)),
        (false, true) => Some((right, right)),
        (false, false) => None,
    }
}

/// Width, height and the file itself; `None` for what is no PNG.
fn image(png: &[u8]) -> Option<Tensor> {
    let (width, height) = png::size(png)?;
    let sides = [width, height].map(|side| side.to_string().into_bytes());
    let parts = sides.into_iter().chain([png.to_vec()]).collect();
    let is_empty = width == 0 || height == 0;
    (!is_empty).then(|| Tensor {
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
