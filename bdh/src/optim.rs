//! Parameter groups, each with an optimizer and a learning rate schedule.
//!
//! The update rules are burn's optimizers. This module keeps their states, instead of burn's `ModuleOptimizer`,
//! for three reasons: states are saved by parameter name instead of by an id that a reload changes, they
//! are loaded to the parameter's device instead of the default one, and each group has its own learning rate.

use crate::clock::{Clock, RunLength};
use crate::device_read::{self, DeviceError};
use crate::error::ConfigError;
use crate::names::short_type_name;
use crate::number;
use crate::params::{self, Mismatch, OnTape, ParamInfo, ParamTable};
use crate::schedule::{Progress, Schedule};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::{DynOptimizer, DynState, GradientsParams, StateSink, StateSource};
use burn::tensor::{DType, Device, Tensor, TensorData};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Parameters that share an optimizer and a learning rate.
pub struct Group {
    name: String,
    claims: Claim,
    optimizer: Box<dyn DynOptimizer>,
    /// The optimizer's type, for the configuration.
    kind: String,
    schedule: Schedule,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("name", &self.name)
            .field("optimizer", &self.kind)
            .field("schedule", &self.schedule)
            .finish_non_exhaustive()
    }
}

type Claim = Box<dyn Fn(&ParamInfo) -> bool + Send>;

impl Group {
    /// Creates a group of the parameters that `claims` accepts, updated by an optimizer of burn.
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::{Group, burn::optim::AdamWConfig};
    /// use bdh::schedule::warmup_cosine;
    ///
    /// let gains = Group::new(
    ///     "gains",
    ///     |param| param.rank() < 2,
    ///     AdamWConfig::new().with_weight_decay(0.0).build(),
    ///     warmup_cosine(3e-4, 100),
    /// );
    /// ```
    pub fn new<O: DynOptimizer + 'static>(
        name: impl Into<String>,
        claims: impl Fn(&ParamInfo) -> bool + Send + 'static,
        optimizer: O,
        schedule: impl Into<Schedule>,
    ) -> Self {
        let kind = short_type_name::<O>();
        Self {
            kind,
            ..Self::boxed(name, claims, Box::new(optimizer), schedule)
        }
    }

    /// Creates a group with an optimizer whose type is not known at compile time.
    ///
    /// `claims` and `schedule` are those of [`new`](Self::new).
    pub fn boxed(
        name: impl Into<String>,
        claims: impl Fn(&ParamInfo) -> bool + Send + 'static,
        optimizer: Box<dyn DynOptimizer>,
        schedule: impl Into<Schedule>,
    ) -> Self {
        let (name, schedule) = (name.into(), schedule.into());
        Self {
            name,
            claims: Box::new(claims),
            optimizer,
            kind: "boxed".to_owned(),
            schedule,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Checks rates of the schedule, from the first update to the last.
    fn check_schedule(&self, length: RunLength, per_step: &Clock) -> Result<(), ConfigError> {
        let checked = self.schedule.check(length, per_step);
        checked.map_err(|why| ConfigError::Groups(format!("group `{}` {why}", self.name)))
    }
}

/// Groups of a run, with the assignment of parameters and the states of their optimizers.
#[derive(Default)]
pub(crate) struct Optimizers {
    groups: Vec<Group>,
    /// Index of the group of each parameter, in the table's order.
    membership: Vec<usize>,
    /// Optimizer state of each parameter, in the table's order; `None` before its first update.
    states: Vec<Option<DynState>>,
}

/// Explains why a group has no parameter, and how to change that.
fn why_idle(groups: &[Group], idle: &Group, table: &ParamTable, all: &ParamTable) -> String {
    let name = &idle.name;
    if let Some(taker) = earlier_claimant(groups, idle, table) {
        return format!(
            "group `{name}` has no parameter: group `{}` was added earlier and takes all that it claims; \
             `.optimizer(…)` takes every remaining parameter, so add it once, after all `.group(…)`",
            taker.name
        );
    }
    if let Some(frozen) = all.iter().find(|param| (idle.claims)(param)) {
        return format!(
            "group `{name}` has no parameter: those it claims, such as `{frozen}`, are frozen; remove the group, or \
             train them with `set_require_grad(true)`"
        );
    }
    format!(
        "group `{name}` has no parameter: it claims none of the model's {} parameters, such as {}",
        table.len(),
        first_names(table)
    )
}

/// Returns the group that has a parameter which `idle` claims too.
fn earlier_claimant<'a>(
    groups: &'a [Group],
    idle: &Group,
    table: &ParamTable,
) -> Option<&'a Group> {
    let claimed = table.iter().find(|param| (idle.claims)(param))?;
    groups.iter().find(|group| (group.claims)(claimed))
}

