//! Charts of several scalars on TensorBoard's page Custom Scalars.

use crate::proto::{Category, Chart, Charts, Margin, Multiline, Series, Value};
use crate::summary::{self, Plugin};
use prost::Message;

/// Tag under which TensorBoard looks for charts.
pub(crate) const TAG: &str = "custom_scalars__config__";

/// Charts of several scalars, for the page Custom Scalars, which groups them by section.
///
/// # Examples
///
/// ```
/// let layout = bdh_tensorboard::Layout::default()
///     .lines("loss", "train and val", ["train/loss", "val/loss"])
///     .lines("norms", "gradients", ["norm/grad/.*"])
///     .band("loss", "spread", "loss/mean", "loss/low", "loss/high");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Layout(Charts);

impl Layout {
    /// Adds a chart of every scalar whose key matches one of `keys`, which are regular expressions.
    #[must_use]
    pub fn lines<K: Into<String>>(
        self,
        section: &str,
        title: &str,
        keys: impl IntoIterator<Item = K>,
    ) -> Self {
        let lines = Multiline {
            tag: keys.into_iter().map(Into::into).collect(),
        };
        let chart = Chart {
            title: title.to_owned(),
            multiline: Some(lines),
            margin: None,
        };
        self.chart(section, chart)
    }

    /// Adds a chart of the scalar under `key` in a band between two others.
    #[must_use]
    pub fn band(self, section: &str, title: &str, key: &str, lower: &str, upper: &str) -> Self {
        let series = Series {
            value: key.to_owned(),
            lower: lower.to_owned(),
            upper: upper.to_owned(),
        };
        let band = Margin {
            series: vec![series],
        };
        let chart = Chart {
            title: title.to_owned(),
            multiline: None,
            margin: Some(band),
        };
        self.chart(section, chart)
    }

    fn chart(mut self, section: &str, chart: Chart) -> Self {
        let categories = &mut self.0.category;
        match categories
            .iter_mut()
            .find(|category| category.title == section)
        {
            Some(category) => category.chart.push(chart),
            None => categories.push(Category {
                title: section.to_owned(),
                chart: vec![chart],
            }),
        }
        self
    }

    /// Returns the value that describes the charts in an event file.
    pub(crate) fn value(&self) -> Value {
        Plugin::CustomScalars.first_value(TAG, summary::text(self.0.encode_to_vec()))
    }
}
