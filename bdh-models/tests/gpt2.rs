//! GPT-2 compared with files of the originals, and loading of weights.

#[path = "support/fixtures.rs"]
mod fixtures;
#[path = "support/gpt2_files.rs"]
mod gpt2_files;
#[path = "support/parity.rs"]
mod parity;

use bdh::burn::tensor::{Device, Int, Tensor};
use bdh::data::cycle;
use bdh::schedule::constant;
use bdh::stats::ParamTable;
use bdh::{BatchSize, CausalLm, LossContext, MemorySink, Probe, Task, Trainer};
use bdh_models::gpt2::{Gelu, Gpt2, Gpt2Config, groups};
use fixtures::{Original, Variant, each_variant};
use gpt2_files::{hugging_face, save, state_dict};
use serde_json::{Value, json};

impl Original for Gpt2 {
    const FOLDER: &'static str = "nanogpt";

    fn build(mut config: Value, device: &Device) -> (Self, usize) {
        let settings = config.as_object_mut().expect("settings have names");
        assert_eq!(settings.remove("dropout"), Some(json!(0.0)));
        let config: Gpt2Config = serde_json::from_value(config).expect("the known settings");
        let config = Gpt2Config {
            gelu: Gelu::Erf,
            ..config
        }; // nanoGPT's
        let model = config
            .init(0, device)
            .expect("the original took these settings");
        (model, config.num_params())
    }
}

#[test]
fn initial_weights_have_the_shapes_and_norms_of_the_original() {
    each_variant(Variant::<Gpt2>::compare_weights);
}

#[test]
fn logits_and_loss_match_the_original() {
    each_variant(Variant::<Gpt2>::compare_logits);
}

#[test]
fn gradients_match_the_original() {
    each_variant(Variant::<Gpt2>::compare_gradients);
}

#[test]
fn five_steps_of_adamw_match_the_original() {
    each_variant(Variant::<Gpt2>::compare_adamw);
}

/// Task that repeats the batch of a variant. Its targets are not the next inputs, so it cannot be a `TokenBatch`.
struct OneBatch {
    inputs: Tensor<2, Int>,
    targets: Tensor<2, Int>,
}

impl Task for OneBatch {
    type Model = Gpt2;
    type Batch = ();

    fn size(&self, (): &()) -> BatchSize {
        BatchSize::default()
    }

    fn loss(&self, model: &Gpt2, (): &(), _: &LossContext<'_>) -> Tensor<1> {
        parity::loss(model, &self.inputs, &self.targets)
    }
}

#[test]
fn trainer_with_two_groups_matches_the_original() {
    each_variant::<Gpt2>(
        |Variant {
             expected,
             model,
             inputs,
             targets,
             ..
         }| {
            let memory = MemorySink::default();
            let task = OneBatch {
                inputs: inputs.clone(),
                targets: targets.clone(),
            };
            let mut builder = Trainer::builder(task, model.clone())
                .train_data(cycle(vec![()]))
                .eval_data("val", vec![()])
                .steps(5)
                .sink(memory.clone());
            for group in groups(0.1, constant(1e-3)) {
                builder = builder.group(group);
            }
            builder
                .build()
                .expect("a valid run")
                .fit()
                .expect("a run that completes");

            let (before, after) = (memory.series("train/loss"), memory.series("val/loss"));
            let losses: Vec<f64> = before
                .into_iter()
                .chain(after)
                .map(|(_, loss)| loss)
                .collect();
            let expected = &expected.adamw_decay_2d_only.losses;
            assert_eq!(losses.len(), expected.len());
            for (measured, expected) in losses.iter().zip(expected) {
                assert!(
                    (measured - expected).abs() < 1e-4,
                    "{losses:?}, not {expected:?}"
                );
            }
        },
    );
}