fn first_names(table: &ParamTable) -> String {
    let mut names = Vec::new();
    for param in table.iter().take(3) {
        names.push(format!("`{param}`"));
    }
    names.join(", ")
}

/// Saved states of the optimizers: tensors and counters, by `parameter.field`.
pub(crate) struct OptimizerState {
    pub(crate) tensors: Vec<(String, TensorData)>,
    pub(crate) scalars: BTreeMap<String, Value>,
}

impl Optimizers {
    /// Assigns each parameter to the first group that claims it.
    ///
    /// `all` is the table with frozen parameters, for error messages.
    pub(crate) fn new(
        groups: Vec<Group>,
        table: &ParamTable,
        all: &ParamTable,
    ) -> Result<Self, ConfigError> {
        let membership = assign(&groups, table)?;
        for (index, group) in groups.iter().enumerate() {
            if !membership.contains(&index) {
                let why = why_idle(&groups, group, table, all);
                return Err(ConfigError::Groups(why));
            }
        }
        Ok(Self {
            groups,
            membership,
            states: table.iter().map(|_| None).collect(),
        })
    }

    /// Returns the name and learning rate of each group for the update that comes next.
    pub(crate) fn lrs(&self, progress: &Progress) -> Vec<(String, f64)> {
        self.groups
            .iter()
            .map(|group| (group.name.clone(), group.schedule.lr_at(progress)))
            .collect()
    }

    /// Summarizes the groups with their learning rates over a run whose steps do the work of `per_step`.
    ///
    /// A schedule with a rate that cannot work is an error.
    pub(crate) fn plan(
        &self,
        table: &ParamTable,
        length: RunLength,
        per_step: &Clock,
    ) -> Result<Vec<GroupSummary>, ConfigError> {
        let mut summaries = self.describe(table);
        for (summary, group) in summaries.iter_mut().zip(&self.groups) {
            group.check_schedule(length, per_step)?;
            summary.lr = group.schedule.outline_with(length, per_step);
        }
        Ok(summaries)
    }

    /// Summarizes the groups for the plan and `run.json`.
    pub(crate) fn describe(&self, table: &ParamTable) -> Vec<GroupSummary> {
        let mut summaries = Vec::new();
        for group in &self.groups {
            summaries.push(GroupSummary {
                name: group.name.clone(),
                optimizer: group.kind.clone(),
                schedule: group.schedule.clone(),
                lr: String::new(),
                tensors: 0,
                elements: 0,
            });
        }
        for (param, group) in table.iter().zip(&self.membership) {
            summaries[*group].tensors += 1;
            summaries[*group].elements += param.num_elements();
        }
        summaries
    }

    fn optimizer(&self, param: usize) -> &dyn DynOptimizer {
        &*self.groups[self.membership[param]].optimizer
    }

    /// Updates a model by one step; parameters without a gradient keep their values.
    pub(crate) fn step<M: Module>(&mut self, model: M, grads: GradientsParams, lrs: &[f64]) -> M {
        let mut update = Update {
            optimizers: self,
            grads,
            lrs,
            index: 0,
        };
        params::map(model, &mut update)
    }

    /// Reads the states of the optimizers, with one device read per tensor.
    pub(crate) fn state(&self, table: &ParamTable) -> Result<OptimizerState, DeviceError> {
        let mut state = device_read::caught(|| self.unread_state(table))?;
        let mut tensors = Vec::with_capacity(state.tensors.len());
        for (name, data) in state.tensors {
            tensors.push((name, device_read::to_host(data)?));
        }
        state.tensors = tensors;
        Ok(state)
    }

