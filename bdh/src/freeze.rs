//! Freezing of parameters by name, for a part of the run or all of it.
//!
//! Which parameters are frozen is a pure function of the clock, so a resumed run freezes the same ones.

use crate::cadence::CadenceError;
use crate::clock::{Clock, RunLength, Span};
use crate::error::ConfigError;
use crate::names::{matches, nearest};
use crate::params::{self, ParamInfo, ParamTable, PerParam};
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashSet;
use std::fmt;

/// Parameters that are not trained, for a part of the run or all of it. Created by [`freeze`].
///
/// A frozen parameter has no gradient, as with PyTorch's `requires_grad_(False)`: hooks and the norm for clipping do not
/// include it, its value stays to the bit, without weight decay, and so does the state of its optimizer. Running
/// statistics, such as those of a `BatchNorm`, are not parameters and still change. The backward pass computes the
/// gradient, which is then dropped; a module that is never trained costs less with burn's `Module::no_grad`.
///
/// # Examples
///
/// ```
/// use bdh::cadence::{fraction, steps};
/// use bdh::freeze;
///
/// let backbone = freeze("backbone.*").until(steps(500)); // update 501 is the first one that changes it
/// let embedding = freeze("embed.*").until(fraction(0.1));
/// assert_eq!(backbone.to_string(), "backbone.* until 500 steps");
/// assert_eq!(embedding.to_string(), "embed.* until 10%");
/// assert_eq!(freeze("head.bias").to_string(), "head.bias"); // for the whole run
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Form", try_from = "Form")]
pub struct Freeze {
    /// Pattern of names.
    names: String,
    /// End; `None` for the whole run.
    until: Option<Span>,
}

/// Freezes the parameters whose names match a pattern, in which `*` matches any text.
///
/// A tied parameter is frozen by any of its names. Without [`until`](Freeze::until) the whole run is meant.
#[must_use]
pub fn freeze(names: impl Into<String>) -> Freeze {
    Freeze {
        names: names.into(),
        until: None,
    }
}

impl Freeze {
    /// Ends the freezing when the run has completed this much: a number of steps, or a span such as `fraction(0.1)`.
    #[must_use]
    pub fn until(self, end: impl Into<Span>) -> Self {
        Self {
            until: Some(end.into()),
            ..self
        }
    }

    fn matches(&self, param: &ParamInfo) -> bool {
        param.names().any(|name| matches(&self.names, name))
    }

    /// Returns whether the parameters are frozen in the step after `clock`.
    fn is_on(&self, clock: &Clock, length: RunLength) -> bool {
        self.until
            .is_none_or(|until| !until.is_reached(clock, length))
    }

    /// Returns whether the freezing lasts as long as the run, as far as that is known before it.
    fn lasts(&self, length: RunLength, per_step: &Clock) -> bool {
        let end = match (self.until, length) {
            (None, _) => return true,
            (Some(Span::Fraction(part)), _) => return part >= 1.0,
            (Some(Span::Time(end)), RunLength::Time(limit)) => return end >= limit,
            (Some(end), _) => end.resolve_steps(per_step),
        };
        matches!((end, length), (Some(end), RunLength::Steps(steps)) if end >= steps)
    }

    /// Checks the end of the freezing.
    fn check(&self, length: RunLength, per_step: &Clock) -> Result<(), ConfigError> {
        let problem = match self.until {
            Some(Span::Fraction(part)) if !(part > 0.0 && part <= 1.0) => {
                "the end is a share of the run; use one above 0 and up to 1 (100%)"
            }
            Some(end) if end.is_reached(&Clock::default(), length) => {
                "nothing would be frozen; use a later end, or none for the whole run"
            }
            Some(end @ Span::Epochs(_)) if end.resolve_steps(per_step).is_none() => {
                "the training data does not know the length of an epoch (`TrainData::batches_per_epoch`); use steps"
            }
            _ => return Ok(()),
        };
        Err(ConfigError::invalid("freeze", self, problem))
    }
}

impl From<&str> for Freeze {
    fn from(names: &str) -> Self {
        freeze(names)
    }
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names)?;
        match self.until {
            Some(until) => write!(f, " until {until}"),
            None => Ok(()),
        }
    }
}

