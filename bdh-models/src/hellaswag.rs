//! HellaSwag, a benchmark of common sense: the model chooses the ending that continues a text.
//!
//! | key     | unit                    | recorded         |
//! |---------|-------------------------|------------------|
//! | `hella` | share of right answers  | on each due step |
//!
//! The answer is the ending with the lowest mean loss over its tokens (`acc_norm`). Chance is 0.25; GPT-2 with 124M
//! parameters reaches 0.2955. The text comes without few-shot examples, which CORE's task of the same name has.
//!
//! Source: Zellers et al., 2019, *HellaSwag* (arXiv:1905.07830); karpathy/build-nanogpt, `hellaswag.py`.

mod callback;
mod error;

pub use callback::HellaSwagMetric;
pub use error::HellaSwagError;

use bdh::BoxError;
use bdh::lm::{TokenScore, Vocabulary};
use serde::Deserialize;
use std::cmp::Reverse;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Questions of HellaSwag as token ids.
#[derive(Debug, Clone)]
pub struct HellaSwag {
    items: Vec<Item>,
    /// Endings of all questions behind their texts.
    rows: Vec<Row>,
    /// Indices of the rows, longest first: rows of similar length share a batch, which saves padding.
    order: Vec<usize>,
}

/// Question, whose endings are rows that follow each other.
#[derive(Debug, Clone, Copy)]
struct Item {
    endings: usize,
    label: usize,
}

/// Text and one ending.
#[derive(Debug, Clone)]
struct Row {
    ids: Vec<i32>,
    /// Index of the ending's first id, at least 1: the first id of a row has no loss.
    start: usize,
}

/// Line of the file, with the fields that count.
#[derive(Debug, Deserialize)]
struct Line {
    ctx: String,
    endings: Vec<String>,
    label: Label,
}

/// Index of the right ending: a number in the original file, a text in Hugging Face's.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Label {
    Number(usize),
    Text(String),
}

impl HellaSwag {
    /// Reads `hellaswag_val.jsonl`, with the tokenizer of the model that is evaluated.
    ///
    /// A text loses its beginning if it is longer than the `context` tokens that the model sees.
    ///
    /// # Errors
    ///
    /// [`HellaSwagError::Unreadable`], [`Line`](HellaSwagError::Line) for a line that is no question with its answer,
    /// or [`Empty`](HellaSwagError::Empty).
    pub fn open(
        path: &Path,
        vocabulary: &dyn Vocabulary,
        context: usize,
    ) -> Result<Self, HellaSwagError> {
        let unreadable = |source| HellaSwagError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(unreadable)?;
        let (mut items, mut rows) = (Vec::new(), Vec::new());
        for (index, line) in BufReader::new(file).lines().enumerate() {
            let line = Line::parse(&line.map_err(unreadable)?);
            let line = line.map_err(|why| HellaSwagError::Line {
                path: path.to_owned(),
                line: index + 1,
                why,
            })?;
            items.push(line.item());
            rows.extend(line.rows(vocabulary, context));
        }
        if items.is_empty() {
            let path = path.to_owned();
            return Err(HellaSwagError::Empty { path });
        }
        Ok(Self::new(items, rows))
    }

