//! Tests of the program `gpt2_histograms`.

#[path = "../../bdh-models/tests/support/gpt2_files.rs"]
mod gpt2_files;
#[path = "../../bdh-models/tests/support/parity.rs"]
mod parity;
#[path = "support/program.rs"]
mod program;

use bdh::burn::tensor::Device;
use bdh_data::Tokenizer;
use bdh_models::gpt2::Gpt2Config;
use program::contains;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;

type Place = program::Place<Histograms>;

/// Program under test.
struct Histograms;

impl program::Name for Histograms {
    const NAME: &'static str = "gpt2_histograms";
}

/// Flags of twelve narrow layers, and of a text so small that a step takes milliseconds.
const SMALL: &str = "--device cpu --data text.txt --n_embd 8 --n-head 2 --block_size 8 --batch_size 2 --eval_iters 1";

/// Returns the names of the files in a folder, in order.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string());
    let mut names: Vec<_> = names.map(|name| name.expect("UTF-8")).collect();
    names.sort();
    names
}

/// Checks that a line matches `shape`, where `#` is a digit or the sign of an exponent, and `*` is any text.
///
/// Signs of numbers are ignored.
fn check_shape(line: &str, shape: &str) {
    let digit = |c: char| {
        if c.is_ascii_digit() || "+-".contains(c) {
            '#'
        } else {
            c
        }
    };
    let plain: String = line.chars().map(digit).collect();
    let mut rest = plain.replace("mean ##", "mean #");
    for part in shape.split('*') {
        let at = rest.find(part);
        let at = at.unwrap_or_else(|| panic!("`{line}` is not `{shape}`: no `{part}` in `{rest}`"));
        rest = rest[at + part.len()..].to_owned();
    }
    assert_eq!(rest, "", "`{line}` is not `{shape}`");
}

#[test]
fn histograms_are_recorded_every_100_steps_and_at_the_last() {
    let place = Place::new();
    let out = place.succeeds(&format!("{SMALL} --max_steps 130"));
    contains(
        &out,
        &[
            "step     1 | loss: 5.5",
            "step   130 | loss: ",
            " | lr 3.0000e-04 | norm: ",
            " | tok/sec: ",
            "validation loss: ",
            "weight transformer.wte.weight: mean ",
            "tensorboard --logdir=log",
        ],
    );
    // 13 matrices and tables: the token table, and four in each of h.0, h.5 and h.11.
    let lines: Vec<_> = out
        .lines()
        .filter(|line| line.starts_with("weight "))
        .collect();
    assert_eq!(lines.len(), 2 * 13, "{lines:#?}");
    for line in lines {
        check_shape(
            line,
            "weight transformer.*: mean #.####, std #.####e###, grad:data ratio #.####e###",
        );
    }
    let second = out
        .lines()
        .find(|line| line.starts_with("step     2 |"))
        .expect("a line for each step");
    check_shape(
        second,
        "step     # | loss: #.###### | lr #.####e### | norm: *.#### | dt: *.##ms | tok/sec: *.##",
    );
    for layer in ["h.0.", "h.5.", "h.11."] {
        assert!(out.contains(&format!("weight transformer.{layer}mlp.c_fc.weight: mean ")));
    }

    let expected = [
        "gradients_100.png",
        "gradients_130.png",
        "weights_100.png",
        "weights_130.png",
    ];
    assert_eq!(names(&place.at("log/histograms")), expected);
    for name in expected {
        let png = fs::read(place.at("log/histograms").join(name)).expect(name);
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"), "{name}");
    }
    assert!(
        names(&place.at("log"))
            .iter()
            .any(|name| name.contains("tfevents"))
    );
    let metrics = place.metrics("log");
    let steps: Vec<_> = metrics
        .iter()
        .filter(|line| line["gradients/transformer.h.11.attn.c_attn.weight"].is_object())
        .map(|line| line["step"].as_u64().expect("a step"))
        .collect();
    assert_eq!(steps, [100, 130]);
}

#[test]
fn time_budget_takes_the_place_of_a_number_of_steps() {
    let place = Place::new();
    let words = format!("{SMALL} --n_layer 1 --time-budget 1s");
    place.refuses(
        &format!("{words} --max_steps 4"),
        &["--time-budget", "cannot be used with"],
    );
    let out = place.succeeds(&words);
    contains(&out, &["step     1 | loss: ", "run completed"]);
    let metrics = place.metrics("log");
    let last = metrics.last().expect("a record");
    assert!(last["elapsed"].as_f64() >= Some(1.0), "{last}");
    assert!(last["weights/transformer.h.0.mlp.c_fc.weight"].is_object());
}

