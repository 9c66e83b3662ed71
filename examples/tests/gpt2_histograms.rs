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
use std::collections::BTreeMap;
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
            "step     0 | loss: 5.5",
            "step   129 | loss: ",
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
    contains(&out, &["step     0 | loss: ", "run completed"]);
    let metrics = place.metrics("log");
    let last = metrics.last().expect("a record");
    assert!(last["elapsed"].as_f64() >= Some(1.0), "{last}");
    assert!(last["weights/transformer.h.0.mlp.c_fc.weight"].is_object());
}

/// Steps and values of each stream of `log.txt`, read like the plotting loop of build-nanogpt's notebook reads it.
fn streams(place: &Place, run: &str) -> BTreeMap<String, BTreeMap<u64, f64>> {
    let text = fs::read_to_string(place.at(run).join("log.txt")).expect("log.txt");
    let mut streams: BTreeMap<String, BTreeMap<u64, f64>> = BTreeMap::new();
    for line in text.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [step, stream, value] = fields[..] else {
            panic!("`{line}` has not three fields")
        };
        let values = streams.entry(stream.to_owned()).or_default();
        let (step, value) = (
            step.parse().expect("a step"),
            value.parse().expect("a value"),
        );
        assert_eq!(
            values.insert(step, value),
            None,
            "`{line}` is the second of its step"
        );
    }
    streams
}

/// Returns the steps of a stream.
fn steps(streams: &BTreeMap<String, BTreeMap<u64, f64>>, name: &str) -> Vec<u64> {
    streams[name].keys().copied().collect()
}

#[test]
fn log_txt_is_read_by_the_plotting_loop_of_build_nanogpt() {
    let place = Place::new();
    place.succeeds(&format!("{SMALL} --max_steps 30 --n_layer 1"));
    let streams = streams(&place, "log");
    assert_eq!(streams.keys().collect::<Vec<_>>(), ["train", "val"]);
    assert_eq!(steps(&streams, "train"), (0..30).collect::<Vec<_>>());
    assert_eq!(steps(&streams, "val"), [0, 25, 30]);
    assert!(streams.values().flatten().all(|(_, loss)| *loss > 0.0));
    let text = fs::read_to_string(place.at("log/log.txt")).expect("log.txt");
    for line in text.lines() {
        let digits = line.split_once('.').expect("a decimal point").1.len();
        let expected = if line.contains("train") { 6 } else { 4 };
        assert_eq!(digits, expected, "{line}");
    }
    // The validation of a step comes before its training, as in the original.
    let mut lines = text.lines();
    assert!(lines.next().is_some_and(|line| line.starts_with("0 val ")));
    assert!(
        lines
            .next()
            .is_some_and(|line| line.starts_with("0 train "))
    );

    place.succeeds(&format!("{SMALL} --max_steps 1 --n_layer 1"));
    let second = fs::read_to_string(place.at("log-2/log.txt")).expect("of its own");
    assert_eq!(second.lines().count(), 3);
}

/// Writes token ids as `numpy.save` does.
fn save_npy(path: &Path, ids: impl Iterator<Item = u16>) {
    let ids: Vec<u8> = ids.flat_map(u16::to_le_bytes).collect();
    let len = ids.len() / 2;
    let text = format!("{{'descr': '<u2', 'fortran_order': False, 'shape': ({len},), }}");
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(format!("{text:<117}\n").bytes());
    bytes.extend(ids);
    fs::write(path, bytes).expect("a new file");
}

/// Writes a directory like build-nanogpt's `edu_fineweb10B`, with ids below 250.
fn edu_fineweb(place: &Place) {
    let dir = place.at("edu");
    fs::create_dir(&dir).expect("a new folder");
    save_npy(
        &dir.join("edufineweb_val_000000.npy"),
        (0..400).map(|i| i * 7 % 250),
    );
    save_npy(
        &dir.join("edufineweb_train_000001.npy"),
        (0..300).map(|i| i * 3 % 250),
    );
    save_npy(
        &dir.join("edufineweb_train_000002.npy"),
        (0..300).map(|i| i * 11 % 250),
    );
}

/// Flags of a narrow layer, for shards.
const ON_SHARDS: &str = "--device cpu --data edu --n_embd 8 --n-head 2 --n_layer 1 --block_size 8 --batch_size 2 \
                         --eval_iters 2";

#[test]
fn npy_shards_train_without_a_tokenizer() {
    let place = Place::new();
    edu_fineweb(&place);
    let out = place.succeeds(&format!("{ON_SHARDS} --max_steps 4 --vocab_size 250"));
    contains(
        &out,
        &[
            "text     600 training and 400 validation tokens in shards (npy)\n",
            " 250 tokens\n",
        ],
    );
    assert!(!out.contains("sample 0"), "no tokenizer:\n{out}");
    let streams = streams(&place, "log");
    assert_eq!(
        (steps(&streams, "train"), steps(&streams, "val")),
        (vec![0, 1, 2, 3], vec![0, 4])
    );

    let plan = place.succeeds(&format!("{ON_SHARDS} --dry-run"));
    contains(&plan, &[" 50257 tokens\n"]);
    place.refuses(
        &format!("{ON_SHARDS} --hellaswag hella.jsonl"),
        &["--hellaswag needs a tokenizer", "--tokenizer"],
    );
    // Ids that the model does not have.
    let ended = place.run(&format!("{ON_SHARDS} --max_steps 4 --vocab_size 100"));
    assert!(
        ended
            .err
            .contains("is outside the model's vocabulary, ids 0 to 99"),
        "{}",
        ended.err
    );
}