    fn new(items: Vec<Item>, rows: Vec<Row>) -> Self {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&row| Reverse(rows[row].ids.len()));
        Self { items, rows, order }
    }

    /// Returns the number of questions.
    #[must_use]
    pub fn num_items(&self) -> usize {
        self.items.len()
    }

    /// Counts the right answers of a model, with at most `batch_rows` rows in a forward pass.
    ///
    /// `score` is the model: [`Text::score`](bdh::text::Text::score) in a callback, or [`score`](bdh::lm::score).
    ///
    /// # Errors
    ///
    /// [`HellaSwagError::Model`] if `score` fails, and [`HellaSwagError::NotANumber`] if a loss is NaN.
    pub fn num_correct(
        &self,
        batch_rows: usize,
        mut score: impl FnMut(&[&[i32]]) -> Result<Vec<Vec<TokenScore>>, BoxError>,
    ) -> Result<usize, HellaSwagError> {
        let mut losses = vec![f64::NAN; self.rows.len()];
        for batch in self.order.chunks(batch_rows.max(1)) {
            let ids: Vec<&[i32]> = batch.iter().map(|&row| &self.rows[row].ids[..]).collect();
            let scores = score(&ids).map_err(HellaSwagError::Model)?;
            for (&row, scores) in batch.iter().zip(&scores) {
                losses[row] = self.rows[row].mean_nats(scores);
            }
        }
        self.count(&losses)
    }

    /// Counts the questions whose right ending has the lowest loss.
    fn count(&self, losses: &[f64]) -> Result<usize, HellaSwagError> {
        let (mut correct, mut rest) = (0, losses);
        for (number, item) in self.items.iter().enumerate() {
            let (own, after) = rest.split_at(item.endings);
            if own.iter().any(|loss| loss.is_nan()) {
                return Err(HellaSwagError::NotANumber { item: number });
            }
            correct += usize::from(first_least(own) == item.label);
            rest = after;
        }
        Ok(correct)
    }
}

impl Line {
    /// Parses a line, or returns the reason why it is no question with its answer.
    fn parse(text: &str) -> Result<Self, String> {
        let line: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let (endings, label) = (line.endings.len(), line.label.index());
        match label {
            Some(label) if label < endings => Ok(line),
            _ => Err(format!(
                "`label` is {:?}, and there are {endings} endings",
                line.label
            )),
        }
    }

    fn item(&self) -> Item {
        Item {
            endings: self.endings.len(),
            label: self.label.index().unwrap_or_default(),
        }
    }

    fn rows(&self, vocabulary: &dyn Vocabulary, context: usize) -> Vec<Row> {
        let text = vocabulary.encode(&self.ctx);
        let mut rows = Vec::with_capacity(self.endings.len());
        for ending in &self.endings {
            // The space is a part of the ending's first token, as in running text.
            let ending = vocabulary.encode(&format!(" {ending}"));
            rows.push(Row::new(&text, &ending, context));
        }
        rows
    }
}

