//! Values of a pickle that are not yet in a collection.

use super::Value;

/// Most values of a pickle. A vocabulary of 256,000 tokens has 0.8 million, with those that are stored for later.
const MOST_VALUES: usize = 2 << 20;

/// Most levels of collections in collections. Dropping a value takes a function call for each level.
const MOST_LEVELS: u32 = 32;

/// Stack of values, with a limit on their number and depth.
#[derive(Debug, Default)]
pub(super) struct Stack {
    items: Vec<Item>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    /// Number of values so far.
    count: usize,
}

/// Value with its levels.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) value: Value,
    /// Levels of collections inside; 0 for a number.
    pub(super) depth: u32,
}

/// Values that were together at the top of the stack.
#[derive(Debug)]
pub(super) struct Items {
    pub(super) values: Vec<Value>,
    /// Levels inside the deepest one.
    pub(super) depth: u32,
}

impl Stack {
    /// Adds a value without content.
    pub(super) fn push(&mut self, value: Value) -> Result<(), String> {
        self.count()?;
        self.items.push(Item { value, depth: 0 });
        Ok(())
    }

    /// Adds a value around others that have `depth` levels.
    pub(super) fn push_around(&mut self, value: Value, depth: u32) -> Result<(), String> {
        let depth = one_more(depth)?;
        self.push(value)?;
        self.last_item()?.depth = depth;
        Ok(())
    }

    /// Opens a mark, from which values are taken together.
    pub(super) fn mark(&mut self) -> Result<(), String> {
        self.count()?;
        self.marks.push(self.items.len());
        Ok(())
    }

    /// Counts a value, also one that is stored elsewhere.
    pub(super) fn count(&mut self) -> Result<(), String> {
        self.count += 1;
        if self.count > MOST_VALUES {
            return Err(format!("the pickle has more than {MOST_VALUES} values"));
        }
        Ok(())
    }

    /// Returns the last value.
    pub(super) fn last(&self) -> Result<&Value, String> {
        self.items.last().map(|item| &item.value).ok_or_else(empty)
    }

    /// Takes the last value.
    pub(super) fn pop(&mut self) -> Result<Item, String> {
        self.items.pop().ok_or_else(empty)
    }

    /// Takes the last `count` values.
    pub(super) fn pop_last(&mut self, count: usize) -> Result<Items, String> {
        let start = self.items.len().checked_sub(count).ok_or_else(empty)?;
        Ok(self.split_off(start))
    }

    /// Takes the values since the last mark.
    pub(super) fn pop_mark(&mut self) -> Result<Items, String> {
        let start = self.marks.pop().ok_or_else(empty)?;
        if start > self.items.len() {
            return Err(empty());
        }
        Ok(self.split_off(start))
    }

    fn split_off(&mut self, start: usize) -> Items {
        let (mut values, mut depth) = (Vec::with_capacity(self.items.len() - start), 0);
        for item in self.items.drain(start..) {
            values.push(item.value);
            depth = depth.max(item.depth);
        }
        Items { values, depth }
    }

    /// Adds items to the last value by `add`, which returns whether that value is a collection for them.
    pub(super) fn extend_top(
        &mut self,
        items: Items,
        add: impl FnOnce(&mut Value, Vec<Value>) -> bool,
    ) -> Result<(), String> {
        let depth = one_more(items.depth)?;
        let top = self.last_item()?;
        top.depth = top.depth.max(depth);
        if add(&mut top.value, items.values) {
            Ok(())
        } else {
            Err("the pickle adds to something that is no collection".to_owned())
        }
    }

    fn last_item(&mut self) -> Result<&mut Item, String> {
        self.items.last_mut().ok_or_else(empty)
    }
}

/// Returns the levels of a collection around values with `depth` levels.
fn one_more(depth: u32) -> Result<u32, String> {
    if depth >= MOST_LEVELS {
        return Err(format!("the pickle has more than {MOST_LEVELS} levels"));
    }
    Ok(depth + 1)
}

fn empty() -> String {
    "the pickle takes a value where there is none".to_owned()
}
