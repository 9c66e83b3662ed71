//! Tied parameters: one tensor in several fields of a model, such as an embedding that is also the output matrix.
//!
//! burn visits and maps every field. This module visits a tied tensor once, in its first field, and puts its new value
//! into all of its fields. The rest of the crate visits and maps models with these functions only, so a tied tensor is
//! counted, saved and updated once. Its gradient is the sum over all uses: the fields share one node of autodiff.
//!
//! Fields are tied if their parameters have one id, as after `head.weight = embed.weight.clone()`, and one form: shape,
//! type, and whether it is trained. So a frozen copy, such as a target network, is not tied to its original.
//! Running states are never tied: burn has no means of sharing them again after a copy.

use burn::module::{Flag, Module, ModuleMapper, ModuleVisitor, Param, ParamId, Parameter};
use burn::tensor::{Bool, DType, Device, Int, Tensor};
use std::any::{Any, TypeId};
use std::collections::{HashMap, HashSet};

/// Visits the tensors of a model, each once.
pub(crate) fn visit<M: Module>(model: &M, visitor: &mut impl ModuleVisitor) {
    Ties::of(model).visit(model, visitor);
}

/// Maps the tensors of a model, each once. All fields of a tied tensor get its new value.
///
/// The later fields hold the old value meanwhile, so a mapper cannot change a tied tensor in place.
pub(crate) fn map<M: Module>(model: M, mapper: &mut impl ModuleMapper) -> M {
    Ties::of(&model).map(model, mapper)
}

/// Copies a model to a device. Unlike [`Module::fork`] it keeps the ties.
pub(crate) fn forked<M: Module>(model: M, device: &Device) -> M {
    /// Mapper that changes nothing.
    struct Same;
    impl ModuleMapper for Same {}
    map(model.fork(device), &mut Same)
}

/// The tied tensors of a model, by place: the index of a tensor among all that a visit finds.
pub(crate) struct Ties {
    /// For each place the first one with the same tensor; empty if no tensor is tied.
    first: Vec<usize>,
}

impl Ties {
    /// Finds the tied tensors of a model.
    pub(crate) fn of<M: Module>(model: &M) -> Self {
        let repeated = repeated_ids(model);
        let mut first = Vec::new();
        if !repeated.is_empty() {
            let mut earlier = HashMap::new();
            for (place, form) in forms(model, &repeated).into_iter().enumerate() {
                first.push(match form {
                    Some(form) => *earlier.entry(form).or_insert(place),
                    None => place,
                });
            }
        }
        Self { first }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// Returns the first place of the tensor at `place`.
    pub(super) fn first_of(&self, place: usize) -> usize {
        self.first.get(place).copied().unwrap_or(place)
    }

    /// Visits the tensors of a model, each once. `model` may be the [valid](Module::valid) one of the model with these
    /// ties.
    pub(crate) fn visit<M: Module>(&self, model: &M, visitor: &mut impl ModuleVisitor) {
        // Also without ties: a second call, of the visitor alone, would double the code of all visitors.
        model.visit(&mut EachOnce {
            ties: self,
            place: 0,
            visitor,
        });
    }

    /// Maps the tensors of a model, each once. `model` may be the [valid](Module::valid) one of the model with these
    /// ties.
    pub(crate) fn map<M: Module>(&self, model: M, mapper: &mut impl ModuleMapper) -> M {
        model.map(&mut AllFields {
            ties: self,
            place: 0,
            mapper,
            mapped: HashMap::new(),
        })
    }
}

/// Visitor that calls another one on the first field of each tensor.
struct EachOnce<'a, V> {
    ties: &'a Ties,
    place: usize,
    visitor: &'a mut V,
}

impl<V> EachOnce<'_, V> {
    /// Moves to the next place, and returns whether its tensor is new.
    fn is_first(&mut self) -> bool {
        let place = self.place;
        self.place += 1;
        self.ties.first_of(place) == place
    }
}

