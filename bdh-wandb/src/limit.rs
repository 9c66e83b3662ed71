//! Limit on the number of warnings of one kind.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Number of warnings of one kind that are shown.
const MAX_SHOWN: u32 = 5;

/// Count of warnings by kind; clones share it.
// A mutex: both threads of an uploader send warnings.
#[derive(Debug, Clone, Default)]
pub(super) struct Limit(Arc<Mutex<HashMap<&'static str, u32>>>);

impl Limit {
    /// Returns the text if it is among the first of its kind, marked if it is the last one; `None` otherwise.
    pub(super) fn pass(&self, kind: &'static str, text: String) -> Option<String> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(kind).or_default();
        *count = count.saturating_add(1);
        match *count {
            ..MAX_SHOWN => Some(text),
            MAX_SHOWN => Some(format!("{text} (more of this kind are not shown)")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_five_of_a_kind_are_shown_and_the_fifth_is_marked() {
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
