//! Parameter groups: which optimizer and which learning rate each parameter gets.
//!
//! The rules are burn's own optimizers. Their states are kept here, and not in burn's `ModuleOptimizer`,
//! for three reasons: states are saved by parameter name instead of by an id that a reload changes, they
//! are loaded on the parameter's device instead of on the default one, and the learning rate of each
//! group is a plain number.

use crate::error::ConfigError;
use crate::names::short_type_name;
use crate::number;
use crate::params::{OnTape, ParamInfo, ParamTable};
use crate::read;
use crate::schedule::Schedule;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::{DynOptimizer, DynState, GradientsParams, StateSink, StateSource};
use burn::tensor::{DType, Device, Tensor, TensorData};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
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

type Claim = Box<dyn Fn(&ParamInfo) -> bool + Send>;

impl Group {
    /// A group of the parameters for which `claims` is true, updated by one of burn's optimizers.
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::{Group, burn::optim::AdamWConfig, warmup_cosine};
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

    /// The same, for an optimizer whose type is not known at compile time.
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

    pub(crate) fn schedule(&self) -> Schedule {
        self.schedule
    }
}

/// The groups of a run, which parameter is in which, and the optimizers' states. None by default.
#[derive(Default)]
pub(crate) struct Optimizers {
    groups: Vec<Group>,
    /// For each parameter of the table, its group.
    membership: Vec<usize>,
    /// For each parameter of the table, what its optimizer remembers.
    states: Vec<Option<DynState>>,
}

/// Why a group is left without a parameter, and what would work.
fn why_idle(groups: &[Group], idle: usize, table: &ParamTable, all: &ParamTable) -> String {
    let (name, claims) = (&groups[idle].name, &groups[idle].claims);
    let claimed = table.iter().find(|param| claims(param));
    let taker = claimed.and_then(|param| groups.iter().find(|group| (group.claims)(param)));
    if let Some(Group { name: taker, .. }) = taker {
        return format!(
            "group `{name}` has no parameter: group `{taker}`, which was added before it, takes all that it claims; \
             an `.optimizer(…)` takes every parameter that is left, so add it once, after each `.group(…)` that is to \
             have some of them"
        );
    }
    if let Some(frozen) = all.iter().find(|param| claims(param)) {
        return format!(
            "group `{name}` has no parameter: those it claims, such as `{}`, are frozen; leave the group out, or \
             let them be trained with `set_require_grad(true)`",
            frozen.name
        );
    }
    let known: Vec<_> = table
        .iter()
        .take(3)
        .map(|param| format!("`{}`", param.name))
        .collect();
    format!(
        "group `{name}` has no parameter: it claims none of the model's {}, such as {}",
        table.len(),
        known.join(", ")
    )
}

/// What the optimizers remember, ready to be written: tensors by `parameter.field`, and counters.
pub(crate) struct OptimizerState {
    pub(crate) tensors: Vec<(String, TensorData)>,
    pub(crate) scalars: BTreeMap<String, Value>,
}

