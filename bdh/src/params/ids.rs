//! Ids of parameters, made unique before a run: after it, fields have one id only if they are tied.
//!
//! burn gives a clone of a module the ids of the original. The two may differ by then: a target network is a frozen
//! clone, and two clones may hold the weights of two files.

use super::ModulePath;
use super::ties::{Form, Ties, forms, repeated_ids};
use crate::device_read::{self, DeviceError};
use crate::error::ConfigError;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId, Parameter};
use burn::tensor::{Bool, Int, Tensor};
use std::any::Any;
use std::collections::{HashMap, HashSet};

/// Gives each frozen tensor that shares an id with another, but is not tied to it, an id of its own.
///
/// Costs one device read if tensors are tied, and none otherwise.
///
/// # Errors
///
/// [`ConfigError::Invalid`] if two trained parameters have one id, but not one shape, type and value: they may be meant to
/// be tied, or not. [`ConfigError::Device`] if the device fails.
pub(crate) fn with_own_ids<M: Module>(model: M) -> Result<M, ConfigError> {
    let found = match Found::of(&model) {
        Ok(found) => found,
        Err(error) => return Err(ConfigError::Device(error.to_string())),
    };
    match found.clash() {
        Some(clash) => Err(clash.into_error(&model)),
        None => Ok(found.separate(model)),
    }
}

/// Gives each tensor that shares an id with another, but is not tied to it, an id of its own.
///
/// Costs one device read if tensors are tied, and none otherwise.
///
/// # Errors
///
/// The error of the device.
pub(crate) fn separated<M: Module>(model: M) -> Result<M, DeviceError> {
    Ok(Found::of(&model)?.separate(model))
}

/// The tensors of a model with repeated ids, by place.
struct Found {
    /// Empty if no id is repeated.
    forms: Vec<Option<Form>>,
    ties: Ties,
    /// Places whose values differ from those of the first field of the same id and form.
    unequal: HashSet<usize>,
}

impl Found {
    fn of<M: Module>(model: &M) -> Result<Self, DeviceError> {
        let repeated = repeated_ids(model);
        let ties = Ties::of(model);
        Ok(Self {
            forms: if repeated.is_empty() {
                Vec::new()
            } else {
                forms(model, &repeated)
            },
            unequal: unequal(model, &ties)?,
            ties,
        })
    }

    /// Finds two trained parameters with one id that are not tied.
    fn clash(&self) -> Option<Clash> {
        let mut trained = HashMap::new();
        for (place, form) in self.forms.iter().enumerate() {
            let Some(form) = form.as_ref().filter(|form| form.is_trained) else {
                continue;
            };
            let first = *trained.entry(form.id).or_insert(place);
            let difference = if self.ties.first_of(place) != first {
                "shapes or types"
            } else if self.unequal.contains(&place) {
                "values"
            } else {
                continue;
            };
            return Some(Clash {
                first,
                second: place,
                difference,
            });
        }
        None
    }

    fn separate<M: Module>(&self, model: M) -> M {
        let ids = self.own_ids();
        if ids.is_empty() {
            return model;
        }
        model.map(&mut SetIds { ids, place: 0 })
    }

    /// Returns the places that need another id, with that id.
    fn own_ids(&self) -> HashMap<usize, ParamId> {
        let keepers = self.keepers();
        let mut ids = HashMap::new();
        for (place, form) in self.forms.iter().enumerate() {
            let Some(form) = form else { continue };
            let first = self.ties.first_of(place);
            if self.unequal.contains(&place) {
                ids.insert(place, ParamId::new());
            } else if keepers[&form.id] != first {
                let id = *ids.entry(first).or_insert_with(ParamId::new);
                ids.insert(place, id);
            }
        }
        ids
    }

    /// Returns the place of the tensor that keeps each id: the first trained one, or else the first.
    fn keepers(&self) -> HashMap<ParamId, usize> {
        let mut keepers = HashMap::new();
        for is_trained in [true, false] {
            for (place, form) in self.forms.iter().enumerate() {
                if let Some(form) = form
                    && form.is_trained == is_trained
                {
                    keepers.entry(form.id).or_insert(place);
                }
            }
        }
        keepers
    }
}

/// Places of two trained parameters with one id that are not tied.
struct Clash {
    first: usize,
    second: usize,
    difference: &'static str,
}

impl Clash {
    fn into_error(self, model: &impl Module) -> ConfigError {
        let names = names(model);
        let (first, second) = (&names[self.first], &names[self.second]);
        let difference = self.difference;
        let value = format!(
            "with `{first}` and `{second}` under one parameter id, but of different {difference}"
        );
        let problem = "tied parameters are equal; to tie them, make one a clone of the other; to train both, give one an \
                       id of its own with `Param::from_tensor(param.val())`";
        ConfigError::invalid("model", value, problem)
    }
}

/// Mapper that replaces ids, by place.
struct SetIds {
    ids: HashMap<usize, ParamId>,
    place: usize,
}

impl SetIds {
    fn set<T: Parameter>(&mut self, param: Param<T>) -> Param<T> {
        let id = self.ids.get(&self.place);
        self.place += 1;
        let Some(id) = id else { return param };
        let (_, value, mapper) = param.consume();
        Param::from_mapped_value(*id, value, mapper)
    }
}

impl ModuleMapper for SetIds {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.set(param)
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        self.set(param)
    }

    fn map_bool<const D: usize>(
        &mut self,
        param: Param<Tensor<D, Bool>>,
    ) -> Param<Tensor<D, Bool>> {
        self.set(param)
    }
}