#[test]
fn decay_applies_to_the_50_tensors_of_the_original() {
    let config = Gpt2Config {
        vocab_size: 50_304,
        ..Gpt2Config::default()
    };
    // Ranks do not depend on the width; the whole model would take half a gigabyte.
    let narrow = Gpt2Config {
        n_embd: 12,
        block_size: 8,
        vocab_size: 8,
        ..config
    };
    let model = narrow
        .init(0, &Device::flex().autodiff())
        .expect("the settings are sound");
    let ranks: Vec<_> = ParamTable::of(&model)
        .iter()
        .map(bdh::stats::ParamInfo::rank)
        .collect();
    let decayed = ranks.iter().filter(|rank| **rank >= 2).count();
    assert_eq!((decayed, ranks.len() - decayed), (50, 98));
}

#[test]
fn initial_weights_have_the_deviations_of_the_original() {
    let config = Gpt2Config {
        block_size: 64,
        vocab_size: 200,
        ..Gpt2Config::sized(8, 2, 64)
    };
    let model = config
        .init(3, &Device::flex())
        .expect("the settings are sound");
    for (name, values) in parity::weights(&model) {
        let size = parity::norm(&values) / (values.len() as f64).sqrt();
        let (tensor, kind) = name.rsplit_once('.').expect("a weight or a bias");
        let expected = match tensor {
            _ if kind == "bias" => 0.0,
            tensor if tensor.contains("ln_") => 1.0,
            tensor if tensor.ends_with("c_proj") => 0.02 / 4.0, // (2 * 8)^-0.5
            _ => 0.02,
        };
        assert!(
            (size - expected).abs() < 0.05 * expected + 1e-12,
            "{name}: {size}, not {expected}"
        );
    }
}

#[test]
fn head_is_the_token_table() {
    let model = small()
        .init(7, &Device::flex().autodiff())
        .expect("the settings are sound");
    let mut silent = parity::weights(&model);
    silent
        .get_mut("transformer.wte.weight")
        .expect("a token table")
        .fill(0.0);
    assert!(logits(&model).iter().all(|logit| *logit != 0.0));
    assert!(
        logits(&parity::load(model, &silent))
            .iter()
            .all(|logit| *logit == 0.0)
    );
}

fn small() -> Gpt2Config {
    Gpt2Config {
        block_size: 8,
        vocab_size: 11,
        ..Gpt2Config::sized(2, 2, 8)
    }
}

fn logits(model: &Gpt2) -> Vec<f32> {
    let tokens = parity::ids(vec![1, 5, 10, 0, 3, 3, 7], 1, &Device::flex().autodiff());
    let logits = model.logits(tokens, &Probe::off());
    logits
        .into_data()
        .try_to_vec()
        .expect("the CPU computes in f32")
}

#[test]
fn weights_load_from_hugging_face_nanogpt_and_our_own_files() {
    let device = Device::flex().autodiff();
    let model = small().init(7, &device).expect("the settings are sound");
    for file in [hugging_face(&model), state_dict(&model)] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        save(&file, &dir.path().join("model.safetensors"));
        let loaded = small().load(dir.path(), &device).expect("weights that fit");
        assert_eq!(logits(&loaded), logits(&model));
    }
}

#[test]
fn weights_load_from_several_files_with_their_settings() {
    let device = Device::flex().autodiff();
    let model = small().init(7, &device).expect("the settings are sound");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut rest = hugging_face(&model);
    let first = rest.split_off("ln_f.bias");
    save(&first, &dir.path().join("model-00001-of-00002.safetensors"));
    save(&rest, &dir.path().join("model-00002-of-00002.safetensors"));
    let settings = json!({
        "activation_function": "gelu_new", "model_type": "gpt2", "n_positions": 8, "n_ctx": 8,
        "vocab_size": 11, "n_layer": 2, "n_head": 2, "n_embd": 8
    });
    std::fs::write(dir.path().join("config.json"), settings.to_string()).expect("a new file");
    let error = small()
        .load(dir.path(), &device)
        .expect_err("two files")
        .to_string();
    let names = "model-00001-of-00002.safetensors, model-00002-of-00002.safetensors";
    assert!(
        error.contains(&format!("has several files of weights ({names})")),
        "{error}"
    );
    let place = |(name, _): (&String, _)| {
        let file = if first.contains_key(name) { 1 } else { 2 };
        (
            name.clone(),
            format!("model-{file:05}-of-00002.safetensors"),
        )
    };
    let map: std::collections::BTreeMap<_, _> = first.iter().chain(&rest).map(place).collect();
    let index = json!({ "metadata": { "total_size": 1 }, "weight_map": map }).to_string();
    std::fs::write(dir.path().join("model.safetensors.index.json"), index).expect("a new file");
    let config = Gpt2Config::from_dir(dir.path()).expect("settings");
    assert_eq!(config, small());
    assert_eq!(
        logits(&config.load(dir.path(), &device).expect("both files")),
        logits(&model)
    );
}

