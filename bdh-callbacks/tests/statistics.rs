//! Values recorded by the callbacks that measure parameters and activations.

#![expect(
    clippy::unit_arg,
    reason = "a hook that cannot fail reads best on one line"
)]

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::burn; // `derive(Module)` writes paths that begin with `burn`
use bdh::burn::module::{Module, Param};
use bdh::burn::optim::SgdConfig;
use bdh::burn::tensor::Tensor;
use bdh::cadence::{at, every, last, never};
use bdh::data::cycle;
use bdh::stats::Histogram;
use bdh::{
    BatchSize, BoxError, Callback, CallbackExt, LossContext, MemorySink, Message, Record, RunInfo,
    Sink, Task, TrainResult, Trainer, Value, registry,
};
use bdh_callbacks::{Activations, Clipping, Histograms, Norms, Overlay, Ridges, UpdateRatios};
use std::path::Path;

fn fit(run: tiny::Builder) -> TrainResult<tiny::Tiny> {
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes")
}

fn from_toml(settings: &str) -> Box<dyn Callback> {
    let text = format!("[[callback]]\n{settings}");
    registry::from_toml(&text)
        .expect("a valid configuration")
        .remove(0)
}

/// Returns the value of a key in the last record.
fn newest(memory: &MemorySink, key: &str) -> Value {
    let values = memory.records().pop().expect("a record").values;
    values
        .into_iter()
        .find(|(known, _)| known == key)
        .expect("a recorded key")
        .1
}

#[test]
fn histogram_has_the_weights_after_the_update() {
    let memory = MemorySink::default();
    let histograms = Histograms::default().on(every(1));
    let fitted = fit(tiny::run(2)
        .eval(never())
        .sink(memory.clone())
        .callback(histograms));
    let embed = &tiny::weights(&fitted.model)[0];
    let embed: Vec<f32> = embed.iter().map(|bits| f32::from_bits(*bits)).collect();
    let expected = Value::Histogram(Histogram::of(&embed, 64));
    assert_eq!(newest(&memory, "weights/embed.weight"), expected);
    assert_eq!(fitted.overhead.reads, 2, "one read a step");
}

#[test]
fn norms_are_of_updated_weights_and_unclipped_gradients() {
    let memory = MemorySink::default();
    let by_hand = tiny::before_optimizer_step(|ctx| {
        ctx.log("by_hand", ctx.grad_norm.expect("clipping is on").clone());
        Ok(())
    });
    let run = tiny::run(3).clip_grad_norm(1e-3).sink(memory.clone());
    let fitted = fit(run
        .callback(by_hand)
        .callback(Norms::default().per_parameter(true)));
    assert_eq!(memory.series("train/grad_norm"), memory.series("by_hand"));

    let square = |bits: &u32| f64::from(f32::from_bits(*bits)).powi(2);
    let squares: Vec<f64> = tiny::weights(&fitted.model)
        .iter()
        .map(|values| values.iter().map(square).sum())
        .collect();
    let about = |key, expected: f64| {
        let found = memory.series(key)[2].1;
        assert!(
            (found / expected - 1.0).abs() < 1e-6,
            "{key} is {found} instead of {expected}"
        );
    };
    about("train/weight_norm", squares.iter().sum::<f64>().sqrt());
    about("norm/weight/embed.weight", squares[0].sqrt());
}

#[test]
fn pattern_without_a_match_is_reported_and_the_run_continues() {
    let settings = "use = \"histograms\"\nparams = [\"*embed*\", \"*attn*\"]";
    let fitted = fit(tiny::run(2).callback(from_toml(settings)));
    let warning = fitted.warnings[0].to_string();
    let expected =
        "no parameter matches `*attn*`; the model has embed.weight, head.weight, head.bias";
    assert!(warning.contains(expected), "{warning}");
}

