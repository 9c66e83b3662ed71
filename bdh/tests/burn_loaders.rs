//! burn's data loaders and datasets are data of a run: in burn's order, resumed exactly, and failing with their text.
#![cfg(feature = "dataset")]

use bdh::burn::data::dataloader::batcher::Batcher;
use bdh::burn::data::dataloader::{DataLoader, DataLoaderBuilder, DataLoaderIterator};
use bdh::burn::data::dataset::{Dataset, DatasetError, InMemDataset};
use bdh::burn::module::Param;
use bdh::burn::nn::Linear;
use bdh::burn::optim::AdamWConfig;
use bdh::burn::tensor::{Device, Tensor};
use bdh::cadence::every;
use bdh::data::{BurnLoader, DatasetLoader, EvalData, Prefetch, TrainData, burn_loader};
use bdh::testing::resume_exact;
use bdh::{BatchSize, LossContext, Task, Trainer, TrainerBuilder};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

type Batch = Vec<usize>;

/// Makes a batch of its items; panics on some.
#[derive(Clone, Copy, Default)]
struct Items {
    panics_on: Option<usize>,
}

impl Batcher<usize, Batch> for Items {
    fn batch(&self, items: Batch, _: &Device) -> Batch {
        for item in &items {
            assert_ne!(Some(*item), self.panics_on, "item {item} is out of paper");
        }
        items
    }
}

/// Counts from 0; fails at one index.
#[derive(Clone, Copy)]
struct Count {
    len: usize,
    fails_at: Option<usize>,
}

impl Count {
    fn to(len: usize) -> Self {
        let fails_at = None;
        Self { len, fails_at }
    }
}

impl Dataset<usize> for Count {
    fn get(&self, index: usize) -> Result<usize, DatasetError> {
        if Some(index) == self.fails_at {
            let error = io::Error::other(format!("item {index} is damaged"));
            return Err(DatasetError::new(error));
        }
        Ok(index)
    }

    fn len(&self) -> usize {
        self.len
    }
}

/// Returns burn's loader of the numbers below `len` in batches of 4.
fn burns(len: usize, seed: Option<u64>, workers: usize) -> Arc<dyn DataLoader<Batch>> {
    let builder = DataLoaderBuilder::new(Items::default())
        .batch_size(4)
        .num_workers(workers)
        .set_device(Device::flex());
    let builder = match seed {
        Some(seed) => builder.shuffle(seed),
        None => builder,
    };
    builder.build(InMemDataset::new((0..len).collect()))
}

fn shuffled(len: usize) -> BurnLoader<Batch> {
    burn_loader(burns(len, Some(7), 0))
}

fn ours(len: usize, workers: usize) -> DatasetLoader<usize, Batch> {
    DatasetLoader::new(Count::to(len), Items::default())
        .batch_size(4)
        .shuffle(7)
        .workers(workers)
}

fn draw(data: &mut impl TrainData<Batch = Batch>, batches: usize) -> Vec<Batch> {
    let mut drawn = Vec::new();
    for _ in 0..batches {
        drawn.push(data.next_batch().expect("there is a batch"));
    }
    drawn
}

/// Draws batches, each with the position after it.
fn draw_with_states(
    data: &mut impl TrainData<Batch = Batch>,
    batches: usize,
) -> Vec<(Batch, Value)> {
    let mut drawn = Vec::new();
    for _ in 0..batches {
        let batch = data.next_batch().expect("there is a batch");
        drawn.push((batch, data.state()));
    }
    drawn
}

/// Returns the text of the first error, and the number of batches before it.
fn first_error(data: &mut impl TrainData<Batch = Batch>) -> (usize, String) {
    for batches in 0..100 {
        if let Err(error) = data.next_batch() {
            return (batches, error.to_string());
        }
    }
    panic!("100 batches, and none failed");
}

fn refusal(data: &mut impl TrainData<Batch = Batch>, state: &Value) -> String {
    let refused = data.load_state(state);
    refused.expect_err("the position is refused").to_string()
}

fn evaluate(data: &impl EvalData<Batch = Batch>) -> Vec<Batch> {
    let batches: Result<_, _> = data.batches().collect();
    batches.expect("no batch fails")
}

fn sorted(batches: &[Batch]) -> Batch {
    let mut items = batches.concat();
    items.sort_unstable();
    items
}

