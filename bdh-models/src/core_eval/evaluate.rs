//! Evaluation of a model on one task.

use super::bundle::TaskItems;
use super::error::CoreError;
use super::item::Item;
use super::prompt::{Row, rows};
use super::report::TaskScore;
use bdh::BoxError;
use bdh::lm::{TokenScore, Vocabulary};
use std::cmp::Reverse;
use std::fmt;

/// Number of items whose texts are in memory at once.
const ITEMS_AT_ONCE: usize = 64;

/// Evaluator of a model on tasks.
pub struct Evaluator<'a> {
    /// Tokenizer that the model was trained with.
    pub vocabulary: &'a dyn Vocabulary,
    /// Most tokens that the model accepts, 2 or more. Longer texts lose their beginning.
    pub context: usize,
    /// Most tokens of a forward pass, with padding. A single text may have more.
    pub batch_tokens: usize,
}

impl fmt::Debug for Evaluator<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evaluator")
            .field("context", &self.context)
            .field("batch_tokens", &self.batch_tokens)
            .finish_non_exhaustive()
    }
}

impl Evaluator<'_> {
    /// Evaluates a task.
    ///
    /// `score` is the model: [`Text::score`](bdh::text::Text::score) in a callback, or [`score`](bdh::lm::score).
    ///
    /// # Errors
    ///
    /// [`CoreError::Model`] if `score` fails, [`CoreError::NotANumber`] if a score is NaN, and [`CoreError::Tokens`]
    /// for a tokenizer that changes the ids of a context.
    pub fn evaluate(
        &self,
        task: &TaskItems,
        mut score: impl FnMut(&[&[i32]]) -> Result<Vec<Vec<TokenScore>>, BoxError>,
    ) -> Result<TaskScore, CoreError> {
        let (mut correct, mut cut) = (Vec::with_capacity(task.items().len()), 0);
        for (part, items) in task.items().chunks(ITEMS_AT_ONCE).enumerate() {
            let first = part * ITEMS_AT_ONCE;
            let mut texts = Vec::with_capacity(items.len());
            for number in first..first + items.len() {
                let (rows, is_cut) = self.cropped_rows(task, number)?;
                cut += usize::from(is_cut);
                texts.push(rows);
            }
            let answers = self.answers(&texts, &mut score)?;
            for (number, (item, answers)) in (first..).zip(items.iter().zip(&answers)) {
                let is_correct = is_correct(item, answers).ok_or(CoreError::NotANumber {
                    task: task.task().label,
                    item: number,
                })?;
                correct.push(is_correct);
            }
        }
        Ok(TaskScore::new(task.task(), correct, cut))
    }

    /// Returns the rows of an item, cropped to the context, and whether a part of an answer was cut off.
    fn cropped_rows(&self, task: &TaskItems, number: usize) -> Result<(Vec<Row>, bool), CoreError> {
        let item = &task.items()[number];
        let shots = task.shots(number);
        let mut rows = rows(task.task(), item, number, &shots, self.vocabulary)?;
        let mut is_cut = false;
        for row in &mut rows {
            is_cut |= row.crop(self.context);
        }
        Ok((rows, is_cut))
    }

    /// Returns the scores of the answers in each row of each item.
    fn answers(
        &self,
        texts: &[Vec<Row>],
        score: impl FnMut(&[&[i32]]) -> Result<Vec<Vec<TokenScore>>, BoxError>,
    ) -> Result<Vec<Vec<Vec<TokenScore>>>, CoreError> {
        let all: Vec<&Row> = texts.iter().flatten().collect();
        let mut scores = self.score_all(&all, score)?.into_iter();
        let mut items = Vec::with_capacity(texts.len());
        for rows in texts {
            let mut answers = Vec::with_capacity(rows.len());
            for (row, scores) in rows.iter().zip(scores.by_ref()) {
                answers.push(answer_scores(row, scores));
            }
            items.push(answers);
        }
        Ok(items)
    }

    /// Returns the scores of all rows, in their order. Rows of similar length share a batch, which saves padding.
    fn score_all(
        &self,
        rows: &[&Row],
        mut score: impl FnMut(&[&[i32]]) -> Result<Vec<Vec<TokenScore>>, BoxError>,
    ) -> Result<Vec<Vec<TokenScore>>, CoreError> {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|row| Reverse(rows[*row].ids.len()));
        let mut scores = vec![Vec::new(); rows.len()];
        let mut rest = order.as_slice();
        while let Some(longest) = rest.first() {
            let length = rows[*longest].ids.len().max(1);
            let (batch, after) = rest.split_at((self.batch_tokens / length).clamp(1, rest.len()));
            rest = after;
            let ids: Vec<&[i32]> = batch.iter().map(|row| rows[*row].ids.as_slice()).collect();
            let answers = score(&ids).map_err(CoreError::Model)?;
            for (row, answer) in batch.iter().zip(answers) {
                scores[*row] = answer;
            }
        }
        Ok(scores)
    }
}

/// Returns the scores of the answer's tokens. The first token of a row has no score.
fn answer_scores(row: &Row, mut scores: Vec<TokenScore>) -> Vec<TokenScore> {
    scores.split_off((row.start - 1).min(scores.len()))
}

/// Returns whether the model's answer is correct, or `None` if a loss is NaN.
fn is_correct(item: &Item, answers: &[Vec<TokenScore>]) -> Option<bool> {
    if answers.iter().flatten().any(|token| token.nats.is_nan()) {
        return None;
    }
    match item {
        Item::Choices { gold, .. } | Item::Contexts { gold, .. } => {
            let losses: Vec<f64> = answers.iter().map(|tokens| mean_nats(tokens)).collect();
            Some(first_least(&losses) == *gold)
        }
        Item::Text { .. } => Some(
            answers
                .iter()
                .all(|tokens| !tokens.is_empty() && tokens.iter().all(|token| token.is_likeliest)),
        ),
    }
}

/// Returns the mean loss, or NaN without tokens: a choice that all other choices begin with has none.
fn mean_nats(tokens: &[TokenScore]) -> f64 {
    let mut sum = 0.0;
    for token in tokens {
        sum += f64::from(token.nats);
    }
    sum / tokens.len() as f64
}

/// Returns the index of the least number, or of the first of several.
///
/// Like in Python's `min`, a NaN is the least if it comes first, and is never the least otherwise.
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

    #[test]
    fn first_of_several_least_numbers_is_taken() {
        assert_eq!(first_least(&[2.0, 1.0, 1.0, 3.0]), 1);
        assert_eq!(first_least(&[f64::NAN, 1.0]), 0);
        assert_eq!(first_least(&[1.0, f64::NAN, 0.5]), 2);
    }

    #[test]
    fn text_is_correct_if_every_token_is_the_likeliest() {
        let item = Item::Text {
            context: "a".to_owned(),
            continuation: "b".to_owned(),
        };
        let tokens = |likeliest: &[bool]| {
            let token = |is: &bool| TokenScore {
                nats: 1.0,
                is_likeliest: *is,
            };
            vec![likeliest.iter().map(token).collect::<Vec<_>>()]
        };
        assert_eq!(is_correct(&item, &tokens(&[true, true])), Some(true));
        assert_eq!(is_correct(&item, &tokens(&[true, false])), Some(false));
        assert_eq!(is_correct(&item, &tokens(&[])), Some(false));
        let broken = vec![vec![TokenScore {
            nats: f32::NAN,
            is_likeliest: true,
        }]];
        assert_eq!(is_correct(&item, &broken), None);
    }
}
