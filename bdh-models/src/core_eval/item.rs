//! One item of a task, from a line of JSON.

use super::tasks::Kind;
use serde_json::Value;

/// An item of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Of [`Kind::MultipleChoice`].
    Choices {
        /// The question, or the beginning of a text.
        query: String,
        /// The answers.
        choices: Vec<String>,
        /// The index of the true one.
        gold: usize,
    },
    /// Of [`Kind::Schema`].
    Contexts {
        /// The beginnings of a text.
        contexts: Vec<String>,
        /// How it goes on.
        continuation: String,
        /// The index of the beginning that it belongs to.
        gold: usize,
    },
    /// Of [`Kind::LanguageModeling`].
    Text {
        /// The beginning of a text.
        context: String,
        /// How it goes on.
        continuation: String,
    },
}

impl Item {
    /// Reads a line. Fields that the kind does not have are passed over.
    ///
    /// # Errors
    ///
    /// Which field is wrong, and how.
    pub(super) fn parse(kind: Kind, line: &str) -> Result<Self, String> {
        let item: Value =
            serde_json::from_str(line).map_err(|error| format!("no JSON: {error}"))?;
        if !item.is_object() {
            return Err("not an object of JSON".to_owned());
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

fn field<'a>(item: &'a Value, name: &str) -> Result<&'a Value, String> {
    item.get(name)
        .ok_or_else(|| format!("the field `{name}` is missing"))
}

fn text(item: &Value, name: &str) -> Result<String, String> {
    let text = field(item, name)?.as_str();
    text.map(str::to_owned)
        .ok_or_else(|| format!("the field `{name}` is not a text"))
}

/// What is judged must be something.
fn continuation(item: &Value) -> Result<String, String> {
    match text(item, "continuation")? {
        text if text.is_empty() => Err("the field `continuation` is empty".to_owned()),
        text => Ok(text),
    }
}

fn texts(item: &Value, name: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("the field `{name}` is not a list of two texts or more");
    let list = field(item, name)?
        .as_array()
        .filter(|list| list.len() >= 2)
        .ok_or_else(wrong)?;
    list.iter()
        .map(|text| text.as_str().map(str::to_owned).ok_or_else(wrong))
        .collect()
}

fn index(item: &Value, count: usize) -> Result<usize, String> {
    let gold = field(item, "gold")?;
    let index = gold.as_u64().and_then(|gold| usize::try_from(gold).ok());
    index.filter(|index| *index < count).ok_or_else(|| {
        format!(
            "the field `gold` is {gold}, and must be a whole number from 0 to {}",
            count - 1
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_wrong_is_named() {
        let choices = r#"{"query": "q", "choices": ["a", "b"], "gold": 1, "category": "any"}"#;
        assert!(Item::parse(Kind::MultipleChoice, choices).is_ok());
        for (kind, line, part) in [
            (Kind::MultipleChoice, "", "no JSON"),
            (Kind::MultipleChoice, "[1]", "not an object"),
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
            let error = Item::parse(kind, line).expect_err(line);
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
