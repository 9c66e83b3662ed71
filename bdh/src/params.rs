//! The parameters of a model: a table of names, shapes and layouts, and the visitors that use it.
//!
//! burn's visitors are generic over the rank and cannot be trait objects. This module has one for each purpose;
//! statistics, groups, checkpoints and callbacks use the table.

mod digest;
mod ids;
mod mismatch;
mod saved;
mod states;
mod tensors;
mod ties;
mod values;

pub(crate) use digest::digests;
pub(crate) use ids::{separated, with_own_ids};
pub(crate) use mismatch::Mismatch;
pub use saved::Tensors;
pub(crate) use saved::{
    capture, capture_copy, check, converted, misfit, restore, restore_copy, restore_found,
};
pub(crate) use states::with_own_states;
pub(crate) use tensors::{AnyRank, PerParam, are_f32, gradients, updates, weights};
pub(crate) use ties::{forked, map, visit};
pub(crate) use values::{
    OnTape, accumulate, put_gradients, replace_gradients, replaced, scale_gradients, with_weights,
};

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Bool, DType, Int, Tensor};
use std::collections::HashMap;
use std::fmt;
use ties::Ties;

/// Name, shape and layout of one parameter.
///
/// A tied parameter is one tensor in several fields of the model, such as `embed.weight` and `head.weight`. It has the
/// name of the first field, and the names of the others as aliases. `Display` shows all of them:
/// `embed.weight (= head.weight)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamInfo {
    /// Name in PyTorch's form, such as `transformer.h.0.attn.c_q.weight`.
    pub name: String,
    /// Shape in burn's layout; a `Linear` weight is `[in, out]`.
    pub shape: Vec<usize>,
    pub(crate) id: ParamId,
    pub(crate) dtype: DType,
    /// Whether PyTorch stores the transpose: burn's `Linear` is `[in, out]`, PyTorch's `[out, in]`.
    pub(crate) transposed: bool,
    /// Names of the further fields of a tied parameter.
    pub(crate) aliases: Vec<Alias>,
}

/// Name of a further field of a tied parameter, and its layout in PyTorch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alias {
    pub(crate) name: String,
    pub(crate) transposed: bool,
}

impl ParamInfo {
    /// Returns the number of elements.
    #[must_use]
    pub fn num_elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Returns the number of dimensions: 2 for a matrix, 1 for a bias or a gain.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Iterates over all names: the [name](Self::name), then the names of the further fields if the parameter is tied.
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::{Group, burn::optim::SgdConfig};
    ///
    /// // Claims the head's matrix by this name too if it is tied to the embedding.
    /// let claims = |param: &bdh::stats::ParamInfo| param.names().any(|name| name == "head.weight");
    /// let head = Group::new("head", claims, SgdConfig::new().build(), 0.1);
    /// ```
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let aliases = self.aliases.iter().map(|alias| alias.name.as_str());
        std::iter::once(self.name.as_str()).chain(aliases)
    }

    /// Returns whether several fields of the model hold this parameter.
    #[must_use]
    pub fn is_tied(&self) -> bool {
        !self.aliases.is_empty()
    }
}

impl fmt::Display for ParamInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.is_tied() {
            let aliases: Vec<_> = self.names().skip(1).collect();
            write!(f, " (= {})", aliases.join(", "))?;
        }
        Ok(())
    }
}

/// The trainable parameters of a model, in the order of its fields. A tied parameter is listed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamTable(Vec<ParamInfo>);

impl ParamTable {
    /// Lists the parameters of `model`.
    #[must_use]
    pub fn of<M: Module>(model: &M) -> Self {
        Self::list(model, false)
    }

    /// Lists all tensors of a checkpoint of `model`, including frozen parameters and buffers.
    pub(crate) fn with_frozen<M: Module>(model: &M) -> Self {
        Self::list(model, true)
    }

    fn list<M: Module>(model: &M, frozen: bool) -> Self {
        let mut lister = Lister {
            path: ModulePath::default(),
            frozen,
            ties: Ties::of(model),
            place: 0,
            listed: HashMap::new(),
            params: Vec::new(),
        };
        model.visit(&mut lister);
        Self(lister.params)
    }

    /// Returns all names of each tied parameter, for the plan.
    pub(crate) fn tied(&self) -> Vec<String> {
        let tied = self.iter().filter(|param| param.is_tied());
        tied.map(ToString::to_string).collect()
    }

    /// Iterates over the parameters in the order of the model's fields.
    pub fn iter(&self) -> std::slice::Iter<'_, ParamInfo> {
        self.0.iter()
    }

    /// Returns the number of parameters (tensors).
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether the table has no parameter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of elements of all parameters.
    #[must_use]
    pub fn num_elements(&self) -> usize {
        self.iter().map(ParamInfo::num_elements).sum()
    }
}

impl<'a> IntoIterator for &'a ParamTable {
    type Item = &'a ParamInfo;
    type IntoIter = std::slice::Iter<'a, ParamInfo>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl std::ops::Index<usize> for ParamTable {
    type Output = ParamInfo;

    fn index(&self, index: usize) -> &ParamInfo {
        &self.0[index]
    }
}