    /// Returns the states with data as burn returns it: on a GPU, bytes that are read on first access.
    fn unread_state(&self, table: &ParamTable) -> OptimizerState {
        let mut sink = StateSink::default();
        for (index, state) in self.states.iter().enumerate() {
            if let Some(state) = state {
                let optimizer = self.optimizer(index);
                optimizer.state_flatten(&table[index].name, state, &mut sink);
            }
        }
        let mut scalars = BTreeMap::new();
        for (name, scalar) in sink.scalars {
            scalars.insert(name, scalar_to_json(scalar));
        }
        OptimizerState {
            tensors: sink.tensors,
            scalars,
        }
    }

    /// Returns the names of the parameters without a state.
    pub(crate) fn without_state<'a>(&self, table: &'a ParamTable) -> Vec<&'a str> {
        let mut names = Vec::new();
        for (param, state) in table.iter().zip(&self.states) {
            if state.is_none() {
                names.push(param.name.as_str());
            }
        }
        names
    }

    /// Resets the states of all optimizers.
    pub(crate) fn forget(&mut self) {
        self.states.iter_mut().for_each(|state| *state = None);
    }

    /// Loads states that [`state`](Self::state) returned.
    ///
    /// # Errors
    ///
    /// Lists the tensors that do not fit the model; an entry that no optimizer reads is an error too.
    pub(crate) fn load<M: Module>(
        &mut self,
        saved: OptimizerState,
        table: &ParamTable,
        model: &M,
        device: &Device,
    ) -> Result<(), Mismatch> {
        self.check_saved(&saved, table, model)?;
        let names = saved.names();
        let mut source = saved.into_source();
        for (index, param) in table.iter().enumerate() {
            self.states[index] = unflatten(self.optimizer(index), param, &mut source, device)?;
        }
        self.check_all_read(&names, table)
    }

    /// Checks that each entry that was loaded is in the state of an optimizer.
    fn check_all_read(&self, names: &BTreeSet<String>, table: &ParamTable) -> Result<(), Mismatch> {
        match names.difference(&self.unread_state(table).names()).next() {
            Some(name) => Err(Mismatch::new(format!(
                "the optimizer of this run does not know `{name}`"
            ))),
            None => Ok(()),
        }
    }

    /// Checks the shapes and types of saved tensors.
    fn check_saved<M: Module>(
        &self,
        saved: &OptimizerState,
        table: &ParamTable,
        model: &M,
    ) -> Result<(), Mismatch> {
        let tensors = saved.tensors.iter();
        let mut check = Check {
            optimizers: self,
            table,
            saved: tensors
                .map(|(name, data)| (name.clone(), Form::of(data)))
                .collect(),
            index: 0,
            wrong: Vec::new(),
        };
        params::visit(model, &mut check);
        Mismatch::check(&check.wrong)
    }
}

/// Loads the state of one parameter.
fn unflatten(
    optimizer: &dyn DynOptimizer,
    param: &ParamInfo,
    source: &mut StateSource,
    device: &Device,
) -> Result<Option<DynState>, Mismatch> {
    let load = || optimizer.state_unflatten(param.rank(), &param.name, source, device);
    // burn panics on a tensor of another rank, which a checkpoint from elsewhere may have.
    catch_unwind(AssertUnwindSafe(load)).map_err(|_| {
        let name = &param.name;
        Mismatch::new(format!(
            "the optimizer's state of `{name}` has another shape"
        ))
    })
}

/// Converts a scalar of burn, whose type is not exported, to JSON.
fn scalar_to_json<S: Copy>(scalar: S) -> Value
where
    u64: TryFrom<S>,
    i64: TryFrom<S>,
    bool: TryFrom<S>,
    f64: TryFrom<S>,
{
    if let Ok(count) = u64::try_from(scalar) {
        return count.into();
    }
    if let Ok(count) = i64::try_from(scalar) {
        return count.into();
    }
    if let Ok(flag) = bool::try_from(scalar) {
        return flag.into();
    }
    f64::try_from(scalar).map_or(Value::Null, number::to_json)
}

