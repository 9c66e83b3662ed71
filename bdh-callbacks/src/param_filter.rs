//! Selection of the parameters that a callback records.

use crate::settings::within;
use bdh::stats::{ParamInfo, ParamStats, ParamTable};
use bdh::{BoxError, Stats};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Selects parameters by name and rank, up to a limit, in the order of the model.
///
/// A pattern matches the whole name, and `*` in it matches any characters. A tied parameter is selected by any of its
/// names, and recorded under the first. In a configuration file a filter is a pattern, a list of patterns, or a table:
/// `"*attn*"`, `["*wte*", "*lm_head*"]`, `{ names = ["*h.0.*"], min_rank = 2, limit = 8 }`.
///
/// # Examples
///
/// ```
/// use bdh_callbacks::{Histograms, ParamFilter};
///
/// let matrices_of_attention = ParamFilter::from("*attn*").min_rank(2);
/// let histograms = Histograms::default().params(matrices_of_attention);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(from = "Form")]
pub struct ParamFilter {
    /// Patterns. Without any, every name matches.
    names: Vec<String>,
    min_rank: usize,
    limit: Option<usize>,
    /// Whether the patterns are a guess, and need not match anything in a given model.
    #[serde(skip)]
    is_guess: bool,
}

/// Filter as written in a configuration file.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a pattern, a list of patterns, or a table with names, min_rank and limit"
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
#[serde(untagged, expecting = "expected a pattern or a list of patterns")]
enum Names {
    One(String),
    List(Vec<String>),
}

impl Default for Names {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl From<Names> for Vec<String> {
    fn from(names: Names) -> Self {
        match names {
            Names::One(name) => vec![name],
            Names::List(names) => names,
        }
    }
}

impl From<Form> for ParamFilter {
    fn from(form: Form) -> Self {
        match form {
            Form::One(name) => Self::from(name.as_str()),
            Form::List(names) => Self::from(names),
            Form::Table(table) => Self {
                names: table.names.into(),
                min_rank: table.min_rank,
                limit: table.limit,
                is_guess: false,
            },
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
    /// Selects every parameter. This is the default.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Selects the embedding, the head, and the matrices of a first, a middle and a last block, by their names in GPT-2:
    /// `*h.0.*`, `*h.5.*`, `*h.11.*`, `*wte*`, `*lm_head*`, of rank 2 or more.
    ///
    /// A model may lack some of these names. In a model without any of them, all matrices are selected. There is no
    /// limit: with a limit of 8 the last block and the head were never recorded.
    #[must_use]
    pub fn representative() -> Self {
        let names = ["*h.0.*", "*h.5.*", "*h.11.*", "*wte*", "*lm_head*"];
        Self {
            min_rank: 2,
            is_guess: true,
            ..Self::from(names)
        }
    }

    /// Excludes parameters of fewer dimensions: 2 keeps matrices, and drops biases and gains.
    #[must_use]
    pub fn min_rank(self, rank: usize) -> Self {
        Self {
            min_rank: rank,
            ..self
        }
    }

    /// Limits the selection to the first matches in the order of the model.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self {
            limit: Some(limit),
            ..self
        }
    }

    /// Returns an error for a filter that matches nothing in any model.
    pub(crate) fn check(&self) -> Result<(), BoxError> {
        within("limit", self.limit.unwrap_or(1), 1.., "use 1 or more")
    }

    /// Selects parameters of a model.
    ///
    /// # Errors
    ///
    /// If a pattern matches no parameter, even one beyond the limit.
    pub(crate) fn select(&self, params: &ParamTable) -> Result<Watched, BoxError> {
        let candidates = self.of_min_rank(params);
        if !self.is_guess {
            self.check_patterns(&candidates, params)?;
        }
        let mut matching = candidates.clone();
        matching.retain(|param| self.is_named(param));
        // Without patterns, or if no guess is right, all candidates are selected.
        let selected = if matching.is_empty() {
            candidates
        } else {
            matching
        };
        let limit = self.limit.unwrap_or(usize::MAX);
        let selected = selected.into_iter().take(limit);
        let names = selected.map(|param| param.name.clone());
        Ok(Watched(names.collect()))
    }

