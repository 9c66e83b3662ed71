//! Order in which nanochat's optimizer keeps its parameters.

use crate::nanochat::config::{GptConfig, SMEAR_GATE_CHANNELS, VALUE_GATE_CHANNELS};
use std::collections::BTreeMap;

/// Parameters that share an optimizer. Muon keeps the states of a group, whose shapes are equal, as one stack.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TorchGroup {
    pub(super) is_muon: bool,
    pub(super) params: Vec<TorchParam>,
}

/// Parameter under the name and in the layout of PyTorch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TorchParam {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    /// Whether burn stores the transpose: PyTorch's linear layers are `[out, in]`.
    pub(super) is_linear: bool,
}

impl TorchParam {
    fn linear(name: impl Into<String>, shape: [usize; 2]) -> Self {
        Self {
            is_linear: true,
            ..Self::plain(name, shape)
        }
    }

    fn plain(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        Self {
            name: name.into(),
            shape: shape.into(),
            is_linear: false,
        }
    }
}

/// Returns the groups in nanochat's order: head, tables, scalars, then the matrices, a group for each shape.
///
/// Source: `GPT.setup_optimizer` of karpathy/nanochat at 92d63d4.
pub(super) fn groups(config: &GptConfig) -> Vec<TorchGroup> {
    let table = [config.padded_vocab(), config.n_embd];
    let per_layer = [config.n_layer];
    let adamw = [
        vec![TorchParam::linear("lm_head.weight", table)],
        vec![TorchParam::plain("transformer.wte.weight", table)],
        value_embeds(config),
        vec![TorchParam::plain("resid_lambdas", per_layer)],
        vec![TorchParam::plain("x0_lambdas", per_layer)],
        vec![
            TorchParam::linear("smear_gate.weight", [1, SMEAR_GATE_CHANNELS]),
            TorchParam::plain("smear_lambda", [1]),
            TorchParam::plain("backout_lambda", [1]),
        ],
    ];
    let mut groups = Vec::new();
    for (is_muon, all) in [(false, Vec::from(adamw)), (true, by_shape(config))] {
        for params in all {
            groups.push(TorchGroup { is_muon, params });
        }
    }
    groups
}

fn value_embeds(config: &GptConfig) -> Vec<TorchParam> {
    let shape = [config.padded_vocab(), config.kv_width()];
    let mut params = Vec::new();
    for layer in 0..config.n_layer {
        if config.has_value_embedding(layer) {
            let name = format!("value_embeds.{layer}.weight");
            params.push(TorchParam::plain(name, shape));
        }
    }
    params
}

/// Returns the matrices of the blocks by shape, the smallest shape first; those of one shape are in the model's order.
fn by_shape(config: &GptConfig) -> Vec<Vec<TorchParam>> {
    let mut shapes: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for layer in 0..config.n_layer {
        for (name, shape) in matrices(config, layer) {
            let param = TorchParam::linear(format!("transformer.h.{layer}.{name}.weight"), shape);
            shapes.entry(shape).or_default().push(param);
        }
    }
    shapes.into_values().collect()
}

/// Returns the matrices of a block, `[out, in]`, in the order of nanochat's fields.
fn matrices(config: &GptConfig, layer: usize) -> Vec<(&'static str, [usize; 2])> {
    let (width, kv_width) = (config.n_embd, config.kv_width());
    let mut matrices = vec![
        ("attn.c_q", [width, width]),
        ("attn.c_k", [kv_width, width]),
        ("attn.c_v", [kv_width, width]),
        ("attn.c_proj", [width, width]),
    ];
    if config.has_value_embedding(layer) {
        matrices.push(("attn.ve_gate", [config.n_kv_head, VALUE_GATE_CHANNELS]));
    }
    matrices.push(("mlp.c_fc", [4 * width, width]));
    matrices.push(("mlp.c_proj", [width, 4 * width]));
    matrices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_are_stacked_by_shape_in_the_order_of_the_model() {
        let config = GptConfig {
            vocab_size: 100,
            n_layer: 2,
            n_head: 4,
            n_kv_head: 2,
            n_embd: 64,
            ..GptConfig::default()
        };
        let groups = groups(&config);
        let names = |index: usize| -> Vec<&str> {
            let params = groups[index].params.iter();
            params.map(|param| param.name.as_str()).collect()
        };
        assert_eq!(groups.len(), 11);
        assert_eq!(names(2), ["value_embeds.1.weight"]);
        assert_eq!(names(6), ["transformer.h.1.attn.ve_gate.weight"]);
        let expected = ["0.attn.c_k", "0.attn.c_v", "1.attn.c_k", "1.attn.c_v"];
        let expected = expected.map(|name| format!("transformer.h.{name}.weight"));
        assert_eq!(names(7), expected); // [32, 64]
        assert_eq!(names(8).len(), 4); // [64, 64]
        assert_eq!(groups[9].params[0].shape, [64, 256]);
        assert_eq!(groups[10].params[1].shape, [256, 64]);
        assert!(groups[6].is_muon && !groups[5].is_muon);
    }
}
