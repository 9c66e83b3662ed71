//! Text read token by token gives the logits of the whole text, also beyond the length of training.

#[path = "nanochat_home/home.rs"]
mod home;
#[path = "support/shaken.rs"]
mod shaken;

use bdh::burn::tensor::{Device, Int, Tensor, TensorData};
use bdh::{CausalLm, Probe};
use bdh_models::nanochat::{Gpt, GptConfig, NanochatVersion};
use home::{Home, load, newest};
use proptest::prelude::*;
use shaken::shaken;

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("floats")
}

/// Returns the logits after each token, `[seq_len][vocab]`.
fn logits(model: &Gpt, ids: &[i32]) -> Vec<Vec<f32>> {
    let tokens = TensorData::new(ids.to_vec(), [1, ids.len()]);
    let tokens = Tensor::<2, Int>::from_data(tokens, &Device::flex());
    let logits = model.logits(tokens, &Probe::off());
    let vocab = logits.dims()[2];
    values(logits).chunks(vocab).map(<[f32]>::to_vec).collect()
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

/// Returns a model whose weights are no zeros, so that every part of it takes part.
fn model(version: NanochatVersion, window_pattern: &str, n_kv_head: usize) -> Gpt {
    let config = GptConfig {
        sequence_len: 40,
        vocab_size: 70,
        n_layer: 3,
        n_head: 2,
        n_kv_head,
        n_embd: 32,
        window_pattern: window_pattern.into(),
        version,
        short_seq_len: 7,
        ..GptConfig::default()
    };
    shaken(
        config
            .init(1, &Device::flex())
            .expect("the settings are sound"),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn stream_gives_the_logits_of_the_whole_text(
        ids in prop::collection::vec(0..70_i32, 1..390),
        prompt in 1_usize..200,
        is_next in any::<bool>(),
        pattern in prop::sample::select(vec!["L", "SSSL", "SL"]),
        n_kv_head in 1_usize..3,
    ) {
        let version = if is_next { NanochatVersion::Next } else { NanochatVersion::Master };
        let model = model(version, pattern, n_kv_head);
        let expected = logits(&model, &ids);
        let prompt = prompt.min(ids.len());
        let mut stream = model.stream().expect("a stream");
        let read = values(stream.read_all(&ids[..prompt]));
        prop_assert!(difference(&read, &expected[prompt - 1]) < 2e-4);
        for (id, expected) in ids[prompt..].iter().zip(&expected[prompt..]) {
            let read = values(stream.read(*id));
            prop_assert!(difference(&read, expected) < 2e-4);
        }
    }
}

#[test]
fn windows_hide_tokens_beyond_them_in_long_texts() {
    let model = model(NanochatVersion::Next, "L", 2); // every layer sees 40 tokens back
    let mut ids: Vec<i32> = (0..300).map(|index| index * 37 % 70).collect();
    let before = logits(&model, &ids);
    ids[0] = 69;
    let after = logits(&model, &ids);
    assert!(difference(&before[20], &after[20]) > 1e-3);
    // Three layers reach 120 tokens back, and no further.
    assert!(difference(&before[120], &after[120]) > 0.0);
    assert_eq!(before[121], after[121]);
}

#[test]
fn long_texts_have_the_logits_of_the_original() {
    for home in Home::all() {
        let ids = home.ids("long.ids");
        let expected = home.floats("long.logits");
        let model = load(&newest(&home.tags()[0]), &Device::flex());
        assert!(ids.len() > model.config().sequence_len);
        let found = logits(&model, &ids).concat();
        let worst = difference(&found, &expected);
        assert!(worst < 2e-5, "{worst}");
    }
}

#[test]
fn greedy_text_is_that_of_the_original() {
    for home in Home::all() {
        let greedy = &home.expected["greedy"];
        let ids = |place: usize| -> Vec<i32> {
            let list = greedy[place].as_array().expect("a list");
            list.iter()
                .map(|id| id.as_i64().expect("an id") as i32)
                .collect()
        };
        let (mut text, expected) = (ids(0), ids(1));
        let model = load(&newest(&home.tags()[0]), &Device::flex());
        let mut stream = model.stream().expect("a stream");
        let mut next = values(stream.read_all(&text));
        while text.len() < expected.len() {
            let likeliest = (0..next.len()).max_by(|a, b| next[*a].total_cmp(&next[*b]));
            let id = likeliest.expect("logits") as i32;
            text.push(id);
            next = values(stream.read(id));
        }
        assert_eq!(text, expected);
    }
}
