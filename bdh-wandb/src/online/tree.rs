//! JSON objects whose values stay as they were written, including bare NaN and infinities.

use crate::proto::{Item, Items};
use crate::text;
use std::collections::BTreeMap;

/// Object of values and of objects.
#[derive(Debug, Clone, Default)]
pub(super) struct Tree(BTreeMap<String, Node>);

#[derive(Debug, Clone)]
enum Node {
    Value(String),
    Tree(Tree),
}

impl Tree {
    /// Returns the object that some items describe.
    pub(super) fn of(items: &[Item]) -> Self {
        let mut tree = Self::default();
        for item in items {
            tree.set(&path(item), item.value_json.clone());
        }
        tree
    }

    /// Applies the changes of an entry of the log.
    pub(super) fn apply(&mut self, changes: &Items) {
        for item in &changes.update {
            self.set(&path(item), item.value_json.clone());
        }
        for item in &changes.remove {
            self.remove(&path(item));
        }
    }

    /// Sets the value at a path of keys; it is JSON already.
    pub(super) fn set(&mut self, path: &[&str], value: String) {
        match path {
            [] => {}
            [key] => drop(self.0.insert((*key).to_owned(), Node::Value(value))),
            [key, rest @ ..] => {
                let node = self.0.entry((*key).to_owned()).or_insert_with(Node::empty);
                if let Node::Value(_) = node {
                    *node = Node::empty();
                }
                if let Node::Tree(tree) = node {
                    tree.set(rest, value);
                }
            }
        }
    }

    fn remove(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [key] => drop(self.0.remove(*key)),
            [key, rest @ ..] => {
                if let Some(Node::Tree(tree)) = self.0.get_mut(*key) {
                    tree.remove(rest);
                }
            }
        }
    }

    /// Returns the top level as keys and JSON values.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, String)> {
        self.0.iter().map(|(key, node)| (key.as_str(), node.json()))
    }

    pub(super) fn json(&self) -> String {
        let fields: Vec<_> = self.fields().collect();
        text::object(fields.iter().map(|(key, value)| (*key, value.as_str())))
    }
}

impl Node {
    fn empty() -> Self {
        Self::Tree(Tree::default())
    }

    fn json(&self) -> String {
        match self {
            Self::Value(json) => json.clone(),
            Self::Tree(tree) => tree.json(),
        }
    }
}

/// Returns the path of an item; a single key is a path of length one.
fn path(item: &Item) -> Vec<&str> {
    match item.nested_key.as_slice() {
        [] => vec![&item.key],
        keys => keys.iter().map(String::as_str).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(path: &[&str], value: &str) -> Item {
        let nested_key = path.iter().map(|&key| key.to_owned()).collect();
        Item {
            key: String::new(),
            nested_key,
            value_json: value.to_owned(),
        }
    }

    #[test]
    fn nested_keys_make_objects_and_values_stay_as_written() {
        let mut tree = Tree::of(&[item(&["a/b"], "NaN"), item(&["c", "d"], "1e400")]);
        assert_eq!(tree.json(), r#"{"a/b":NaN,"c":{"d":1e400}}"#);
        let changes = Items {
            update: vec![item(&["a/b", "x"], "1"), item(&["e"], "2")],
            remove: vec![item(&["c", "d"], "")],
        };
        tree.apply(&changes);
        assert_eq!(tree.json(), r#"{"a/b":{"x":1},"c":{},"e":2}"#);
    }
}
