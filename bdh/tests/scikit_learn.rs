//! Metrics of an eval equal scikit-learn's on random batches: several sizes, ties, classes that do not occur.

#[path = "../../bdh-callbacks/tests/support/judges.rs"]
mod judges;

use bdh::burn::nn::{Linear, LinearConfig};
use bdh::burn::optim::SgdConfig;
use bdh::burn::tensor::{Device, Int, Tensor, TensorData};
use bdh::cadence::start;
use bdh::metrics::{Classes, Metrics};
use bdh::{BatchSize, LossContext, MemorySink, Task, Trainer, Value, data};
use judges::Judge;
use serde_json::json;

/// Largest relative difference.
const TOLERANCE: f64 = 1e-6;

/// Random numbers of a fixed sequence: Marsaglia's xorshift.
struct Random(u64);

impl Random {
    /// Returns a number from 0 to below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    /// Returns one of `levels` numbers from -1 to 1. Few levels make ties.
    fn level(&mut self, levels: usize) -> f32 {
        (self.below(levels) as f32 + 0.5) / levels as f32 * 2.0 - 1.0
    }
}

/// Metrics to compute.
#[derive(Debug, Clone)]
enum Kind {
    Classes { classes: usize, top_k: usize },
    Ranks,
    Errors,
}

impl Kind {
    fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Classes { classes, top_k } => json!(["classes", classes, top_k]),
            Self::Ranks => json!(["ranks"]),
            Self::Errors => json!(["errors"]),
        }
    }
}

/// Rows of an eval, or of one batch.
#[derive(Debug, Clone)]
struct Rows {
    /// Logits, scores or predictions, `[rows * outputs]`.
    outputs: Vec<f32>,
    /// Classes, labels or numbers, `[rows]`.
    targets: Vec<f32>,
}

impl Rows {
    fn of(rows: usize, mut row: impl FnMut() -> (Vec<f32>, f32)) -> Self {
        let (mut outputs, mut targets) = (Vec::new(), Vec::new());
        for _ in 0..rows {
            let (output, target) = row();
            outputs.extend(output);
            targets.push(target);
        }
        Self { outputs, targets }
    }

    /// Splits the rows into batches of several sizes.
    fn batches(&self) -> Vec<Self> {
        let width = self.outputs.len() / self.targets.len();
        let mut batches = Vec::new();
        let mut start = 0;
        for size in [1, 32, 7, 500].into_iter().cycle() {
            let end = self.targets.len().min(start + size);
            batches.push(Self {
                outputs: self.outputs[start * width..end * width].to_vec(),
                targets: self.targets[start..end].to_vec(),
            });
            start = end;
            if start == self.targets.len() {
                break;
            }
        }
        batches
    }

    fn outputs_on(&self, device: &Device) -> Tensor<2> {
        let rows = self.targets.len();
        let shape = [rows, self.outputs.len() / rows];
        Tensor::from_data(TensorData::new(self.outputs.clone(), shape), device)
    }

    fn indices_on(&self, device: &Device) -> Tensor<1, Int> {
        let indices: Vec<i32> = self.targets.iter().map(|index| *index as i32).collect();
        Tensor::from_ints(indices.as_slice(), device)
    }
}

/// Task whose batches have the outputs of a model, so that no model is needed.
struct Measure(Kind);

impl Task for Measure {
    type Model = Linear;
    type Batch = Rows;

    fn size(&self, batch: &Rows) -> BatchSize {
        BatchSize::samples(batch.targets.len())
    }

    fn loss(&self, model: &Linear, _: &Rows, _: &LossContext<'_>) -> Tensor<1> {
        model.weight.val().sum()
    }

    fn eval(&self, model: &Linear, batch: &Rows, metrics: &mut Metrics) {
        let device = model.weight.device();
        let outputs = batch.outputs_on(&device);
        match self.0 {
            Kind::Classes { classes, top_k } => {
                let classes = Classes::new(classes).top_k(top_k);
                metrics.classes(&classes, outputs, batch.indices_on(&device));
            }
            Kind::Ranks => metrics.ranks(outputs.reshape([-1]), batch.indices_on(&device)),
            Kind::Errors => {
                let targets = Tensor::<1>::from_floats(batch.targets.as_slice(), &device);
                metrics.errors(outputs.reshape([-1]), targets);
            }
        }
    }
}

fn model() -> Linear {
    LinearConfig::new(1, 1).init(&bdh::device("cpu").expect("the CPU is compiled in"))
}

/// Returns scikit-learn's metrics of each case, if it is installed.
fn ask(cases: &[(Kind, Rows)]) -> Option<Vec<serde_json::Value>> {
    let judge = Judge::scikit_learn()?;
    let mut questions = Vec::new();
    for (kind, Rows { outputs, targets }) in cases {
        let kind = kind.to_json();
        questions.push(json!({ "kind": kind, "outputs": outputs, "targets": targets }));
    }
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    serde_json::to_writer(&file, &questions).expect("a file");
    let answers = judge.json("scikit_learn.py", [file.path()]);
    Some(answers.as_array().expect("a list").clone())
}

