//! Metrics of a classifier, from counts that stay on the device until the end of the eval.

use super::{Metric, Metrics};
use crate::failure::BoxError;
use crate::record::Value;
use burn::tensor::{Bool, FloatDType, Int, Tensor};

/// Largest number of classes whose confusion matrix is recorded without being asked for.
const TABLE: usize = 100;

/// Classes of a classifier, and the metrics to compute of them.
///
/// Each row has one class. Metrics are those of scikit-learn's `accuracy_score`, `top_k_accuracy_score`,
/// `precision_recall_fscore_support` (`average="macro"`, `zero_division=0`) and `confusion_matrix`.
///
/// | metric      | value                                                                                      |
/// |-------------|--------------------------------------------------------------------------------------------|
/// | `accuracy`  | share of rows whose likeliest class is the target                                          |
/// | `top_<k>`   | share of rows whose target is among the `k` likeliest classes, if [asked for](Self::top_k) |
/// | `precision` | correct share of the rows predicted as a class, averaged over classes                      |
/// | `recall`    | correct share of the rows of a class, averaged over classes                                |
/// | `f1`        | harmonic mean of precision and recall of a class, averaged over classes                    |
/// | `confusion` | table: a row for each class of the targets, a column for each predicted class              |
///
/// Averages are macro averages: every class that occurs among targets or predictions has the same weight. Precision,
/// recall and F1 of a class are 0 where they are not defined. Micro averages would all equal the accuracy.
///
/// # Examples
///
/// ```
/// use bdh::burn::tensor::{Int, Tensor};
/// use bdh::metrics::{Classes, Metrics};
///
/// /// Takes logits, `[batch, classes]`, and targets, `[batch]`.
/// fn eval_batch(logits: Tensor<2>, targets: Tensor<1, Int>, metrics: &mut Metrics) {
///     let animals = Classes::new(3).names(["cat", "dog", "fox"]).top_k(2);
///     metrics.classes(&animals, logits, targets);
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classes {
    count: usize,
    names: Vec<String>,
    top_k: Option<usize>,
    confusion: bool,
    prefix: String,
}

impl Classes {
    /// Returns classes with the names `0`, `1`, …. The confusion matrix is recorded for up to 100 classes.
    #[must_use]
    pub fn new(num_classes: usize) -> Self {
        Self {
            count: num_classes,
            names: Vec::new(),
            top_k: None,
            confusion: num_classes <= TABLE,
            prefix: String::new(),
        }
    }

    /// Sets the names of the classes in the confusion matrix, one for each.
    #[must_use]
    pub fn names<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.names = names.into_iter().map(Into::into).collect();
        self
    }

    /// Adds the metric `top_<k>`; `k` is from 1 to the number of classes.
    ///
    /// If two logits are equal, the later class ranks before the earlier one, as in scikit-learn. A target whose logit is
    /// NaN is never among the `k`.
    #[must_use]
    pub fn top_k(mut self, k: usize) -> Self {
        self.top_k = Some(k);
        self
    }

    /// Sets whether the confusion matrix is recorded. Defaults to yes for up to 100 classes.
    ///
    /// With it a batch costs a product of `batch · classes²` multiplications, without it `batch · classes`.
    #[must_use]
    pub fn confusion(mut self, is_recorded: bool) -> Self {
        self.confusion = is_recorded;
        self
    }

    /// Sets a text that begins all names, such as `color_` for `color_accuracy`. A model with several outputs needs one
    /// for each.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Returns the first fault of the settings, or of a batch of these shapes.
    fn fault(&self, [rows, columns]: [usize; 2], targets: usize) -> Option<String> {
        let (classes, names) = (self.count, self.names.len());
        if classes == 0 {
            return Some("`Classes::new(0)` has no class; use 1 or more".to_owned());
        }
        if names > 0 && names != classes {
            return Some(format!(
                "{classes} classes have {names} names; use one for each"
            ));
        }
        if let Some(k) = self.top_k
            && !(1..=classes).contains(&k)
        {
            return Some(format!("`top_k` is {k}; use 1 to {classes}"));
        }
        if columns != classes {
            return Some(format!(
                "the logits have {columns} classes, and `Classes` has {classes}; use one number"
            ));
        }
        rows_differ(rows, targets)
    }

    fn name_of(&self, class: usize) -> String {
        match self.names.get(class) {
            Some(name) => name.clone(),
            None => class.to_string(),
        }
    }
}