impl<V: ModuleVisitor> ModuleVisitor for EachOnce<'_, V> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.is_first() {
            self.visitor.visit_float(param);
        }
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        if self.is_first() {
            self.visitor.visit_int(param);
        }
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        if self.is_first() {
            self.visitor.visit_bool(param);
        }
    }

    fn visit_flag(&mut self, flag: &Param<Flag>) {
        self.visitor.visit_flag(flag);
    }

    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.visitor.enter_module(name, container_type);
    }

    fn exit_module(&mut self, name: &str, container_type: &str) {
        self.visitor.exit_module(name, container_type);
    }
}

/// Mapper that calls another one on the first field of each tensor, and copies the result to the other fields.
struct AllFields<'a, M> {
    ties: &'a Ties,
    place: usize,
    mapper: &'a mut M,
    /// New tensors by their first place. Their ranks differ.
    mapped: HashMap<usize, Box<dyn Any>>,
}

impl<M> AllFields<'_, M> {
    fn map<T: Parameter + 'static>(
        &mut self,
        param: Param<T>,
        map: impl FnOnce(&mut M, Param<T>) -> Param<T>,
    ) -> Param<T> {
        if self.ties.is_empty() {
            return map(self.mapper, param);
        }
        let place = self.place;
        self.place += 1;
        let mapped = self.mapped.get(&self.ties.first_of(place));
        if let Some(new) = mapped.and_then(|tensor| tensor.downcast_ref::<T>()) {
            let new = new.clone();
            return param.map(|_| new);
        }
        let param = map(self.mapper, param);
        self.mapped.insert(place, Box::new(param.base()));
        param
    }
}

impl<M: ModuleMapper> ModuleMapper for AllFields<'_, M> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.map(param, M::map_float)
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        self.map(param, M::map_int)
    }

    fn map_bool<const D: usize>(
        &mut self,
        param: Param<Tensor<D, Bool>>,
    ) -> Param<Tensor<D, Bool>> {
        self.map(param, M::map_bool)
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        self.mapper.map_flag(flag)
    }

    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.mapper.enter_module(name, container_type);
    }

    fn exit_module(&mut self, name: &str, container_type: &str) {
        self.mapper.exit_module(name, container_type);
    }
}

/// Returns the ids that several fields have.
pub(super) fn repeated_ids<M: Module>(model: &M) -> HashSet<ParamId> {
    let mut ids = Ids::default();
    model.visit(&mut ids);
    ids.repeated
}

/// Visitor that finds repeated ids. It runs several times a step, so it looks at nothing else.
#[derive(Default)]
struct Ids {
    seen: HashSet<ParamId>,
    repeated: HashSet<ParamId>,
}

impl Ids {
    fn add(&mut self, id: ParamId) {
        if !self.seen.insert(id) {
            self.repeated.insert(id);
        }
    }
}

impl ModuleVisitor for Ids {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.add(param.id);
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.add(param.id);
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.add(param.id);
    }
}

/// Id and form of a tensor; tensors that are equal in all of it are tied.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Form {
    pub(super) id: ParamId,
    /// Type of the tensor: float, int or bool, and its rank.
    kind: TypeId,
    shape: Vec<usize>,
    dtype: DType,
    pub(super) is_trained: bool,
}

/// Returns the form of each tensor that may be tied: it has a repeated id, and is no running state.
pub(super) fn forms<M: Module>(model: &M, repeated: &HashSet<ParamId>) -> Vec<Option<Form>> {
    let mut forms = Forms {
        repeated,
        forms: Vec::new(),
    };
    model.visit(&mut forms);
    let mut forms = forms.forms;
    // Running states are not trained, so a model whose ties are all trained needs no search for them.
    if forms.iter().flatten().any(|form| !form.is_trained) {
        for place in running_states(model) {
            forms[place] = None;
        }
    }
    forms
}

struct Forms<'a> {
    repeated: &'a HashSet<ParamId>,
    forms: Vec<Option<Form>>,
}

