//! Items as texts, and as ids of which some are judged.

use super::error::CoreError;
use super::item::Item;
use super::tasks::CoreTask;
use bdh::lm::Vocabulary;

/// A text as ids; the model is judged by its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The ids, the one that begins a document first.
    pub ids: Vec<i32>,
    /// Where the part begins that is judged; it goes to the end.
    pub start: usize,
}

impl Row {
    /// Leaves the last `context` ids, as nanochat does for models that take no more. Whether something was cut off
    /// that is judged.
    pub(super) fn crop(&mut self, context: usize) -> bool {
        let cut = self.ids.len().saturating_sub(context);
        self.ids.drain(..cut);
        let is_cut = self.start < cut + 1; // the first id left has none before it, and so no loss
        self.start = self.start.saturating_sub(cut).max(1);
        is_cut && cut > 0
    }
}

/// The texts of an item: one for each choice or context, and for a [`Item::Text`] without and with its continuation.
/// Before it stand the items that are shown, `shots`, with their answers.
#[must_use]
pub fn render(task: &CoreTask, item: &Item, shots: &[&Item]) -> Vec<String> {
    let between = task.delimiter;
    let show = |shown: String, shot: &&Item| {
        let (context, continuation) = solved(shot);
        shown + context + between + continuation + "\n\n"
    };
    let shown = shots.iter().fold(String::new(), show);
    match item {
        Item::Choices { query, choices, .. } => choices
            .iter()
            .map(|choice| format!("{shown}{query}{between}{choice}"))
            .collect(),
        Item::Contexts {
            contexts,
            continuation,
            ..
        } => {
            let text = |context| format!("{shown}{context}{between}{continuation}");
            contexts.iter().map(text).collect()
        }
        Item::Text {
            context,
            continuation,
        } => {
            let without = format!("{shown}{}{between}", strip(context));
            // A space at the end would be a token of its own; with the continuation it is part of the next.
            vec![strip(&without).to_owned(), without + continuation]
        }
    }
}

/// A context and what truly follows.
fn solved(item: &Item) -> (&str, &str) {
    match item {
        Item::Choices {
            query,
            choices,
            gold,
        } => (query, &choices[*gold]),
        Item::Contexts {
            contexts,
            continuation,
            gold,
        } => (&contexts[*gold], continuation),
        Item::Text {
            context,
            continuation,
        } => (strip(context), continuation),
    }
}

/// Python's `str.strip`, for which four control characters are white space too.
fn strip(text: &str) -> &str {
    text.trim_matches(|letter: char| letter.is_whitespace() || ('\x1c'..='\x1f').contains(&letter))
}

/// The ids of an item's texts, and what of them is judged: what follows the ids that all choices have in common; those
/// at the end that all contexts have in common; the continuation.
///
/// # Errors
///
/// [`CoreError::Tokens`] for a tokenizer that makes other ids of a context when its continuation follows; `number` is
/// the item's.
pub fn rows(
    task: &CoreTask,
    item: &Item,
    number: usize,
    shots: &[&Item],
    vocabulary: &dyn Vocabulary,
) -> Result<Vec<Row>, CoreError> {
    let ids = |text: String| -> Vec<i32> {
        vocabulary
            .bos()
            .into_iter()
            .chain(vocabulary.encode(&text))
            .collect()
    };
    let texts: Vec<Vec<i32>> = render(task, item, shots).into_iter().map(ids).collect();
    match item {
        Item::Choices { .. } => {
            let start = shared(&texts, <[i32]>::get);
            Ok(texts.into_iter().map(|ids| Row { ids, start }).collect())
        }
        Item::Contexts { .. } => {
            let end = shared(&texts, |ids, place| {
                ids.get(ids.len().checked_sub(place + 1)?)
            });
            let row = |ids: Vec<i32>| Row {
                start: ids.len() - end,
                ids,
            };
            Ok(texts.into_iter().map(row).collect())
        }
        Item::Text { .. } => match &texts[..] {
            [without, with] if with.starts_with(without) && with.len() > without.len() => {
                Ok(vec![Row {
                    ids: with.clone(),
                    start: without.len(),
                }])
            }
            _ => Err(CoreError::Tokens {
                task: task.label,
                item: number,
            }),
        },
    }
}

/// How many ids are the same in all rows, by their places from one of the ends.
fn shared(rows: &[Vec<i32>], at: impl Fn(&[i32], usize) -> Option<&i32>) -> usize {
    let is_shared = |place: &usize| {
        let first = at(&rows[0], *place);
        rows.iter().all(|row| at(row, *place) == first)
    };
    (0..rows[0].len()).take_while(is_shared).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_too_long_keeps_its_end_and_says_whether_that_is_all_that_is_judged() {
        let row = Row {
            ids: (0..10).collect(),
            start: 6,
        };
        let cropped = |context| {
            let mut row = row.clone();
            let is_cut = row.crop(context);
            (row.ids[0], row.start, is_cut)
        };
        assert_eq!(cropped(10), (0, 6, false));
        assert_eq!(cropped(5), (5, 1, false));
        assert_eq!(
            cropped(4),
            (6, 1, true),
            "the first that is judged has none before it"
        );
        assert_eq!(cropped(2), (8, 1, true));
    }
}