#[test]
fn passes_over_a_burn_loader_are_burns_own() {
    let burns = burns(10, Some(7), 0);
    let mut expected: Vec<Batch> = Vec::new();
    for _ in 0..4 {
        expected.extend(burns.iter().map(|batch| batch.expect("no batch fails")));
    }
    assert_ne!(expected[..3], expected[3..6], "each pass has its own order");
    assert_eq!(draw(&mut shuffled(10), 12), expected);

    let mut asked = shuffled(10);
    assert_eq!(asked.batches_per_epoch(), Some(3));
    assert_eq!(
        draw(&mut asked, 12),
        expected,
        "asking for the length draws nothing"
    );
}

#[test]
fn a_burn_loader_resumes_exactly_from_every_position() {
    let drawn = draw_with_states(&mut shuffled(10), 15);
    let states = drawn.iter().map(|(_, state)| state);
    for (position, state) in states.enumerate() {
        for is_asked in [false, true] {
            let mut resumed = shuffled(10);
            if is_asked {
                assert_eq!(resumed.batches_per_epoch(), Some(3));
            }
            resumed.load_state(state).expect("it is ahead");
            assert_eq!(resumed.state(), *state);
            assert_eq!(resumed.batches_per_epoch(), Some(3));
            let rest = draw_with_states(&mut resumed, 14 - position);
            assert_eq!(rest, drawn[position + 1..], "resumed at {state}");
        }
    }
    assert_eq!(
        drawn[7].1,
        json!({ "epoch": 2, "batch": 2, "items": 10, "batches": 3 }),
        "the eighth batch is the second of the third epoch"
    );
}

#[test]
fn a_burn_loader_that_has_begun_moves_ahead_and_not_back() {
    let states: Vec<Value> = draw_with_states(&mut shuffled(10), 15)
        .into_iter()
        .map(|(_, state)| state)
        .collect();
    let expected = draw(&mut shuffled(10), 15);
    for from in 1..9 {
        for to in from..14 {
            let mut data = shuffled(10);
            draw(&mut data, from);
            data.load_state(&states[to - 1]).expect("it is ahead");
            assert_eq!(draw(&mut data, 1), expected[to..=to], "from {from} to {to}");
        }
    }

    let mut data = shuffled(10);
    draw(&mut data, 5);
    assert_eq!(
        refusal(&mut data, &states[0]),
        "the saved position, batch 1 of epoch 0, is before batch 2 of epoch 1, and a data loader cannot go back: build it anew"
    );
}

#[test]
fn positions_in_other_burn_loaders_are_refused() {
    let state = shuffled(10).state();
    assert_eq!(
        refusal(&mut shuffled(11), &state),
        "the data loader had 10 items and has 11 now: resume with the same data"
    );
    let other_size = json!({ "epoch": 0, "batch": 1, "items": 10, "batches": 5 });
    assert_eq!(
        refusal(&mut shuffled(10), &other_size),
        "the data loader made 5 batches of its 10 items and makes 3 now: resume with the same batch size"
    );
    let far = json!({ "epoch": u64::MAX, "batch": 0, "items": 10 });
    assert_eq!(
        refusal(&mut shuffled(10), &far),
        "the saved position, batch 0 of epoch 18446744073709551615, is out of range"
    );
    let long = json!({ "epoch": 0, "batch": 11, "items": 10 });
    assert_eq!(
        refusal(&mut shuffled(10), &long),
        "the saved position, batch 11 of epoch 0, is out of range"
    );
    assert!(!refusal(&mut shuffled(10), &Value::Null).is_empty());
}

#[test]
fn a_burn_loader_with_worker_threads_yields_every_item_once_an_epoch_and_has_no_position() {
    for len in [5, 10, 16, 41] {
        let mut data = burn_loader(burns(len, Some(7), 2));
        let batches = len.div_ceil(4);
        assert_eq!(data.batches_per_epoch(), Some(batches as u64));
        for _ in 0..3 {
            let epoch = draw(&mut data, batches);
            assert!(sorted(&epoch).into_iter().eq(0..len));
            assert_eq!(data.state(), Value::Null);
        }
    }
    let mut data = burn_loader(burns(10, Some(7), 2));
    assert_eq!(
        refusal(&mut data, &shuffled(10).state()),
        "a data loader with worker threads has no order in which to resume: build it without `num_workers`, or use `DatasetLoader`"
    );
}

#[test]
fn a_burn_loader_without_items_is_known_before_the_run() {
    for workers in [0, 2] {
        let mut data = burn_loader(burns(0, Some(7), workers));
        assert_eq!(data.batches_per_epoch(), Some(0));
        assert_eq!(
            first_error(&mut data),
            (
                0,
                "the data loader has no items: give it a dataset of at least one".to_owned()
            )
        );
        assert!(evaluate(&data).is_empty());
    }
}

