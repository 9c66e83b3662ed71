//! Items as texts, and as token ids with a scored part.

use super::error::CoreError;
use super::item::Item;
use super::tasks::CoreTask;
use bdh::lm::Vocabulary;

/// Text as token ids, whose end is scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Token ids, starting with the one that begins a document.
    pub ids: Vec<i32>,
    /// Index of the first scored id. The scored part ends with the row.
    pub start: usize,
}

impl Row {
    /// Keeps the last `context` ids, like nanochat. Returns whether a part of the scored ids was cut off.
    pub(super) fn crop(&mut self, context: usize) -> bool {
        let cut = self.ids.len().saturating_sub(context);
        self.ids.drain(..cut);
        let is_cut = self.start < cut + 1; // the first remaining id has no predecessor, and so no loss
        self.start = self.start.saturating_sub(cut).max(1);
        is_cut && cut > 0
    }
}

/// Returns the texts of an item, after the few-shot examples `shots` with their answers.
///
/// There is one text for each choice or context. An [`Item::Text`] has two: without and with its continuation.
#[must_use]
pub fn render(task: &CoreTask, item: &Item, shots: &[&Item]) -> Vec<String> {
    let (shown, between) = (render_shots(task, shots), task.delimiter);
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
            let mut texts = Vec::with_capacity(contexts.len());
            for context in contexts {
                texts.push(format!("{shown}{context}{between}{continuation}"));
            }
            texts
        }
        Item::Text {
            context,
            continuation,
        } => {
            let without = format!("{shown}{}{between}", strip(context));
            // A space at the end would be a separate token; with the continuation it belongs to the next token.
            vec![strip(&without).to_owned(), without + continuation]
        }
    }
}

/// Returns the text of the few-shot examples.
fn render_shots(task: &CoreTask, shots: &[&Item]) -> String {
    let between = task.delimiter;
    let mut text = String::new();
    for shot in shots {
        let (context, continuation) = solved(shot);
        text += &format!("{context}{between}{continuation}\n\n");
    }
    text
}

/// Returns the right context and continuation of an item.
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

/// Strips white space like Python's `str.strip`, which also removes four control characters.
fn strip(text: &str) -> &str {
    text.trim_matches(|letter: char| letter.is_whitespace() || ('\x1c'..='\x1f').contains(&letter))
}

/// Encodes the texts of an item, and finds the scored ids.
///
/// For choices, the scored part follows the ids that all choices have in common. For contexts, the scored part is the
/// end that all contexts have in common. For a text, it is the continuation. `number` is the item's, for errors.
///
/// # Errors
///
/// [`CoreError::Tokens`] for a tokenizer that changes the ids of a context when a continuation follows.
pub fn rows(
    task: &CoreTask,
    item: &Item,
    number: usize,
    shots: &[&Item],
    vocabulary: &dyn Vocabulary,
) -> Result<Vec<Row>, CoreError> {
    let mut texts = Vec::new();
    for text in render(task, item, shots) {
        let mut ids: Vec<i32> = vocabulary.bos().into_iter().collect();
        ids.extend(vocabulary.encode(&text));
        texts.push(ids);
    }
    match item {
        Item::Choices { .. } => Ok(rows_after_shared_start(texts)),
        Item::Contexts { .. } => Ok(rows_of_shared_end(texts)),
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

/// Returns rows that are scored after the ids that all texts begin with.
fn rows_after_shared_start(texts: Vec<Vec<i32>>) -> Vec<Row> {
    let start = num_shared(&texts, <[i32]>::get);
    texts.into_iter().map(|ids| Row { ids, start }).collect()
}

/// Returns rows whose scored part is the ids that all texts end with.
fn rows_of_shared_end(texts: Vec<Vec<i32>>) -> Vec<Row> {
    let end = num_shared(&texts, |ids, index| {
        ids.get(ids.len().checked_sub(index + 1)?)
    });
    let mut rows = Vec::with_capacity(texts.len());
    for ids in texts {
        let start = ids.len() - end;
        rows.push(Row { ids, start });
    }
    rows
}

/// Counts the ids that are equal in all rows, from one end; `get` returns an id by its distance from that end.
fn num_shared(rows: &[Vec<i32>], get: impl Fn(&[i32], usize) -> Option<&i32>) -> usize {
    for index in 0..rows[0].len() {
        let first = get(&rows[0], index);
        if rows.iter().any(|row| get(row, index) != first) {
            return index;
        }
    }
    rows[0].len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crop_keeps_the_end_and_reports_a_cut_answer() {
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
            "the first scored id has no predecessor"
        );
        assert_eq!(cropped(2), (8, 1, true));
    }
}
