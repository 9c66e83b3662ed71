//! The parameters of a model: one table of names, shapes and layouts for everybody.
//!
//! burn's visitors are generic over the rank and cannot be objects, so the module is walked here, once
//! for each purpose, and everything else (statistics, groups, checkpoints, callbacks) goes by the table.

mod digest;
mod saved;
mod states;
mod tensors;
mod values;

pub(crate) use digest::digests;
pub use saved::Tensors;
pub(crate) use saved::{capture, capture_copy, check, converted, restore, restore_copy};
pub(crate) use states::with_own_states;
pub(crate) use tensors::{AnyRank, PerParam, are_f32, gradients, updates, weights};
pub(crate) use values::{
    OnTape, accumulate, put_gradients, replace_gradients, replaced, scale_gradients, with_weights,
};

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Bool, DType, Int, Tensor};

/// What is known of one parameter before training.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamInfo {
    /// Its name as PyTorch would have it, such as `transformer.h.0.attn.c_q.weight`.
    pub name: String,
    /// Its shape as burn holds it; a `Linear` weight is `[in, out]`.
    pub shape: Vec<usize>,
    pub(crate) id: ParamId,
    pub(crate) dtype: DType,
    /// Whether PyTorch stores it transposed: burn's `Linear` is `[in, out]`, PyTorch's `[out, in]`.
    pub(crate) transposed: bool,
}

impl ParamInfo {
    /// How many numbers it holds.
    #[must_use]
    pub fn num_elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Its number of dimensions: 2 for a matrix, 1 for a bias or a gain.
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

    /// Lists everything that a checkpoint of `model` holds: frozen parameters and buffers too.
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

    /// Two parameters that are one tensor, if there are any.
    pub(crate) fn tied(&self) -> Option<(&ParamInfo, &ParamInfo)> {
        let mut pairs = self
            .iter()
            .enumerate()
            .map(|(index, param)| (param, &self.0[..index]));
        pairs.find_map(|(param, before)| {
            Some((before.iter().find(|known| known.id == param.id)?, param))
        })
    }

    /// The parameters, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, ParamInfo> {
        self.0.iter()
    }

    /// How many parameters (tensors) there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no parameter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many numbers they hold together.
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

/// The names on the way to the parameter under visit, each with the container that holds it.
#[derive(Default)]
struct ModulePath(Vec<(String, String)>);

impl ModulePath {
    fn enter(&mut self, name: &str, container: &str) {
        self.0.push((name.to_owned(), container.to_owned()));
    }

    fn exit(&mut self) {
        self.0.pop();
    }

    fn is_in(&self, container: &str) -> bool {
        self.0.last().is_some_and(|(_, holder)| holder == container)
    }

    fn torch_name(&self) -> String {
        let mut names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        if [
            "LayerNorm",
            "RmsNorm",
            "GroupNorm",
            "BatchNorm",
            "InstanceNorm",
        ]
        .iter()
        .any(|norm| self.is_in(&format!("Struct:{norm}")))
            && let Some(last) = names.last_mut()
        {
            *last = match *last {
                "gamma" => "weight",
                "beta" => "bias",
                other => other,
            };
        }
        names.join(".")
    }
}

struct Lister {
    path: ModulePath,
    /// Whether what is not trained is listed too.
    frozen: bool,
    params: Vec<ParamInfo>,
}

impl Lister {
    fn add(&mut self, id: ParamId, shape: Vec<usize>, dtype: DType) {
        let transposed = shape.len() == 2 && self.path.is_in("Struct:Linear");
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

    /// A linear layer that is trained and one that is frozen, a norm with running states, and buffers.
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
        /// One forward pass, which moves the running states of the norm.
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
    fn names_are_those_of_pytorch() {
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