#[test]
fn norms_of_disjoint_groups_add_up_to_the_global_norm() {
    let memory = MemorySink::default();
    let norms = Norms::default()
        .group("in", "embed*")
        .group("out", ["head*"])
        .updates(true)
        .per_parameter(true);
    fit(tiny::run(3).sink(memory.clone()).callback(norms));
    let last = |key: &str| memory.series(key)[2].1;
    for key in ["train/weight_norm", "train/grad_norm", "train/update_norm"] {
        let parts = last(&format!("{key}/in")).hypot(last(&format!("{key}/out")));
        assert!(
            (parts / last(key) - 1.0).abs() < 1e-9,
            "{key} is {} and {parts}",
            last(key)
        );
    }
    assert_eq!(
        last("train/update_norm/in"),
        last("norm/update/embed.weight")
    );
}

#[test]
fn clipped_gradients_and_updates_have_the_expected_norms() {
    let memory = MemorySink::default();
    let norms = Norms::default().clipped(true).updates(true);
    let run =
        tiny::compose(tiny::ROWS, tiny::Tiny::new(0.0), 3).optimizer(SgdConfig::new().build(), 0.5);
    fit(run
        .clip_grad_norm(1e-3)
        .sink(memory.clone())
        .callback(norms));
    for ((_, clipped), (_, update)) in memory
        .series("train/grad_norm_clipped")
        .iter()
        .zip(memory.series("train/update_norm"))
    {
        assert!((clipped / 1e-3 - 1.0).abs() < 1e-4, "{clipped}");
        assert!((update / 0.5e-3 - 1.0).abs() < 1e-3, "{update}"); // weights of about 0.3 round it
    }
}

/// Returns a norm that the gradients exceed on some of the steps.
fn medium_norm() -> f64 {
    let memory = MemorySink::default();
    fit(tiny::run(12)
        .sink(memory.clone())
        .callback(Norms::default()));
    let mut norms: Vec<_> = memory
        .series("train/grad_norm")
        .iter()
        .map(|(_, norm)| *norm)
        .collect();
    norms.sort_by(f64::total_cmp);
    norms[6]
}

/// Returns the shares of clipped steps of a run that reads only when they are recorded or saved.
fn clip_fractions(dir: &Path, from: Option<&Path>) -> Vec<(u64, f64)> {
    let memory = MemorySink::default();
    let run = tiny::run(12)
        .clip_grad_norm(medium_norm())
        .log(never())
        .eval(never());
    let run = run.checkpoint(at([6])).run_dir(dir).sink(memory.clone());
    let run = from.into_iter().fold(run, tiny::Builder::resume);
    fit(run.callback(Clipping::default().on(every(4))));
    memory.series("train/clip_fraction")
}

#[test]
fn clip_fraction_covers_all_steps_and_survives_a_resume() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let memory = MemorySink::default();
    let each = Clipping::default().on(every(1));
    fit(tiny::run(12)
        .clip_grad_norm(medium_norm())
        .sink(memory.clone())
        .callback(each));
    let each: Vec<_> = memory
        .series("train/clip_fraction")
        .iter()
        .map(|(_, share)| *share)
        .collect();
    assert!(each.contains(&0.0) && each.contains(&1.0), "{each:?}");

    let whole = clip_fractions(&dir, None);
    let means: Vec<_> = each
        .chunks(4)
        .map(|four| four.iter().sum::<f64>() / 4.0)
        .collect();
    assert_eq!(
        whole.iter().map(|(_, share)| *share).collect::<Vec<_>>(),
        means
    );
    let resumed = clip_fractions(&dir, Some(&dir.join("checkpoints/step_00000006")));
    assert_eq!(resumed, whole[1..]);
}

/// Sink that keeps the messages.
#[derive(Clone)]
struct Listener(tiny::Seen<String>);

impl Sink for Listener {
    fn name(&self) -> String {
        "listener".to_owned()
    }

    fn open(&mut self, _run: &RunInfo) -> Result<(), BoxError> {
        Ok(())
    }

    fn write(&mut self, _record: &Record) -> Result<(), BoxError> {
        Ok(())
    }

    fn message(&mut self, message: &Message) {
        self.0.push(message.to_string());
    }
}

