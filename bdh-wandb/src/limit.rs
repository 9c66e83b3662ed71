//! Warnings of one kind, of which the first few are enough.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Warnings of one kind that a person sees.
const MOST: u32 = 5;

/// Counts warnings by their kind. Clones count together.
#[derive(Debug, Clone, Default)]
pub(super) struct Limit(Arc<Mutex<HashMap<&'static str, u32>>>);

impl Limit {
    /// The text, if it is among the first of its kind. The last of these says that it is.
    pub(super) fn pass(&self, kind: &'static str, text: String) -> Option<String> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(kind).or_default();
        *count = count.saturating_add(1);
        match *count {
            ..MOST => Some(text),
            MOST => Some(format!("{text} (more of this kind are not shown)")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_five_of_a_kind_are_shown_and_the_fifth_says_that_it_is_the_last() {
        let limit = Limit::default();
        let shown: Vec<_> = (1..=20)
            .filter_map(|row| limit.clone().pass("row", format!("row {row}")))
            .collect();
        let last = "row 5 (more of this kind are not shown)";
        assert_eq!(shown, ["row 1", "row 2", "row 3", "row 4", last]);
        assert_eq!(
            limit.pass("file", "a file".to_owned()),
            Some("a file".to_owned())
        );
    }
}