fn rows_differ(rows: usize, targets: usize) -> Option<String> {
    (rows != targets)
        .then(|| format!("{rows} rows of logits have {targets} targets; use one for each"))
}

impl Metrics {
    /// Adds a batch of a classifier: logits or probabilities, `[batch, classes]`, and class indices, `[batch]`.
    ///
    /// [`Classes`] lists the metrics. Costs no device read. Counts are exact up to 16,777,216 a class. The eval fails
    /// with a sentence if a target is no class, the settings are wrong, or the shapes do not agree. Pixels or tokens
    /// are rows too: reshape `[batch, classes, height, width]` to `[batch · height · width, classes]` first.
    pub fn classes(&mut self, classes: &Classes, logits: Tensor<2>, targets: Tensor<1, Int>) {
        let (shape, [count]) = (logits.dims(), targets.dims());
        if let Some(text) = classes.fault(shape, count) {
            let kind = format!("{}classes", classes.prefix);
            return self.refuse(kind, text, &logits.device());
        }
        if count > 0 {
            let counts = counts(classes, logits.inner(), targets.inner());
            self.add(ClassCounts(classes.clone()), counts, count as f64);
        }
    }

    /// Adds a batch to the metric `accuracy`: the share of rows of logits, `[batch, classes]`, whose largest one is that
    /// of the target, `[batch]`.
    ///
    /// A target that is no class counts as a miss. Costs no device read. The eval fails if the number of targets is not
    /// that of the rows. [`classes`](Self::classes) computes more.
    pub fn accuracy(&mut self, logits: Tensor<2>, targets: Tensor<1, Int>) {
        let ([rows, columns], [count]) = (logits.dims(), targets.dims());
        if let Some(text) = rows_differ(rows, count) {
            return self.refuse("classes".to_owned(), text, &logits.device());
        }
        if rows > 0 && columns > 0 {
            let targets = column(targets.inner());
            let hits = as_f32(likeliest(logits.inner()).equal(targets));
            self.mean("accuracy", hits.sum(), rows as f64);
        }
    }
}

/// Counts on the device: rows whose target is no class, hits among the `k` likeliest (0 without `k`), then the cells.
///
/// The cells are the confusion matrix, or without it the rows of each class, the predictions of each, and the hits of
/// each.
fn counts(classes: &Classes, logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let device = logits.device();
    let ids = Tensor::<1, Int>::arange(0..classes.count as i64, &device);
    let ids = ids.cast(FloatDType::F32).unsqueeze_dim(0); // [1, classes]
    let targets = column(targets);
    let is_target = ids.clone().equal(targets.clone());
    // A target that is no class equals no id, so its row is zero.
    let actual = as_f32(is_target.clone());
    let predicted = as_f32(ids.clone().equal(likeliest(logits.clone())));
    let outside = (-actual.clone().sum_dim(1) + 1.0).sum();
    let top = match classes.top_k {
        Some(k) => top_hits(logits, is_target, ids.lower_equal(targets), k),
        None => outside.zeros_like(),
    };
    let cells = cells(classes, actual, predicted);
    Tensor::cat(vec![outside, top, cells], 0)
}

/// Counts the cells of [`counts`] from rows with a 1 at their class, `[batch, classes]`.
fn cells(classes: &Classes, actual: Tensor<2>, predicted: Tensor<2>) -> Tensor<1> {
    if classes.confusion {
        return actual.transpose().matmul(predicted).reshape([-1]);
    }
    let hits = actual.clone() * predicted.clone();
    let sums = [actual, predicted, hits].map(|rows| rows.sum_dim(0));
    Tensor::cat(sums.into(), 1).reshape([-1])
}

