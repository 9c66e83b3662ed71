//! Which parameters a callback watches.

use crate::settings::within;
use bdh::{BoxError, ParamInfo, ParamStats, ParamTable, Stats};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Picks parameters by name, by rank, and up to a number, in the order of the model.
///
/// A pattern stands for the whole name, `*` in it for any characters. In a configuration file a filter is a
/// pattern, a list of them, or a table: `"*attn*"`, `["*wte*", "*lm_head*"]`,
/// `{ names = ["*h.0.*"], min_rank = 2, limit = 8 }`.
///
/// # Examples
///
/// ```
/// use bdh_callbacks::{Histograms, ParamFilter};
///
/// let matrices_of_attention = ParamFilter::from("*attn*").min_rank(2);
/// let histograms = Histograms::builder().params(matrices_of_attention).build()?;
/// # Ok::<(), bdh::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(from = "Form")]
pub struct ParamFilter {
    /// With none, every name matches.
    names: Vec<String>,
    min_rank: usize,
    limit: Option<usize>,
    /// Whether these are patterns for some models, of which another need not have any.
    #[serde(skip)]
    is_guess: bool,
}

/// What a configuration file says.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a pattern, a list of them, or names, min_rank and limit"
)]
enum Form {
    One(String),
    List(Vec<String>),
    Table(Table),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    names: Names,
    #[serde(default)]
    min_rank: usize,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a pattern or a list of them")]
enum Names {
    One(String),
    List(Vec<String>),
}

impl Default for Names {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl From<Form> for ParamFilter {
    fn from(form: Form) -> Self {
        match form {
            Form::One(name) => Self::from(name.as_str()),
            Form::List(names) => Self::from(names),
            Form::Table(Table {
                names,
                min_rank,
                limit,
            }) => {
                let names = match names {
                    Names::One(name) => vec![name],
                    Names::List(names) => names,
                };
                Self {
                    names,
                    min_rank,
                    limit,
                    is_guess: false,
                }
            }
        }
    }
}

impl From<&str> for ParamFilter {
    fn from(name: &str) -> Self {
        Self::from([name])
    }
}

impl From<Vec<String>> for ParamFilter {
    fn from(names: Vec<String>) -> Self {
        Self {
            names,
            ..Self::default()
        }
    }
}

impl<const N: usize> From<[&str; N]> for ParamFilter {
    fn from(names: [&str; N]) -> Self {
        Self::from(names.map(str::to_owned).to_vec())
    }
}

impl ParamFilter {
    /// Every parameter; the default.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// The embedding, the head, and the matrices of a first, a middle and a last block, as GPT-2 calls them:
    /// `*h.0.*`, `*h.5.*`, `*h.11.*`, `*wte*`, `*lm_head*`, of rank 2 at least.
    ///
    /// A model may lack some of these names; one that has none of them is watched in all its matrices. There is
    /// no limit: the list was once used with one of 8, and the last block and the head were never seen.
    #[must_use]
    pub fn representative() -> Self {
        let names = ["*h.0.*", "*h.5.*", "*h.11.*", "*wte*", "*lm_head*"];
        Self {
            min_rank: 2,
            is_guess: true,
            ..Self::from(names)
        }
    }

    /// Leaves out parameters of fewer dimensions: 2 keeps matrices, and drops biases and gains.
    #[must_use]
    pub fn min_rank(self, rank: usize) -> Self {
        Self {
            min_rank: rank,
            ..self
        }
    }

    /// Takes the first so many of those that match.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self {
            limit: Some(limit),
            ..self
        }
    }

    /// Refuses a filter that leaves no parameter, whatever the model.
    pub(crate) fn check(&self) -> Result<(), BoxError> {
        within("limit", self.limit.unwrap_or(1), 1.., "use 1 or more")
    }

    /// Finds the parameters of a model. Each pattern must match one at least, whatever the limit.
    pub(crate) fn select(&self, params: &ParamTable) -> Result<Watched, BoxError> {
        let has_rank = |param: &&ParamInfo| param.rank() >= self.min_rank;
        let candidates: Vec<_> = params.iter().filter(has_rank).collect();
        let found = |pattern: &str| candidates.iter().any(|param| matches(pattern, &param.name));
        let missing = self.names.iter().find(|pattern| !found(pattern));
        if let (Some(pattern), false) = (missing, self.is_guess) {
            return Err(self.nothing_matches(pattern, params).into());
        }
        let is_named = |param: &ParamInfo| {
            self.names
                .iter()
                .any(|pattern| matches(pattern, &param.name))
        };
        let takes_all = !candidates.iter().any(|param| is_named(param)); // no names, or none of the guesses
        let chosen = candidates
            .iter()
            .filter(|param| takes_all || is_named(param));
        let chosen = chosen.take(self.limit.unwrap_or(usize::MAX));
        Ok(Watched(chosen.map(|param| param.name.clone()).collect()))
    }

    fn nothing_matches(&self, pattern: &str, params: &ParamTable) -> String {
        let names: Vec<_> = params.iter().map(|param| param.name.as_str()).collect();
        let rank = match self.min_rank {
            0 => String::new(),
            rank => format!(" of rank {rank} at least"),
        };
        format!(
            "no parameter{rank} matches `{pattern}`; there are {}",
            names.join(", ")
        )
    }
}