#[test]
fn log_txt_has_three_fields_per_line() {
    let place = Place::new();
    place.succeeds(&format!("{SMALL} --max_steps 30 --n_layer 1"));
    let text = fs::read_to_string(place.at("log/log.txt")).expect("log.txt");
    let mut vals = Vec::new();
    let mut trains = Vec::new();
    for line in text.lines() {
        let [step, stream, loss] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("`{line}` has not three fields")
        };
        let digits = loss.split_once('.').expect("a decimal point").1.len();
        let step: u64 = step.parse().expect("a step");
        assert!(loss.parse::<f64>().expect("a loss") > 0.0);
        match stream {
            "train" => (trains.push(step), assert_eq!(digits, 6, "{line}")).1,
            "val" => (vals.push(step), assert_eq!(digits, 4, "{line}")).1,
            _ => panic!("`{stream}` is no stream"),
        }
    }
    assert_eq!(vals, [0, 25, 30]);
    assert_eq!(trains, (1..=30).collect::<Vec<_>>());
    place.succeeds(&format!("{SMALL} --max_steps 1 --n_layer 1"));
    assert_eq!(
        fs::read_to_string(place.at("log-2/log.txt"))
            .expect("of its own")
            .lines()
            .count(),
        3
    );
}

#[test]
fn limit_shows_the_first_parameters() {
    let place = Place::new();
    let out = place.succeeds(&format!(
        "{SMALL} --max_steps 2 --max_histograms 8 --log_dir some/where"
    ));
    let shown: Vec<_> = out
        .lines()
        .filter_map(|line| line.strip_prefix("weight transformer."))
        .collect();
    assert_eq!(shown.len(), 8);
    // The limit is reached in h.5, so h.11 is not shown.
    assert!(shown[7].starts_with("h.5.mlp.c_fc.weight"), "{shown:#?}");
    assert!(place.at("some/where/log.txt").exists());
}

/// Returns GPT-2's letter of a byte: printable bytes are themselves, the others are letters from U+0100 on.
fn letter(byte: u8) -> char {
    let is_itself = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if is_itself(&byte) {
        return byte.into();
    }
    let before = (0..byte).filter(|byte| !is_itself(byte)).count() as u32;
    char::from_u32(0x100 + before).expect("it is in the first plane")
}

/// Writes a directory like Hugging Face's, with a model of 258 tokens: bytes, `li`, and the end of a text.
fn pretrained(dir: &Path) {
    let device = Device::flex().autodiff();
    let config = Gpt2Config {
        block_size: 16,
        vocab_size: 258,
        ..Gpt2Config::sized(2, 2, 8)
    };
    let model = config.init(7, &device).expect("the settings are sound");
    gpt2_files::save(
        &gpt2_files::hugging_face(&model),
        &dir.join("model.safetensors"),
    );
    let settings = json!({
        "activation_function": "gelu_new", "n_positions": 16, "vocab_size": 258, "n_layer": 2, "n_head": 2, "n_embd": 8
    });
    fs::write(dir.join("config.json"), settings.to_string()).expect("a new file");
    let words = (0..=255)
        .map(|byte| letter(byte).to_string())
        .chain(["li".into(), "<|endoftext|>".into()]);
    let vocab: Map<_, _> = words
        .zip(0..)
        .map(|(word, id)| (word, Value::from(id)))
        .collect();
    fs::write(dir.join("vocab.json"), Value::from(vocab).to_string()).expect("a new file");
    fs::write(dir.join("merges.txt"), "#version: 0.2\nl i\n").expect("a new file");
}

#[test]
fn pretrained_weights_come_with_their_tokenizer() {
    let place = Place::new();
    fs::create_dir(place.at("gpt2")).expect("a new folder");
    pretrained(&place.at("gpt2"));
    let words = Tokenizer::gpt2(&place.at("gpt2")).expect("both files");
    assert_eq!(
        words.encode("a line é"),
        [97, 32, 256, 110, 101, 32, 195, 169]
    );
    assert_eq!(
        words.decode(&[97, 32, 256, 110, 101, 32, 195, 169, 257]),
        "a line é"
    );
    assert_eq!((words.bos(), words.vocab_size()), (257, 258));
    assert_eq!(words.token_bytes()[255..], [1, 2, 0]);

    let out = place.succeeds(&format!("{SMALL} --max_steps 2 --weights gpt2"));
    contains(&out, &["258 tokens", "step     2 | loss: "]);
}

