//! What a run records: exactly one [`Record`] per step, its keys in order of arrival.

mod json;
mod picture;

use crate::histogram::Histogram;
pub(crate) use json::CLOCK;
pub use picture::Picture;

use crate::clock::Clock;
use crate::deferred::{Deferred, DeferredHistogram};
use burn::tensor::Tensor;
use std::borrow::Cow;
use std::path::PathBuf;

/// Everything recorded for one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// When: the work completed at the end of the step.
    pub clock: Clock,
    /// What: keys such as `train/loss`, each at most once.
    pub values: Vec<(String, Value)>,
}

impl Record {
    /// About how many bytes it holds in memory.
    #[must_use]
    pub fn size(&self) -> usize {
        let heap = self
            .values
            .iter()
            .map(|(key, value)| key.len() + value.heap());
        size_of::<Self>() + self.values.len() * size_of::<(String, Value)>() + heap.sum::<usize>()
    }

    /// The record with its pictures as images, once they are all drawn; one that failed is left out and told.
    pub(crate) fn developed(&self, mut lost: impl FnMut(&str, &str)) -> Cow<'_, Self> {
        if !self
            .values
            .iter()
            .any(|(_, value)| matches!(value, Value::Picture(_)))
        {
            return Cow::Borrowed(self);
        }
        let develop = |(key, value): &(String, Value)| match value {
            Value::Picture(picture) => match picture.wait() {
                Ok(png) => Some((key.clone(), Value::Image(png.to_vec()))),
                Err(error) => {
                    if picture.is_untold() {
                        lost(key, error);
                    }
                    None
                }
            },
            other => Some((key.clone(), other.clone())),
        };
        let values = self.values.iter().filter_map(develop).collect();
        Cow::Owned(Self {
            clock: self.clock,
            values,
        })
    }

    /// The scalar under `key`, if there is one.
    #[must_use]
    pub fn scalar(&self, key: &str) -> Option<f64> {
        self.values.iter().find_map(|(name, value)| match value {
            Value::Scalar(scalar) if name == key => Some(*scalar),
            _ => None,
        })
    }

    /// The scalars, in order of arrival.
    pub fn scalars(&self) -> impl Iterator<Item = (&str, f64)> {
        self.values.iter().filter_map(|(key, value)| match value {
            Value::Scalar(scalar) => Some((key.as_str(), *scalar)),
            _ => None,
        })
    }
}

/// One recorded value. A sink keeps the kinds it has a form for and passes over the others.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// A number; it may be NaN or infinite.
    Scalar(f64),
    /// A distribution.
    Histogram(Histogram),
    /// A text, such as a generated sample.
    Text(String),
    /// Rows under named columns.
    Table {
        /// Names of the columns.
        columns: Vec<String>,
        /// Cells, row after row.
        rows: Vec<Vec<String>>,
    },
    /// A picture, PNG-encoded.
    Image(Vec<u8>),
    /// A picture that is being drawn; a sink gets it as an [`Image`](Self::Image).
    Picture(Picture),
    /// A page, or a part of one.
    Html(String),
    /// A file or a folder that the run wrote and wants kept, such as a checkpoint. W&B makes an artifact of it.
    File {
        /// Where it is.
        path: PathBuf,
        /// What it is, such as `model`.
        kind: String,
        /// Names for this version of it, such as `early-250` or `best`.
        aliases: Vec<String>,
    },
}

impl Value {
    /// About how many bytes it owns.
    fn heap(&self) -> usize {
        match self {
            Self::Scalar(_) | Self::Picture(_) => 0,
            Self::Histogram(histogram) => 8 * (histogram.edges.len() + histogram.counts.len()),
            Self::Text(text) | Self::Html(text) => text.len(),
            Self::Table { columns, rows } => {
                let cells = rows.iter().flatten().chain(columns);
                cells.map(|cell| size_of::<String>() + cell.len()).sum()
            }
            Self::Image(png) => png.len(),
            Self::File { path, kind, .. } => path.as_os_str().len() + kind.len(),
        }
    }
}

/// What a callback hands to `log`: a value, or a number that is still on the device.
#[derive(Debug, Clone)]
pub enum Logged {
    /// Read together with everything else that the step logs.
    Deferred(Deferred),
    /// The same, for a distribution.
    Histogram(DeferredHistogram),
    /// Drawn when its distributions have been read.
    Picture(Picture),
    /// Ready to be written.
    Ready(Value),
}

impl From<f64> for Logged {
    fn from(scalar: f64) -> Self {
        Self::Ready(Value::Scalar(scalar))
    }
}

impl From<Deferred> for Logged {
    fn from(value: Deferred) -> Self {
        Self::Deferred(value)
    }
}

impl From<Tensor<1>> for Logged {
    /// The first element of a tensor of one value.
    fn from(value: Tensor<1>) -> Self {
        Self::Deferred(value.into())
    }
}

impl From<DeferredHistogram> for Logged {
    fn from(value: DeferredHistogram) -> Self {
        Self::Histogram(value)
    }
}

impl From<Picture> for Logged {
    fn from(value: Picture) -> Self {
        Self::Picture(value)
    }
}

impl From<Value> for Logged {
    fn from(value: Value) -> Self {
        Self::Ready(value)
    }
}