/// The parameters that a filter has found in a model.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watched(HashSet<String>);

impl Watched {
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// Those of them that have a tensor here, in the order of the model.
    pub(crate) fn of<'s>(&self, stats: &'s Stats<'s>) -> impl Iterator<Item = ParamStats<'s>> {
        stats.iter().filter(|param| self.contains(param.name()))
    }
}

/// Whether a pattern stands for a name: `*` for any characters, everything else for itself.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(start) else {
        return false;
    };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    // Each piece where it is found first leaves most for those after it.
    for piece in middle.split('*') {
        match name.split_once(piece) {
            Some((_, after)) => name = after,
            None => return false,
        }
    }
    name.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bdh::burn; // by which `derive(Module)` finds it
    use bdh::burn::module::Module;
    use bdh::burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};

    #[derive(Module, Debug)]
    struct Model {
        wte: Embedding,
        h: Vec<Linear>,
        out: Linear,
    }

    fn table() -> ParamTable {
        let device = bdh::device("cpu").expect("the CPU is compiled in");
        let linear = || LinearConfig::new(2, 2).init(&device);
        let h = (0..6).map(|_| linear()).collect();
        ParamTable::of(&Model {
            wte: EmbeddingConfig::new(3, 2).init(&device),
            h,
            out: linear(),
        })
    }

    fn names(filter: &ParamFilter) -> String {
        let (table, watched) = (
            table(),
            filter.select(&table()).expect("names that are there"),
        );
        let names = table.iter().map(|param| param.name.as_str());
        names
            .filter(|name| watched.contains(name))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn a_star_stands_for_any_characters_and_the_rest_for_itself() {
        let hits = [
            ("a.b", "a.b"),
            ("*", ""),
            ("*", "a"),
            ("a*", "a.b"),
            ("*b", "a.b"),
        ];
        let more = [
            ("*a*", "bab"),
            ("a*b*c", "aXbYbc"),
            ("*.*.*", "h.0.w"),
            ("**a", "a"),
        ];
        assert!(
            hits.iter()
                .chain(&more)
                .all(|(pattern, name)| matches(pattern, name))
        );
        let misses = [
            ("a.b", "a.bc"),
            ("a*", "ba"),
            ("*b", "bc"),
            ("a*a", "a"),
            ("a*b*c", "acb"),
        ];
        assert!(misses.iter().all(|(pattern, name)| !matches(pattern, name)));
    }

    #[test]
    fn parameters_are_picked_by_name_by_rank_and_up_to_a_limit() {
        let biases = "h.0.bias h.1.bias h.2.bias h.3.bias h.4.bias h.5.bias out.bias";
        assert_eq!(names(&"*.bias".into()), biases);
        assert_eq!(names(&ParamFilter::from("*.bias").limit(1)), "h.0.bias");
        assert_eq!(
            names(&ParamFilter::from(["out*", "h.1.*"]).min_rank(2)),
            "h.1.weight out.weight"
        );
        assert_eq!(names(&ParamFilter::all()).split(' ').count(), table().len());
    }

    #[test]
    fn the_representative_ones_are_those_that_a_model_has_or_else_all_matrices() {
        assert_eq!(
            names(&ParamFilter::representative()),
            "wte.weight h.0.weight h.5.weight"
        );
        let foreign = ParamFilter {
            names: vec!["*block*".to_owned()],
            ..ParamFilter::representative()
        };
        assert_eq!(names(&foreign).split(' ').count(), 8);
    }

    #[test]
    fn a_pattern_that_matches_nothing_is_told_with_what_there_is() {
        let error = |filter: ParamFilter| {
            filter
                .select(&table())
                .expect_err("no such name")
                .to_string()
        };
        let text = error(["out*", "*attn*"].into());
        assert!(
            text.starts_with("no parameter matches `*attn*`; there are wte.weight, h.0.weight")
        );
        let text = error(ParamFilter::from("*bias").min_rank(2));
        assert!(
            text.starts_with("no parameter of rank 2 at least matches `*bias`"),
            "{text}"
        );
    }

    #[test]
    fn a_file_says_a_pattern_a_list_or_a_table() {
        let read = |json: &str| serde_json::from_str::<ParamFilter>(json);
        assert_eq!(read("\"*a*\"").expect("a pattern"), "*a*".into());
        assert_eq!(read("[\"a\", \"b\"]").expect("a list"), ["a", "b"].into());
        let table = read(r#"{"names": "a", "min_rank": 2, "limit": 8}"#).expect("a table");
        assert_eq!(table, ParamFilter::from("a").min_rank(2).limit(8));
        let all = read("{\"min_rank\": 1}").expect("a table");
        assert_eq!(all, ParamFilter::all().min_rank(1));
        let error = read(r#"{"name": "a"}"#)
            .expect_err("an unknown key")
            .to_string();
        assert!(error.contains("names, min_rank and limit"), "{error}");
    }
}