#[test]
fn gpt_2_tokenizer_encodes_long_text_without_spaces() {
    let place = Place::new();
    fs::create_dir(place.at("gpt2")).expect("a new folder");
    pretrained(&place.at("gpt2"));
    let words = Tokenizer::gpt2(&place.at("gpt2")).expect("both files");
    let text = "lie".repeat(400_000 / 3); // one piece, in which a look through all of it for each merge takes minutes
    let ids = words.encode(&text);
    assert_eq!(ids, [256, 101].repeat(400_000 / 3));
    assert_eq!(words.decode(&ids), text);
}

#[test]
fn end_of_text_token_is_found_by_its_name() {
    let place = Place::new();
    fs::create_dir(place.at("gpt2")).expect("a new folder");
    pretrained(&place.at("gpt2"));
    let path = place.at("gpt2/vocab.json");
    let whole = fs::read_to_string(&path).expect("words");
    let mut vocab: Map<String, Value> = serde_json::from_str(&whole).expect("JSON");
    vocab.insert("<|endoftext|>".into(), 256.into());
    vocab.insert("li".into(), 257.into());
    fs::write(&path, Value::from(vocab.clone()).to_string()).expect("a file");
    let words = Tokenizer::gpt2(&place.at("gpt2")).expect("both files");
    assert_eq!(words.encode("a line"), [97, 32, 257, 110, 101]);
    assert_eq!((words.bos(), words.vocab_size()), (256, 258));
    assert_eq!(words.token_bytes()[255..], [1, 0, 2]);
    assert_eq!(words.decode(&[256, 257]), "li");

    let cause = |vocab: &Map<String, Value>| {
        fs::write(&path, Value::from(vocab.clone()).to_string()).expect("a file");
        let error = Tokenizer::gpt2(&place.at("gpt2")).expect_err("no words of GPT-2's");
        std::error::Error::source(&error)
            .expect("a cause")
            .to_string()
    };
    vocab.insert("<|endoftext|>".into(), 300.into());
    assert_eq!(
        cause(&vocab),
        "the vocabulary has 258 tokens, but not the id 256"
    );
    vocab.remove("<|endoftext|>");
    vocab.insert("the".into(), 256.into());
    assert_eq!(cause(&vocab), "the vocabulary has no `<|endoftext|>`");
}

#[test]
fn user_errors_are_one_sentence_and_write_nothing() {
    let place = Place::new();
    for name in ["gpt2", "wordless", "empty", "torn", "relu"] {
        fs::create_dir(place.at(name)).expect("a new folder");
    }
    pretrained(&place.at("gpt2"));
    pretrained(&place.at("wordless"));
    fs::remove_file(place.at("wordless/vocab.json")).expect("it was there");
    pretrained(&place.at("relu"));
    let settings = fs::read_to_string(place.at("relu/config.json")).expect("settings");
    fs::write(
        place.at("relu/config.json"),
        settings.replace("gelu_new", "relu"),
    )
    .expect("a file");
    fs::write(place.at("torn/config.json"), "{\"n_layer\": ").expect("a new file");
    for (words, parts) in [
        (
            "--n_embd 9",
            &["n_embd 9 is not a multiple of n_head 2"][..],
        ),
        ("--eval_iters 0", &["--eval-iters", "at least 1"]),
        (
            "--block_size 3000",
            &["`block_size` is 3000", "validation split has"],
        ),
        (
            "--weights none",
            &["cannot read `none` (No such file", "give a directory"],
        ),
        ("--weights empty", &["no *.safetensors file in `empty`"]),
        ("--weights torn", &["`torn/config.json` is damaged"]),
        (
            "--weights relu",
            &["`relu/config.json` sets `activation_function` to \"relu\""],
        ),
        (
            "--weights gpt2 --block_size 17",
            &["--block-size 17 is longer than the 16 tokens"],
        ),
        (
            "--weights wordless",
            &["cannot read the tokenizer in `wordless`", "vocab.json"],
        ),
        ("--data none.txt", &["`none.txt`"]),
        ("--max_steps 0", &["--max-steps", "at least 1"]),
    ] {
        place.refuses(&format!("{SMALL} {words}"), parts);
    }
    // Weights of another shape than the flags describe.
    fs::remove_file(place.at("gpt2/config.json")).expect("it was there");
    place.refuses(
        &format!("{SMALL} --weights gpt2 --n_layer 2 --n_embd 16"),
        &[
            "do not fit the model",
            "of another shape",
            "transformer.wte.weight (is [258, 8], should be [256, 16])",
        ],
    );
}