impl Forms<'_> {
    fn add<T: Parameter + 'static>(&mut self, param: &Param<T>, dtype: DType, is_trained: bool) {
        let is_repeated = self.repeated.contains(&param.id);
        self.forms.push(is_repeated.then(|| Form {
            id: param.id,
            kind: TypeId::of::<T>(),
            shape: param.shape().to_vec(),
            dtype,
            is_trained,
        }));
    }
}

impl ModuleVisitor for Forms<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.add(param, param.dtype(), is_trained(param));
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.add(param, param.dtype(), false);
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.add(param, param.dtype(), false);
    }
}

/// Returns whether a parameter is trained, or would be after [`Module::train`] if its device has no autodiff.
fn is_trained<const D: usize>(param: &Param<Tensor<D>>) -> bool {
    if param.base().is_autodiff() {
        param.is_require_grad()
    } else {
        param.clone().train().is_require_grad()
    }
}

/// Returns the places of running states.
///
/// burn visits a running state as a parameter that it makes for this visit. So two visits find two parameters there, and
/// one everywhere else.
fn running_states<M: Module>(model: &M) -> Vec<usize> {
    let mut params = Params::default();
    model.visit(&mut params);
    params.again = true;
    params.place = 0;
    model.visit(&mut params);
    params.other
}

/// Visitor that keeps all parameters, and compares them with those of a second visit.
#[derive(Default)]
struct Params {
    /// The parameters of the first visit. They live on, so that those of the second have other addresses.
    kept: Vec<Box<dyn Any>>,
    /// Whether this is the second visit.
    again: bool,
    place: usize,
    /// Places with another parameter in the second visit.
    other: Vec<usize>,
}

impl Params {
    fn add<T: Parameter + 'static>(&mut self, param: &Param<T>) {
        if !self.again {
            self.kept.push(Box::new(param.clone()));
            return;
        }
        let kept = self.kept[self.place].downcast_ref::<Param<T>>();
        let is_same =
            kept.is_some_and(|kept| std::ptr::eq::<T>(&raw const **kept, &raw const **param));
        if !is_same {
            self.other.push(self.place);
        }
        self.place += 1;
    }
}

impl ModuleVisitor for Params {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.add(param);
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.add(param);
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.add(param);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::params::{self, ParamTable, Tensors};
    use burn::nn::{BatchNorm, BatchNormConfig};
    use burn::optim::GradientsParams;
    use burn::tensor::TensorData;

    /// An embedding that is also the head's matrix, a frozen copy of it, a tied buffer, and a norm in two places.
    #[derive(Module, Debug)]
    pub(in crate::params) struct Net {
        pub(in crate::params) embed: Param<Tensor<2>>,
        pub(in crate::params) head: Param<Tensor<2>>,
        pub(in crate::params) target: Param<Tensor<2>>,
        pub(in crate::params) mask: Param<Tensor<1, Int>>,
        pub(in crate::params) same_mask: Param<Tensor<1, Int>>,
        pub(in crate::params) norm: BatchNorm,
        pub(in crate::params) same_norm: BatchNorm,
    }

    pub(in crate::params) fn net() -> Net {
        let device = Device::flex().autodiff();
        let embed = Param::from_tensor(Tensor::ones([3, 2], &device));
        let mask = Param::initialized(ParamId::new(), Tensor::from_data([7, 8], &device));
        let norm = BatchNormConfig::new(2).init(&device);
        Net {
            head: embed.clone(),
            target: embed.clone().set_require_grad(false),
            embed,
            same_mask: mask.clone(),
            mask,
            same_norm: norm.clone(),
            norm,
        }
    }

    /// Returns the gradients of a loss that uses the embedding once, and the head twice.
    fn gradients(net: &Net) -> GradientsParams {
        let loss = net.embed.val().sum() + net.head.val().sum() * 2.0;
        GradientsParams::from_grads(loss.backward(), net)
    }

    fn gradient_of_embed(net: &Net) -> TensorData {
        let gradient = gradients(net).get::<2>(net.embed.id);
        gradient.expect("the loss uses it").into_data()
    }

    fn all(value: f32) -> TensorData {
        TensorData::from([[value; 2]; 3])
    }