/// Converts JSON to a scalar of burn; `None` if it is not one.
fn scalar_from_json<S>(value: &Value) -> Option<S>
where
    S: From<u64> + From<i64> + From<bool> + From<f64>,
{
    if let Some(count) = value.as_u64() {
        return Some(count.into());
    }
    if let Some(count) = value.as_i64() {
        return Some(count.into());
    }
    if let Some(flag) = value.as_bool() {
        return Some(flag.into());
    }
    number::from_json(value).map(S::from)
}

/// Returns the index of the group of each parameter.
fn assign(groups: &[Group], table: &ParamTable) -> Result<Vec<usize>, ConfigError> {
    let mut membership = Vec::with_capacity(table.len());
    for param in table {
        let Some(group) = groups.iter().position(|group| (group.claims)(param)) else {
            return Err(ConfigError::Groups(format!(
                "no group claims `{param}`; add one, or `.optimizer(…)` for all remaining parameters"
            )));
        };
        membership.push(group);
    }
    Ok(membership)
}

impl OptimizerState {
    fn names(&self) -> BTreeSet<String> {
        let tensors = self.tensors.iter().map(|(name, _)| name);
        tensors.chain(self.scalars.keys()).cloned().collect()
    }

    fn into_source(self) -> StateSource {
        let mut scalars = BTreeMap::new();
        for (name, value) in self.scalars {
            if let Some(scalar) = scalar_from_json(&value) {
                scalars.insert(name, scalar);
            }
        }
        let mut source = StateSource::new(scalars);
        for (name, data) in self.tensors {
            source.insert_tensor(name, data);
        }
        source
    }
}

/// Summary of a parameter group for the plan and `run.json`.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct GroupSummary {
    /// Name of the group.
    pub name: String,
    /// Type of the optimizer, such as `AdamW`.
    pub optimizer: String,
    /// Learning rate schedule.
    pub schedule: Schedule,
    /// Learning rates over the run, as [`Schedule::outline`] describes them. `run.json` does not have them: they depend on
    /// the length of the run.
    #[serde(skip)]
    pub lr: String,
    /// Number of parameters (tensors).
    pub tensors: usize,
    /// Number of elements of all parameters.
    pub elements: usize,
}

/// Shape and type of a saved tensor.
#[derive(PartialEq)]
struct Form {
    shape: Vec<usize>,
    dtype: DType,
}

impl Form {
    fn of(data: &TensorData) -> Self {
        Self {
            shape: data.shape().to_vec(),
            dtype: data.dtype(),
        }
    }
}

/// Visitor that compares saved states with the states of each optimizer after one step on zeros.
///
/// The step is necessary because only the optimizer knows the shapes of its states.
struct Check<'a> {
    optimizers: &'a Optimizers,
    table: &'a ParamTable,
    saved: BTreeMap<String, Form>,
    index: usize,
    wrong: Vec<String>,
}

impl Check<'_> {
    fn compare(&mut self, name: &str, here: &Form) {
        let Some(there) = self.saved.get(name) else {
            return;
        };
        let has_shape = there.shape == here.shape;
        if has_shape && there.dtype.is_float() == here.dtype.is_float() {
            return;
        }
        let (there, here) = if has_shape {
            (format!("{:?}", there.dtype), format!("{:?}", here.dtype))
        } else {
            (format!("{:?}", there.shape), format!("{:?}", here.shape))
        };
        self.wrong.push(format!(
            "the optimizer's `{name}` is {there} in the file and {here} in this run"
        ));
    }

    /// Whether the checkpoint has a state of a parameter; it has none if the parameter was never updated.
    fn has_state(&self, param: &str) -> bool {
        let prefix = format!("{param}.");
        let next = self.saved.range(prefix.clone()..).next();
        next.is_some_and(|(name, _)| name.starts_with(&prefix))
    }
}

