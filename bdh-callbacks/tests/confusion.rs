//! Confusion matrices of evals are recorded as tables and as pictures.

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::burn::nn::{Linear, LinearConfig};
use bdh::burn::optim::SgdConfig;
use bdh::burn::tensor::{Int, Tensor};
use bdh::cadence::{every, last};
use bdh::metrics::{Classes, Metrics};
use bdh::{
    BatchSize, LossContext, MemorySink, Record, Sink, Task, Trainer, TrainerBuilder, Value, data,
};
use bdh_callbacks::ConfusionMatrix;
use tiny::{Listener, Seen};

/// Tells numbers below 0, class 0, from others.
struct Signs(Classes);

/// Numbers and their classes.
type Batch = (Vec<f32>, Vec<i32>);

impl Signs {
    /// Returns logits, `[batch, 2]`: those of a number `x` are `-x` and `x`.
    fn logits(model: &Linear, numbers: &[f32]) -> Tensor<2> {
        let numbers = Tensor::<1>::from_floats(numbers, &model.weight.device()).reshape([-1, 1]);
        Tensor::cat(vec![-numbers.clone(), numbers], 1)
    }
}

impl Task for Signs {
    type Model = Linear;
    type Batch = Batch;

    fn size(&self, (numbers, _): &Batch) -> BatchSize {
        BatchSize::samples(numbers.len())
    }

    fn loss(&self, model: &Linear, _: &Batch, _: &LossContext<'_>) -> Tensor<1> {
        model.weight.val().square().sum()
    }

    fn eval(&self, model: &Linear, (numbers, classes): &Batch, metrics: &mut Metrics) {
        let targets = Tensor::<1, Int>::from_ints(classes.as_slice(), &model.weight.device());
        metrics.classes(&self.0, Self::logits(model, numbers), targets);
    }
}

fn batch() -> Batch {
    (vec![-1.0, -2.0, 3.0, 4.0, -5.0], vec![0, 0, 1, 0, 1])
}

/// Composes a run of 4 steps with evals of `val` on steps 2 and 4, and of `test` on step 4.
fn run(classes: Classes) -> TrainerBuilder<Signs> {
    let model = LinearConfig::new(1, 1).init(&tiny::device());
    Trainer::builder(Signs(classes), model)
        .train_data(data::cycle(vec![batch()]))
        .eval_data("val", vec![batch(), batch()])
        .eval_data_on("test", vec![batch()], last())
        .eval(every(2))
        .optimizer(SgdConfig::new().build(), 0.1)
        .steps(4)
        .stop_on_signals(false)
}

fn fit(run: TrainerBuilder<Signs>, sink: impl Sink + 'static) {
    let run = run.sink(sink).build().expect("a valid run");
    let fitted = run.fit().expect("a run that completes");
    assert_eq!(fitted.warnings, []);
}

fn value<'a>(record: &'a Record, key: &str) -> Option<&'a Value> {
    let mut values = record.values.iter();
    values
        .find(|(known, _)| known == key)
        .map(|(_, value)| value)
}

#[test]
fn pictures_are_recorded_beside_the_tables_of_each_set() {
    let _alone = tiny::alone();
    let memory = MemorySink::default();
    let classes = Classes::new(2).names(["low", "high"]);
    fit(
        run(classes).callback(ConfusionMatrix::default()),
        memory.clone(),
    );
    for record in memory.records() {
        let step = record.clock.step;
        for (set, is_due) in [("val", [2, 4].contains(&step)), ("test", step == 4)] {
            let table = value(&record, &format!("{set}/confusion"));
            let picture = value(&record, &format!("{set}/confusion_matrix"));
            assert_eq!(
                (table.is_some(), picture.is_some()),
                (is_due, is_due),
                "{set} of {step}"
            );
            if let Some(picture) = picture {
                assert!(matches!(picture, Value::Image(_)), "{picture:?}");
            }
        }
    }
    let records = memory.records();
    let table = records
        .last()
        .and_then(|last| value(last, "test/confusion"));
    let rows = [["low", "2", "1"], ["high", "1", "1"]].map(|row| row.map(str::to_owned).into());
    let columns = ["target", "low", "high"].map(str::to_owned).into();
    assert_eq!(
        table,
        Some(&Value::Table {
            columns,
            rows: rows.into()
        })
    );
}

#[test]
fn prefix_of_the_classes_is_in_the_key_of_the_picture() {
    let _alone = tiny::alone();
    let memory = MemorySink::default();
    let classes = Classes::new(2).prefix("sign_");
    fit(
        run(classes).callback(ConfusionMatrix::default()),
        memory.clone(),
    );
    let records = memory.records();
    let last = records.last().expect("a record");
    assert!(
        value(last, "val/sign_confusion_matrix").is_some(),
        "{last:?}"
    );
}

#[test]
fn eval_without_a_confusion_matrix_is_reported_once() {
    let _alone = tiny::alone();
    let seen = Seen::new();
    let classes = Classes::new(2).confusion(false);
    fit(
        run(classes).callback(ConfusionMatrix::default()),
        Listener(seen.clone()),
    );
    let messages = seen.all();
    let about = messages
        .iter()
        .filter(|text| text.contains("`confusion` draws nothing"));
    let about: Vec<_> = about.collect();
    assert_eq!(about.len(), 1, "{messages:?}");
    assert!(
        about[0].contains("add one with `metrics.classes`"),
        "{about:?}"
    );
}

#[test]
fn run_without_evals_is_noted_in_the_plan() {
    let run = tiny::run(4).eval(bdh::cadence::never());
    let run = run.callback(ConfusionMatrix::default()).build();
    let notes = run.expect("a valid run").plan().notes.clone();
    assert!(
        notes.contains(&"`confusion` draws nothing: this run has no evals".to_owned()),
        "{notes:?}"
    );
}