    fn capture(net: &Net) -> Tensors {
        params::capture(net, &ParamTable::with_frozen(net)).expect("the CPU reads")
    }

    #[test]
    fn a_tied_tensor_is_listed_once_with_all_of_its_names() {
        let names = |table: ParamTable| table.iter().map(ToString::to_string).collect::<Vec<_>>();
        let expected = [
            "embed (= head)",
            "norm.weight (= same_norm.weight)",
            "norm.bias (= same_norm.bias)",
        ];
        assert_eq!(names(ParamTable::of(&net())), expected);
        assert_eq!(ParamTable::of(&net()).num_elements(), 6 + 2 + 2);
        let expected = [
            "embed (= head)",
            "target",
            "mask (= same_mask)",
            "norm.weight (= same_norm.weight)",
            "norm.bias (= same_norm.bias)",
            "norm.running_mean",
            "norm.running_var",
            "same_norm.running_mean",
            "same_norm.running_var",
        ];
        assert_eq!(names(ParamTable::with_frozen(&net())), expected);
        let (digests, _) = params::digests(&net()).expect("the CPU reads");
        assert_eq!(digests.len(), expected.len());
        assert_eq!(capture(&net()).len(), expected.len());
    }

    #[test]
    fn a_new_value_is_in_all_fields_and_collects_the_gradients_of_all_uses() {
        let net = params::with_own_ids(net()).expect("tied tensors are equal");
        let table = ParamTable::of(&net);
        let sizes = table.iter().map(params::ParamInfo::num_elements);
        let fives = sizes.map(|size| Tensor::<1>::full([size], 5.0, &Device::flex()));
        let fives: Vec<_> = fives.collect();
        let valid = params::replaced(net.valid(), &table, &fives);
        let own = params::with_own_states(&net);
        let trained = params::with_weights(net, fives);
        for net in [&trained, &valid] {
            assert_eq!(net.embed.val().into_data(), all(5.0));
            assert_eq!(net.head.val().into_data(), all(5.0));
            assert_eq!(net.target.val().into_data(), all(1.0));
        }
        for net in [&trained, &own] {
            assert_eq!(gradient_of_embed(net), all(3.0));
            assert!(net.head.is_require_grad() && !net.target.is_require_grad());
        }
    }

    #[test]
    fn a_copy_on_another_device_keeps_the_ties() {
        let device = Device::flex().autodiff();
        assert_eq!(gradient_of_embed(&forked(net(), &device)), all(3.0));
        let untied = net().fork(&device);
        assert_eq!(
            gradient_of_embed(&untied),
            all(2.0),
            "the last field's only"
        );
    }

    #[test]
    fn the_gradient_of_a_tied_tensor_is_scaled_and_added_once() {
        let net = params::with_own_ids(net()).expect("tied tensors are equal");
        let mut grads = gradients(&net);
        let half = Tensor::from_floats([0.5], &Device::flex());
        params::scale_gradients(&net, &mut grads, half);
        params::accumulate(&net, &mut grads, gradients(&net));
        let gradient = grads.get::<2>(net.embed.id).expect("a gradient");
        assert_eq!(gradient.into_data(), all(4.5));
        let mut calls = Vec::new();
        params::replace_gradients(&net, &mut grads, &mut |index, gradient| {
            calls.push(index);
            gradient
        });
        assert_eq!(calls, [0], "the loss does not use the norm");
    }

    #[test]
    fn norms_in_two_places_keep_their_running_states_apart() {
        let own = params::with_own_states(&net());
        let batch = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 4.0]], &Device::flex().autodiff());
        own.same_norm.forward(batch.unsqueeze_dim::<3>(2));
        let captured = capture(&own);
        assert_ne!(
            captured["same_norm.running_mean"],
            captured["norm.running_mean"]
        );
        let table = ParamTable::with_frozen(&own);
        let restored = params::restore(net(), &table, captured.clone()).expect("the same model");
        assert_eq!(capture(&restored), captured);
        assert_eq!(gradient_of_embed(&restored), all(3.0));
    }
}
