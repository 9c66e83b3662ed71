//! CORE compared with a Python implementation: draws, prompts, scored tokens and answers.

use crate::core_bundle;
use crate::judges::Judge;
use bdh::lm::TokenScore;
use bdh_data::Tokenizer;
use bdh_models::core_eval::{Bundle, Evaluator, Kind, PythonRandom, Row, TASKS, TaskItems, rows};
use serde_json::{Value, json};
use std::path::Path;

/// Returns the answers of the Python program to each question, or `None` without Python.
fn ask(questions: &[Value]) -> Option<Vec<Value>> {
    let judge = Judge::modern()?;
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    serde_json::to_writer(&file, questions).expect("a file");
    let answers = judge.json("core_oracle.py", [file.path()]);
    Some(answers.as_array().expect("a list").clone())
}

#[test]
fn draws_match_cpython_for_many_seeds_and_sizes() {
    let seeds: Vec<u64> = [0, 1, 1234, 1337, u64::from(u32::MAX), 1 << 32, u64::MAX]
        .into_iter()
        .chain((0..60).map(|index| 1234 + index * 97))
        .collect();
    let samples = |seed: u64| {
        let shots = [3, 5, 6, 10, 21, 22].map(|k| [22 + (seed % 300) as usize, k]);
        let at_the_border = [[21, 5], [22, 5], [85, 10], [86, 10], [85, 21], [277, 22]];
        let large = [[20_321, 10], [1 << 33, 4], [10, 10], [1, 0], [0, 0]];
        [&shots[..], &at_the_border, &large].concat()
    };
    let questions: Vec<_> = seeds
        .iter()
        .map(|&seed| {
            let shuffle = seed % 1000;
            json!({ "ask": "draws", "seed": seed, "shuffle": shuffle, "samples": samples(seed) })
        })
        .collect();
    let Some(answers) = ask(&questions) else {
        return;
    };
    for (&seed, theirs) in seeds.iter().zip(&answers) {
        let mut random = PythonRandom::new(seed);
        let mut items: Vec<u64> = (0..seed % 1000).collect();
        random.shuffle(&mut items);
        let drawn: Vec<_> = samples(seed)
            .into_iter()
            .map(|[n, k]| random.sample(n, k))
            .collect();
        let numbers: Vec<f64> = (0..5).map(|_| random.random()).collect();
        assert_eq!(&json!([items, drawn, numbers]), theirs, "seed {seed}");
    }
}

/// Replaces a model by sums of ids, so that about half of the answers are correct.
fn sums(rows: &[&[i32]]) -> Vec<Vec<TokenScore>> {
    let score = |(before, ids): (usize, &[i32])| {
        let (last, id, place) = (ids[0], ids[1], before as i32 + 1);
        let nats = ((id * 31 + last * 7 + place * 13) % 64) as f32 / 16.0;
        TokenScore {
            nats,
            is_likeliest: (id * 3 + last + place) % 8 != 0,
        }
    };
    rows.iter()
        .map(|ids| ids.windows(2).enumerate().map(score).collect())
        .collect()
}

fn digest(ids: &[i32]) -> u64 {
    let add = |value: u128, id: &i32| (value * 1_000_003 + *id as u128 + 1) % ((1 << 61) - 1);
    ids.iter().fold(0, add) as u64
}

/// Returns the rows of each item by digest and start.
fn seen(task: &TaskItems, context: usize) -> Value {
    let crop = |row: Row| {
        let cut = row.ids.len().saturating_sub(context);
        json!([
            digest(&row.ids[cut..]),
            row.start.saturating_sub(cut).max(1)
        ])
    };
    let item = |number: usize| {
        let (item, shots) = (&task.items()[number], task.shots(number));
        let rows = rows(task.task(), item, number, &shots, &Tokenizer::Bytes).expect("bytes");
        rows.into_iter().map(crop).collect::<Vec<_>>()
    };
    (0..task.items().len()).map(item).collect::<Vec<_>>().into()
}

fn assert_matches_nanochat(dir: &Path, max_per_task: usize, context: usize) {
    let bundle = Bundle::open(dir, max_per_task).expect("a bundle");
    let question = |task: &TaskItems| {
        let task = task.task();
        let kind = match task.kind {
            Kind::MultipleChoice => "mc",
            Kind::Schema => "schema",
            Kind::LanguageModeling => "lm",
        };
        json!({
            "ask": "task", "file": dir.join(task.file), "kind": kind, "delimiter": task.delimiter,
            "shots": task.shots, "max_per_task": max_per_task, "context": context,
        })
    };
    let questions: Vec<_> = bundle.tasks().iter().map(question).collect();
    let Some(answers) = ask(&questions) else {
        return;
    };
    let evaluator = Evaluator {
        vocabulary: &Tokenizer::Bytes,
        context,
        batch_tokens: 7 * 200,
    };
    let mut right = 0;
    for (task, theirs) in bundle.tasks().iter().zip(&answers) {
        let label = task.task().label;
        assert_eq!(seen(task, context), theirs[0], "prompts of {label}");
        let score = evaluator
            .evaluate(task, |rows| Ok(sums(rows)))
            .expect("a score");
        assert_eq!(json!(score.correct), theirs[1], "answers of {label}");
        assert_eq!(
            json!(score.cut),
            theirs[2],
            "answers of {label} that did not fit"
        );
        right += score
            .correct
            .iter()
            .filter(|is_correct| **is_correct)
            .count();
    }
    let asked: usize = bundle.tasks().iter().map(|task| task.items().len()).sum();
    assert!(
        (asked / 10..asked * 9 / 10).contains(&right),
        "{right} correct answers of {asked} are no test"
    );
}

#[test]
fn synthetic_tasks_match_nanochat() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    core_bundle::write(dir.path(), |_| true);
    assert_matches_nanochat(dir.path(), 500, 4096);
    assert_matches_nanochat(dir.path(), 12, 40); // fewer items, and most texts do not fit
    assert_matches_nanochat(dir.path(), 12, 9); // nor do some answers
}

#[test]
fn real_tasks_match_nanochat() {
    let Some((_dir, core)) = core_bundle::real() else {
        return;
    };
    assert_matches_nanochat(&core, 16, 2048);
    let bundle = Bundle::open(&core, 500).expect("18 tasks");
    assert_eq!(
        bundle.missing(),
        ["hellaswag_zeroshot", "hellaswag", "squad", "coqa"]
    );
    let items: Vec<_> = bundle
        .tasks()
        .iter()
        .map(|task| task.items().len())
        .collect();
    assert_eq!(items.iter().filter(|items| **items == 500).count(), 13);
}

#[test]
fn white_space_is_defined_like_in_python() {
    let Some(answers) = ask(&[json!({ "ask": "spaces" })]) else {
        return;
    };
    let task = TASKS
        .iter()
        .find(|task| task.kind == Kind::LanguageModeling)
        .expect("one");
    let is_stripped = |letter: char| {
        let context = format!("{letter}a{letter}");
        let item = bdh_models::core_eval::Item::Text {
            context,
            continuation: "b".to_owned(),
        };
        bdh_models::core_eval::render(task, &item, &[])[1].starts_with("a\n")
    };
    let ours: Vec<u32> = (0..=0x10_FFFF)
        .filter_map(char::from_u32)
        .filter(|c| is_stripped(*c))
        .map(u32::from)
        .collect();
    assert_eq!(json!(ours), answers[0]);
}