/// Freezing as written in files, with the end as text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    names: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

impl From<Freeze> for Form {
    fn from(freeze: Freeze) -> Self {
        Self {
            names: freeze.names,
            until: freeze.until.map(|until| until.to_string()),
        }
    }
}

impl TryFrom<Form> for Freeze {
    type Error = CadenceError;

    fn try_from(form: Form) -> Result<Self, CadenceError> {
        let until = form.until.map(|text| text.parse()).transpose()?;
        let names = form.names;
        Ok(Self { names, until })
    }
}

/// Freezings of a run, with the parameters that each selects.
#[derive(Debug, Default)]
pub(crate) struct FrozenParams(Vec<Selection>);

/// Parameters that one pattern selects.
#[derive(Debug)]
struct Selection {
    freeze: Freeze,
    ids: HashSet<ParamId>,
    num_elements: usize,
    /// Whether they are frozen for the whole run, as far as that is known before it.
    lasts: bool,
}

impl FrozenParams {
    /// Selects the parameters of each pattern. `per_step` is the work of one step, as far as it is known.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] if a pattern matches no parameter, an end cannot work, or nothing would ever be trained.
    pub(crate) fn new(
        freezes: &[Freeze],
        table: &ParamTable,
        length: RunLength,
        per_step: &Clock,
    ) -> Result<Self, ConfigError> {
        let mut selections = Vec::new();
        for freeze in freezes {
            freeze.check(length, per_step)?;
            let mut selection = Selection::new(freeze, table)?;
            selection.lasts = freeze.lasts(length, per_step);
            selections.push(selection);
        }
        let frozen = Self(selections);
        frozen.check_rest(table)?;
        Ok(frozen)
    }

    /// Checks that some parameter is trained at some time.
    fn check_rest(&self, table: &ParamTable) -> Result<(), ConfigError> {
        let mut lasting: HashSet<ParamId> = HashSet::new();
        let mut patterns = Vec::new();
        for selection in self.0.iter().filter(|selection| selection.lasts) {
            lasting.extend(&selection.ids);
            patterns.push(selection.freeze.to_string());
        }
        if lasting.is_empty() || table.iter().any(|param| !lasting.contains(&param.id)) {
            return Ok(());
        }
        let count = table.len();
        let problem = format!(
            "all {count} parameters would be frozen for the whole run, and nothing trained; leave some out, or end it \
             earlier with `.until(…)`"
        );
        Err(ConfigError::invalid("freeze", patterns.join(", "), problem))
    }

    /// Selects the parameters that a saved run has frozen, from its configuration.
    ///
    /// Patterns that cannot be read, or that match nothing, are left out: the file may come from anywhere.
    pub(crate) fn of_saved(config: &Value, table: &ParamTable) -> Self {
        let freezes = Vec::<Freeze>::deserialize(&config["freeze"]).unwrap_or_default();
        let mut selections = Vec::new();
        for freeze in &freezes {
            selections.extend(Selection::new(freeze, table));
        }
        Self(selections)
    }

    /// Removes the gradients of the parameters that are frozen in the step after `previous`, so that nothing updates
    /// them.
    pub(crate) fn remove_frozen<M: Module>(
        &self,
        model: &M,
        grads: &mut GradientsParams,
        previous: &Clock,
        length: RunLength,
    ) {
        let ids = self.ids_after(previous, length);
        if !ids.is_empty() {
            params::visit(model, &mut Remove { ids, grads });
        }
    }

    /// Leaves out the gradients of the parameters that are frozen in the step after `previous`, from one for each
    /// parameter of the table.
    pub(crate) fn leave_out(
        &self,
        table: &ParamTable,
        gradients: &mut PerParam,
        previous: &Clock,
        length: RunLength,
    ) {
        let ids = self.ids_after(previous, length);
        for (param, gradient) in table.iter().zip(gradients) {
            if ids.contains(&param.id) {
                *gradient = None;
            }
        }
    }

    /// Returns the parameters that are frozen in the step after `previous`.
    fn ids_after(&self, previous: &Clock, length: RunLength) -> HashSet<ParamId> {
        let mut ids = HashSet::new();
        for selection in &self.0 {
            if selection.freeze.is_on(previous, length) {
                ids.extend(&selection.ids);
            }
        }
        ids
    }