    /// Returns the parameters of the least rank or more.
    fn of_min_rank<'a>(&self, params: &'a ParamTable) -> Vec<&'a ParamInfo> {
        let params = params.iter();
        params
            .filter(|param| param.rank() >= self.min_rank)
            .collect()
    }

    fn is_named(&self, param: &ParamInfo) -> bool {
        self.names.iter().any(|pattern| has_match(pattern, param))
    }

    fn check_patterns(
        &self,
        candidates: &[&ParamInfo],
        params: &ParamTable,
    ) -> Result<(), BoxError> {
        for pattern in &self.names {
            if candidates.iter().any(|param| has_match(pattern, param)) {
                continue;
            }
            let known: Vec<_> = params.iter().map(ToString::to_string).collect();
            let known = known.join(", ");
            let rank = match self.min_rank {
                0 => String::new(),
                rank => format!(" of rank {rank} or more"),
            };
            return Err(
                format!("no parameter{rank} matches `{pattern}`; the model has {known}").into(),
            );
        }
        Ok(())
    }
}

/// Names of the parameters that a filter selected in a model.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watched(HashSet<String>);

impl Watched {
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// Returns the selected parameters that have a tensor in `stats`, in the order of the model.
    pub(crate) fn of<'s>(&self, stats: &'s Stats<'s>) -> impl Iterator<Item = ParamStats<'s>> {
        stats.iter().filter(|param| self.contains(param.name()))
    }
}

/// Returns whether a pattern matches a name of a parameter.
fn has_match(pattern: &str, param: &ParamInfo) -> bool {
    param.names().any(|name| matches(pattern, name))
}

/// Whether a pattern matches a name. `*` matches any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(start) else {
        return false;
    };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    // The earliest match of a piece leaves the most text for the pieces after it, so no backtracking is needed.
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
    use bdh::burn; // `derive(Module)` writes paths that begin with `burn`
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
    fn star_matches_any_characters() {
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
    fn parameters_are_selected_by_name_rank_and_limit() {
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
    fn a_tied_parameter_is_selected_by_any_of_its_names_and_recorded_under_the_first() {
        let device = bdh::device("cpu").expect("the CPU is compiled in");
        let out = LinearConfig::new(2, 2).init(&device);
        let table = ParamTable::of(&Model {
            wte: EmbeddingConfig::new(3, 2).init(&device),
            h: vec![out.clone()],
            out,
        });
        let selected = |pattern: &str| ParamFilter::from(pattern).select(&table);
        for pattern in ["out.weight", "h.0.weight", "*.weight"] {
            let watched = selected(pattern).expect("a name that is there");
            assert!(watched.contains("h.0.weight") && !watched.contains("out.weight"));
        }
        let error = selected("in.*").expect_err("no such name").to_string();
        assert!(error.contains("h.0.weight (= out.weight)"), "{error}");
    }

    #[test]
    fn representative_falls_back_to_all_matrices() {
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
    fn pattern_that_matches_nothing_is_refused_with_the_names() {
        let error = |filter: ParamFilter| {
            filter
                .select(&table())
                .expect_err("no such name")
                .to_string()
        };
        let text = error(["out*", "*attn*"].into());
        assert!(
            text.starts_with("no parameter matches `*attn*`; the model has wte.weight, h.0.weight")
        );
        let text = error(ParamFilter::from("*bias").min_rank(2));
        assert!(
            text.starts_with("no parameter of rank 2 or more matches `*bias`"),
            "{text}"
        );
    }

    #[test]
    fn file_may_have_a_pattern_a_list_or_a_table() {
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
