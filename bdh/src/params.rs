//! The parameters of a model: one table of names, shapes and layouts for everybody.
//!
//! burn's visitors are generic over the rank and cannot be objects, so the module is walked here, once
//! for each purpose, and everything else (statistics, groups, checkpoints, callbacks) goes by the table.

mod saved;

pub(crate) use saved::{capture, capture_copy, compare, restore, restore_copy};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{
    Bool, FloatDType, GradientCheckpointingStrategy, Int, Tensor, TensorData, Transaction,
};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

/// What is known of one parameter before training.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamInfo {
    /// Its name as PyTorch would have it, such as `transformer.h.0.attn.c_q.weight`.
    pub name: String,
    /// Its shape as burn holds it; a `Linear` weight is `[in, out]`.
    pub shape: Vec<usize>,
    pub(crate) id: ParamId,
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
        let mut lister = Lister { path: ModulePath::default(), frozen, params: Vec::new() };
        model.visit(&mut lister);
        Self(lister.params)
    }

    /// Two parameters that are one tensor, if there are any.
    pub(crate) fn tied(&self) -> Option<(&ParamInfo, &ParamInfo)> {
        let mut pairs = self.iter().enumerate().map(|(index, param)| (param, &self.0[..index]));
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
        if ["LayerNorm", "RmsNorm", "GroupNorm", "BatchNorm", "InstanceNorm"]
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
    fn add(&mut self, id: ParamId, shape: Vec<usize>) {
        let transposed = shape.len() == 2 && self.path.is_in("Struct:Linear");
        self.params.push(ParamInfo { name: self.path.torch_name(), shape, id, transposed });
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
            self.add(param.id, value.dims().to_vec());
        }
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        if self.frozen {
            self.add(param.id, param.val().dims().to_vec());
        }
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        if self.frozen {
            self.add(param.id, param.val().dims().to_vec());
        }
    }
}

/// What the optimizer, a statistic or a callback asks of a tensor whose rank it need not know.
pub(crate) trait AnyRank: Send {
    /// All elements, `[elements]`.
    fn flat(&self) -> Tensor<1>;
    /// Sum of squares, `[1]`.
    fn sum_of_squares(&self) -> Tensor<1>;
    /// Mean, `[1]`.
    fn mean(&self) -> Tensor<1>;
    /// Variance with `n - 1` in the denominator, `[1]`; 0 for a single element.
    fn variance(&self) -> Tensor<1>;
    /// Largest magnitude, `[1]`.
    fn abs_max(&self) -> Tensor<1>;
    /// How many elements are NaN or infinite, `[1]`.
    fn non_finite(&self) -> Tensor<1>;
}

impl<const D: usize> AnyRank for Tensor<D> {
    fn flat(&self) -> Tensor<1> {
        self.clone().reshape([-1])
    }

    fn sum_of_squares(&self) -> Tensor<1> {
        self.clone().square().sum()
    }

    fn mean(&self) -> Tensor<1> {
        self.clone().mean()
    }

    fn variance(&self) -> Tensor<1> {
        // Around the mean: E[x²] − E[x]² loses all digits where the mean is large against the spread.
        let elements = self.shape().num_elements().max(2) as f64;
        let mean = self.clone().mean().reshape([1; D]);
        (self.clone() - mean).square().sum() / (elements - 1.0)
    }

    fn abs_max(&self) -> Tensor<1> {
        self.clone().abs().max()
    }

    fn non_finite(&self) -> Tensor<1> {
        self.clone().is_finite().bool_not().int().sum().float()
    }
}

/// One tensor a parameter, in the table's order; `None` where there is none.
pub(crate) type PerParam = Vec<Option<Box<dyn AnyRank>>>;

/// The parameters' values, without their tape.
pub(crate) fn weights<M: Module>(model: &M) -> PerParam {
    struct Weights(PerParam);
    impl ModuleVisitor for Weights {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                self.0.push(Some(Box::new(param.val().inner())));
            }
        }
    }
    let mut weights = Weights(Vec::new());
    model.visit(&mut weights);
    weights.0
}

/// What the optimizer added to each parameter between two states of one model.
pub(crate) fn updates<M: Module>(before: &M, after: &M) -> PerParam {
    let pairs = weights(after).into_iter().zip(weights(before));
    pairs.map(|(after, before)| Some(Box::new(after?.flat() - before?.flat()) as _)).collect()
}

/// The gradients of the parameters that have one.
pub(crate) fn gradients<M: Module>(model: &M, grads: &GradientsParams) -> PerParam {
    struct Gradients<'a>(&'a GradientsParams, PerParam);
    impl ModuleVisitor for Gradients<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                self.1.push(self.0.get::<D>(param.id).map(|grad| Box::new(grad) as _));
            }
        }
    }
    let mut gradients = Gradients(grads, Vec::new());
    model.visit(&mut gradients);
    gradients.1
}

/// Adds `more` to `sum`, parameter by parameter.
pub(crate) fn accumulate<M: Module>(model: &M, sum: &mut GradientsParams, more: GradientsParams) {
    struct Sum<'a>(&'a mut GradientsParams, GradientsParams);
    impl ModuleVisitor for Sum<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(more) = self.1.remove::<D>(param.id) {
                let grad = match self.0.remove::<D>(param.id) {
                    Some(sum) => sum + more,
                    None => more,
                };
                self.0.register(param.id, grad);
            }
        }
    }
    model.visit(&mut Sum(sum, more));
}

