//! Weights from other programs load into a model completely, or the part that fits; saved weights return to the bit, and
//! the weights of several checkpoints are averaged.
//!
//! `data/linear.pt` was written with CPython's `pickle` and `zipfile` in the format of `torch.save`: a dictionary with
//! `model`, the state dict of a compiled `Linear(3, 2)`, and further entries of a training script.

use bdh::burn; // `derive(Module)` writes paths that begin with `burn`
use bdh::burn::module::Module;
use bdh::burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use bdh::burn::tensor::{Tensor, TensorData};
use bdh::cadence::every;
use bdh::error::CheckpointError;
use bdh::{average_weights, checkpoint, load_weights, load_weights_except, save_weights};
use safetensors::{Dtype, SafeTensors, serialize_to_file, tensor::TensorView};
use std::fs;
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

/// A frozen layer, a norm with running states, and a trained layer.
#[derive(Module, Debug)]
struct Net {
    frozen: Linear,
    norm: BatchNorm,
    head: Linear,
}

impl Net {
    fn new() -> Self {
        let device = bdh::device("cpu").expect("the CPU");
        Self {
            frozen: LinearConfig::new(3, 2).init(&device).no_grad(),
            norm: BatchNormConfig::new(2).init(&device),
            head: LinearConfig::new(2, 5).init(&device),
        }
    }

    fn forward(&self, batch: Tensor<2>) -> Tensor<2> {
        let hidden = self
            .norm
            .forward(self.frozen.forward(batch).unsqueeze_dim::<3>(2));
        self.head.forward(hidden.squeeze_dim(2))
    }
}

#[test]
fn saved_weights_return_to_the_bit_with_frozen_parameters_and_running_states() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("net.safetensors");
    let device = bdh::device("cpu").expect("the CPU");
    let batch = Tensor::<2>::from_floats([[1.0, 2.0, 3.0], [0.0, 5.0, 1.0]], &device);
    let net = Net::new();
    net.forward(batch.clone()); // which changes the running states
    fs::write(&path, "an older file, to be replaced").expect("a file");
    save_weights(&net, &path).expect("a file that can be written");
    let again = load_weights(Net::new(), &path).expect("the same model");
    let output = |net: Net| net.valid().forward(batch.clone().inner()).into_data();
    assert_eq!(output(again), output(net));

    let bytes = fs::read(&path).expect("a file");
    let saved = SafeTensors::deserialize(&bytes).expect("safetensors");
    let head = saved.tensor("head.weight").expect("the head");
    assert_eq!(head.shape(), [5, 2], "PyTorch's layout");
    let mut names = saved.names();
    names.sort_unstable();
    let expected = "frozen.bias frozen.weight head.bias head.weight norm.bias norm.running_mean norm.running_var \
                    norm.weight";
    assert_eq!(names.join(" "), expected);
}

/// The values of a tensor in a file, as bytes.
fn values(path: &Path, name: &str) -> Vec<u8> {
    let bytes = fs::read(path).expect("a file");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    file.tensor(name).expect("the tensor").data().to_vec()
}

/// Writes files `0.safetensors`, `1.safetensors` … with one tensor, `weight`, of this type and these values.
fn files<const SIZE: usize>(dir: &Path, dtype: Dtype, all: &[[[u8; SIZE]; 2]]) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for (index, values) in all.iter().enumerate() {
        let path = dir.join(format!("{index}.safetensors"));
        let bytes = values.concat();
        let view = TensorView::new(dtype, vec![2], &bytes).expect("two values");
        serialize_to_file([("weight", view)], None, &path).expect("a file");
        paths.push(path);
    }
    paths
}

#[test]
fn an_average_is_the_mean_in_f64_rounded_once() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = dir.path().join("out.safetensors");
    // In f32, 1e8 + 1 + 1 - 1e8 is 0.
    let floats = [1e8_f32, 1.0, 1.0, -1e8].map(|value| [value.to_le_bytes(); 2]);
    let average = average_weights(files(dir.path(), Dtype::F32, &floats), &out).expect("a mean");
    assert_eq!(values(&out, "weight"), [0.5_f32.to_le_bytes(); 2].concat());
    assert_eq!(
        average.to_string(),
        "the mean of 4 files: 2 values in 1 tensor"
    );

    let doubles = [0.1_f64, 0.2].map(|value| [value.to_le_bytes(), f64::NAN.to_le_bytes()]);
    average_weights(files(dir.path(), Dtype::F64, &doubles), &out).expect("a mean");
    let mean = values(&out, "weight");
    assert_eq!(mean[..8], f64::midpoint(0.1, 0.2).to_le_bytes());

    // Bits of bf16: 1.0, 1.0 and 1.0078125. The mean is nearest to 1.0.
    let halves = [0x3f80_u16, 0x3f80, 0x3f81].map(|value| [value.to_le_bytes(); 2]);
    average_weights(files(dir.path(), Dtype::BF16, &halves), &out).expect("a mean");
    assert_eq!(values(&out, "weight"), [0x80, 0x3f, 0x80, 0x3f]);

    // Integers have no mean of their type: a counter is that of the last file.
    let counts = [4_i32, 9].map(|value| [value.to_le_bytes(); 2]);
    let average = average_weights(files(dir.path(), Dtype::I32, &counts), &out).expect("a copy");
    assert_eq!(values(&out, "weight"), [9_i32.to_le_bytes(); 2].concat());
    assert_eq!(
        average.to_string(),
        "the mean of 2 files: 0 values in 0 tensors; copied from the last: weight"
    );
}

