//! One item of a task, from a line of JSON.

use super::tasks::Kind;
use serde_json::Value;

/// Item of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Item of [`Kind::MultipleChoice`].
    Choices {
        /// Question, or beginning of a text.
        query: String,
        /// Possible answers.
        choices: Vec<String>,
        /// Index of the right answer.
        gold: usize,
    },
    /// Item of [`Kind::Schema`].
    Contexts {
        /// Possible beginnings of a text.
        contexts: Vec<String>,
        /// Continuation of the text.
        continuation: String,
        /// Index of the right beginning.
        gold: usize,
    },
    /// Item of [`Kind::LanguageModeling`].
    Text {
        /// Beginning of a text.
        context: String,
        /// Continuation of the text.
        continuation: String,
    },
}

/// Error of a line that is not an item.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ItemError {
    /// The line is not valid JSON.
    #[error("the line is not JSON ({0})")]
    Json(#[from] serde_json::Error),
    /// The line is a JSON value other than an object.
    #[error("the line is not a JSON object")]
    NotAnObject,
    /// A field is missing.
    #[error("the field `{field}` is missing")]
    Missing {
        /// Name of the field.
        field: &'static str,
    },
    /// A field is not a string.
    #[error("the field `{field}` is not a string")]
    NotText {
        /// Name of the field.
        field: &'static str,
    },
    /// A field is an empty string.
    #[error("the field `{field}` is empty")]
    Empty {
        /// Name of the field.
        field: &'static str,
    },
    /// A field is not a list of strings, or has fewer than two.
    #[error("the field `{field}` is not a list of two strings or more")]
    NotTexts {
        /// Name of the field.
        field: &'static str,
    },
    /// The index of the right answer is out of range.
    #[error("the field `gold` is {value}: it must be a whole number from 0 to {max}")]
    Gold {
        /// The field's value, as JSON.
        value: String,
        /// Largest index.
        max: usize,
    },
}

impl Item {
    /// Parses a line. Other fields than those of the kind are ignored.
    ///
    /// # Errors
    ///
    /// An [`ItemError`] with the wrong field.
    pub(super) fn parse(kind: Kind, line: &str) -> Result<Self, ItemError> {
        let item: Value = serde_json::from_str(line)?;
        if !item.is_object() {
            return Err(ItemError::NotAnObject);
        }
        match kind {
            Kind::MultipleChoice => {
                let choices = texts(&item, "choices")?;
                let gold = index(&item, choices.len())?;
                Ok(Self::Choices {
                    query: text(&item, "query")?,
                    choices,
                    gold,
                })
            }
            Kind::Schema => {
                let contexts = texts(&item, "context_options")?;
                let gold = index(&item, contexts.len())?;
                Ok(Self::Contexts {
                    contexts,
                    continuation: continuation(&item)?,
                    gold,
                })
            }
            Kind::LanguageModeling => {
                let context = text(&item, "context")?;
                Ok(Self::Text {
                    context,
                    continuation: continuation(&item)?,
                })
            }
        }
    }
}

fn field<'a>(item: &'a Value, field: &'static str) -> Result<&'a Value, ItemError> {
    item.get(field).ok_or(ItemError::Missing { field })
}

fn text(item: &Value, name: &'static str) -> Result<String, ItemError> {
    match field(item, name)?.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(ItemError::NotText { field: name }),
    }
}

/// Returns the continuation, which is the scored part and must not be empty.
fn continuation(item: &Value) -> Result<String, ItemError> {
    let field = "continuation";
    let text = text(item, field)?;
    if text.is_empty() {
        return Err(ItemError::Empty { field });
    }
    Ok(text)
}

/// Returns a list of at least two strings.
fn texts(item: &Value, name: &'static str) -> Result<Vec<String>, ItemError> {
    let list = field(item, name)?.as_array();
    let mut texts = Vec::new();
    for value in list.into_iter().flatten() {
        let Some(text) = value.as_str() else {
            return Err(ItemError::NotTexts { field: name });
        };
        texts.push(text.to_owned());
    }
    if texts.len() < 2 {
        return Err(ItemError::NotTexts { field: name });
    }
    Ok(texts)
}

/// Returns the index of the right answer among `count`, which is at least 2.
fn index(item: &Value, count: usize) -> Result<usize, ItemError> {
    let gold = field(item, "gold")?;
    match gold.as_u64() {
        Some(index) if index < count as u64 => Ok(index as usize),
        _ => Err(ItemError::Gold {
            value: gold.to_string(),
            max: count - 1,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_wrong_field() {
        let choices = r#"{"query": "q", "choices": ["a", "b"], "gold": 1, "category": "any"}"#;
        assert!(Item::parse(Kind::MultipleChoice, choices).is_ok());
        for (kind, line, part) in [
            (Kind::MultipleChoice, "", "not JSON"),
            (Kind::MultipleChoice, "[1]", "not a JSON object"),
            (
                Kind::MultipleChoice,
                r#"{"choices": ["a", "b"], "gold": 0}"#,
                "`query` is missing",
            ),
            (
                Kind::MultipleChoice,
                r#"{"query": "q", "choices": ["a"], "gold": 0}"#,
                "`choices`",
            ),
            (
                Kind::MultipleChoice,
                r#"{"query": "q", "choices": ["a", 1], "gold": 0}"#,
                "`choices`",
            ),
            (
                Kind::MultipleChoice,
                r#"{"query": 1, "choices": ["a", "b"], "gold": 0}"#,
                "`query`",
            ),
            (
                Kind::MultipleChoice,
                r#"{"choices": ["a", "b"], "gold": 2}"#,
                "`gold` is 2",
            ),
            (
                Kind::MultipleChoice,
                r#"{"choices": ["a", "b"], "gold": -1}"#,
                "from 0 to 1",
            ),
            (
                Kind::MultipleChoice,
                r#"{"choices": ["a", "b"], "gold": 0.5}"#,
                "`gold` is 0.5",
            ),
            (Kind::Schema, choices, "`context_options` is missing"),
            (
                Kind::LanguageModeling,
                r#"{"context": "c", "continuation": ""}"#,
                "is empty",
            ),
            (
                Kind::LanguageModeling,
                r#"{"context": "c"}"#,
                "`continuation` is missing",
            ),
        ] {
            let error = Item::parse(kind, line).expect_err(line).to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
