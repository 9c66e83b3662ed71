//! Weights from other programs load into a model completely, or not at all.
//!
//! `data/linear.pt` was written with CPython's `pickle` and `zipfile` in the format of `torch.save`: a dictionary with
//! `model`, the state dict of a compiled `Linear(3, 2)`, and further entries of a training script.

use bdh::burn::nn::{Linear, LinearConfig};
use bdh::burn::tensor::TensorData;
use bdh::{load_weights, load_weights_except};
use safetensors::{Dtype, serialize_to_file, tensor::TensorView};
use std::path::{Path, PathBuf};

fn linear(inputs: usize) -> Linear {
    LinearConfig::new(inputs, 2).init(&bdh::device("cpu").expect("the CPU"))
}

/// A safetensors file of these tensors, all f32.
fn file(dir: &Path, tensors: &[(&str, Vec<usize>, &[f32])]) -> PathBuf {
    file_of(dir, Dtype::F32, f32::to_le_bytes, tensors)
}

/// A safetensors file of these tensors, with another element type.
fn file_of<const SIZE: usize>(
    dir: &Path,
    dtype: Dtype,
    to_bytes: fn(f32) -> [u8; SIZE],
    tensors: &[(&str, Vec<usize>, &[f32])],
) -> PathBuf {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(.., values)| values.iter().flat_map(|value| to_bytes(*value)).collect())
        .collect();
    let view = |((name, shape, _), bytes): (&(&str, Vec<usize>, &[f32]), _)| {
        let view = TensorView::new(dtype, shape.clone(), bytes).expect("as long as its shape");
        ((*name).to_owned(), view)
    };
    let path = dir.join("weights.safetensors");
    let views: Vec<_> = tensors
        .iter()
        .zip(bytes.iter().map(Vec::as_slice))
        .map(view)
        .collect();
    serialize_to_file(views, None, &path).expect("a file");
    path
}

#[test]
fn a_safetensors_file_under_pytorchs_names_loads_transposed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let weight = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let path = file(
        dir.path(),
        &[
            ("weight", vec![2, 3], &weight),
            ("bias", vec![2], &[0.5, -0.5]),
        ],
    );
    let loaded = load_weights(linear(3), path).expect("the same names and shapes");
    let expected = TensorData::from([[1.0_f32, 4.0], [2.0, 5.0], [3.0, 6.0]]);
    assert_eq!(loaded.weight.val().into_data(), expected);
    assert!(loaded.weight.is_require_grad());
}

#[test]
#[cfg(feature = "pytorch")]
fn a_torch_save_file_loads_without_wrapper_names() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/linear.pt");
    let loaded = load_weights(linear(3), path).expect("the same names and shapes");
    let expected = TensorData::from([[1.0_f32, 4.0], [2.0, 5.0], [3.0, 6.0]]);
    assert_eq!(loaded.weight.val().into_data(), expected);
    let bias = loaded.bias.expect("a bias").val().into_data();
    assert_eq!(bias, TensorData::from([0.5_f32, -0.5]));
}

#[test]
fn all_differences_of_weights_are_listed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = file(
        dir.path(),
        &[
            ("weight", vec![2, 3], &[0.0; 6]),
            ("scale", vec![1], &[1.0]),
        ],
    );
    let error = load_weights(linear(4), &path)
        .expect_err("weights of another model")
        .to_string();
    let expected = format!(
        "`{}` does not fit this run: `weight` is [2, 3] in the file and [2, 4] in this run; it has no parameter `bias`; \
         this model has no parameter `scale`",
        path.display()
    );
    assert_eq!(error, expected);
}

#[test]
fn a_nonsense_file_is_refused_before_memory_is_allocated() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (name, bytes) in [
        ("a.safetensors", u64::MAX.to_le_bytes().to_vec()),
        (
            "b.safetensors",
            [50_u64.to_le_bytes().to_vec(), vec![b'{'; 20]].concat(),
        ),
        ("c.safetensors", b"short".to_vec()),
        ("d.pt", vec![0x80, 2, b'c']),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        let error = load_weights(linear(3), &path).expect_err("nonsense");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn floats_of_64_bits_are_converted_and_integers_are_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tensors: [(&str, Vec<usize>, &[f32]); 2] = [
        ("weight", vec![2, 1], &[0.1, 2.0]),
        ("bias", vec![2], &[0.5, -0.5]),
    ];
    let doubles = |value: f32| f64::from(value).to_le_bytes();
    let path = file_of(dir.path(), Dtype::F64, doubles, &tensors);
    let loaded = load_weights(linear(1), path).expect("the same names and shapes");
    assert_eq!(
        loaded.weight.val().into_data(),
        TensorData::from([[0.1_f32, 2.0]])
    );
    let path = file_of(dir.path(), Dtype::I32, f32::to_le_bytes, &tensors);
    let error = load_weights(linear(1), path)
        .expect_err("no weights")
        .to_string();
    let expected = "`weight` is I32 in the file and F32 in this run; `bias` is I32 in the file and F32 in this run";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn a_path_without_a_file_is_refused_with_advice() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let error = |path: &Path| {
        load_weights(linear(1), path)
            .expect_err("no file")
            .to_string()
    };
    let (missing, shown) = (dir.path().join("no.safetensors"), dir.path().display());
    let expected = format!(
        "cannot read weights from `{shown}/no.safetensors`: there is no such file; a checkpoint has its weights in \
         `model.safetensors`"
    );
    assert_eq!(error(&missing), expected);
    let expected = format!(
        "cannot read weights from `{shown}`: it is a directory; use the file with the weights, such as \
         `model.safetensors` of a checkpoint"
    );
    assert_eq!(error(dir.path()), expected);
    std::fs::write(dir.path().join("model.safetensors"), "").expect("a file");
    assert!(error(dir.path()).ends_with("use the file `model.safetensors` in it"));
}

#[test]
fn a_star_in_an_exception_matches_any_letters() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let with = |name| -> [(&str, Vec<usize>, &[f32]); 3] {
        [
            ("weight", vec![2, 1], &[0.0; 2]),
            ("bias", vec![2], &[0.0; 2]),
            (name, vec![1], &[3.0]),
        ]
    };
    let path = file(dir.path(), &with("layer.0.bn.num_batches_tracked"));
    for fits in [
        "layer.0.bn.num_batches_tracked",
        "*.num_batches_tracked",
        "layer.*.bn.*",
        "layer*0*tracked",
        "*",
    ] {
        let loaded = load_weights_except(linear(1), &path, &[fits]);
        assert_eq!(loaded.is_ok(), fits != "*", "{fits}"); // which leaves the weights out too
    }
    for unfit in [
        "num_batches_tracked",
        "*.num_batches",
        "layer.1*",
        "*tracked*tracked",
        "",
    ] {
        let error = load_weights_except(linear(1), &path, &[unfit])
            .expect_err(unfit)
            .to_string();
        let expected = "this model has no parameter `layer.0.bn.num_batches_tracked`";
        assert!(error.ends_with(expected), "{unfit}: {error}");
    }
    let path = file(dir.path(), &with("module.bias"));
    let error = load_weights(linear(1), path)
        .expect_err("two of one name")
        .to_string();
    assert!(
        error.ends_with("it has `bias` twice, once with the prefix of a wrapper"),
        "{error}"
    );
}
