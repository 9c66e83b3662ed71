//! Metrics of a binary classifier's order: area under the ROC curve and average precision.

use super::{Metric, Metrics};
use crate::failure::BoxError;
use crate::record::Value;
use burn::tensor::{FloatDType, Int, Tensor};

impl Metrics {
    /// Adds a batch of a binary classifier to `auroc` and `average_precision`: scores, `[batch]`, higher for the
    /// positive class, and labels, `[batch]`, 0 or 1.
    ///
    /// Both are exact and equal scikit-learn's `roc_auc_score` and `average_precision_score`, which take equal scores
    /// as one threshold. They are NaN if a score is NaN; `auroc` is also NaN without a positive or without a negative
    /// row, `average_precision` without a positive one.
    ///
    /// Keeps 8 bytes a row on the device until the eval ends, and sorts the rows on the host. Costs no device read. The
    /// eval fails with a sentence if a label is neither 0 nor 1, or the lengths differ.
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::burn::tensor::{Int, Tensor};
    /// use bdh::metrics::Metrics;
    ///
    /// /// Takes logits of two binary outputs, `[batch]` each, and their labels.
    /// fn eval_batch(logits: [Tensor<1>; 2], labels: [Tensor<1, Int>; 2], metrics: &mut Metrics) {
    ///     let ([spam, urgent], [is_spam, is_urgent]) = (logits, labels);
    ///     metrics.ranks(spam, is_spam); // auroc, average_precision
    ///     metrics.ranks_of("urgent", urgent, is_urgent); // urgent_auroc, urgent_average_precision
    /// }
    /// ```
    pub fn ranks(&mut self, scores: Tensor<1>, labels: Tensor<1, Int>) {
        self.add_ranks(String::new(), scores, labels);
    }

    /// Adds a batch of one of several binary outputs to `<output>_auroc` and `<output>_average_precision`.
    ///
    /// See [`ranks`](Self::ranks).
    pub fn ranks_of(&mut self, output: &str, scores: Tensor<1>, labels: Tensor<1, Int>) {
        self.add_ranks(format!("{output}_"), scores, labels);
    }

    fn add_ranks(&mut self, prefix: String, scores: Tensor<1>, labels: Tensor<1, Int>) {
        let ([rows], [count]) = (scores.dims(), labels.dims());
        if rows != count {
            let kind = format!("{prefix}ranks");
            let text = format!("{rows} scores have {count} labels; use one for each");
            return self.refuse(kind, text, &scores.device());
        }
        if rows > 0 {
            let scores = scores.inner().cast(FloatDType::F32);
            let labels = labels.inner().cast(FloatDType::F32);
            let rows: Tensor<2> = Tensor::stack(vec![scores, labels], 1); // [batch, 2]
            self.add(Ranks { prefix }, rows.reshape([-1]), count as f64);
        }
    }
}

/// Accumulator of [`Metrics::ranks`]: score and label of every row, one after the other.
struct Ranks {
    prefix: String,
}

impl Metric for Ranks {
    fn name(&self) -> String {
        format!("{0}auroc, {0}average_precision", self.prefix)
    }

    fn keeps_all(&self) -> bool {
        true
    }

    fn compute(&self, values: &[f64], _: f64) -> Result<Vec<(String, Value)>, BoxError> {
        let scores = Scores::of(rows(values)?);
        let key = |name: &str| format!("{}{name}", self.prefix);
        Ok(vec![
            (key("auroc"), Value::Scalar(scores.auroc)),
            (
                key("average_precision"),
                Value::Scalar(scores.average_precision),
            ),
        ])
    }
}

#[derive(Debug, Clone, Copy)]
struct Row {
    score: f64,
    is_positive: bool,
}

/// Returns the rows of an accumulator, and refuses labels other than 0 and 1.
fn rows(values: &[f64]) -> Result<Vec<Row>, BoxError> {
    let mut rows = Vec::with_capacity(values.len() / 2);
    let mut wrong = Vec::new();
    for pair in values.chunks_exact(2) {
        let [score, label] = [pair[0], pair[1]];
        if label != 0.0 && label != 1.0 {
            wrong.push(label);
        }
        rows.push(Row {
            score,
            is_positive: label == 1.0,
        });
    }
    match wrong[..] {
        [] => Ok(rows),
        [label] => Err(format!("a label is {label}; use 0 or 1").into()),
        [first, ..] => Err(format!(
            "{} labels are neither 0 nor 1, such as {first}",
            wrong.len()
        )
        .into()),
    }
}

/// Scores of an order.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Scores {
    auroc: f64,
    average_precision: f64,
}