#[test]
fn errors_of_a_dataset_end_the_data_in_their_place() {
    let text = "item 9 is damaged".to_owned();
    let broken = Count {
        len: 20,
        fails_at: Some(9),
    };
    let loader = DataLoaderBuilder::new(Items::default())
        .batch_size(4)
        .set_device(Device::flex())
        .build(broken);
    assert_eq!(
        first_error(&mut burn_loader(Arc::clone(&loader))),
        (2, text.clone())
    );
    let evaluated: Vec<_> = burn_loader(loader).batches().collect();
    assert!(evaluated.len() == 3 && evaluated[2].is_err());

    for workers in 0..4 {
        let mut data = DatasetLoader::new(broken, Items::default())
            .batch_size(4)
            .workers(workers);
        assert_eq!(first_error(&mut data), (2, text.clone()));
        assert_eq!(
            first_error(&mut data).0,
            0,
            "the data does not go past its error"
        );
        assert_eq!(data.batches().take_while(Result::is_ok).count(), 2);
    }
}

#[test]
fn panics_of_a_batcher_are_errors_in_their_place() {
    let panics = Items { panics_on: Some(9) };
    let loader = |workers| {
        DataLoaderBuilder::new(panics)
            .batch_size(4)
            .num_workers(workers)
            .set_device(Device::flex())
            .build(Count::to(20))
    };
    let panicked = "panicked: assertion `left != right` failed: item 9 is out of paper";

    let (batches, text) = first_error(&mut burn_loader(loader(0)));
    assert_eq!(batches, 2);
    assert!(
        text.starts_with(&format!("the data loader {panicked}")),
        "{text}"
    );

    let (_, text) = first_error(&mut burn_loader(loader(2)));
    assert!(
        text.starts_with("the data loader ended a pass after "),
        "{text}"
    );
    assert!(
        text.contains(" of 20 items: one of its worker threads panicked"),
        "{text}"
    );

    for workers in 0..4 {
        let data = || {
            DatasetLoader::new(Count::to(20), panics)
                .batch_size(4)
                .workers(workers)
        };
        let (batches, text) = first_error(&mut data());
        assert_eq!(batches, 2);
        assert!(
            text.starts_with(&format!("the batcher {panicked}")),
            "{text}"
        );
        let evaluated: Vec<_> = data().batches().collect();
        assert!(evaluated[..2].iter().all(Result::is_ok) && evaluated[2].is_err());
    }
}

/// A loader of a user, of 3 items that no pass yields; without an inner loader it cannot begin a pass.
struct Hollow(Option<Arc<dyn DataLoader<Batch>>>);

impl DataLoader<Batch> for Hollow {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<Batch> + 'a> {
        self.0.as_ref().expect("out of ink").iter()
    }

    fn num_items(&self) -> usize {
        3
    }

    fn to_device(&self, _: &Device) -> Arc<dyn DataLoader<Batch>> {
        Arc::new(Self(None))
    }

    fn slice(&self, _: usize, _: usize) -> Arc<dyn DataLoader<Batch>> {
        Arc::new(Self(None))
    }
}

#[test]
fn a_burn_loader_that_cannot_begin_a_pass_is_an_error() {
    let mut data = burn_loader(Arc::new(Hollow(None)));
    assert_eq!(data.batches_per_epoch(), None);
    let text = "the data loader panicked: out of ink";
    assert_eq!(first_error(&mut data), (0, text.to_owned()));
    let mut evaluated = data.batches();
    let error = evaluated.next().expect("an item").expect_err("an error");
    assert_eq!(error.to_string(), text);
    assert!(evaluated.next().is_none());
}

#[test]
fn a_burn_loader_whose_passes_are_empty_is_an_error() {
    let mut data = burn_loader(Arc::new(Hollow(Some(burns(0, None, 0)))));
    assert_eq!(data.batches_per_epoch(), None);
    let text = "epoch 0 of the data loader has no batches: a pass must have at least one";
    assert_eq!(first_error(&mut data), (0, text.to_owned()));
    let text = "the data loader failed before, and has no further batches";
    assert_eq!(first_error(&mut data), (0, text.to_owned()));
}

#[test]
fn a_dropped_burn_loader_ends_its_thread() {
    for workers in [0, 2] {
        let loader = burns(1000, Some(7), workers);
        let mut data = burn_loader(Arc::clone(&loader));
        draw(&mut data, 5);
        drop(data);
        assert_eq!(Arc::strong_count(&loader), 1);
    }
}

