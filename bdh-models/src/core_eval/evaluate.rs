//! A model on a task.

use super::bundle::TaskItems;
use super::error::CoreError;
use super::item::Item;
use super::prompt::{Row, rows};
use super::report::TaskScore;
use bdh::BoxError;
use bdh::lm::{TokenScore, Vocabulary};
use std::cmp::Reverse;

/// Items whose texts are in memory at once.
const ITEMS_AT_ONCE: usize = 64;

/// Puts the items of tasks to a model.
pub struct Evaluator<'a> {
    /// The tokenizer that the model was trained with.
    pub vocabulary: &'a dyn Vocabulary,
    /// Tokens that the model takes at most, 2 or more. Of longer texts it sees the end.
    pub context: usize,
    /// Rows that go through the model together.
    pub batch_rows: usize,
}

impl Evaluator<'_> {
    /// Evaluates a task. `score` is the model: [`Cx::score`](bdh::Cx::score) in a callback, or
    /// [`score`](bdh::lm::score).
    ///
    /// # Errors
    ///
    /// [`CoreError::Model`] if `score` fails, [`CoreError::NotANumber`] if what it says is no number, and
    /// [`CoreError::Tokens`] for a tokenizer that does not keep the ids of a context.
    pub fn evaluate(
        &self,
        task: &TaskItems,
        mut score: impl FnMut(&[&[i32]]) -> Result<Vec<Vec<TokenScore>>, BoxError>,
    ) -> Result<TaskScore, CoreError> {
        let (mut correct, mut cut) = (Vec::with_capacity(task.items().len()), 0);
        for (part, items) in task.items().chunks(ITEMS_AT_ONCE).enumerate() {
            let first = part * ITEMS_AT_ONCE;
            let mut texts = Vec::with_capacity(items.len());
            for (number, item) in (first..).zip(items) {
                let mut rows = rows(
                    task.task(),
                    item,
                    number,
                    &task.shots(number),
                    self.vocabulary,
                )?;
                // Each row is cropped: `any` would stop at the first.
                let is_cut = rows
                    .iter_mut()
                    .fold(false, |cut, row| row.crop(self.context) | cut);
                cut += usize::from(is_cut);
                texts.push(rows);
            }
            let mut scores = self
                .score_all(&texts.iter().flatten().collect::<Vec<_>>(), &mut score)?
                .into_iter();
            for (number, (item, rows)) in (first..).zip(items.iter().zip(&texts)) {
                let answers: Vec<_> = rows.iter().zip(scores.by_ref()).map(judged).collect();
                let is_correct = is_correct(item, &answers);
                let not_a_number = CoreError::NotANumber {
                    task: task.task().label,
                    item: number,
                };
                correct.push(is_correct.ok_or(not_a_number)?);
            }
        }
        Ok(TaskScore::new(task.task(), correct, cut))
    }

    /// The scores of all rows, in their order; rows of like length go together, so that little is filled up.
    fn score_all(
        &self,
        rows: &[&Row],
        mut score: impl FnMut(&[&[i32]]) -> Result<Vec<Vec<TokenScore>>, BoxError>,
    ) -> Result<Vec<Vec<TokenScore>>, CoreError> {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|row| Reverse(rows[*row].ids.len()));
        let mut scores = vec![Vec::new(); rows.len()];
        for batch in order.chunks(self.batch_rows.max(1)) {
            let ids: Vec<&[i32]> = batch.iter().map(|row| rows[*row].ids.as_slice()).collect();
            let answers = score(&ids).map_err(CoreError::Model)?;
            batch
                .iter()
                .zip(answers)
                .for_each(|(row, answer)| scores[*row] = answer);
        }
        Ok(scores)
    }
}

/// The scores of the tokens that are judged. A row's first token has no score.
fn judged((row, mut scores): (&Row, Vec<TokenScore>)) -> Vec<TokenScore> {
    scores.split_off((row.start - 1).min(scores.len()))
}

/// Whether the model is right; `None` if its losses are not numbers.
fn is_correct(item: &Item, answers: &[Vec<TokenScore>]) -> Option<bool> {
    if answers.iter().flatten().any(|token| token.nats.is_nan()) {
        return None;
    }
    match item {
        Item::Choices { gold, .. } | Item::Contexts { gold, .. } => {
            let losses: Vec<f64> = answers.iter().map(|tokens| mean_nats(tokens)).collect();
            Some(first_least(&losses) == *gold)
        }
        Item::Text { .. } => {
            let is_likeliest = |token: &TokenScore| token.is_likeliest;
            Some(
                answers
                    .iter()
                    .all(|tokens| !tokens.is_empty() && tokens.iter().all(is_likeliest)),
            )
        }
    }
}

/// The mean loss; NaN of no tokens, as a choice has none that is the beginning of all others.
fn mean_nats(tokens: &[TokenScore]) -> f64 {
    tokens
        .iter()
        .map(|token| f64::from(token.nats))
        .sum::<f64>()
        / tokens.len() as f64
}

/// The index of the least number, the first of several. As with Python's `min`, a NaN is the least where it comes first,
/// and nowhere else.
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
    fn the_first_of_the_least_is_taken() {
        assert_eq!(first_least(&[2.0, 1.0, 1.0, 3.0]), 1);
        assert_eq!(first_least(&[f64::NAN, 1.0]), 0);
        assert_eq!(first_least(&[1.0, f64::NAN, 0.5]), 2);
    }

    #[test]
    fn a_text_is_right_if_every_token_of_it_is() {
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