impl Label {
    fn index(&self) -> Option<usize> {
        match self {
            Self::Number(index) => Some(*index),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

impl Row {
    fn new(text: &[i32], ending: &[i32], context: usize) -> Self {
        let mut ids = [text, ending].concat();
        // The last id is only a target: the model does not see it.
        let cut = ids.len().saturating_sub(context + 1);
        ids.drain(..cut);
        Self {
            ids,
            start: text.len().saturating_sub(cut).max(1),
        }
    }

    /// Returns the mean loss of the ending in nats per token, from the scores of all ids but the first.
    fn mean_nats(&self, scores: &[TokenScore]) -> f64 {
        let ending = scores.get(self.start - 1..).unwrap_or_default();
        let mut sum = 0.0;
        for token in ending {
            sum += f64::from(token.nats);
        }
        sum / ending.len() as f64
    }
}

/// Returns the index of the least number, or of the first of several.
fn first_least(numbers: &[f64]) -> usize {
    let mut least = 0;
    for (index, number) in numbers.iter().enumerate() {
        if *number < numbers[least] {
            least = index;
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;
    use bdh_data::PlainBytes;
    use std::fs;

    fn open(text: &str, context: usize) -> Result<HellaSwag, HellaSwagError> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("hellaswag_val.jsonl");
        fs::write(&path, text).expect("a file");
        HellaSwag::open(&path, &PlainBytes, context)
    }

    /// A model whose loss of a byte is its number.
    #[expect(clippy::unnecessary_wraps, reason = "a model may fail")]
    fn bytes_as_losses(rows: &[&[i32]]) -> Result<Vec<Vec<TokenScore>>, BoxError> {
        let score = |&id: &i32| TokenScore {
            nats: id as f32,
            is_likeliest: false,
        };
        let mut scores = Vec::new();
        for row in rows {
            scores.push(row[1..].iter().map(score).collect());
        }
        Ok(scores)
    }

    /// A model like the other, in which a space costs as much as an `a`.
    fn expensive_spaces(rows: &[&[i32]]) -> Result<Vec<Vec<TokenScore>>, BoxError> {
        let mut scores = bytes_as_losses(rows)?;
        for token in scores.iter_mut().flatten() {
            if token.nats == f32::from(b' ') {
                token.nats = f32::from(b'a');
            }
        }
        Ok(scores)
    }

    /// A model that has diverged.
    fn not_numbers(rows: &[&[i32]]) -> Result<Vec<Vec<TokenScore>>, BoxError> {
        let mut scores = bytes_as_losses(rows)?;
        for token in scores.iter_mut().flatten() {
            token.nats = f32::NAN;
        }
        Ok(scores)
    }

    fn no_device(_: &[&[i32]]) -> Result<Vec<Vec<TokenScore>>, BoxError> {
        Err("the device is lost".into())
    }

    const LINES: &str = r#"{"ind": 24, "ctx": "zz", "endings": ["bbb", "c", "aaaaaaaaa", "ddd"], "label": 2}
{"ctx": "Now", "endings": ["z", "y"], "label": "1", "split": "val"}
{"ctx": "", "endings": ["b", "a", "b"], "label": 0}
"#;

    #[test]
    fn ending_with_the_lowest_mean_loss_is_the_answer() {
        // The space is cheap, so the short `c` has the lowest mean in the first question, whose label is the nine `a`.
        // The last question has the wrong label.
        let items = open(LINES, 64).expect("three questions");
        assert_eq!(items.num_items(), 3);
        for batch_rows in [0, 1, 2, 5, 100] {
            let correct = items.num_correct(batch_rows, bytes_as_losses);
            assert_eq!(correct.expect("a model"), 1, "{batch_rows} rows");
        }
        let correct = items.num_correct(3, expensive_spaces).expect("a model");
        assert_eq!(
            correct, 2,
            "the nine `a` have the lowest mean, and not the lowest sum"
        );
    }

    #[test]
    fn rows_hold_the_ending_behind_a_space_and_lose_their_beginning() {
        let row = |context| {
            let mut items = open(r#"{"ctx": "abc", "endings": ["de"], "label": 0}"#, context)
                .expect("a question");
            items.rows.remove(0)
        };
        let whole = row(64);
        assert_eq!(whole.ids, bdh::lm::bytes("abc de"));
        assert_eq!(whole.start, 3);
        let cropped = row(3);
        assert_eq!(cropped.ids, bdh::lm::bytes("c de"), "three inputs");
        assert_eq!(cropped.start, 1);
        let short = row(2);
        assert_eq!(short.ids, bdh::lm::bytes(" de"));
        let nats = bytes_as_losses(&[&short.ids]).expect("scores");
        assert_eq!(short.mean_nats(&nats[0]), f64::from(b'd' + b'e') / 2.0);
    }

    #[test]
    fn wrong_lines_are_refused_with_their_number() {
        let good = r#"{"ctx": "a", "endings": ["b", "c"], "label": 1}"#;
        for (line, part) in [
            (
                r#"{"ctx": "a", "endings": ["b", "c"], "label": 2}"#,
                "there are 2 endings",
            ),
            (
                r#"{"ctx": "a", "endings": ["b", "c"], "label": ""}"#,
                "there are 2 endings",
            ),
            (
                r#"{"ctx": "a", "endings": ["b", "c"]}"#,
                "missing field `label`",
            ),
            (
                r#"{"endings": ["b", "c"], "label": 1}"#,
                "missing field `ctx`",
            ),
            ("", "EOF"),
        ] {
            let error = open(&format!("{good}\n{line}\n{good}"), 8).expect_err(part);
            let text = error.to_string();
            assert!(text.contains("line 2") && text.contains(part), "{text}");
        }
        let error = open("", 8).expect_err("empty").to_string();
        assert!(error.contains("has no question"), "{error}");
    }

    #[test]
    fn losses_that_are_not_numbers_and_failing_models_are_errors() {
        let items = open(LINES, 64).expect("three questions");
        let error = items.num_correct(8, not_numbers).expect_err("NaN");
        let error = error.to_string();
        assert!(error.starts_with("question 0 of HellaSwag"), "{error}");
        let error = items.num_correct(8, no_device).expect_err("no device");
        assert!(error.to_string().ends_with("the device is lost"), "{error}");
    }
}