#[test]
fn the_order_of_a_dataset_loader_does_not_depend_on_the_number_of_workers() {
    let expected = draw_with_states(&mut ours(10, 0), 20);
    for workers in [1, 2, 3, 4, usize::MAX] {
        assert_eq!(draw_with_states(&mut ours(10, workers), 20), expected);
    }
    let mut slow = DatasetLoader::new(Count::to(10), Sleepy)
        .batch_size(4)
        .shuffle(7)
        .workers(3);
    assert_eq!(draw_with_states(&mut slow, 20), expected);
}

/// Makes batches that take more or less time, so that threads overtake each other.
struct Sleepy;

impl Batcher<usize, Batch> for Sleepy {
    fn batch(&self, items: Batch, _: &Device) -> Batch {
        let micros = items.iter().sum::<usize>() * 7919 % 2000;
        thread::sleep(Duration::from_micros(micros as u64));
        items
    }
}

#[test]
fn each_epoch_of_a_dataset_loader_has_every_item_once_in_another_order() {
    let mut data = ours(10, 2);
    let epochs: Vec<_> = (0..5).map(|_| draw(&mut data, 3)).collect();
    for epoch in &epochs {
        assert!(sorted(epoch).into_iter().eq(0..10));
        let sizes: Vec<usize> = epoch.iter().map(Vec::len).collect();
        assert_eq!(sizes, [4, 4, 2], "the last batch is smaller");
        assert_eq!(epochs.iter().filter(|other| *other == epoch).count(), 1);
    }
    assert_eq!(data.batches_per_epoch(), Some(3));
}

#[test]
fn a_dataset_loader_without_a_seed_keeps_the_order_of_the_dataset() {
    let mut data = DatasetLoader::new(Count::to(5), Items::default())
        .batch_size(2)
        .workers(2);
    let epoch = [vec![0, 1], vec![2, 3], vec![4]];
    assert_eq!(draw(&mut data, 3), epoch);
    assert_eq!(draw(&mut data, 3), epoch);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_dataset_loader_resumes_exactly_with_any_number_of_workers(
        len in 1..30_usize,
        batch_size in 1..9_usize,
        seed in prop::option::of(any::<u64>()),
        drawn in 0..40_usize,
        workers in (0..4_usize, 0..4_usize),
    ) {
        let make = |workers| {
            let data = DatasetLoader::new(Count::to(len), Items::default());
            let data = data.batch_size(batch_size).workers(workers);
            match seed {
                Some(seed) => data.shuffle(seed),
                None => data,
            }
        };
        let (mut whole, mut resumed) = (make(workers.0), make(workers.1));
        draw(&mut whole, drawn);
        draw(&mut resumed, 3);
        prop_assert!(resumed.load_state(&whole.state()).is_ok());
        prop_assert_eq!(draw_with_states(&mut resumed, 9), draw_with_states(&mut whole, 9));
    }
}

#[test]
fn positions_in_other_datasets_are_refused() {
    let state = ours(10, 0).state();
    assert_eq!(
        refusal(&mut ours(11, 0), &state),
        "the dataset had 10 items and has 11 now: resume with the same data"
    );
    assert_eq!(
        refusal(&mut ours(10, 0).batch_size(5), &state),
        "`batch_size` was 4 and is 5 now: resume with the same size"
    );
    assert_eq!(
        refusal(&mut ours(10, 0).shuffle(8), &state),
        "the items were shuffled with seed 7 and are shuffled with seed 8 now: resume with the same order"
    );
    for (epoch, batch) in [(u64::MAX, 0), (0, 3)] {
        let mut crafted = state.clone();
        crafted["epoch"] = json!(epoch);
        crafted["batch"] = json!(batch);
        let text = format!("the saved position, batch {batch} of epoch {epoch}, is out of range");
        assert_eq!(refusal(&mut ours(10, 0), &crafted), text);
    }
    assert!(!refusal(&mut ours(10, 0), &json!({})).is_empty());
}

#[test]
fn a_dataset_loader_without_batches_is_refused_with_a_sentence() {
    let mut empty = ours(0, 2);
    assert_eq!(empty.batches_per_epoch(), Some(0));
    let text = "the dataset has no items: give `DatasetLoader` one of at least 1";
    assert_eq!(first_error(&mut empty), (0, text.to_owned()));
    assert_eq!(refusal(&mut ours(0, 2), &ours(0, 2).state()), text);
    assert!(evaluate(&empty).is_empty());

    let mut nothing = ours(10, 2).batch_size(0);
    assert_eq!(nothing.batches_per_epoch(), None);
    let text = "`batch_size` is 0: a batch has at least 1 item";
    assert_eq!(first_error(&mut nothing), (0, text.to_owned()));
    let mut evaluated = nothing.batches();
    let error = evaluated.next().expect("an item").expect_err("an error");
    assert_eq!(error.to_string(), text);
}