impl Scores {
    /// Computes both in one pass over the thresholds, from the highest score to the lowest.
    ///
    /// The area is the share of pairs of a positive and a negative row in the right order, where a tie counts half. The
    /// average precision is the sum of the precision at each threshold times the gain in recall.
    fn of(mut rows: Vec<Row>) -> Self {
        if rows.iter().any(|row| row.score.is_nan()) {
            return Self {
                auroc: f64::NAN,
                average_precision: f64::NAN,
            };
        }
        rows.sort_unstable_by(|one, other| other.score.total_cmp(&one.score));
        let (mut positives, mut negatives) = (0.0, 0.0); // down to the threshold
        let (mut pairs, mut precisions) = (0.0, 0.0);
        for tie in rows.chunk_by(|one, other| one.score == other.score) {
            let hits = tie.iter().filter(|row| row.is_positive).count() as f64;
            let misses = tie.len() as f64 - hits;
            pairs += misses * (positives + hits / 2.0);
            positives += hits;
            negatives += misses;
            precisions += hits * positives / (positives + negatives);
        }
        Self {
            auroc: pairs / (positives * negatives), // NaN, as 0 / 0, if there are none
            average_precision: precisions / positives,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::MetricError;
    use crate::metrics::{Results, compute};
    use burn::tensor::Device;

    fn computed(batches: &[(&[f32], &[i32])]) -> Result<Results, MetricError> {
        let device = Device::flex();
        let mut metrics = Metrics::default();
        for (scores, labels) in batches {
            metrics.ranks(
                Tensor::from_floats(*scores, &device),
                Tensor::from_ints(*labels, &device),
            );
        }
        compute([metrics.read().expect("the CPU reads")])
    }

    fn scores(batches: &[(&[f32], &[i32])]) -> [f64; 2] {
        let scalars = computed(batches).expect("valid batches").scalars;
        assert_eq!(
            (scalars[0].0.as_str(), scalars[1].0.as_str()),
            ("auroc", "average_precision")
        );
        [scalars[0].1, scalars[1].1]
    }

    #[test]
    fn scores_are_those_of_scikit_learn_over_all_batches() {
        // The example of roc_auc_score and average_precision_score in scikit-learn's documentation.
        let [auroc, average] = scores(&[(&[0.1, 0.4], &[0, 0]), (&[0.35, 0.8], &[1, 1])]);
        assert_eq!((auroc, average), (0.75, (1.0 + 2.0 / 3.0) * 0.5));
    }

    #[test]
    fn tied_scores_are_one_threshold() {
        assert_eq!(scores(&[(&[0.5; 4], &[0, 1, 1, 1])]), [0.5, 0.75]);
        assert_eq!(scores(&[(&[-0.0, 0.0], &[0, 1])]), [0.5, 0.5]);
    }

    #[test]
    fn infinite_scores_have_a_rank() {
        let infinite = [f32::INFINITY, 0.0, f32::NEG_INFINITY];
        assert_eq!(scores(&[(&infinite, &[1, 0, 0])]), [1.0, 1.0]);
    }

    #[test]
    fn scores_without_a_meaning_are_nan() {
        let [auroc, average] = scores(&[(&[0.1, 0.2], &[1, 1])]);
        assert!(auroc.is_nan() && average == 1.0);
        let [auroc, average] = scores(&[(&[0.1, 0.2], &[0, 0])]);
        assert!(auroc.is_nan() && average.is_nan());
        let [auroc, average] = scores(&[(&[0.1, f32::NAN], &[0, 1])]);
        assert!(auroc.is_nan() && average.is_nan());
    }

    #[test]
    fn labels_other_than_0_and_1_are_refused() {
        let error = computed(&[(&[0.1, 0.2], &[0, 2])])
            .expect_err("a label of 2")
            .to_string();
        assert!(error.ends_with(": a label is 2; use 0 or 1"), "{error}");
        let error =
            computed(&[(&[0.1, 0.2], &[-1, 1]), (&[0.3], &[3])]).expect_err("two such labels");
        let error = error.to_string();
        assert!(
            error.ends_with(": 2 labels are neither 0 nor 1, such as -1"),
            "{error}"
        );
    }

    #[test]
    fn lengths_that_differ_are_refused() {
        let error = computed(&[(&[0.1, 0.2], &[0])])
            .expect_err("one label")
            .to_string();
        assert_eq!(
            error,
            "the metric `ranks` cannot be computed: 2 scores have 1 labels; use one for each"
        );
    }

    #[test]
    fn outputs_are_apart_and_empty_batches_add_nothing() {
        let device = Device::flex();
        let mut metrics = Metrics::default();
        let one = || Tensor::<1>::from_floats([1.0, 0.0], &device);
        metrics.ranks_of("spam", one(), Tensor::from_ints([1, 0], &device));
        metrics.ranks_of("urgent", one(), Tensor::from_ints([0, 1], &device));
        metrics.ranks(Tensor::zeros([0], &device), Tensor::zeros([0], &device));
        let scalars = compute([metrics.read().expect("the CPU reads")])
            .expect("valid batches")
            .scalars;
        let auroc = [
            ("spam_auroc".to_owned(), 1.0),
            ("urgent_auroc".to_owned(), 0.0),
        ];
        assert_eq!([scalars[0].clone(), scalars[2].clone()], auroc);
        assert_eq!(scalars.len(), 4);
    }
}
