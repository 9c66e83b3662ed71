//! Records of a run: one [`Record`] per step, with keys in the order in which they were logged.

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

/// Values recorded for one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Work completed at the end of the step.
    pub clock: Clock,
    /// Values by key, such as `train/loss`; each key at most once.
    pub values: Vec<(String, Value)>,
}

impl Record {
    /// Estimates the size in memory, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let mut size = size_of::<Self>();
        for (key, value) in &self.values {
            size += size_of::<(String, Value)>() + key.len() + value.heap();
        }
        size
    }

    /// Waits for all pictures and replaces them by images.
    ///
    /// A picture that failed is left out; the first call for it passes its key and error to `lost`.
    pub(crate) fn with_images(&self, mut lost: impl FnMut(&str, &str)) -> Cow<'_, Self> {
        if !self.has_pictures() {
            return Cow::Borrowed(self);
        }
        let mut record = Self {
            clock: self.clock,
            values: Vec::with_capacity(self.values.len()),
        };
        for (key, value) in &self.values {
            let ready = match value {
                Value::Picture(picture) => image(picture, |error| lost(key, error)),
                other => Some(other.clone()),
            };
            if let Some(ready) = ready {
                record.values.push((key.clone(), ready));
            }
        }
        Cow::Owned(record)
    }

    fn has_pictures(&self) -> bool {
        let mut values = self.values.iter();
        values.any(|(_, value)| matches!(value, Value::Picture(_)))
    }

    /// Returns the scalar under `key`.
    #[must_use]
    pub fn scalar(&self, key: &str) -> Option<f64> {
        self.values.iter().find_map(|(name, value)| match value {
            Value::Scalar(scalar) if name == key => Some(*scalar),
            _ => None,
        })
    }

    /// Iterates over the scalars with their keys, in the order in which they were logged.
    pub fn scalars(&self) -> impl Iterator<Item = (&str, f64)> {
        self.values.iter().filter_map(|(key, value)| match value {
            Value::Scalar(scalar) => Some((key.as_str(), *scalar)),
            _ => None,
        })
    }
}

/// Waits for a picture. The first call for one that failed passes its error to `lost`.
fn image(picture: &Picture, lost: impl FnOnce(&str)) -> Option<Value> {
    match picture.wait() {
        Ok(png) => return Some(Value::Image(png.to_vec())),
        Err(error) if picture.needs_report() => lost(&error.to_string()),
        Err(_) => {}
    }
    None
}

/// Recorded value. A sink skips the kinds that it cannot represent.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Number, which may be NaN or infinite.
    Scalar(f64),
    /// Histogram of a distribution.
    Histogram(Histogram),
    /// Text, such as a generated sample.
    Text(String),
    /// Table with named columns.
    Table {
        /// Names of the columns.
        columns: Vec<String>,
        /// Cells of each row.
        rows: Vec<Vec<String>>,
    },
    /// Image, encoded as PNG.
    Image(Vec<u8>),
    /// Picture that is being drawn; a sink receives it as an [`Image`](Self::Image).
    Picture(Picture),
    /// HTML page, or a part of one.
    Html(String),
    /// File or folder to keep, such as a checkpoint; W&B stores it as an artifact.
    File {
        /// Path of the file or folder.
        path: PathBuf,
        /// Kind of content, such as `model`.
        kind: String,
        /// Names of this version, such as `early-250` or `best`.
        aliases: Vec<String>,
    },
}

impl Value {
    /// Estimates the heap memory of the value, in bytes.
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

/// Argument of `log`: a value, or one that is still on the device.
#[derive(Debug, Clone)]
pub enum Logged {
    /// Number that is read together with everything else that the step logs.
    Deferred(Deferred),
    /// Histogram that is read together with everything else that the step logs.
    Histogram(DeferredHistogram),
    /// Picture that is drawn after its histograms have been read.
    Picture(Picture),
    /// Value that needs no device read.
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
    /// Converts a tensor of one value to its first element.
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