#[test]
fn evals_read_the_whole_dataset_in_order_each_time() {
    let expected: Vec<Batch> = vec![vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]];
    let plain = burn_loader(burns(10, None, 0));
    for workers in 0..4 {
        let data = ours(10, workers);
        assert_eq!(data.num_batches(), Some(3));
        for _ in 0..2 {
            assert_eq!(evaluate(&data), expected);
            assert_eq!(evaluate(&plain), expected);
            assert_eq!(data.batches().take(1).count(), 1, "an eval can end early");
        }
    }
    let threaded = burn_loader(burns(10, None, 2));
    for _ in 0..2 {
        assert!(sorted(&evaluate(&threaded)).into_iter().eq(0..10));
    }
}

#[test]
fn a_dropped_dataset_loader_ends_its_threads() {
    let dataset = Arc::new(Count::to(1000));
    let mut data = DatasetLoader::new(Arc::clone(&dataset), Items::default()).workers(3);
    draw(&mut data, 5);
    drop(data.batches().next());
    drop(data);
    assert_eq!(Arc::strong_count(&dataset), 1);
}

#[test]
fn batches_are_made_on_the_device_that_was_asked_for() {
    /// Returns whether its device has autodiff.
    struct IsAutodiff;

    impl Batcher<usize, bool> for IsAutodiff {
        fn batch(&self, _: Vec<usize>, device: &Device) -> bool {
            device.is_autodiff()
        }
    }

    let mut host = DatasetLoader::new(Count::to(2), IsAutodiff);
    assert!(!host.next_batch().expect("there is a batch"));
    let mut other = host.device(&Device::flex().autodiff());
    assert!(other.next_batch().expect("there is a batch"));
}

/// Learns to halve numbers from burn's tensors.
struct Halve;

impl Task for Halve {
    type Model = Linear;
    type Batch = Tensor<2>;

    fn size(&self, batch: &Tensor<2>) -> BatchSize {
        BatchSize::samples(batch.dims()[0])
    }

    fn loss(&self, model: &Linear, batch: &Tensor<2>, _: &LossContext<'_>) -> Tensor<1> {
        let x = batch.clone().to_device(&model.weight.device());
        (model.forward(x.clone()) - x / 2.0).square().mean()
    }
}

/// Makes a column `[items, 1]` of its items.
struct Column;

impl Batcher<usize, Tensor<2>> for Column {
    fn batch(&self, items: Vec<usize>, device: &Device) -> Tensor<2> {
        let items: Vec<f32> = items.into_iter().map(|item| item as f32 / 10.0).collect();
        Tensor::<1>::from_floats(items.as_slice(), device).reshape([-1, 1])
    }
}

fn run(data: impl TrainData<Batch = Tensor<2>>) -> TrainerBuilder<Halve> {
    let device = bdh::device("cpu").expect("the CPU is compiled in");
    let weight = Tensor::from_floats([[2.0]], &device);
    let model = Linear {
        weight: Param::from_tensor(weight),
        bias: None,
    };
    Trainer::builder(Halve, model)
        .train_data(data)
        .optimizer(AdamWConfig::new().build(), 1e-2)
        .steps(11)
}

fn columns(workers: usize) -> DatasetLoader<usize, Tensor<2>> {
    DatasetLoader::new(Count::to(10), Column)
        .batch_size(4)
        .shuffle(7)
        .workers(workers)
}

/// Returns burn's shuffled loader of columns.
fn burns_columns() -> BurnLoader<Tensor<2>> {
    let loader = DataLoaderBuilder::new(Column)
        .batch_size(4)
        .shuffle(7)
        .set_device(Device::flex());
    burn_loader(loader.build(Count::to(10)))
}

#[test]
fn runs_on_loaders_resume_exactly_in_the_middle_of_an_epoch() {
    let measured = ["train/data_wait"];
    resume_exact([2, 7], &measured, || {
        run(columns(2)).eval_data("val", columns(1)).eval(every(4))
    });
    resume_exact([2, 7], &measured, || run(burns_columns()));
    resume_exact([2, 7], &measured, || run(Prefetch::new(burns_columns())));
}

#[test]
fn runs_without_data_are_refused_before_they_start() {
    let empty = DatasetLoader::new(Count::to(0), Column);
    let error = run(empty).build().expect_err("there is no data");
    assert!(error.to_string().contains("it has no batches"), "{error}");
}