#[test]
fn all_misfitting_weights_are_named() {
    let device = Device::flex().autodiff();
    let mut file = hugging_face(&small().init(7, &device).expect("the settings are sound"));
    file.remove("h.1.mlp.c_fc.bias");
    file.insert("h.2.ln_1.weight".into(), (vec![8], vec![1.0; 8]));
    file.insert("wpe.weight".into(), (vec![16, 8], vec![0.0; 128]));
    let dir = tempfile::tempdir().expect("a temporary directory");
    save(&file, &dir.path().join("model.safetensors"));
    let error = small()
        .load(dir.path(), &device)
        .expect_err("three misfits")
        .to_string();
    let expected = "do not fit the model: 1 missing: transformer.h.1.mlp.c_fc.bias; \
                    1 unexpected: transformer.h.2.ln_1.weight; 1 of another shape: \
                    transformer.wpe.weight (is [16, 8], should be [8, 8])";
    assert!(error.ends_with(expected), "{error}");

    let empty = tempfile::tempdir().expect("a temporary directory");
    let error = small()
        .load(empty.path(), &device)
        .expect_err("no file")
        .to_string();
    assert!(error.contains("no *.safetensors file in"), "{error}");
    let error = small()
        .load(&empty.path().join("none"), &device)
        .expect_err("no directory");
    assert!(error.to_string().contains("give a directory"), "{error}");
    std::fs::write(empty.path().join("model.safetensors"), "text").expect("a new file");
    let error = small()
        .load(empty.path(), &device)
        .expect_err("no safetensors")
        .to_string();
    assert!(
        error.contains("is damaged") && error.contains("download it again"),
        "{error}"
    );
}

#[test]
fn model_file_is_preferred_to_the_average_weights() {
    let device = Device::flex().autodiff();
    let [model, average] = [7, 8].map(|seed| small().init(seed, &device).expect("sound settings"));
    let dir = tempfile::tempdir().expect("a temporary directory");
    save(
        &state_dict(&average),
        &dir.path().join("weights_ema.safetensors"),
    );
    save(&state_dict(&model), &dir.path().join("model.safetensors"));
    save(&state_dict(&average), &dir.path().join("a.safetensors"));
    let loaded = small().load(dir.path(), &device).expect("one model");
    assert_eq!(logits(&loaded), logits(&model));
    std::fs::remove_file(dir.path().join("model.safetensors")).expect("it was there");
    let error = small()
        .load(dir.path(), &device)
        .expect_err("two candidates")
        .to_string();
    assert!(
        error.contains("(a.safetensors, weights_ema.safetensors)"),
        "{error}"
    );
}

#[test]
fn separate_head_and_duplicate_name_are_errors() {
    let device = Device::flex().autodiff();
    let model = small().init(7, &device).expect("the settings are sound");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let error = |file: &gpt2_files::File| {
        save(file, &dir.path().join("model.safetensors"));
        small()
            .load(dir.path(), &device)
            .expect_err("another model's")
            .to_string()
    };
    let mut untied = hugging_face(&model);
    untied.get_mut("lm_head.weight").expect("a head").1[3] += 1.0;
    let text = error(&untied);
    assert!(
        text.starts_with("`lm_head.weight` in ") && text.contains("differs from the token table")
    );
    let mut twice = hugging_face(&model);
    twice.insert("transformer.ln_f.bias".into(), (vec![8], vec![0.0; 8]));
    let text = error(&twice);
    assert!(
        text.contains("has a second tensor `transformer.ln_f.bias`"),
        "{text}"
    );
}

