//! The parameters of a model: a table of names, shapes and layouts, and the visitors that use it.
//!
//! burn's visitors are generic over the rank and cannot be trait objects. This module has one for each purpose;
//! statistics, groups, checkpoints and callbacks use the table.

mod digest;
mod mismatch;
mod saved;
mod states;
mod tensors;
mod values;

pub(crate) use digest::digests;
pub(crate) use mismatch::Mismatch;
pub use saved::Tensors;
pub(crate) use saved::{capture, capture_copy, check, converted, restore, restore_copy};
pub(crate) use states::with_own_states;
pub(crate) use tensors::{AnyRank, PerParam, are_f32, gradients, updates, weights};
pub(crate) use values::{
    OnTape, accumulate, put_gradients, replace_gradients, replaced, scale_gradients, with_weights,
};

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Bool, DType, Int, Tensor};

/// Name, shape and layout of one parameter.
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
}

/// The trainable parameters of a model, in the order of its fields.
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
            params: Vec::new(),
        };
        model.visit(&mut lister);
        Self(lister.params)
    }

    /// Finds two parameters that share one tensor.
    pub(crate) fn tied(&self) -> Option<(&ParamInfo, &ParamInfo)> {
        for (index, param) in self.iter().enumerate() {
            let mut earlier = self.0[..index].iter();
            if let Some(first) = earlier.find(|earlier| earlier.id == param.id) {
                return Some((first, param));
            }
        }
        None
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
    params: Vec<ParamInfo>,
}

impl Lister {
    fn add(&mut self, id: ParamId, shape: Vec<usize>, dtype: DType) {
        let transposed = shape.len() == 2 && self.path.container() == Some("Struct:Linear");
        self.params.push(ParamInfo {
            name: self.path.torch_name(),
            shape,
            id,
            dtype,
            transposed,
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
        if self.frozen || value.is_require_grad() {
            self.add(param.id, value.dims().to_vec(), value.dtype());
        }
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        if self.frozen {
            let value = param.val();
            self.add(param.id, value.dims().to_vec(), value.dtype());
        }
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        if self.frozen {
            let value = param.val();
            self.add(param.id, value.dims().to_vec(), value.dtype());
        }
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
