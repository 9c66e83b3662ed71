//! Files of `torch.save` are written and read, and code in them is never run.
//!
//! `data/nested.pt` was written by PyTorch 2.15: the state of an optimizer with two tensors, one of them in bf16.
#![cfg(feature = "pytorch")]

#[path = "support/torch.rs"]
mod torch;

use bdh::burn; // `derive(Module)` writes paths that begin with `burn`
use bdh::burn::module::Module;
use bdh::burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use bdh::burn::tensor::{DType, TensorData};
use bdh::checkpoint::TorchFile;
use bdh::{load_weights, save_weights};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use torch::Torch;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A frozen layer, a norm with running states, and a trained layer.
#[derive(Module, Debug)]
struct Net {
    frozen: Linear,
    norm: BatchNorm,
    head: Linear,
}

fn net() -> Net {
    let device = bdh::device("cpu").expect("the CPU");
    Net {
        frozen: LinearConfig::new(3, 2).init(&device).no_grad(),
        norm: BatchNormConfig::new(2).init(&device),
        head: LinearConfig::new(2, 5).init(&device),
    }
}

/// Returns the bits of a tensor, with its shape.
fn bits(data: &TensorData) -> (Vec<usize>, Vec<u8>) {
    (data.shape().to_vec(), data.as_bytes().to_vec())
}

#[test]
fn saved_weights_return_to_the_bit_under_pytorchs_names_and_layouts() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("net.pt");
    let saved = net();
    fs::write(&path, "an older file, to be replaced").expect("a file");
    save_weights(&saved, &path).expect("a file that can be written");
    let loaded = load_weights(net(), &path).expect("the same model");
    for (loaded, saved) in [
        (&loaded.frozen.weight, &saved.frozen.weight),
        (&loaded.head.weight, &saved.head.weight),
    ] {
        let data = |param: &burn::module::Param<burn::tensor::Tensor<2>>| {
            bits(&param.val().inner().into_data())
        };
        assert_eq!(data(loaded), data(saved));
    }
    let file = TorchFile::open(&path).expect("a file of tensors");
    let shapes = file.shapes();
    assert_eq!(shapes["head.weight"], [5, 2], "PyTorch's layout");
    let names: Vec<_> = shapes.into_keys().collect();
    let expected = "frozen.bias frozen.weight head.bias head.weight norm.bias norm.running_mean norm.running_var \
                    norm.weight";
    assert_eq!(names.join(" "), expected);
    let beside = fs::read_dir(dir.path()).expect("a folder").count();
    assert_eq!(beside, 1, "no temporary file remains");
}

#[test]
fn pytorch_opens_saved_weights_without_running_code() {
    let Some(torch) = Torch::find_or_skip() else {
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("net.pt");
    let net = net();
    save_weights(&net, &path).expect("a file that can be written");
    let read = torch.json("torch_load.py", [&path]);
    assert_eq!(read.as_object().map(serde_json::Map::len), Some(8));
    let [dtype, shape, values] = [0, 1, 2].map(|index| &read["head.weight"][index]);
    assert_eq!((dtype, shape), (&json!("torch.float32"), &json!([5, 2])));
    let values = values.as_array().expect("a list").iter();
    let values: Vec<f32> = values
        .map(|value| value.as_f64().expect("a number") as f32)
        .collect();
    let weight = net.head.weight.val().inner().transpose().into_data();
    assert_eq!(values, weight.iter::<f32>().collect::<Vec<_>>());
}

#[test]
fn nested_tensors_are_read_by_their_path_and_plain_values_as_json() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/nested.pt");
    let file = TorchFile::open(path).expect("a file of PyTorch");
    let names: Vec<_> = file.shapes().into_keys().collect();
    assert_eq!(names, ["state.0.exp_avg", "state.7.momentum_buffer"]);
    let read = |name| file.tensor(name).expect("intact").expect("there");
    let expected = TensorData::from([[1.0_f32, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    assert_eq!(read("state.0.exp_avg"), expected);
    let half = read("state.7.momentum_buffer");
    assert_eq!(half.dtype(), DType::BF16);
    assert_eq!(half.iter::<f32>().collect::<Vec<_>>(), [0.5, -0.5]);
    assert!(file.tensor("state.1.exp_avg").expect("intact").is_none());
    let group = json!({
        "kind": "adamw", "lr": 0.25, "betas": [0.8, 0.96], "amsgrad": false, "foreach": null, "worst": "Infinity",
        "params": [0],
    });
    let expected: Value =
        json!({ "state": { "0": { "step": 3 }, "7": {} }, "param_groups": [group] });
    assert_eq!(file.values(), &expected);
}

/// A pickle that calls `os.system` with a command, for a value beside nothing else.
fn pickled_call(command: &str) -> Vec<u8> {
    let mut pickle = b"\x80\x02}X\x04\x00\x00\x00hook".to_vec();
    pickle.extend(b"cposix\nsystem\n(X");
    pickle.extend((command.len() as u32).to_le_bytes());
    pickle.extend(command.bytes());
    pickle.extend(b"tRs.");
    pickle
}

/// Writes an archive of PyTorch with this pickle.
fn archive(path: &Path, pickle: &[u8]) {
    let mut zip = ZipWriter::new(fs::File::create(path).expect("a file"));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in [
        ("archive/data.pkl", pickle),
        ("archive/version", b"3\n".as_slice()),
    ] {
        zip.start_file(name, options)
            .expect("a file of the archive");
        zip.write_all(bytes).expect("written");
    }
    zip.finish().expect("written");
}

#[test]
fn code_in_a_pickle_is_refused_and_not_run() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let proof = dir.path().join("it_ran");
    let pickle = pickled_call(&format!("touch '{}'", proof.display()));
    let (plain, zipped): (PathBuf, PathBuf) =
        (dir.path().join("plain.pt"), dir.path().join("zipped.pt"));
    fs::write(&plain, &pickle).expect("a file");
    archive(&zipped, &pickle);
    for path in [plain, zipped] {
        let error = TorchFile::open(&path).expect_err("code").to_string();
        let expected = format!(
            "cannot read weights from `{}`: its `hook` is of the type `posix.system`, and only tensors, numbers, texts, \
             lists and dictionaries are read; nothing of the file was run",
            path.display()
        );
        assert_eq!(error, expected);
        load_weights(net(), &path).expect_err("no weights");
        assert!(!proof.exists(), "{} was run", path.display());
    }
}

#[test]
fn a_file_that_ends_early_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("net.pt");
    save_weights(&net(), &path).expect("a file that can be written");
    let whole = fs::read(&path).expect("a file");
    for keep in [0, 1, 30, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..keep]).expect("a file");
        let error = load_weights(net(), &path).expect_err("half a file");
        assert!(error.to_string().contains("net.pt"), "{error}");
    }
}