#[test]
fn the_mean_of_a_run_is_that_of_its_checkpoints_and_loads_into_the_model() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (run, out) = (dir.path().join("run"), dir.path().join("out.safetensors"));
    let tiny = bdh::testing::tiny_run(6).run_dir(&run).checkpoint(every(2));
    let trainer = tiny.keep_checkpoints(3).build().expect("a valid run");
    let model = trainer.fit().expect("a run that completes").model;

    let average = average_weights([&run], &out).expect("three checkpoints");
    let mut kept = checkpoint::list(&run.join("checkpoints"));
    kept.reverse(); // the newest was first
    let files: Vec<_> = kept
        .iter()
        .map(|kept| kept.join("model.safetensors"))
        .collect();
    assert_eq!(average.files, files);
    assert_eq!((average.num_tensors, average.num_elements), (3, 187));
    load_weights(model, &out).expect("the same names and shapes");
    let mean = fs::read(&out).expect("a file");
    average_weights(&kept, &out).expect("the checkpoints by name");
    assert_eq!(fs::read(&out).expect("a file"), mean);

    let spoilt = &files[1];
    let mut bytes = fs::read(spoilt).expect("a file");
    *bytes.last_mut().expect("not empty") ^= 1;
    fs::write(spoilt, bytes).expect("damaged");
    let error = average_weights([&run], &out).expect_err("a damaged file");
    assert!(matches!(error, CheckpointError::Damaged { .. }), "{error}");
    assert_eq!(fs::read(&out).expect("a file"), mean, "the old file stays");
}

#[test]
fn files_that_have_no_mean_are_refused_with_the_first_difference() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| dir.path().join(name);
    for (name, features) in [("a", [3, 2]), ("b", [3, 2]), ("c", [3, 4])] {
        let [inputs, outputs] = features;
        let device = bdh::device("cpu").expect("the CPU");
        let linear: Linear = LinearConfig::new(inputs, outputs).init(&device);
        save_weights(&linear, at(name).with_extension("safetensors")).expect("written");
    }
    let linear: Linear = LinearConfig::new(3, 2)
        .with_bias(false)
        .init(&bdh::device("cpu").expect("the CPU"));
    save_weights(&linear, at("d.safetensors")).expect("written");
    fs::write(at("e.pt"), "").expect("a file");

    let shown = dir.path().display().to_string();
    let refusal = |names: &[&str], out: &str| {
        let error = average_weights(names.iter().map(|name| at(name)), at(out));
        let text = error.expect_err("no mean").to_string();
        text.replace(&format!("{shown}/"), "")
    };
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| format!("{name}.safetensors"));
    let (a, b, c, d) = (a.as_str(), b.as_str(), c.as_str(), d.as_str());
    for (names, out, expected) in [
        (
            vec![a, b, c],
            "o.safetensors",
            "`c.safetensors` cannot be averaged: its `bias` is F32 [4] instead of F32 [2], unlike `a.safetensors`; \
             average files of one model",
        ),
        (
            vec![a, d],
            "o.safetensors",
            "`d.safetensors` cannot be averaged: it has no `bias`, unlike `a.safetensors`; average files of one model",
        ),
        (
            vec![d, a],
            "o.safetensors",
            "`a.safetensors` cannot be averaged: it has `bias`, unlike `d.safetensors`; average files of one model",
        ),
        (
            vec![a, b, a],
            "o.safetensors",
            "`a.safetensors` cannot be averaged: it is given twice; name each file once",
        ),
        (
            vec![a, "e.pt"],
            "o.safetensors",
            "`e.pt` cannot be averaged: averages are made of safetensors files; convert it with `load_weights` and \
             `save_weights`",
        ),
        (
            vec![a, b],
            "b.safetensors",
            "cannot write weights to `b.safetensors`: it is one of the files to average; choose another name",
        ),
        (
            vec![a, b],
            "o.pt",
            "cannot write weights to `o.pt`: the format is safetensors; use the name `o.safetensors`",
        ),
        (
            vec![],
            "o.safetensors",
            "cannot write weights to `o.safetensors`: no file to average is given; name two or more",
        ),
    ] {
        assert_eq!(refusal(&names, out), expected);
    }
    assert!(refusal(&[a], "o.safetensors").contains("a mean takes two or more files"));
    assert!(
        refusal(&[a, "f"], "o.safetensors")
            .starts_with("cannot read weights from `f`: there is no")
    );
    fs::create_dir(at("g")).expect("a folder");
    assert!(refusal(&[a, "g"], "o.safetensors").contains("neither a `model.safetensors` nor"));
    assert!(!at("o.safetensors").exists());
}