/// Returns the class of the largest logit of each row, `[batch, 1]`.
fn likeliest(logits: Tensor<2>) -> Tensor<2> {
    logits.argmax(1).cast(FloatDType::F32)
}

/// Returns class indices as numbers, `[batch, 1]`: integers of several widths cannot be compared.
fn column(targets: Tensor<1, Int>) -> Tensor<2> {
    targets.cast(FloatDType::F32).unsqueeze_dim(1)
}

/// Returns 1 for true and 0 for false, in f32 whatever the device's own precision, since counts must be exact.
fn as_f32(mask: Tensor<2, Bool>) -> Tensor<2> {
    mask.cast(FloatDType::F32)
}

/// Counts the rows with fewer than `k` logits before the target's, `[1]`.
///
/// `until_target` is true up to the target's class. In scikit-learn's order equal logits of later classes come before
/// the target, and NaN comes before numbers.
fn top_hits(
    logits: Tensor<2>,
    is_target: Tensor<2, Bool>,
    until_target: Tensor<2, Bool>,
    k: usize,
) -> Tensor<1> {
    let [_, classes] = logits.dims();
    let others = is_target.bool_not();
    let own = logits
        .clone()
        .mask_fill(others, f32::NEG_INFINITY)
        .max_dim(1); // [batch, 1]
    let equal = logits.clone().equal(own.clone()).bool_and(until_target);
    let after = logits.lower(own).bool_or(equal); // the target itself is among them, unless it is NaN
    let before = -as_f32(after).sum_dim(1) + classes as f64;
    as_f32(before.lower_elem(k as f64)).sum()
}

/// Accumulator of [`Metrics::classes`].
struct ClassCounts(Classes);

impl ClassCounts {
    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.0.prefix)
    }

    /// Counts by class, from the cells of [`counts`].
    fn by_class(&self, cells: &[f64]) -> Vec<ClassCount> {
        let classes = self.0.count;
        let mut counts = vec![ClassCount::default(); classes];
        if self.0.confusion {
            for (index, cell) in cells.iter().enumerate() {
                let (actual, predicted) = (index / classes, index % classes);
                counts[actual].actual += cell;
                counts[predicted].predicted += cell;
                counts[actual].hits += if actual == predicted { *cell } else { 0.0 };
            }
        } else {
            for (class, count) in counts.iter_mut().enumerate() {
                count.actual = cells[class];
                count.predicted = cells[classes + class];
                count.hits = cells[2 * classes + class];
            }
        }
        counts
    }

    /// Computes the scores of `weight` rows, by their names without the prefix.
    fn scores(&self, top: f64, cells: &[f64], weight: f64) -> Vec<(String, f64)> {
        let counts = self.by_class(cells);
        let hits: f64 = counts.iter().map(|count| count.hits).sum();
        let mut scores = vec![("accuracy".to_owned(), hits / weight)];
        if let Some(k) = self.0.top_k {
            scores.push((format!("top_{k}"), top / weight));
        }
        for (name, score) in ClassCount::SCORES {
            scores.push((name.to_owned(), macro_mean(&counts, score)));
        }
        scores
    }

    fn check_targets(&self, outside: f64) -> Result<(), BoxError> {
        let last = self.0.count - 1; // `fault` refuses 0 classes
        if outside == 1.0 {
            return Err(format!("1 target is not a class index from 0 to {last}").into());
        }
        if outside > 0.0 {
            return Err(format!("{outside} targets are not a class index from 0 to {last}").into());
        }
        Ok(())
    }

    fn table(&self, cells: &[f64]) -> Value {
        let classes = self.0.count;
        let mut columns = vec!["target".to_owned()];
        columns.extend((0..classes).map(|class| self.0.name_of(class)));
        let mut rows = Vec::with_capacity(classes);
        for (class, counts) in cells.chunks(classes).enumerate() {
            let mut row = vec![self.0.name_of(class)];
            row.extend(counts.iter().map(f64::to_string));
            rows.push(row);
        }
        Value::Table { columns, rows }
    }
}