#[test]
fn ratios_are_quotients_and_are_printed() {
    let (memory, listener) = (MemorySink::default(), Listener(tiny::Seen::new()));
    let by_hand = tiny::after_backward(|ctx| {
        for (weight, grad) in ctx.weights.iter().zip(ctx.gradients.iter()) {
            ctx.log(
                format!("by_hand/{}", weight.name()),
                grad.std() / weight.std(),
            );
            ctx.log(format!("norms/{}", weight.name()), weight.l2());
        }
        Ok(())
    });
    let updates = tiny::after_optimizer_step(|ctx| {
        let norms = ctx
            .updates
            .iter()
            .map(|update| (update.name().to_owned(), update.l2()));
        Ok(norms.for_each(|(name, norm)| ctx.log(format!("updates/{name}"), norm)))
    });
    let ratios = UpdateRatios::default().on(at([2])).l2(true).updates(true);
    let run = tiny::run(3)
        .eval(never())
        .sink(memory.clone())
        .sink(listener.clone());
    let run = run.callback(by_hand).callback(updates);
    let fitted = fit(run.callback(ratios));
    assert_eq!(fitted.overhead.reads, 3);

    let second = |key: &str| {
        memory
            .series(key)
            .iter()
            .find(|(step, _)| *step == 2)
            .expect(key)
            .1
    };
    for name in ["embed.weight", "head.weight"] {
        let by_hand = second(&format!("by_hand/{name}"));
        assert_eq!(second(&format!("ratio/grad_std/{name}")), by_hand);
        let updates = second(&format!("updates/{name}")) / second(&format!("norms/{name}"));
        assert_eq!(second(&format!("ratio/update_l2/{name}")), updates);
    }
    let lines = listener.0.all();
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].starts_with("weight embed.weight: mean "),
        "{lines:?}"
    );
    let ratio: f64 = lines[0]
        .rsplit_once(' ')
        .expect("words")
        .1
        .parse()
        .expect("a number");
    assert!(
        (ratio / second("ratio/grad_std/embed.weight") - 1.0).abs() < 1e-4,
        "{lines:?}"
    );
}

/// Task that exposes the same two tokens of four units on each step, and learns one number.
struct Shows([f32; 8]);

#[derive(Module, Debug)]
struct Number {
    number: Param<Tensor<1>>,
}

impl Task for Shows {
    type Model = Number;
    type Batch = ();

    fn size(&self, (): &()) -> BatchSize {
        BatchSize {
            samples: 1,
            tokens: 2,
        }
    }

    fn loss(&self, model: &Number, (): &(), step: &LossContext<'_>) -> Tensor<1> {
        let shown = Tensor::<1>::from_floats(self.0, &tiny::device()).reshape([1, 2, 4]);
        step.probe().tap("h.0.mlp", &shown);
        model.number.val()
    }
}

/// Returns mean, standard deviation, RMS, share of zeros, and share of dead units.
fn activations(values: [f32; 8]) -> Vec<f64> {
    let memory = MemorySink::default();
    let model = Number {
        number: Param::from_tensor(Tensor::ones([1], &tiny::device())),
    };
    let run = Trainer::builder(Shows(values), model)
        .train_data(cycle(vec![()]))
        .optimizer(SgdConfig::new().build(), 0.1);
    let run = run.steps(1).stop_on_signals(false).sink(memory.clone());
    let run = run
        .callback(Activations::default())
        .build()
        .expect("a valid run");
    assert_eq!(run.fit().expect("a run that completes").overhead.reads, 1);
    let value = |what: &str| memory.series(&format!("activations/h.0.mlp/{what}"))[0].1;
    ["mean", "std", "rms", "zeros", "dead"].map(value).to_vec()
}

#[test]
fn unit_is_dead_if_it_is_zero_for_every_token() {
    let half = activations([0.0, 1.0, 0.0, 2.0, 0.0, 0.0, 0.0, -3.0]);
    assert_eq!(
        half,
        [0.0, f64::from(2.0_f32).sqrt(), 1.75_f64.sqrt(), 0.625, 0.5]
    );
    assert_eq!(activations([0.0; 8]), [0.0, 0.0, 0.0, 1.0, 1.0]);
}

#[test]
fn nan_activations_are_neither_zero_nor_dead() {
    let broken = activations([f32::NAN, 0.0, 0.0, 1.0, 0.0, 0.0, f32::INFINITY, 1.0]);
    assert!(
        broken[..3].iter().all(|value| !value.is_finite()),
        "{broken:?}"
    );
    assert_eq!(broken[3..], [0.5, 0.25]);
}