#[test]
fn index_decides_which_files_belong_to_the_model() {
    let device = Device::flex().autodiff();
    let [model, other] = [7, 8].map(|seed| small().init(seed, &device).expect("sound settings"));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut rest = hugging_face(&model);
    let first = rest.split_off("ln_f.bias");
    save(&first, &dir.path().join("one.safetensors"));
    save(&rest, &dir.path().join("two.safetensors"));
    // Not in the index: the weights of another model.
    save(&hugging_face(&other), &dir.path().join("old.safetensors"));
    let index = |files: &[&str]| {
        let map: std::collections::BTreeMap<_, _> = files.iter().map(|file| (file, file)).collect();
        let index = json!({ "weight_map": map }).to_string();
        std::fs::write(dir.path().join("model.safetensors.index.json"), index).expect("a file");
        small().load(dir.path(), &device)
    };
    let loaded = index(&["one.safetensors", "two.safetensors"]).expect("both files");
    assert_eq!(logits(&loaded), logits(&model));

    let error = |files: &[&str]| index(files).expect_err("refused").to_string();
    let twice = error(&["one.safetensors", "two.safetensors", "old.safetensors"]);
    assert!(twice.contains("has a second tensor `"), "{twice}");
    let missing = error(&["one.safetensors", "three.safetensors"]);
    assert!(
        missing.contains("three.safetensors` (No such file"),
        "{missing}"
    );
    let incomplete = error(&["one.safetensors"]);
    assert!(incomplete.contains("do not fit the model"), "{incomplete}");
    let outside = error(&["one.safetensors", "../two.safetensors"]);
    assert!(
        outside.contains("it lists `../two.safetensors`"),
        "{outside}"
    );
}

#[test]
fn unsupported_settings_are_named_in_the_error() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    // The settings of Hugging Face's `gpt2`.
    let usual = json!({
        "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
        "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 8, "n_embd": 8, "n_head": 2, "n_layer": 2,
        "n_positions": 8, "resid_pdrop": 0.1, "summary_activation": null, "summary_first_dropout": 0.1,
        "summary_proj_to_labels": true, "summary_type": "cls_index", "summary_use_proj": true,
        "task_specific_params": { "text-generation": { "do_sample": true, "max_length": 50 } }, "vocab_size": 11,
        "n_inner": null, "scale_attn_weights": true, "_num_labels": 1, "transformers_version": "4.9.0"
    });
    let read = |settings: &Value| {
        std::fs::write(dir.path().join("config.json"), settings.to_string()).expect("a file");
        Gpt2Config::from_dir(dir.path())
    };
    assert_eq!(read(&usual).expect("GPT-2's own"), small());
    let with = |name: &str, value: &Value| {
        let mut changed = usual.clone();
        changed[name] = value.clone();
        read(&changed)
    };
    let same = [
        ("n_inner", json!(32)),
        ("activation_function", json!("gelu_pytorch_tanh")),
    ];
    for (name, value) in same {
        assert_eq!(with(name, &value).expect(name), small());
    }
    let exact = with("activation_function", &json!("gelu")).expect("nanoGPT's");
    assert_eq!(
        exact,
        Gpt2Config {
            gelu: Gelu::Erf,
            ..small()
        }
    );
    for (name, value) in [
        ("activation_function", json!("relu")),
        ("layer_norm_epsilon", json!(1e-6)),
        ("scale_attn_weights", json!(false)),
        ("scale_attn_by_inverse_layer_idx", json!(true)),
        ("reorder_and_upcast_attn", json!(true)),
        ("tie_word_embeddings", json!(false)),
        ("n_inner", json!(16)),
        ("n_ctx", json!(16)),
        ("model_type", json!("gpt_neo")),
        ("quantization_config", json!({ "bits": 4 })),
    ] {
        let error = with(name, &value).expect_err(name).to_string();
        assert!(
            error.contains(&format!(
                "config.json` sets `{name}` to {value}: this model "
            )),
            "{error}"
        );
    }
    let mut without = usual.clone();
    without.as_object_mut().expect("settings").remove("n_head");
    let error = read(&without).expect_err("a number less").to_string();
    assert!(error.contains("it has no number `n_head`"), "{error}");
}
