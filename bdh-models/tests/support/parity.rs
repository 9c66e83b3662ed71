//! Shared code of the parity tests: weights by PyTorch's names and layout, a loss, a training step.
#![allow(dead_code, reason = "each test uses its part of it")]

use bdh::burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use bdh::burn::optim::{DynOptimizer, DynState, GradientsParams};
use bdh::burn::tensor::activation::log_softmax;
use bdh::burn::tensor::{Device, Int, Tensor, TensorData};
use bdh::{CausalLm, Probe};
use std::collections::{BTreeMap, HashMap};

/// Values by parameter name, in PyTorch's layout: the weights of linear layers are `[out, in]`.
pub(crate) type Values = BTreeMap<String, Vec<f32>>;

/// Returns the mean cross-entropy over the targets that are not ignored, in nats.
pub(crate) fn loss<M: CausalLm>(
    model: &M,
    inputs: &Tensor<2, Int>,
    targets: &Tensor<2, Int>,
) -> Tensor<1> {
    let logits = model.logits(inputs.clone(), &Probe::off());
    let [batch, seq_len, vocab] = logits.dims();
    let targets = targets.clone().reshape([batch * seq_len, 1]);
    let counted = targets.clone().greater_equal_scalar(0);
    let picked =
        log_softmax(logits.reshape([batch * seq_len, vocab]), 1).gather(1, targets.clamp_min(0));
    picked
        .mask_fill(counted.clone().bool_not(), 0.0)
        .sum()
        .neg()
        / counted.float().sum()
}

/// Returns the gradients of [`loss`], with its value.
pub(crate) fn backward<M: CausalLm>(
    model: &M,
    inputs: &Tensor<2, Int>,
    targets: &Tensor<2, Int>,
) -> (f32, GradientsParams) {
    let loss = loss(model, inputs, targets);
    let value = loss.clone().into_scalar::<f32>();
    (value, GradientsParams::from_grads(loss.backward(), model))
}

/// Path of a module traversal.
#[derive(Default)]
struct Path {
    names: Vec<String>,
    containers: Vec<String>,
}

impl Path {
    fn enter(&mut self, name: &str, container: &str) {
        self.names.push(name.into());
        self.containers.push(container.into());
    }

    fn exit(&mut self) {
        self.names.pop();
        self.containers.pop();
    }

    fn name(&self) -> String {
        let name = self.names.join(".");
        match name.strip_suffix("gamma") {
            Some(norm) => format!("{norm}weight"),
            None => name.replace("beta", "bias"),
        }
    }

    fn is_in_linear(&self) -> bool {
        self.containers
            .last()
            .is_some_and(|container| container == "Struct:Linear")
    }

    /// Converts between burn's layout and PyTorch's, in both directions.
    fn flipped<const D: usize>(&self, tensor: Tensor<D>) -> Tensor<D> {
        if D == 2 && self.is_in_linear() {
            tensor.transpose()
        } else {
            tensor
        }
    }
}

/// Returns the weights.
pub(crate) fn weights<M: Module>(model: &M) -> Values {
    let mut reader = Reader::default();
    model.visit(&mut reader);
    reader.values
}

/// Returns the gradients of the parameters that have one.
pub(crate) fn gradients<M: Module>(model: &M, grads: &GradientsParams) -> Values {
    let mut reader = Reader {
        grads: Some(grads),
        ..Reader::default()
    };
    model.visit(&mut reader);
    reader.values
}

#[derive(Default)]
struct Reader<'a> {
    path: Path,
    grads: Option<&'a GradientsParams>,
    values: Values,
}

impl ModuleVisitor for Reader<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = match self.grads {
            Some(grads) => grads.get::<D>(param.id),
            None => Some(param.val().inner()),
        };
        if let Some(tensor) = tensor {
            let values = self
                .path
                .flipped(tensor)
                .into_data()
                .try_to_vec()
                .expect("the CPU computes in f32");
            self.values.insert(self.path.name(), values);
        }
    }
}

/// Replaces every weight by the value of its name. Panics if a value is missing.
pub(crate) fn load<M: Module>(model: M, values: &Values) -> M {
    model.map(&mut Writer {
        path: Path::default(),
        values,
    })
}

struct Writer<'a> {
    path: Path,
    values: &'a Values,
}

impl ModuleMapper for Writer<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name();
        let values = self
            .values
            .get(&name)
            .unwrap_or_else(|| panic!("no value for `{name}`"));
        let (id, tensor, mapper) = param.consume();
        let (device, mut shape) = (tensor.device(), tensor.dims());
        if self.path.is_in_linear() {
            shape.reverse(); // of a bias, nothing changes
        }
        let loaded = Tensor::<D>::from_data(TensorData::new(values.clone(), shape), &device);
        let loaded = self
            .path
            .flipped(loaded)
            .set_require_grad(tensor.is_require_grad());
        Param::from_mapped_value(id, loaded, mapper)
    }
}

/// Trainer with an optimizer and a learning rate for each parameter, which keeps the states between steps.
pub(crate) struct Trainer<R> {
    rule: R,
    states: HashMap<ParamId, DynState>,
}

impl<R: Fn(&str) -> (Box<dyn DynOptimizer>, f64)> Trainer<R> {
    /// Creates a trainer; `rule` returns the optimizer and the learning rate of a parameter by its name.
    pub(crate) fn new(rule: R) -> Self {
        Self {
            rule,
            states: HashMap::new(),
        }
    }

    /// Updates every parameter that has a gradient.
    pub(crate) fn step<M: Module>(&mut self, model: M, grads: GradientsParams) -> M {
        model.map(&mut Step {
            path: Path::default(),
            trainer: self,
            grads,
        })
    }
}

struct Step<'a, R> {
    path: Path,
    trainer: &'a mut Trainer<R>,
    grads: GradientsParams,
}

impl<R: Fn(&str) -> (Box<dyn DynOptimizer>, f64)> ModuleMapper for Step<'_, R> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        let Some(grad) = self.grads.remove::<D>(id) else {
            return Param::from_mapped_value(id, tensor, mapper);
        };
        let (optimizer, lr) = (self.trainer.rule)(&self.path.name());
        let state = self.trainer.states.remove(&id);
        let (moved, state) = optimizer.step_dyn(
            D,
            lr,
            tensor.inner().into_bridge(),
            grad.into_bridge(),
            state,
        );
        self.trainer.states.extend(state.map(|state| (id, state)));
        let moved = Tensor::<D>::from_inner(Tensor::from_bridge(moved)).require_grad();
        Param::from_mapped_value(id, moved, mapper)
    }
}

/// Returns the L2 norm, summed in f64.
pub(crate) fn norm(values: &[f32]) -> f64 {
    values
        .iter()
        .map(|&value| f64::from(value).powi(2))
        .sum::<f64>()
        .sqrt()
}

/// Returns the relative error of `measured`.
pub(crate) fn relative(measured: f64, expected: f64) -> f64 {
    (measured - expected).abs() / expected.abs()
}

/// Returns ids on a device, `[rows, len]`.
pub(crate) fn ids(values: Vec<i32>, rows: usize, device: &Device) -> Tensor<2, Int> {
    let len = values.len() / rows;
    Tensor::from_data(TensorData::new(values, [rows, len]), device)
}