impl Metric for ClassCounts {
    /// Returns a name that differs for different accumulators, whose values cannot be added.
    fn name(&self) -> String {
        let Classes {
            count: num_classes,
            top_k,
            confusion,
            ..
        } = &self.0;
        let mut name = self.key(&format!("{num_classes} classes"));
        if let Some(k) = top_k {
            name += &format!(", top_{k}");
        }
        if *confusion {
            name += ", confusion";
        }
        name
    }

    fn compute(&self, values: &[f64], weight: f64) -> Result<Vec<(String, Value)>, BoxError> {
        let [outside, top, cells @ ..] = values else {
            return Err("its values are missing".into());
        };
        self.check_targets(*outside)?;
        let mut results = Vec::new();
        for (name, score) in self.scores(*top, cells, weight) {
            results.push((self.key(&name), Value::Scalar(score)));
        }
        if self.0.confusion {
            results.push((self.key("confusion"), self.table(cells)));
        }
        Ok(results)
    }
}

/// Rows of one class.
#[derive(Debug, Clone, Copy, Default)]
struct ClassCount {
    /// Rows whose target is the class.
    actual: f64,
    /// Rows predicted as the class.
    predicted: f64,
    /// Rows whose target and prediction are the class.
    hits: f64,
}

type Score = fn(&ClassCount) -> f64;

impl ClassCount {
    const SCORES: [(&str, Score); 3] = [
        ("precision", Self::precision),
        ("recall", Self::recall),
        ("f1", Self::f1),
    ];

    fn precision(&self) -> f64 {
        ratio(self.hits, self.predicted)
    }

    fn recall(&self) -> f64 {
        ratio(self.hits, self.actual)
    }

