//! Values that TensorBoard can show.

use std::borrow::Cow;

/// Value that TensorBoard shows under a key.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Shown<'a> {
    /// Number, kept in single precision; NaN and infinities are allowed.
    Scalar(f64),
    /// Histogram over bins between ascending edges.
    ///
    /// A non-zero `non_finite` is also written as the scalar `<key>/nonfinite`.
    Histogram {
        /// Edges of the bins, one more than there are bins.
        edges: &'a [f64],
        /// Number of values in each bin.
        counts: &'a [u64],
        /// Number of values in no bin, because they are NaN or infinite.
        non_finite: u64,
    },
    /// Text, shown as it is written and not as Markdown.
    Text(Cow<'a, str>),
    /// Table, on the page Text.
    Table {
        /// Headings of the columns.
        columns: &'a [String],
        /// Cells of each row.
        rows: &'a [Vec<String>],
    },
    /// Bytes of a PNG; bytes in another format are skipped.
    Image(&'a [u8]),
}
