//! Running states: module state that is not a parameter, such as the running mean of a `BatchNorm`.
//!
//! A clone of a module shares its running states with the original. A forward pass stores its update beside the state
//! until the next pass, or [`Module::valid`], applies it. So neither a clone nor a new value isolates a module from
//! forward passes of another.

use super::OnTape;
use super::ties::Ties;
use burn::module::{Flag, Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, Int, Tensor};
use std::collections::VecDeque;

/// Copies a model with separate running states that include all forward passes so far. Parameters are shared.
///
/// Tied fields hold one tensor of autodiff afterwards, which collects the gradients of all uses.
pub(crate) fn with_own_states<M: Module>(model: &M) -> M {
    let ties = Ties::of(model);
    let mut places = Places::default();
    ties.visit(model, &mut places);
    // `valid` is the only operation of burn that creates new running states.
    ties.map(model.valid(), &mut places)
}

/// Autodiff settings and flags of each part of a module, to restore them after [`Module::valid`].
#[derive(Default)]
struct Places {
    floats: VecDeque<OnTape>,
    /// For each int or bool, whether its device has autodiff.
    others: VecDeque<bool>,
    flags: VecDeque<Flag>,
}

/// Guarantee of `pop_front`: burn visits and maps a module in the order of its fields.
const AS_VISITED: &str = "a module maps the same parts that it visits";

impl ModuleVisitor for Places {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.floats.push_back(OnTape::of(&param.val()));
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.others.push_back(param.val().is_autodiff());
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.others.push_back(param.val().is_autodiff());
    }

    fn visit_flag(&mut self, flag: &Param<Flag>) {
        self.flags.push_back(flag.val());
    }
}

impl ModuleMapper for Places {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let place = self.floats.pop_front().expect(AS_VISITED);
        param.map(|value| place.put(value))
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        let autodiff = self.others.pop_front().expect(AS_VISITED);
        param.map(|value| if autodiff { value.autodiff() } else { value })
    }

    fn map_bool<const D: usize>(
        &mut self,
        param: Param<Tensor<D, Bool>>,
    ) -> Param<Tensor<D, Bool>> {
        let autodiff = self.others.pop_front().expect(AS_VISITED);
        param.map(|value| if autodiff { value.autodiff() } else { value })
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        let place = self.flags.pop_front().expect(AS_VISITED);
        flag.map(|_| place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::tests::{Net, net};
    use crate::params::{ParamTable, capture};
    use burn::tensor::{Device, GradientCheckpointingStrategy};

    #[test]
    fn copies_do_not_share_forward_passes() {
        let device = Device::flex().autodiff().gradient_checkpointing();
        let net = net(&device);
        net.pass(&device);
        let table = ParamTable::with_frozen(&net);
        let before = capture(&net, &table).expect("the CPU reads");
        let own = with_own_states(&net);
        assert_eq!(ParamTable::with_frozen(&own), table);
        assert_eq!(ParamTable::of(&own), ParamTable::of(&net));
        assert_eq!(capture(&own, &table), Ok(before.clone()));
        own.pass(&device);
        assert_eq!(capture(&net, &table), Ok(before.clone()));
        assert_ne!(capture(&own, &table), Ok(before));
        let strategy = |net: &Net| net.trained.weight.val().gradient_checkpointing_strategy();
        assert_eq!(strategy(&own), strategy(&net));
        assert_eq!(
            strategy(&own),
            Some(GradientCheckpointingStrategy::Balanced)
        );
        assert!(own.table.val().is_autodiff() && own.norm.training.is_enabled());
    }

    #[test]
    fn models_without_autodiff_stay_without() {
        let device = Device::flex();
        let own = with_own_states(&net(&device));
        assert!(!own.trained.weight.val().is_autodiff() && !own.table.val().is_autodiff());
        assert!(own.norm.training.is_enabled());
        assert!(own.train().trained.weight.is_require_grad());
    }
}