    fn f1(&self) -> f64 {
        ratio(2.0 * self.hits, self.actual + self.predicted)
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// Returns the mean of a score over the classes that occur.
fn macro_mean(counts: &[ClassCount], score: Score) -> f64 {
    let (mut sum, mut classes) = (0.0, 0.0);
    for count in counts {
        if count.actual + count.predicted > 0.0 {
            sum += score(count);
            classes += 1.0;
        }
    }
    sum / classes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Results, compute};
    use burn::tensor::{Device, TensorData};

    fn ints(targets: &[i32]) -> Tensor<1, Int> {
        Tensor::from_ints(targets, &Device::flex())
    }

    /// Makes logits whose likeliest classes are these, `[batch, classes]`.
    fn predicting(predicted: &[usize], classes: usize) -> Tensor<2> {
        let mut logits = vec![0.0_f32; predicted.len() * classes];
        for (row, class) in predicted.iter().enumerate() {
            logits[row * classes + class] = 1.0;
        }
        let data = TensorData::new(logits, [predicted.len(), classes]);
        Tensor::from_data(data, &Device::flex())
    }

    fn logits<const N: usize>(rows: &[[f32; N]]) -> Tensor<2> {
        let data = TensorData::new(rows.concat(), [rows.len(), N]);
        Tensor::from_data(data, &Device::flex())
    }

    fn results(metrics: Metrics) -> Results {
        compute([metrics.read().expect("the CPU reads")]).expect("valid batches")
    }

    fn error(classes: &Classes, logits: Tensor<2>, targets: Tensor<1, Int>) -> String {
        let mut metrics = Metrics::default();
        metrics.classes(classes, logits, targets);
        let computed = compute([metrics.read().expect("the CPU reads")]);
        computed.expect_err("an invalid batch").to_string()
    }

    fn scalars(results: &[(&str, f64)]) -> Vec<(String, f64)> {
        let owned = |(name, value): &(&str, f64)| ((*name).to_owned(), *value);
        results.iter().map(owned).collect()
    }

    #[test]
    fn scores_of_two_batches_are_those_of_all_rows() {
        let classes = Classes::new(3).names(["cat", "dog", "fox"]);
        let mut metrics = Metrics::default();
        metrics.classes(&classes, predicting(&[0, 0, 1], 3), ints(&[0, 1, 1]));
        metrics.classes(&classes, predicting(&[2], 3), ints(&[0]));
        let results = results(metrics);
        let expected = [
            ("accuracy", 0.5),
            ("precision", 0.5),    // of 1/2, 1, 0
            ("recall", 1.0 / 3.0), // of 1/2, 1/2, 0
            ("f1", (0.5 + 2.0 / 3.0) / 3.0),
        ];
        assert_eq!(results.scalars, scalars(&expected));
        let [(name, Value::Table { columns, rows })] = &results.others[..] else {
            panic!("one table, not {:?}", results.others);
        };
        assert_eq!(
            (name.as_str(), &columns[..]),
            (
                "confusion",
                &["target", "cat", "dog", "fox"].map(String::from)[..]
            )
        );
        assert_eq!(rows[0], ["cat", "1", "0", "1"]);
        assert_eq!(rows[1], ["dog", "1", "1", "0"]);
        assert_eq!(rows[2], ["fox", "0", "0", "0"]);
    }

    #[test]
    fn scores_are_equal_with_and_without_the_confusion_matrix() {
        let of = |confusion| {
            let mut metrics = Metrics::default();
            let classes = Classes::new(5).confusion(confusion);
            metrics.classes(
                &classes,
                predicting(&[0, 1, 1, 3, 3, 3], 5),
                ints(&[0, 1, 2, 3, 0, 3]),
            );
            results(metrics)
        };
        assert_eq!(of(true).scalars, of(false).scalars);
        assert_eq!((of(true).others.len(), of(false).others.len()), (1, 0));
    }

    #[test]
    fn classes_that_do_not_occur_have_no_share_in_the_averages() {
        let mut metrics = Metrics::default();
        metrics.classes(&Classes::new(50), predicting(&[7, 9], 50), ints(&[7, 9]));
        let expected = [
            ("accuracy", 1.0),
            ("precision", 1.0),
            ("recall", 1.0),
            ("f1", 1.0),
        ];
        assert_eq!(results(metrics).scalars, scalars(&expected));
    }

    /// Returns the share of these rows whose target is among the `k` likeliest.
    fn top(k: usize, rows: &[[f32; 4]], targets: &[i32]) -> f64 {
        let mut metrics = Metrics::default();
        metrics.classes(&Classes::new(4).top_k(k), logits(rows), ints(targets));
        let scalars = results(metrics).scalars;
        assert_eq!(scalars[1].0, format!("top_{k}"));
        scalars[1].1
    }

    #[test]
    fn target_counts_if_it_is_among_the_k_likeliest() {
        let row = [0.1, 0.4, 0.3, f32::NEG_INFINITY];
        let hits = [1, 2, 3, 4].map(|k| top(k, &[row; 4], &[0, 1, 2, 3]));
        assert_eq!(hits, [0.25, 0.5, 0.75, 1.0]);
    }

    #[test]
    fn of_equal_logits_the_later_class_ranks_first() {
        let hits = [1, 2, 3].map(|k| top(k, &[[0.5; 4]; 4], &[0, 1, 2, 3]));
        assert_eq!(hits, [0.25, 0.5, 0.75]);
        assert_eq!(top(1, &[[0.5; 4]], &[3]), 1.0);
    }

    #[test]
    fn target_with_a_logit_of_nan_is_not_among_the_likeliest() {
        assert_eq!(top(4, &[[f32::NAN, 1.0, 2.0, 3.0]], &[0]), 0.0);
        assert_eq!(top(1, &[[f32::NAN, 1.0, 2.0, 3.0]], &[3]), 0.0);
        assert_eq!(top(2, &[[f32::NAN, 1.0, 2.0, 3.0]], &[3]), 1.0);
    }

    #[test]
    fn targets_that_are_no_class_are_counted_and_refused() {
        let refused = |confusion| {
            let classes = Classes::new(10).top_k(3).confusion(confusion);
            error(
                &classes,
                predicting(&[0, 1, 2, 3], 10),
                ints(&[0, 10, -1, 3]),
            )
        };
        for confusion in [true, false] {
            let text = refused(confusion);
            assert!(
                text.ends_with(": 2 targets are not a class index from 0 to 9"),
                "{text}"
            );
        }
        let text = error(&Classes::new(2), predicting(&[0], 2), ints(&[2]));
        assert!(
            text.ends_with(": 1 target is not a class index from 0 to 1"),
            "{text}"
        );
    }

    #[test]
    fn settings_and_shapes_that_do_not_agree_are_refused() {
        let two = || predicting(&[0, 1], 2);
        let refused = |classes: Classes| error(&classes, two(), ints(&[0, 1]));
        let begin = "the metric `classes` cannot be computed: ";
        assert_eq!(
            refused(Classes::new(2).names(["a"])),
            format!("{begin}2 classes have 1 names; use one for each")
        );
        assert_eq!(
            refused(Classes::new(2).top_k(3)),
            format!("{begin}`top_k` is 3; use 1 to 2")
        );
        assert_eq!(
            refused(Classes::new(3)),
            format!("{begin}the logits have 2 classes, and `Classes` has 3; use one number")
        );
        assert_eq!(
            error(&Classes::new(2), two(), ints(&[0, 1, 1])),
            format!("{begin}2 rows of logits have 3 targets; use one for each")
        );
        assert_eq!(
            refused(Classes::new(0)),
            format!("{begin}`Classes::new(0)` has no class; use 1 or more")
        );
    }

    #[test]
    fn classes_above_256_are_told_apart_for_a_model_in_bf16() {
        let mut metrics = Metrics::default();
        let logits = predicting(&[299, 298, 257], 300).cast(FloatDType::BF16);
        metrics.classes(
            &Classes::new(300).top_k(1).prefix("of_"),
            logits.clone(),
            ints(&[299, 299, 256]),
        );
        metrics.accuracy(logits, ints(&[299, 299, 256]));
        let scalars = results(metrics).scalars;
        assert_eq!([scalars[0].1, scalars[1].1, scalars[5].1], [1.0 / 3.0; 3]);
    }

    #[test]
    fn batches_of_different_classes_are_not_added() {
        let mut metrics = Metrics::default();
        let (colors, shapes) = (
            Classes::new(2).prefix("color_"),
            Classes::new(3).prefix("shape_"),
        );
        metrics.classes(&colors, predicting(&[1], 2), ints(&[1]));
        metrics.classes(&shapes, predicting(&[1], 3), ints(&[2]));
        let scalars = results(metrics).scalars;
        assert_eq!(scalars[0], ("color_accuracy".to_owned(), 1.0));
        assert_eq!(scalars[4], ("shape_accuracy".to_owned(), 0.0));
    }

    #[test]
    fn empty_batches_add_nothing() {
        let mut metrics = Metrics::default();
        metrics.classes(&Classes::new(2), predicting(&[], 2), ints(&[]));
        metrics.accuracy(predicting(&[], 2), ints(&[]));
        assert_eq!(results(metrics), Results::default());
    }

    #[test]
    fn accuracy_is_the_share_of_hits_and_unknown_targets_are_misses() {
        let mut metrics = Metrics::default();
        metrics.accuracy(predicting(&[0, 1, 1], 2), ints(&[0, 1, 0]));
        metrics.accuracy(predicting(&[1], 2), ints(&[-1]));
        assert_eq!(results(metrics).scalars, scalars(&[("accuracy", 0.5)]));
    }
}
