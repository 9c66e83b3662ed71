//! Weights that others have saved get into a model whole, or not at all.
//!
//! `data/linear.pt` was written with CPython's `pickle` and `zipfile` in the form of `torch.save`: a dictionary with
//! `model`, a state dict of a compiled `Linear(3, 2)`, and what a training script keeps beside it.

use bdh::burn::nn::{Linear, LinearConfig};
use bdh::burn::tensor::TensorData;
use bdh::{CheckpointError, load_weights};
use safetensors::{Dtype, serialize_to_file, tensor::TensorView};
use std::path::{Path, PathBuf};

fn linear(inputs: usize) -> Linear {
    LinearConfig::new(inputs, 2).init(&bdh::device("cpu").expect("the CPU"))
}

/// A safetensors file of these tensors, all f32.
fn file(dir: &Path, tensors: &[(&str, Vec<usize>, &[f32])]) -> PathBuf {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(.., values)| values.iter().flat_map(|value| value.to_le_bytes()).collect())
        .collect();
    let view = |((name, shape, _), bytes): (&(&str, Vec<usize>, &[f32]), _)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("as long as its shape");
        ((*name).to_owned(), view)
    };
    let path = dir.join("weights.safetensors");
    let views: Vec<_> = tensors.iter().zip(bytes.iter().map(Vec::as_slice)).map(view).collect();
    serialize_to_file(views, None, &path).expect("a file");
    path
}

#[test]
fn a_safetensors_file_under_pytorchs_names_loads_transposed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let weight = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let path =
        file(dir.path(), &[("weight", vec![2, 3], &weight), ("bias", vec![2], &[0.5, -0.5])]);
    let loaded = load_weights(linear(3), path).expect("the same names and shapes");
    let expected = TensorData::from([[1.0_f32, 4.0], [2.0, 5.0], [3.0, 6.0]]);
    assert_eq!(loaded.weight.val().into_data(), expected);
    assert!(loaded.weight.is_require_grad());
}

#[test]
#[cfg(feature = "pytorch")]
fn a_file_of_torch_save_loads_its_model_without_the_names_of_wrappers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/linear.pt");
    let loaded = load_weights(linear(3), path).expect("the same names and shapes");
    let expected = TensorData::from([[1.0_f32, 4.0], [2.0, 5.0], [3.0, 6.0]]);
    assert_eq!(loaded.weight.val().into_data(), expected);
    let bias = loaded.bias.expect("a bias").val().into_data();
    assert_eq!(bias, TensorData::from([0.5_f32, -0.5]));
}

#[test]
fn whatever_does_not_fit_is_listed_at_once() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = file(dir.path(), &[("weight", vec![2, 3], &[0.0; 6]), ("scale", vec![1], &[1.0])]);
    let error = load_weights(linear(4), &path).expect_err("another model's").to_string();
    let expected = format!(
        "`{}` does not fit this run: `weight` is [2, 3] there and [2, 4] here; it has no parameter `bias`; \
         this model has no parameter `scale`",
        path.display()
    );
    assert_eq!(error, expected);
}

#[test]
fn a_file_of_nonsense_is_refused_before_memory_is_reserved_for_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (name, bytes) in [
        ("a.safetensors", u64::MAX.to_le_bytes().to_vec()),
        ("b.safetensors", [50_u64.to_le_bytes().to_vec(), vec![b'{'; 20]].concat()),
        ("c.safetensors", b"short".to_vec()),
        ("d.pt", vec![0x80, 2, b'c']),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        let error = load_weights(linear(3), &path).expect_err("nonsense");
        let is_told = error.to_string().contains(name);
        assert!(is_told && !matches!(error, CheckpointError::Device(_)), "{error}");
    }
}