#[test]
fn pictures_are_in_the_record_of_their_step() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let memory = MemorySink::default();
    let overlay = Overlay::default().on(at([2]) | last());
    let run = tiny::run(3)
        .eval(never())
        .run_dir(&dir)
        .sink(memory.clone());
    let fitted = fit(run.callback(overlay));
    assert_eq!((fitted.overhead.reads, fitted.warnings), (3, vec![]));
    for (record, step) in memory.records()[1..].iter().zip([2, 3]) {
        for kind in ["weights", "gradients"] {
            let key = format!("histograms/{kind}");
            let (_, logged) = record
                .values
                .iter()
                .find(|(known, _)| *known == key)
                .expect("a picture");
            let file = std::fs::read(dir.join(format!("histograms/{kind}_{step}.png")));
            assert_eq!(*logged, Value::Image(file.expect("a file")));
        }
    }
    let files = std::fs::read_dir(dir.join("histograms"))
        .expect("a folder")
        .count();
    assert_eq!(files, 4, "nothing partial is left");
}

#[test]
fn prefixes_separate_the_folders_of_pictures() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let overlay = |params: &str| Overlay::default().on(last()).params(params);
    let ridges = |params: &str| Ridges::default().on(last()).params(params);
    let run = tiny::run(2)
        .run_dir(&dir)
        .sink(MemorySink::default())
        .callback(overlay("embed*"))
        .callback(overlay("head.weight").prefix("head"))
        .callback(ridges("embed*"))
        .callback(ridges("head.weight").prefix("head"))
        .build();
    let run = run.expect("each has its own keys and files");
    let announced = run.plan().files.clone();
    assert_eq!(run.fit().expect("a run that completes").warnings, []);
    for file in ["weights_2.png", "gradients_2.png", "ridge_embed.weight.png"] {
        assert!(dir.join("histograms").join(file).is_file(), "{file}");
    }
    for file in ["weights_2.png", "gradients_2.png", "ridge_head.weight.png"] {
        assert!(dir.join("histograms/head").join(file).is_file(), "{file}");
    }
    for file in ["histograms/weights_2.png", "histograms/head/weights_2.png"] {
        assert!(
            announced.iter().any(|announced| announced == file),
            "{announced:?}"
        );
    }
    let read = |file: &str| std::fs::read(dir.join("histograms").join(file)).expect("a picture");
    assert_ne!(read("weights_2.png"), read("head/weights_2.png"));
}

#[test]
fn picture_that_cannot_be_written_is_reported_once() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let blocks = tiny::on_fit_start(|ctx| {
        let dir = ctx.run_dir().expect("a run directory");
        Ok(std::fs::write(dir.join("histograms"), "in the way")?)
    });
    let run = tiny::run(2)
        .run_dir(&dir)
        .sink(MemorySink::default())
        .callback(blocks);
    let fitted = fit(run.callback(Overlay::default()));
    let sources: Vec<_> = fitted
        .warnings
        .iter()
        .map(|warning| warning.source.as_str())
        .collect();
    assert_eq!(sources.len(), 2, "{sources:?}");
    for key in ["histograms/weights", "histograms/gradients"] {
        assert!(sources.contains(&key), "{sources:?}");
    }
}

#[test]
fn resumed_run_draws_the_same_ridges() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ridges = || Ridges::default().on(every(2));
    let run = |name: &str| {
        tiny::run(12)
            .checkpoint(every(5))
            .run_dir(dir.path().join(name))
            .callback(ridges())
    };
    let picture = |name: &str| {
        let path = dir
            .path()
            .join(name)
            .join("histograms/ridge_embed.weight.png");
        std::fs::read(path).expect("a picture")
    };
    fit(run("whole"));
    fit(run("resumed"));
    let drawn = picture("resumed");
    fit(run("resumed").resume(dir.path().join("resumed/checkpoints/step_00000005")));
    assert!(picture("whole") == drawn && picture("resumed") == drawn);
    fit(tiny::run(12)
        .run_dir(dir.path().join("half"))
        .callback(ridges().on(at([2, 12]))));
    assert!(
        picture("half") != drawn,
        "missing curves make no difference"
    );
}