impl ModuleVisitor for Check<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let index = self.index;
        self.index += 1;
        let name = &self.table[index].name;
        if !self.has_state(name) {
            return;
        }
        let optimizer = self.optimizers.optimizer(index);
        let zeros = param.val().inner().zeros_like();
        for (name, data) in state_after_step(optimizer, name, zeros) {
            self.compare(&name, &Form::of(&data));
        }
    }
}

/// Returns the state of a parameter of zeros after one step with a gradient of zeros.
fn state_after_step<const D: usize>(
    optimizer: &dyn DynOptimizer,
    name: &str,
    zeros: Tensor<D>,
) -> Vec<(String, TensorData)> {
    let (weight, grad) = (zeros.clone().into_bridge(), zeros.into_bridge());
    let (_, state) = optimizer.step_dyn(D, 0.0, weight, grad, None);
    let mut sink = StateSink::default();
    if let Some(state) = state {
        optimizer.state_flatten(name, &state, &mut sink);
    }
    sink.tensors
}

/// Mapper that updates each parameter by one step.
struct Update<'a> {
    optimizers: &'a mut Optimizers,
    grads: GradientsParams,
    lrs: &'a [f64],
    index: usize,
}

impl Update<'_> {
    /// Computes the new value of a parameter, and keeps the optimizer's new state.
    fn update<const D: usize>(
        &mut self,
        index: usize,
        old: Tensor<D>,
        grad: Tensor<D>,
    ) -> Tensor<D> {
        let group = self.optimizers.membership[index];
        let state = self.optimizers.states[index].take();
        let tape = OnTape::of(&old);
        let (new, state) = self.optimizers.groups[group].optimizer.step_dyn(
            D,
            self.lrs[group],
            // The only handle, so the optimizer may update in place, except if the parameter is tied; with NCCL it is a
            // view of a bucket.
            old.inner().into_bridge(),
            grad.into_bridge(),
            state,
        );
        self.optimizers.states[index] = state;
        tape.put(Tensor::from_bridge(new))
    }
}

impl ModuleMapper for Update<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, old, mapper) = param.consume();
        if !old.is_require_grad() {
            return Param::from_mapped_value(id, old, mapper);
        }
        let index = self.index;
        self.index += 1;
        let Some(grad) = self.grads.remove::<D>(id) else {
            return Param::from_mapped_value(id, old, mapper);
        };
        Param::from_mapped_value(id, self.update(index, old, grad), mapper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::SgdConfig;

    #[derive(Module, Debug)]
    struct Net {
        body: Linear,
        head: Linear,
    }

    /// Returns the error for these groups, in a net whose body is frozen.
    fn refused(groups: Vec<Group>) -> String {
        let device = Device::flex().autodiff();
        let linear = || LinearConfig::new(3, 2).init(&device);
        let net = Net {
            body: linear().no_grad(),
            head: linear(),
        };
        let (table, all) = (ParamTable::of(&net), ParamTable::with_frozen(&net));
        Optimizers::new(groups, &table, &all)
            .err()
            .expect("an idle group")
            .to_string()
    }

    fn group(name: &'static str, claims: impl Fn(&ParamInfo) -> bool + Send + 'static) -> Group {
        Group::new(name, claims, SgdConfig::new().build(), 0.1)
    }

    #[test]
    fn errors_for_idle_groups_name_cause_and_remedy() {
        let all = || group("default", |_| true);
        let body = group("body", |param| param.name.starts_with("body"));
        let text = refused(vec![body, all()]);
        assert!(text.contains(
            "group `body` has no parameter: those it claims, such as `body.weight`, are frozen"
        ));
        let text = refused(vec![all(), all()]);
        assert!(
            text.contains("`.optimizer(…)` takes every remaining parameter, so add it once"),
            "{text}"
        );
        let text = refused(vec![all(), group("gains", |param| param.rank() < 2)]);
        assert!(text.contains("group `gains` has no parameter: group `default` was added earlier"));
        let text = refused(vec![group("none", |_| false), all()]);
        assert!(
            text.ends_with("none of the model's 2 parameters, such as `head.weight`, `head.bias`"),
            "{text}"
        );
    }
}