/// Multiplies every gradient by `factor`, `[1]`, on the device.
pub(crate) fn scale_gradients<M: Module>(
    model: &M,
    grads: &mut GradientsParams,
    factor: Tensor<1>,
) {
    struct Scale<'a>(&'a mut GradientsParams, Tensor<1>);
    impl ModuleVisitor for Scale<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.0.remove::<D>(param.id) {
                self.0.register(param.id, grad * self.1.clone().reshape([1; D]));
            }
        }
    }
    model.visit(&mut Scale(grads, factor));
}

/// `model`, which has no tape, with other values in the place of its parameters: `[elements]` each.
pub(crate) fn replaced<M: Module>(model: M, table: &ParamTable, values: &[Tensor<1>]) -> M {
    struct Replaced<'a>(HashMap<ParamId, &'a Tensor<1>>);
    impl ModuleMapper for Replaced<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            match self.0.get(&param.id) {
                Some(value) => param.map(|old| (*value).clone().reshape(old.dims())),
                None => param, // frozen, or a buffer
            }
        }
    }
    assert_eq!(values.len(), table.len(), "a value for each parameter");
    let values = table.iter().map(|param| param.id).zip(values).collect();
    model.map(&mut Replaced(values))
}

/// Replaces every gradient by what `replace` makes of it, given the index in the table and the gradient
/// as `[elements]`.
pub(crate) fn replace_gradients<M: Module>(
    model: &M,
    grads: &mut GradientsParams,
    replace: &mut dyn FnMut(usize, Tensor<1>) -> Tensor<1>,
) {
    struct Replace<'a, 'b> {
        grads: &'a mut GradientsParams,
        make: &'a mut (dyn FnMut(usize, Tensor<1>) -> Tensor<1> + 'b),
        index: usize,
    }
    impl ModuleVisitor for Replace<'_, '_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if !param.is_require_grad() {
                return;
            }
            if let Some(grad) = self.grads.remove::<D>(param.id) {
                let shape = grad.dims();
                let grad = (self.make)(self.index, grad.reshape([-1])).reshape(shape);
                self.grads.register(param.id, grad);
            }
            self.index += 1;
        }
    }
    model.visit(&mut Replace { grads, make: replace, index: 0 });
}

/// Gradients of `model`'s parameters: `value` gives each one's, `[elements]`, by the index in the table.
pub(crate) fn put_gradients<M: Module>(
    model: &M,
    value: impl FnMut(usize) -> Option<Tensor<1>>,
) -> GradientsParams {
    struct Put<F> {
        value: F,
        grads: GradientsParams,
        index: usize,
    }
    impl<F: FnMut(usize) -> Option<Tensor<1>>> ModuleVisitor for Put<F> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let weight = param.val();
            if !weight.is_require_grad() {
                return;
            }
            if let Some(value) = (self.value)(self.index) {
                let grad = value.reshape(weight.dims());
                let is_narrow = grad.dtype() != weight.dtype();
                let grad =
                    if is_narrow { grad.cast(FloatDType::from(weight.dtype())) } else { grad };
                self.grads.register(param.id, grad);
            }
            self.index += 1;
        }
    }
    let mut put = Put { value, grads: GradientsParams::new(), index: 0 };
    model.visit(&mut put);
    put.grads
}

/// A number for each parameter that tells whether two are equal to the bit; all are read in one device read.
pub(crate) fn digests<M: Module>(model: &M) -> Result<Vec<u64>, String> {
    let weights = weights(model);
    let reads = weights.iter().flatten().map(|weight| weight.flat());
    let reads = reads.fold(Transaction::default(), Transaction::register);
    let values = reads.try_execute().map_err(|error| error.to_string())?;
    let digest = |values: &TensorData| {
        let mut hasher = DefaultHasher::new(); // SipHash with a fixed key: the same in every replica
        hasher.write(values.as_bytes());
        hasher.finish()
    };
    Ok(values.iter().map(digest).collect())
}

/// How a parameter stands on the tape, so that a new value can take its place there.
pub(crate) struct OnTape {
    require_grad: bool,
    checkpointing: Option<GradientCheckpointingStrategy>,
}

impl OnTape {
    pub(crate) fn of<const D: usize>(param: &Tensor<D>) -> Self {
        Self {
            require_grad: param.is_require_grad(),
            checkpointing: param.gradient_checkpointing_strategy(),
        }
    }

    pub(crate) fn put<const D: usize>(self, value: Tensor<D>) -> Tensor<D> {
        // As burn's own optimizer wrapper does: without the strategy the next forward pass would meet
        // parameters under two strategies, which autodiff refuses.
        let value = Tensor::from_inner(value);
        let value = match self.checkpointing {
            Some(strategy) => value.with_gradient_checkpointing_strategy(strategy),
            None => value,
        };
        value.set_require_grad(self.require_grad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
    use burn::tensor::Device;

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
        let expected = ["norm.weight", "norm.bias", "layers.0.weight", "layers.0.bias", "gain"];
        assert_eq!(names, expected);
        assert_eq!(table.num_elements(), 3 + 3 + 6 + 2 + 4);
    }
}