#[test]
fn total_batch_size_is_reached_by_accumulation() {
    let place = Place::new();
    edu_fineweb(&place);
    place.refuses(
        &format!("{ON_SHARDS} --total_batch_size 100"),
        &[
            "--total-batch-size 100 is not a multiple of 16, ",
            "use 112",
        ],
    );
    place.succeeds(&format!(
        "{ON_SHARDS} --max_steps 3 --vocab_size 250 --total_batch_size 64"
    ));
    let tokens: Vec<_> = place
        .metrics("log")
        .iter()
        .map(|line| line["tokens"].clone())
        .collect();
    assert_eq!(tokens, [0, 64, 128, 192]);
}

#[test]
fn resumed_run_repeats_the_rest_of_its_log() {
    let place = Place::new();
    edu_fineweb(&place);
    for data in [SMALL, ON_SHARDS] {
        let run = format!(
            "{data} --n_layer 1 --max_steps 6 --save_every 4 --eval_freq 2 --log_dir some/run"
        );
        place.succeeds(&run);
        let whole = fs::read_to_string(place.at("some/run/log.txt")).expect("log.txt");
        // As if the program had been killed behind the first checkpoint.
        fs::remove_dir_all(place.at("some/run/checkpoints/step_00000006")).expect("a checkpoint");
        let out = place.succeeds("--resume --log-dir some/run");
        assert!(!out.contains("step     3 | loss"), "{out}");
        contains(
            &out,
            &["step     4 | loss", "step     5 | loss", "run completed"],
        );
        let resumed = fs::read_to_string(place.at("some/run/log.txt")).expect("log.txt");
        assert_eq!(resumed, whole);

        let out = place.succeeds("--resume --log-dir some/run");
        contains(
            &out,
            &[
                "`some/run` is complete, at step 6",
                "--max-steps sets another length",
            ],
        );
        fs::remove_dir_all(place.at("some/run")).expect("the run");
    }
    place.refuses(
        "--resume --log-dir none",
        &["there is no run `none` to resume", "--log-dir"],
    );
}

#[test]
fn samples_and_hellaswag_are_shown_during_training() {
    let place = Place::new();
    let lines = r#"{"ctx": "A man", "endings": ["sits", "runs off", "x", "y"], "label": 1}
{"ctx": "line 7", "endings": ["of a text", "zz"], "label": "0"}
"#;
    fs::write(place.at("hella.jsonl"), lines).expect("a new file");
    let out = place.succeeds(&format!(
        "{SMALL} --n_layer 1 --max_steps 5 --sample_every 2 --hellaswag hella.jsonl --hellaswag_every 2"
    ));
    contains(
        &out,
        &[
            "sample 0: Hello, I'm a language model,",
            "sample 3: The meaning of life is",
            "HellaSwag accuracy: ",
        ],
    );
    assert_eq!(names(&place.at("log/samples")), ["2.md", "4.md", "5.md"]);
    let streams = streams(&place, "log");
    assert_eq!(steps(&streams, "hella"), [0, 2, 4, 5]);
    assert!(
        streams["hella"]
            .values()
            .all(|share| [0.0, 0.5, 1.0].contains(share))
    );
    place.refuses(
        &format!("{SMALL} --hellaswag none.jsonl"),
        &["cannot read `none.jsonl` (No such file"],
    );
}

#[test]
fn shards_have_samples_with_a_tokenizer() {
    let place = Place::new();
    edu_fineweb(&place);
    fs::create_dir(place.at("gpt2")).expect("a new folder");
    pretrained(&place.at("gpt2"));
    let out = place.succeeds(&format!("{ON_SHARDS} --max_steps 2 --tokenizer gpt2"));
    contains(
        &out,
        &[" 258 tokens\n", "sample 0: Hello, I'm a language model,"],
    );
    let metrics = place.metrics("log");
    let last = metrics.last().expect("a record");
    assert!(last["val/bpb"].is_number(), "{last}");
    place.refuses(
        &format!("{ON_SHARDS} --tokenizer gpt2 --vocab_size 257"),
        &["the tokenizer in `gpt2` has 258 tokens, and the model has 257"],
    );
    place.refuses(
        &format!("{ON_SHARDS} --weights gpt2 --vocab_size 300"),
        &["--vocab-size 300 is not the 258 of the model in `gpt2`"],
    );
    let out = place.succeeds(&format!("{ON_SHARDS} --max_steps 2 --weights gpt2"));
    contains(&out, &[" 258 tokens\n", "sample 3: "]);
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
    contains(&out, &["258 tokens", "step     1 | loss: "]);
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
        error.to_string()
    };
    vocab.insert("<|endoftext|>".into(), 300.into());
    let text = cause(&vocab);
    assert!(
        text.contains("has 258 tokens, but not the id 256"),
        "{text}"
    );
    vocab.remove("<|endoftext|>");
    vocab.insert("the".into(), 256.into());
    let text = cause(&vocab);
    assert!(text.contains("<|endoftext|>"), "{text}");
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
    // Weights of another shape than the flags describe; the vocabulary is that of the tokenizer beside them.
    fs::remove_file(place.at("gpt2/config.json")).expect("it was there");
    place.refuses(
        &format!("{SMALL} --weights gpt2 --n_layer 2 --n_embd 16"),
        &[
            "do not fit the model",
            "of another shape",
            "transformer.wte.weight (is [258, 8], should be [258, 16])",
        ],
    );
}