impl Optimizers {
    /// Assigns each parameter to the first group that claims it; `all` lists those that are frozen too.
    pub(crate) fn new(
        groups: Vec<Group>,
        table: &ParamTable,
        all: &ParamTable,
    ) -> Result<Self, ConfigError> {
        let membership = table
            .iter()
            .map(|param| {
                groups
                    .iter()
                    .position(|group| (group.claims)(param))
                    .ok_or(param)
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|param| {
                let name = &param.name;
                ConfigError::Groups(format!(
                    "no group claims `{name}`; add one, or an `.optimizer(…)` for all that remain"
                ))
            })?;
        if let Some(idle) = (0..groups.len()).find(|group| !membership.contains(group)) {
            return Err(ConfigError::Groups(why_idle(&groups, idle, table, all)));
        }
        let states = table.iter().map(|_| None).collect();
        Ok(Self {
            groups,
            membership,
            states,
        })
    }

    /// The name of each group and its learning rate for `update` of `steps`.
    pub(crate) fn lrs(&self, update: u64, steps: u64) -> Vec<(&str, f64)> {
        self.groups
            .iter()
            .map(|g| (g.name.as_str(), g.schedule.lr(update, steps)))
            .collect()
    }

    /// The name, schedule and number of elements of each group, for the plan and `run.json`.
    pub(crate) fn describe(&self, table: &ParamTable) -> Vec<GroupSummary> {
        let of_group = |index| {
            table
                .iter()
                .zip(&self.membership)
                .filter(move |(_, group)| **group == index)
        };
        self.groups
            .iter()
            .enumerate()
            .map(|(index, group)| GroupSummary {
                name: group.name.clone(),
                optimizer: group.kind.clone(),
                schedule: group.schedule,
                tensors: of_group(index).count(),
                elements: of_group(index).map(|(param, _)| param.num_elements()).sum(),
            })
            .collect()
    }

    /// Updates `model` by one step; parameters without a gradient stay as they are.
    pub(crate) fn step<M: Module>(&mut self, model: M, grads: GradientsParams, lrs: &[f64]) -> M {
        model.map(&mut Update {
            optimizers: self,
            grads,
            lrs,
            index: 0,
        })
    }

    /// Reads what the optimizers remember; as many device reads as they have tensors.
    pub(crate) fn state(&self, table: &ParamTable) -> Result<OptimizerState, String> {
        let OptimizerState { tensors, scalars } = read::caught(|| self.unread_state(table))?;
        let tensors = tensors
            .into_iter()
            .map(|(name, data)| Ok((name, read::settled(data)?)));
        Ok(OptimizerState {
            tensors: tensors.collect::<Result<_, String>>()?,
            scalars,
        })
    }

    /// The same as burn gives it, which on a GPU reads nothing: until somebody looks, the bytes are whatever the device's
    /// memory holds.
    fn unread_state(&self, table: &ParamTable) -> OptimizerState {
        let mut sink = StateSink::default();
        for (index, state) in self.states.iter().enumerate() {
            if let Some(state) = state {
                let optimizer = &self.groups[self.membership[index]].optimizer;
                optimizer.state_flatten(&table[index].name, state, &mut sink);
            }
        }
        let scalars = sink.scalars.into_iter().map(|(name, scalar)| {
            let value = u64::try_from(scalar)
                .map(Value::from)
                .or_else(|_| i64::try_from(scalar).map(Value::from))
                .or_else(|_| bool::try_from(scalar).map(Value::from))
                .or_else(|_| f64::try_from(scalar).map(number::to_json))
                .unwrap_or(Value::Null);
            (name, value)
        });
        OptimizerState {
            tensors: sink.tensors,
            scalars: scalars.collect(),
        }
    }

    /// Has the optimizers begin anew.
    pub(crate) fn forget(&mut self) {
        self.states.iter_mut().for_each(|state| *state = None);
    }

    /// Puts back what [`state`](Self::state) read for `model`; all of it, or it is another optimizer's.
    pub(crate) fn load<M: Module>(
        &mut self,
        saved: OptimizerState,
        table: &ParamTable,
        model: &M,
        device: &Device,
    ) -> Result<(), String> {
        let names = saved.names();
        let forms = saved
            .tensors
            .iter()
            .map(|(name, data)| (name.clone(), Form::of(data)));
        let mut check = Check {
            optimizers: self,
            table,
            saved: forms.collect(),
            index: 0,
            wrong: Vec::new(),
        };
        model.visit(&mut check);
        if !check.wrong.is_empty() {
            return Err(check.wrong.join("; "));
        }
        let mut source = StateSource::new(
            saved
                .scalars
                .into_iter()
                .filter_map(|(name, value)| {
                    let scalar = match value {
                        Value::Bool(flag) => flag.into(),
                        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                            (Some(count), _) => count.into(),
                            (None, Some(count)) => count.into(),
                            (None, None) => number.as_f64()?.into(),
                        },
                        other => number::from_json(&other)?.into(),
                    };
                    Some((name, scalar))
                })
                .collect(),
        );
        for (name, data) in saved.tensors {
            source.insert_tensor(name, data);
        }
        for (index, param) in table.iter().enumerate() {
            let optimizer = &self.groups[self.membership[index]].optimizer;
            // burn panics at a tensor of another rank, and a checkpoint may be somebody else's.
            let unflatten = AssertUnwindSafe(|| {
                optimizer.state_unflatten(param.rank(), &param.name, &mut source, device)
            });
            self.states[index] = catch_unwind(unflatten).map_err(|_| {
                format!(
                    "the optimizer's state of `{}` is of another shape",
                    param.name
                )
            })?;
        }
        match names.difference(&self.unread_state(table).names()).next() {
            Some(name) => Err(format!("the optimizer of this run does not know `{name}`")),
            None => Ok(()),
        }
    }
}