/// Field names from the model to the visited parameter, each with the type of its container.
#[derive(Default)]
struct ModulePath(Vec<(String, String)>);

impl ModulePath {
    fn enter(&mut self, name: &str, container: &str) {
        self.0.push((name.to_owned(), container.to_owned()));
    }

    fn exit(&mut self) {
        self.0.pop();
    }

    /// Returns the type of the innermost container, such as `Struct:Linear`.
    fn container(&self) -> Option<&str> {
        self.0.last().map(|(_, container)| container.as_str())
    }

    /// Returns the name in PyTorch's form, which differs from burn's for the parameters of norms.
    fn torch_name(&self) -> String {
        let is_norm = self
            .container()
            .is_some_and(|container| NORMS.contains(&container));
        let mut names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        if is_norm && let Some(last) = names.last_mut() {
            *last = match *last {
                "gamma" => "weight",
                "beta" => "bias",
                other => other,
            };
        }
        names.join(".")
    }
}

/// Containers with parameters `gamma` and `beta`, which PyTorch calls `weight` and `bias`.
const NORMS: [&str; 5] = [
    "Struct:LayerNorm",
    "Struct:RmsNorm",
    "Struct:GroupNorm",
    "Struct:BatchNorm",
    "Struct:InstanceNorm",
];

/// Visitor that lists the parameters of a module.
struct Lister {
    path: ModulePath,
    /// Whether to list frozen parameters and buffers too.
    frozen: bool,
    ties: Ties,
    place: usize,
    /// Index in `params` of the tensors listed so far, by their first place.
    listed: HashMap<usize, usize>,
    params: Vec<ParamInfo>,
}

impl Lister {
    /// Moves to the next place, and lists its tensor if that is wanted.
    fn add(&mut self, is_wanted: bool, id: ParamId, shape: Vec<usize>, dtype: DType) {
        let first = self.ties.first_of(self.place);
        self.place += 1;
        if !is_wanted {
            return;
        }
        let name = self.path.torch_name();
        let transposed = shape.len() == 2 && self.path.container() == Some("Struct:Linear");
        if let Some(index) = self.listed.get(&first) {
            self.params[*index].aliases.push(Alias { name, transposed });
            return;
        }
        self.listed.insert(first, self.params.len());
        self.params.push(ParamInfo {
            name,
            shape,
            id,
            dtype,
            transposed,
            aliases: Vec::new(),
        });
    }
}

impl ModuleVisitor for Lister {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let is_wanted = self.frozen || value.is_require_grad();
        self.add(is_wanted, param.id, value.dims().to_vec(), value.dtype());
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        let value = param.val();
        self.add(self.frozen, param.id, value.dims().to_vec(), value.dtype());
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        let value = param.val();
        self.add(self.frozen, param.id, value.dims().to_vec(), value.dtype());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{BatchNorm, BatchNormConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
    use burn::tensor::Device;

    /// A trained and a frozen linear layer, a norm with running states, and two buffers.
    #[derive(Module, Debug)]
    pub(super) struct Net {
        pub(super) trained: Linear,
        pub(super) frozen: Linear,
        pub(super) norm: BatchNorm,
        pub(super) table: Param<Tensor<1, Int>>,
        mask: Param<Tensor<1, Bool>>,
    }

    pub(super) fn net(device: &Device) -> Net {
        let table = Tensor::from_data([7, 8, 9], device);
        let mask = Tensor::from_data([true, false], device);
        Net {
            trained: LinearConfig::new(3, 2).init(device),
            frozen: LinearConfig::new(2, 2).init(device).no_grad(),
            norm: BatchNormConfig::new(2).init(device),
            table: Param::initialized(ParamId::new(), table),
            mask: Param::initialized(ParamId::new(), mask),
        }
    }

    impl Net {
        /// Runs one forward pass, which updates the running states of the norm.
        pub(super) fn pass(&self, device: &Device) {
            let batch = Tensor::<2>::from_floats([[1.0, 2.0, 3.0], [0.0, 5.0, 1.0]], device);
            let hidden = self.frozen.forward(self.trained.forward(batch));
            self.norm.forward(hidden.unsqueeze_dim::<3>(2));
        }
    }

    #[derive(Module, Debug)]
    struct Block {
        norm: LayerNorm,
        layers: Vec<Linear>,
        gain: Param<Tensor<1>>,
    }

    fn block() -> Block {
        let device = Device::flex().autodiff();
        Block {
            norm: LayerNormConfig::new(3).init(&device),
            layers: vec![LinearConfig::new(3, 2).init(&device)],
            gain: Param::from_tensor(Tensor::ones([4], &device)),
        }
    }

    #[test]
    fn names_are_pytorchs() {
        let table = ParamTable::of(&block());
        let names: Vec<_> = table.iter().map(|param| param.name.as_str()).collect();
        let expected = [
            "norm.weight",
            "norm.bias",
            "layers.0.weight",
            "layers.0.bias",
            "gain",
        ];
        assert_eq!(names, expected);
        assert_eq!(table.num_elements(), 3 + 3 + 6 + 2 + 4);
    }
}
