//! Checkpoints of nanochat compared with the original's own results, for each home directory among the fixtures.

#[path = "nanochat_home/continued.rs"]
mod continued;
#[path = "nanochat_home/home.rs"]
mod home;
#[path = "support/parity.rs"]
mod parity;
#[path = "../../bdh/tests/support/torch.rs"]
mod torch;

use bdh::burn::tensor::Device;
use bdh::checkpoint::TorchFile;
use bdh::{CausalLm, Probe, evaluate};
use bdh_models::nanochat::{GptConfig, NanochatCheckpoint, export_nanochat};
use home::{Home, load, newest};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Returns every checkpoint of a model.
fn all(tag: &Path) -> Vec<NanochatCheckpoint> {
    let steps = NanochatCheckpoint::steps(tag).expect("a directory");
    let find = |step| NanochatCheckpoint::find(tag, Some(step)).expect("a checkpoint");
    steps.into_iter().map(find).collect()
}

#[test]
fn steps_and_descriptions_are_those_of_the_files() {
    for home in Home::all() {
        for tag in home.tags() {
            let checkpoints = all(&tag);
            let steps: Vec<_> = checkpoints.iter().map(|found| found.step).collect();
            assert!(steps.is_sorted() && !steps.is_empty(), "{steps:?}");
            assert_eq!(newest(&tag).step, steps[steps.len() - 1]);
            for found in checkpoints {
                let path = tag.join(format!("meta_{:06}.json", found.step));
                let text = std::fs::read(path).expect("a description");
                let original: Value = serde_json::from_slice(&text).expect("JSON");
                let read = json!(found.meta);
                for (key, value) in read.as_object().expect("an object") {
                    assert_eq!(original.get(key).unwrap_or(&Value::Null), value, "{key}");
                }
                let GptConfig {
                    n_layer, n_embd, ..
                } = found.config().expect("a model");
                assert_eq!(original["model_config"]["n_layer"], n_layer);
                assert_eq!(original["model_config"]["n_embd"], n_embd);
            }
        }
    }
}

#[test]
fn logits_of_the_newest_checkpoint_match_the_original() {
    let device = Device::flex();
    for home in Home::all() {
        let model = load(&newest(&home.tags()[0]), &device);
        let inputs = home.batches("train")[0].inputs_on(&device);
        let logits = model.logits(inputs, &Probe::off()).into_data();
        let logits: Vec<f32> = logits.iter::<f32>().collect();
        let expected = home.floats("logits");
        assert_eq!(logits.len(), expected.len());
        let pairs = logits.iter().zip(&expected);
        let apart = pairs.map(|(measured, expected)| (measured - expected).abs());
        let worst = apart.fold(0.0, f32::max);
        eprintln!("{}: logits {worst:.1e} apart", home.dir.display());
        assert!(worst < 1e-5, "logits are {worst:e} apart");
    }
}

#[test]
fn bits_per_byte_of_every_checkpoint_match_the_original() {
    for home in Home::all() {
        let (task, batches) = (home.task(), home.batches("val"));
        let mut newest_bpb = None;
        for found in home.tags().iter().flat_map(|tag| all(tag)) {
            let model = load(&found, &Device::flex());
            let metrics = evaluate(&task, &model, &batches).expect("an eval");
            let metrics: BTreeMap<_, _> = metrics.into_iter().collect();
            let expected = found.meta.val_bpb.expect("the original's eval");
            let apart = (metrics["bpb"] - expected).abs();
            eprintln!("step {}: bits per byte {apart:.1e} apart", found.step);
            assert!(apart < 1e-5, "{} and {expected}", metrics["bpb"]);
            newest_bpb = Some(metrics["bpb"]);
        }
        let expected = home.expected["val_bpb"].as_f64().expect("a number");
        let apart = (newest_bpb.expect("a checkpoint") - expected).abs();
        assert!(apart < 1e-5, "{expected}: {apart:e} apart");
    }
}

#[test]
fn exported_checkpoints_have_the_names_and_shapes_of_the_original_and_load_bit_for_bit() {
    let device = Device::flex();
    for home in Home::all() {
        for found in home.tags().iter().flat_map(|tag| all(tag)) {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let model = load(&found, &device);
            let path = export_nanochat(&model, found.step, &found.meta, dir.path());
            let written = TorchFile::open(path.expect("written")).expect("a file of tensors");
            let original = found.dir.join(format!("model_{:06}.pt", found.step));
            let original = TorchFile::open(original).expect("a file of tensors");
            assert_eq!(written.shapes(), original.shapes());
            for name in original.shapes().into_keys() {
                let read = |file: &TorchFile| file.tensor(name).expect("intact").expect("there");
                assert_eq!(read(&written), read(&original), "{name}");
            }
            let again = newest(dir.path());
            assert_eq!((again.step, &again.meta), (found.step, &found.meta));
            let weights = parity::weights(&load(&again, &device));
            assert_eq!(weights, parity::weights(&model));
        }
    }
}
