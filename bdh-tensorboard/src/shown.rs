//! What TensorBoard can show.

use std::borrow::Cow;

/// Value that TensorBoard shows under a key.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Shown<'a> {
    /// A number, kept in single precision; NaN and the infinities too.
    Scalar(f64),
    /// Counts of the bins between ascending edges, of which there is one more than of counts. How many values were not
    /// finite is the scalar `<key>/nonfinite`, unless it is 0.
    Histogram {
        /// The edges of the bins.
        edges: &'a [f64],
        /// How many values lie in each bin.
        counts: &'a [u64],
        /// How many values lie in none, because they are NaN or infinite.
        non_finite: u64,
    },
    /// A text, shown as it is written: not as Markdown.
    Text(Cow<'a, str>),
    /// A table, on the page Text.
    Table {
        /// What stands above the columns.
        columns: &'a [String],
        /// The cells of each row.
        rows: &'a [Vec<String>],
    },
    /// The bytes of a PNG; others are passed over.
    Image(&'a [u8]),
}