/// Checks that the metrics of each case are those of scikit-learn.
fn assert_equal(cases: &[(Kind, Rows)]) {
    let Some(answers) = ask(cases) else { return };
    for ((kind, rows), theirs) in cases.iter().zip(&answers) {
        let ours = bdh::evaluate(&Measure(kind.clone()), &model(), &rows.batches());
        let ours = ours.expect("valid batches");
        let case = format!("{kind:?} of {} rows", rows.targets.len());
        assert!(!ours.is_empty(), "{case} has no metrics");
        for (name, value) in ours {
            let expected = theirs[&name].as_f64().expect("a number of that name");
            assert_near(value, expected, &format!("{name} of {case}"));
        }
    }
}

fn assert_near(value: f64, expected: f64, what: &str) {
    // The share of unexplained variance is the ratio; subtracted from 1 it loses digits.
    let is_r2 = what.starts_with("r2 ");
    let size = if is_r2 { 1.0 - expected } else { expected };
    assert!(
        (value - expected).abs() <= TOLERANCE * size.abs(),
        "{what} is {value}, and scikit-learn has {expected}"
    );
}

/// Returns the cells of a confusion matrix without the names of its rows, as numbers.
fn counts(table: &Value) -> serde_json::Value {
    let Value::Table { rows, .. } = table else {
        panic!("a table, not {table:?}");
    };
    let number = |cell: &String| cell.parse::<u64>().expect("a count");
    rows.iter()
        .map(|row| row[1..].iter().map(number).collect::<Vec<_>>())
        .collect()
}

/// Makes rows of a classifier that is right more often than not. Every `gap`-th class has no targets.
fn classified(random: &mut Random, rows: usize, classes: usize, levels: usize, gap: usize) -> Rows {
    Rows::of(rows, || {
        let mut logits: Vec<f32> = (0..classes).map(|_| random.level(levels)).collect();
        let mut target = random.below(classes);
        if target % gap == gap - 1 {
            target = 0;
        }
        if random.below(2) == 0 {
            logits[target] += 1.0;
        }
        (logits, target as f32)
    })
}

#[test]
fn classes_are_those_of_scikit_learn() {
    let mut random = Random(1);
    let mut cases = Vec::new();
    for rows in [1, 2, 33, 1_000] {
        for (classes, top_k) in [(3, 2), (10, 1), (10, 5), (100, 5), (130, 7)] {
            for levels in [2, 9, 1_000_000] {
                let gap = 2 + random.below(5);
                let made = classified(&mut random, rows, classes, levels, gap);
                cases.push((Kind::Classes { classes, top_k }, made));
            }
        }
    }
    assert_equal(&cases);
}

#[test]
fn ranks_are_those_of_scikit_learn() {
    let mut random = Random(2);
    let mut cases = Vec::new();
    for rows in [2, 3, 40, 5_000] {
        for levels in [1, 3, 50, 1_000_000] {
            for rarity in [2, 20] {
                let mut row = 0;
                let made = Rows::of(rows, || {
                    row += 1;
                    // The first two rows are of both classes: without one scikit-learn has no area.
                    let is_positive = row == 1 || (row > 2 && random.below(rarity) == 0);
                    let shift = if is_positive { 0.4 } else { 0.0 };
                    (
                        vec![random.level(levels) + shift],
                        f32::from(u8::from(is_positive)),
                    )
                });
                cases.push((Kind::Ranks, made));
            }
        }
    }
    assert_equal(&cases);
}

#[test]
fn errors_are_those_of_scikit_learn() {
    let mut random = Random(3);
    let mut cases = Vec::new();
    for rows in [2, 3, 40, 5_000] {
        for (mean, spread, error) in [
            (0.0, 1.0, 0.1),
            (0.0, 1e-3, 1.0),
            (1e6, 10.0, 3.0),
            (-3e4, 1e3, 1e3),
        ] {
            let made = Rows::of(rows, || {
                let target = mean + spread * random.level(1_000_000);
                (vec![target + error * random.level(1_000_000)], target)
            });
            cases.push((Kind::Errors, made));
        }
    }
    // Equal targets have no variance to explain.
    let equal = |error: f32| Rows {
        outputs: vec![0.1 + error; 700],
        targets: vec![0.1; 700],
    };
    cases.push((Kind::Errors, equal(0.0)));
    assert_equal(&cases);
}

#[test]
fn confusion_matrix_is_that_of_scikit_learn() {
    let kind = Kind::Classes {
        classes: 7,
        top_k: 2,
    };
    let rows = classified(&mut Random(4), 900, 7, 5, 3);
    let Some(answers) = ask(&[(kind.clone(), rows.clone())]) else {
        return;
    };
    let memory = MemorySink::default();
    let run = Trainer::builder(Measure(kind), model())
        .train_data(data::cycle(vec![rows.clone()]))
        .eval_data("val", rows.batches())
        .optimizer(SgdConfig::new().build(), 0.1)
        .steps(1)
        .eval(start())
        .stop_on_signals(false)
        .sink(memory.clone());
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    let values = &memory.records()[0].values;
    let confusion = values.iter().find(|(key, _)| key == "val/confusion");
    let (_, table) = confusion.expect("a table");
    assert_eq!(counts(table), answers[0]["confusion"]);
}
