//! GPT-2's weights in the formats of other programs.
#![allow(dead_code, reason = "each test uses its part of it")]

use bdh::stats::ParamTable;
use bdh_models::gpt2::Gpt2;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::BTreeMap;
use std::path::Path;

/// Shapes and values of a file's tensors by name.
pub(crate) type File = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Returns the weights in nanoGPT's format.
pub(crate) fn state_dict(model: &Gpt2) -> File {
    let table = ParamTable::of(model);
    let values = crate::parity::weights(model);
    let tensor = |param: &bdh::stats::ParamInfo| {
        let mut shape = param.shape.clone();
        if param.name.contains(".h.") {
            shape.reverse();
        }
        (param.name.clone(), (shape, values[&param.name].clone()))
    };
    table.iter().map(tensor).collect()
}

/// Returns the weights in Hugging Face's format: shorter names, `[in, out]`, with buffers and a head.
pub(crate) fn hugging_face(model: &Gpt2) -> File {
    let mut file = File::new();
    for (name, (shape, values)) in state_dict(model) {
        let is_linear = shape.len() == 2 && name.contains(".h.");
        let tensor = if is_linear {
            flipped(&shape, &values)
        } else {
            (shape, values)
        };
        file.insert(name.trim_start_matches("transformer.").to_owned(), tensor);
    }
    file.insert("lm_head.weight".into(), file["wte.weight"].clone());
    file.insert("h.0.attn.bias".into(), (vec![1, 1, 8, 8], vec![1.0; 64]));
    file.insert("h.0.attn.masked_bias".into(), (vec![1], vec![-1e4]));
    file
}

fn flipped(shape: &[usize], values: &[f32]) -> (Vec<usize>, Vec<f32>) {
    let (rows, columns) = (shape[0], shape[1]);
    let transposed = (0..rows * columns).map(|at| values[at % rows * columns + at / rows]);
    (vec![columns, rows], transposed.collect())
}

pub(crate) fn save(file: &File, path: &Path) {
    let bytes: BTreeMap<_, Vec<u8>> = file
        .iter()
        .map(|(name, (_, values))| (name, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let view = |(name, (shape, _)): (&String, &(Vec<usize>, Vec<f32>))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), &bytes[name]);
        (
            name.clone(),
            view.expect("the shape has the number of values"),
        )
    };
    safetensors::serialize_to_file(file.iter().map(view), None, path).expect("a new file");
}