impl OptimizerState {
    fn names(&self) -> BTreeSet<String> {
        self.tensors
            .iter()
            .map(|(name, _)| name)
            .chain(self.scalars.keys())
            .cloned()
            .collect()
    }
}

/// A parameter group, as the plan and `run.json` show it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct GroupSummary {
    /// The group's name.
    pub name: String,
    /// The type of its optimizer, such as `AdamW`.
    pub optimizer: String,
    /// Its learning rate over the run.
    pub schedule: Schedule,
    /// How many parameters (tensors) it has.
    pub tensors: usize,
    /// How many numbers they hold.
    pub elements: usize,
}

/// The shape of a saved tensor, and whether its numbers are floats.
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

/// Compares saved tensors with those that each optimizer has after one step, which it takes on zeros: its rule alone knows
/// which shapes they have.
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
        if there.shape != here.shape {
            let (there, here) = (&there.shape, &here.shape);
            self.wrong.push(format!(
                "the optimizer's `{name}` is {there:?} there and {here:?} here"
            ));
        } else if there.dtype.is_float() != here.dtype.is_float() {
            let (there, here) = (there.dtype, here.dtype);
            self.wrong.push(format!(
                "the optimizer's `{name}` is of {there:?} there and of {here:?} here"
            ));
        }
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
        let prefix = format!("{name}.");
        if !self
            .saved
            .range(prefix.clone()..)
            .next()
            .is_some_and(|(name, _)| name.starts_with(&prefix))
        {
            return; // never updated
        }
        let optimizer = &self.optimizers.groups[self.optimizers.membership[index]].optimizer;
        let zeros = param.val().inner().zeros_like();
        let (weight, grad) = (zeros.clone().into_bridge(), zeros.into_bridge());
        let (_, state) = optimizer.step_dyn(D, 0.0, weight, grad, None);
        let mut sink = StateSink::default();
        if let Some(state) = state {
            optimizer.state_flatten(name, &state, &mut sink);
        }
        for (name, data) in sink.tensors {
            self.compare(&name, &Form::of(&data));
        }
    }
}

struct Update<'a> {
    optimizers: &'a mut Optimizers,
    grads: GradientsParams,
    lrs: &'a [f64],
    index: usize,
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
        let group = self.optimizers.membership[index];
        let state = self.optimizers.states[index].take();
        let tape = OnTape::of(&old);
        let (new, state) = self.optimizers.groups[group].optimizer.step_dyn(
            D,
            self.lrs[group],
            // The only handle, so the optimizer may work in place; not by NCCL, where it is a part of a bucket.
            old.inner().into_bridge(),
            grad.into_bridge(),
            state,
        );
        self.optimizers.states[index] = state;
        Param::from_mapped_value(id, tape.put(Tensor::from_bridge(new)), mapper)
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

    /// The error for these groups, in a net whose body is frozen.
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
    fn a_group_without_a_parameter_says_why_and_what_would_work() {
        let all = || group("default", |_| true);
        let body = group("body", |param| param.name.starts_with("body"));
        let text = refused(vec![body, all()]);
        assert!(text.contains(
            "group `body` has no parameter: those it claims, such as `body.weight`, are frozen"
        ));
        let text = refused(vec![all(), all()]);
        assert!(
            text.contains("an `.optimizer(…)` takes every parameter that is left, so add it once"),
            "{text}"
        );
        let text = refused(vec![all(), group("gains", |param| param.rank() < 2)]);
        assert!(text.contains(
            "group `gains` has no parameter: group `default`, which was added before it"
        ));
        let text = refused(vec![group("none", |_| false), all()]);
        assert!(
            text.ends_with("it claims none of the model's 2, such as `head.weight`, `head.bias`"),
            "{text}"
        );
    }
}
