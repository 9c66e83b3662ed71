//! nanochat compared with files of the original.

#[path = "support/fixtures.rs"]
mod fixtures;
#[path = "support/parity.rs"]
mod parity;

use bdh::burn::tensor::Device;
use bdh_models::nanochat::{Gpt, GptConfig, GroupSpec, LearningRates, Rule, groups};
use fixtures::{Original, TorchGroup, Variant, each_variant};
use parity::relative;
use serde_json::Value;

impl Original for Gpt {
    const FOLDER: &'static str = "nanochat";

    fn build(config: Value, device: &Device) -> (Self, usize) {
        let config: GptConfig = serde_json::from_value(config).expect("the known settings");
        let model = config
            .init(0, device)
            .expect("the original took these settings");
        (model, config.num_params().total())
    }
}

fn assert_same_settings(ours: &GroupSpec, theirs: &TorchGroup, param: &str) {
    assert!(relative(ours.peak_lr, theirs.lr) < 1e-12, "{param}: {ours}");
    let weight_decay = match (ours.rule, theirs.betas) {
        (Rule::AdamW(adamw), Some([first, second])) => {
            assert_eq!(adamw.betas, (first, second), "{param}: {ours}");
            adamw.weight_decay
        }
        (Rule::Muon(muon), None) => muon.weight_decay(0),
        _ => panic!("{param} has the wrong optimizer: {ours}"),
    };
    assert!(
        (weight_decay - theirs.weight_decay).abs() < 1e-12,
        "{param}: {ours}"
    );
}

#[test]
fn initial_weights_have_the_shapes_and_norms_of_the_original() {
    each_variant(Variant::<Gpt>::compare_weights);
}

#[test]
fn logits_and_loss_match_the_original() {
    each_variant(Variant::<Gpt>::compare_logits);
}

#[test]
fn gradients_match_the_original() {
    each_variant(Variant::<Gpt>::compare_gradients);
}

#[test]
fn five_steps_of_adamw_match_the_original() {
    each_variant(Variant::<Gpt>::compare_adamw);
}

#[test]
fn five_steps_of_muon_and_adamw_match_the_original() {
    each_variant::<Gpt>(|variant| {
        // The files were made with the defaults of `setup_optimizer`; training scripts pass other values.
        let rates = LearningRates {
            embedding: 0.2,
            unembedding: 0.004,
            ..LearningRates::default()
        };
        let groups = groups(variant.model.config(), rates, 0.1, None);
        let owner = |name: &str| {
            groups
                .iter()
                .find(|group| group.owns(name))
                .expect("a parameter is in a group")
        };
        let expected = &variant.expected.muon_adamw;
        for original in &expected.groups {
            for param in &original.params {
                assert_same_settings(owner(param), original, param);
            }
        }
        let trained = variant.train(|name| (owner(name).optimizer(), owner(name).peak_lr));
        variant.compare_training("Muon and AdamW", trained, expected);
    });
}