    /// Returns a line for each pattern, for the plan.
    pub(crate) fn describe(&self) -> Vec<String> {
        self.0.iter().map(Selection::describe).collect()
    }
}

impl Selection {
    fn new(freeze: &Freeze, table: &ParamTable) -> Result<Self, ConfigError> {
        let mut selection = Self {
            freeze: freeze.clone(),
            ids: HashSet::new(),
            num_elements: 0,
            lasts: false,
        };
        for param in table.iter().filter(|param| freeze.matches(param)) {
            selection.ids.insert(param.id);
            selection.num_elements += param.num_elements();
        }
        if selection.ids.is_empty() {
            return Err(matches_nothing(freeze, table));
        }
        Ok(selection)
    }

    /// Describes the time and the parameters, such as `frozen until 500 steps: 9408 parameters in 2 tensors (stem.*)`.
    fn describe(&self) -> String {
        let mut text = "frozen".to_owned();
        match self.freeze.until {
            Some(until) if self.lasts => {
                text += &format!(" until {until}, not before the run ends");
            }
            Some(until) => text += &format!(" until {until}"),
            None => {}
        }
        let (elements, tensors) = (self.num_elements, self.ids.len());
        let plural = if tensors == 1 { "" } else { "s" };
        let names = &self.freeze.names;
        text + &format!(": {elements} parameters in {tensors} tensor{plural} ({names})")
    }
}

/// Returns the error of a pattern that matches nothing, with the names that are most like it.
fn matches_nothing(freeze: &Freeze, table: &ParamTable) -> ConfigError {
    let names = table.iter().flat_map(ParamInfo::names);
    let nearest = nearest(&freeze.names, names, 3).join("`, `");
    let problem = format!(
        "no trained parameter has such a name; the nearest are `{nearest}`, and a `*` matches any text"
    );
    ConfigError::invalid("freeze", freeze, problem)
}

/// Visitor that removes gradients.
struct Remove<'a> {
    ids: HashSet<ParamId>,
    grads: &'a mut GradientsParams,
}