/// Returns the places whose values differ from those of the first field of the same id and form.
fn unequal<M: Module>(model: &M, ties: &Ties) -> Result<HashSet<usize>, DeviceError> {
    let mut compare = Compare {
        ties,
        place: 0,
        first: HashMap::new(),
        later: Vec::new(),
        counts: Vec::new(),
    };
    if !ties.is_empty() {
        model.visit(&mut compare);
    }
    let mut unequal = HashSet::new();
    if compare.later.is_empty() {
        return Ok(unequal);
    }
    let counts = device_read::vectors([Tensor::cat(compare.counts, 0)])?;
    let counts = counts.iter().flat_map(|counts| counts.iter::<f32>());
    for (place, count) in compare.later.into_iter().zip(counts) {
        if count > 0.0 {
            unequal.insert(place);
        }
    }
    Ok(unequal)
}

/// Visitor that compares the values of tied fields, on the device.
struct Compare<'a> {
    ties: &'a Ties,
    place: usize,
    /// Tensors by their first place.
    first: HashMap<usize, Box<dyn Any>>,
    /// Places that are not the first of their tensor.
    later: Vec<usize>,
    /// Number of unequal elements of each of these places, `[1]`.
    counts: Vec<Tensor<1>>,
}

impl Compare<'_> {
    fn add<T: Any + Clone>(&mut self, value: T, count: impl FnOnce(T, T) -> Tensor<1>) {
        let place = self.place;
        self.place += 1;
        let first = self.first.get(&self.ties.first_of(place));
        match first.and_then(|first| first.downcast_ref::<T>()) {
            Some(first) => {
                self.later.push(place);
                self.counts.push(count(first.clone(), value));
            }
            None => {
                self.first.insert(place, Box::new(value));
            }
        }
    }
}

/// Counts the elements that are true, `[1]`.
fn count<const D: usize>(unequal: Tensor<D, Bool>) -> Tensor<1> {
    unequal.int().sum().float()
}

impl ModuleVisitor for Compare<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.base().inner();
        self.add(value, |first, value| count(first.not_equal(value)));
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        let value = param.base().inner();
        self.add(value, |first, value| count(first.not_equal(value)));
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        let value = param.base().inner();
        self.add(value, |first, value| count(first.not_equal(value)));
    }
}

/// Returns the names of all tensors of a model, by place.
fn names<M: Module>(model: &M) -> Vec<String> {
    let mut names = Names::default();
    model.visit(&mut names);
    names.names
}

#[derive(Default)]
struct Names {
    path: ModulePath,
    names: Vec<String>,
}

impl ModuleVisitor for Names {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, _param: &Param<Tensor<D>>) {
        self.names.push(self.path.torch_name());
    }

    fn visit_int<const D: usize>(&mut self, _param: &Param<Tensor<D, Int>>) {
        self.names.push(self.path.torch_name());
    }

    fn visit_bool<const D: usize>(&mut self, _param: &Param<Tensor<D, Bool>>) {
        self.names.push(self.path.torch_name());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::ParamTable;
    use crate::params::ties::tests::net;
    use burn::tensor::Device;

    #[test]
    fn a_frozen_copy_gets_an_id_of_its_own_and_ties_stay() {
        let before = net();
        let (embed, mask) = (before.embed.id, before.mask.id);
        let after = with_own_ids(before).expect("tied tensors are equal");
        assert_eq!((after.embed.id, after.head.id), (embed, embed));
        assert_ne!(after.target.id, embed);
        assert!(!after.target.is_require_grad());
        assert_eq!((after.mask.id, after.same_mask.id), (mask, mask));
        let table = ParamTable::with_frozen(&after)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>();
        assert_eq!(
            table[..3],
            ["embed (= head)", "target", "mask (= same_mask)"]
        );
    }

    #[test]
    fn the_trained_parameter_keeps_its_id_even_if_its_copy_comes_first() {
        let net = net();
        let target = net.target.clone();
        let id = target.id;
        let pair = with_own_ids((target, net.embed)).expect("a copy");
        assert_ne!(pair.0.id, id);
        assert_eq!(pair.1.id, id);
    }

    #[test]
    fn frozen_clones_of_other_values_are_not_tied() {
        let net = net();
        let other = net.target.clone().map(|value| value * 2.0);
        let clones = vec![net.target.clone(), other, net.target];
        assert_eq!(ParamTable::with_frozen(&clones).len(), 1);
        let clones = with_own_ids(clones).expect("none of them is trained");
        let table = ParamTable::with_frozen(&clones);
        let names: Vec<_> = table.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["0 (= 2)", "1"]);
    }

    #[test]
    fn trained_clones_that_differ_are_refused_but_can_be_separated() {
        let net = net();
        let changed = net.embed.clone().map(|value| value.inner() * 2.0);
        let changed = changed.train();
        let clones = vec![net.embed.clone(), changed];
        let error = with_own_ids(clones.clone())
            .expect_err("which of them counts?")
            .to_string();
        let expected = "`model` is with `0` and `1` under one parameter id, but of different values: tied parameters \
                        are equal; to tie them, make one a clone of the other; to train both, give one an id of its own \
                        with `Param::from_tensor(param.val())`";
        assert_eq!(error, expected);
        let separate = separated(clones).expect("the CPU reads");
        assert_eq!(ParamTable::of(&separate).len(), 2);

        let flat: Tensor<2> = Tensor::ones([2, 3], &Device::flex().autodiff());
        let transposed = Param::initialized(net.embed.id, flat.require_grad());
        let error = with_own_ids(vec![net.embed, transposed])
            .expect_err("of two shapes")
            .to_string();
        assert!(
            error.contains("under one parameter id, but of different shapes or types"),
            "{error}"
        );
    }
}