impl ModuleVisitor for Remove<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.ids.contains(&param.id) {
            drop(self.grads.remove::<D>(param.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{fraction, steps, tokens};
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    #[derive(Module, Debug)]
    struct Net {
        body: Linear,
        head: Linear,
    }

    fn net() -> Net {
        let device = Device::flex().autodiff();
        Net {
            body: LinearConfig::new(2, 2).init(&device),
            head: LinearConfig::new(2, 1).init(&device),
        }
    }

    /// Returns the selections in a run of 10 steps.
    fn selected(freezes: &[Freeze]) -> Result<FrozenParams, ConfigError> {
        let table = ParamTable::of(&net());
        FrozenParams::new(freezes, &table, RunLength::Steps(10), &Clock::default())
    }

    /// Returns the sentence that refuses these patterns.
    fn refusal(freezes: &[Freeze]) -> String {
        let error = selected(freezes).expect_err("they cannot work");
        error.to_string()
    }

    /// Returns the names of the parameters with a gradient in each step of a run of `num_steps`.
    fn trained(freezes: &[Freeze], num_steps: u64) -> Vec<String> {
        let net = net();
        let table = ParamTable::of(&net);
        let length = RunLength::Steps(num_steps);
        let frozen =
            FrozenParams::new(freezes, &table, length, &Clock::default()).expect("they work");
        let mut trained = Vec::new();
        for step in 0..num_steps {
            let batch = Tensor::<2>::ones([1, 2], &Device::flex().autodiff());
            let loss = net.head.forward(net.body.forward(batch));
            let mut grads = GradientsParams::from_grads(loss.backward(), &net);
            frozen.remove_frozen(&net, &mut grads, &Clock::default().after(step), length);
            let gradients = params::gradients(&net, &grads);
            let mut names = Vec::new();
            for (param, gradient) in table.iter().zip(gradients) {
                if gradient.is_some() {
                    names.push(param.name.as_str());
                }
            }
            trained.push(names.join(" "));
        }
        trained
    }

    #[test]
    fn frozen_parameters_have_no_gradient_until_the_end_of_the_freezing() {
        let all = "body.weight body.bias head.weight head.bias";
        let head = "head.weight head.bias";
        let body = freeze("body.*");
        assert_eq!(trained(&[], 1), [all]);
        assert_eq!(trained(std::slice::from_ref(&body), 3), [head; 3]);
        assert_eq!(
            trained(&[body.clone().until(steps(2))], 4),
            [head, head, all, all]
        );
        let tenth = body.until(fraction(0.25));
        let later = freeze("*.bias").until(2);
        assert_eq!(
            trained(&[tenth, later], 4),
            ["head.weight", "body.weight head.weight", all, all]
        );
    }

    #[test]
    fn a_pattern_that_matches_nothing_is_refused_with_the_nearest_names() {
        let expected = "`freeze` is bdy.*: no trained parameter has such a name; the nearest are `body.weight`, \
                        `body.bias`, `head.weight`, and a `*` matches any text";
        assert_eq!(refusal(&[freeze("head.*"), "bdy.*".into()]), expected);
        assert!(refusal(&[freeze("head")]).contains("the nearest are `head.weight`, `head.bias`"));
    }

    #[test]
    fn a_run_that_would_train_nothing_is_refused() {
        let expected = "`freeze` is body.*, * until 10 steps: all 4 parameters would be frozen for the whole run, and \
                        nothing trained; leave some out, or end it earlier with `.until(…)`";
        assert_eq!(
            refusal(&[freeze("body.*"), freeze("*").until(10)]),
            expected
        );
        assert!(selected(&[freeze("*").until(9)]).is_ok());
        assert!(
            selected(&[freeze("*").until(tokens(1_000))]).is_ok(),
            "how long that takes is not known"
        );
    }

    #[test]
    fn an_end_that_cannot_work_is_refused() {
        let body = || freeze("body.*");
        assert!(refusal(&[body().until(0)]).contains("nothing would be frozen"));
        let error = refusal(&[body().until(fraction(1.5))]);
        assert!(
            error.starts_with("`freeze` is body.* until 150%: the end is a share"),
            "{error}"
        );
        refusal(&[body().until(fraction(f64::NAN))]);
        refusal(&[body().until(fraction(0.0))]);
    }

    #[test]
    fn the_plan_lists_time_tensors_and_elements() {
        let frozen = [
            freeze("body.*").until(5),
            freeze("*.bias").until(50),
            freeze("body.weight"),
        ];
        let frozen = selected(&frozen).expect("patterns that match");
        let expected = [
            "frozen until 5 steps: 6 parameters in 2 tensors (body.*)",
            "frozen until 50 steps, not before the run ends: 3 parameters in 2 tensors (*.bias)",
            "frozen: 4 parameters in 1 tensor (body.weight)",
        ];
        assert_eq!(frozen.describe(), expected);
    }

    #[test]
    fn patterns_of_a_crafted_configuration_are_left_out() {
        let table = ParamTable::of(&net());
        let count = |config: Value| FrozenParams::of_saved(&config, &table).0.len();
        let freezes = [freeze("head.*"), freeze("none")];
        assert_eq!(count(serde_json::json!({ "freeze": freezes })), 1);
        assert_eq!(count(serde_json::json!({ "freeze": 7 })), 0);
        assert_eq!(count(Value::Null), 0);
    }

    #[test]
    fn a_freezing_is_read_back_from_run_json() {
        let text = |freeze: &Freeze| serde_json::to_string(freeze).expect("plain text");
        let until = freeze("a.*").until(fraction(0.1));
        assert_eq!(text(&until), r#"{"names":"a.*","until":"10%"}"#);
        assert_eq!(text(&freeze("b")), r#"{"names":"b"}"#);
        for freeze in [until, freeze("b"), freeze("c").until(1)] {
            let read: Freeze = serde_json::from_str(&text(&freeze)).expect("as written");
            assert_eq!(read, freeze);
        }
        let read = serde_json::from_str::<Freeze>(r#"{"names":"a","until":"1,2 steps"}"#);
        let error = read.expect_err("two ends").to_string();
        assert!(error.contains("`1,2 steps`"), "{error}");
    }
}
