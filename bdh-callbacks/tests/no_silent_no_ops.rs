//! A setting without any effect is refused before the run, or noted in its plan.

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::ErrorPolicy::{Abort, Disable};
use bdh::burn::optim::AdamWConfig;
use bdh::burn::tensor::Tensor;
use bdh::cadence::{every, last, start};
use bdh::hooks::on_eval;
use bdh::metrics::Metrics;
use bdh::schedule::warmup_cosine;
use bdh::{BatchSize, Callback, LossContext, Task, TokenBatch, TrainError, Trainer, callback};
use bdh_callbacks::{
    Artifacts, Checkpoints, Clipping, EarlyCheckpoints, EarlyStop, Ema, ForecastEnd, GradientNoise,
    LossSpikes, NonFiniteGuard, OnNonFinite, Throughput,
};
use serde_json::{Value, json};
use tiny::{Seen, Tiny};

fn refused(run: tiny::Builder) -> String {
    run.build().expect_err("a refusal").to_string()
}

fn notes(run: tiny::Builder) -> Vec<String> {
    run.build().expect("a valid run").plan().notes.clone()
}

/// A run of the tiny model without an eval set.
fn without_val() -> tiny::Builder {
    let run = tiny::bare(tiny::task(), tiny::Rows::of(2), Tiny::new(0.0), 10);
    run.optimizer(AdamWConfig::new().build(), 0.01)
}

// ── Metrics ──────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn misspelt_metric_is_refused_with_the_known_ones() {
    let stop = EarlyStop::default().metric("los");
    let best = Checkpoints::default().metric("los");
    let callbacks: [(&str, Box<dyn Callback>); 4] = [
        ("early_stop", Box::new(stop)),
        ("checkpoints", Box::new(best)),
        ("artifacts", Box::new(Artifacts::best_by("los"))),
        (
            "forecast",
            Box::new(ForecastEnd::from_runs("none").metric("los")),
        ),
    ];
    for (name, callback) in callbacks {
        let expected = format!(
            "the settings of callback `{name}` are wrong: unknown metric \"los\": \
             this run evaluates val/loss, val/accuracy, val/bpb, val/perplexity"
        );
        assert_eq!(refused(tiny::run(10).callback(callback)), expected);
    }
}

#[test]
fn unknown_metric_is_refused_with_the_full_keys_of_all_sets() {
    for metric in ["test/ema_los", "dev/loss", "ema_los"] {
        let run = tiny::run(10)
            .eval_data_on("test", tiny::val(), last())
            .callback(Ema::default())
            .callback(EarlyStop::default().metric(metric));
        let expected = format!(
            "the settings of callback `early_stop` are wrong: unknown metric {metric:?}: this run evaluates \
             val/loss, val/accuracy, val/bpb, val/perplexity, test/loss, test/accuracy, test/bpb, test/perplexity, \
             val/ema_loss, val/ema_accuracy, val/ema_bpb, val/ema_perplexity, \
             test/ema_loss, test/ema_accuracy, test/ema_bpb, test/ema_perplexity"
        );
        assert_eq!(refused(run), expected);
    }
}

/// The tiny task, without the names of its metrics before an eval.
struct Mute(tiny::Task);

impl Task for Mute {
    type Model = Tiny;
    type Batch = TokenBatch;

    fn size(&self, batch: &TokenBatch) -> BatchSize {
        self.0.size(batch)
    }

    fn loss(&self, model: &Tiny, batch: &TokenBatch, step: &LossContext<'_>) -> Tensor<1> {
        self.0.loss(model, batch, step)
    }

    fn eval(&self, model: &Tiny, batch: &TokenBatch, metrics: &mut Metrics) {
        metrics.mean(
            "surprise",
            self.0.loss(model, batch, &LossContext::off()),
            1.0,
        );
    }
}

fn mute() -> bdh::TrainerBuilder<Mute> {
    let run = Trainer::builder(Mute(tiny::task()), Tiny::new(0.0))
        .train_data(tiny::Rows::of(2))
        .eval_data("val", tiny::val())
        .stop_on_signals(false);
    run.optimizer(AdamWConfig::new().build(), 0.01).steps(4)
}

#[test]
fn unnamed_metrics_are_found_with_the_first_batch() {
    let run = |metric: &str| {
        let stop = EarlyStop::default().metric(metric);
        mute().callback(stop).build().map(|_| ())
    };
    assert!(run("surprise").is_ok());
    let error = run("loss")
        .expect_err("the task measures something else")
        .to_string();
    assert!(
        error.ends_with("unknown metric \"loss\": this run evaluates val/surprise"),
        "{error}"
    );
}

#[test]
fn metric_of_the_average_can_stop_a_run_and_choose_the_best() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let stop = EarlyStop::default().metric("ema_loss").threshold(100.0);
    let best = Checkpoints::default().metric("ema_loss");
    let run = || tiny::run(6).eval(start() | every(2)).run_dir(dir.path());

    let late = refused(run().callback(stop.clone()).callback(Ema::default()));
    assert!(
        late.ends_with("callback `ema` records \"ema_loss\": add it before this one"),
        "{late}"
    );

    let fitted = run()
        .callback(Ema::default())
        .callback(best)
        .callback(stop)
        .build();
    let fitted = fitted.expect("valid settings").fit().expect("a fit");
    assert!(
        fitted.outcome.to_string().contains("val/ema_loss is "),
        "{}",
        fitted.outcome
    );
    assert_eq!(fitted.warnings, []);
    assert!(dir.path().join("checkpoints/best_ema_loss_step_0").is_dir());
}

// ── Callbacks ────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn limits_of_callbacks_are_noted_once_in_the_plan() {
    let spikes = LossSpikes::default().warmup(10);
    let throughput = Throughput::default().warmup_steps(10);
    let cases: [(&str, Box<dyn Callback>, &str); 7] = [
        (
            "without an eval",
            Box::new(EarlyStop::default()),
            "`early_stop` watches the training loss only: this run has no evals of `loss`",
        ),
        (
            "without a directory",
            Box::new(EarlyCheckpoints::at([5])),
            "`early_checkpoints` saves nothing: this run has no `run_dir`",
        ),
        (
            "without an eval",
            Box::new(ForecastEnd::default()),
            "`forecast` predicts nothing: this run has no evals of `bpb`",
        ),
        (
            "without clipping",
            Box::new(Clipping::default()),
            "`clipping` records nothing: gradients are not clipped (`clip_grad_norm`)",
        ),
        (
            "one micro-batch",
            Box::new(GradientNoise::default()),
            "`gradient_noise` records nothing: it needs `grad_accum_steps` of 2 or more",
        ),
        (
            "10 steps",
            Box::new(spikes),
            "`spikes` finds no spikes: `warmup` is 10 steps, and the run takes 10",
        ),
        (
            "10 steps",
            Box::new(throughput),
            "`throughput` records no rates: `warmup_steps` is 10, and the run takes 10 steps",
        ),
    ];
    for (what, callback, note) in cases {
        assert_eq!(notes(without_val().callback(callback)), [note], "{what}");
    }
    let checkpoints = notes(without_val().callback(Checkpoints::default()));
    assert_eq!(
        checkpoints.len(),
        2,
        "no eval and no directory: {checkpoints:?}"
    );
    let patient = notes(tiny::run(10).eval(every(2)).callback(EarlyStop::default()));
    let expected =
        "`early_stop` never runs out of patience: `patience` is 5 evals, and this run has 5";
    assert_eq!(patient, [expected]);
    assert_eq!(
        notes(tiny::run(12).eval(every(2)).callback(EarlyStop::default())),
        [""; 0]
    );
    let rare = |metric: &str| {
        let run = tiny::run(12).eval(every(2));
        let run = run.eval_data_on("test", tiny::val(), every(6));
        notes(run.callback(EarlyStop::default().metric(metric)))
    };
    assert_eq!(rare("loss"), [""; 0]);
    let expected =
        "`early_stop` never runs out of patience: `patience` is 5 evals, and this run has 2";
    assert_eq!(rare("test/loss"), [expected], "evals of the metric's set");
}

// ── The trainer's own settings ───────────────────────────────────────────────────────────────────────

#[test]
fn eval_without_data_and_too_long_warmup_are_noted() {
    let eval = notes(without_val().eval(every(5)));
    assert!(
        eval[0].starts_with("`eval` is `every 5 steps`, but there is no eval"),
        "{eval:?}"
    );
    assert_eq!(notes(without_val()), [""; 0], "no eval was asked for");

    let run = |warmup| {
        let run = tiny::compose(2, Tiny::new(0.0), 10);
        notes(run.optimizer(AdamWConfig::new().build(), warmup_cosine(1e-3, warmup)))
    };
    let expected = "1 group will not reach the peak learning rate: the warmup takes 11 updates, the run 10 steps";
    assert_eq!(run(11), [expected]);
    assert_eq!(run(10), [""; 0]);
}

#[test]
fn notes_are_in_the_plan_the_sinks_and_run_json() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let messages = Seen::new();
    let run = tiny::run(4)
        .run_dir(dir.path())
        .sink(tiny::Listener(messages.clone()));
    let trainer = run
        .callback(Clipping::default())
        .build()
        .expect("a valid run");
    let note = "`clipping` records nothing: gradients are not clipped (`clip_grad_norm`)";
    assert!(
        trainer
            .plan()
            .to_string()
            .ends_with(&format!("\nnote: {note}"))
    );
    trainer.fit().expect("a fit");
    assert_eq!(messages.all(), [format!("note: {note}")]);
    let file = std::fs::read(dir.path().join("run.json")).expect("a run");
    let file: Value = serde_json::from_slice(&file).expect("JSON");
    assert_eq!(file["notes"], json!([note]));
}

// ── Data without a position ──────────────────────────────────────────────────────────────────────────

#[test]
fn run_without_a_position_of_its_data_is_not_resumed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = || {
        let lost = tiny::Lost(tiny::Rows::of(2));
        let run = tiny::bare(tiny::task(), lost, Tiny::new(0.0), 4);
        run.optimizer(AdamWConfig::new().build(), 0.01)
            .run_dir(dir.path())
            .checkpoint(every(2))
    };
    let trainer = run().build().expect("a valid run");
    let note = "no checkpoint of this run can be resumed: the training data does not report its position \
                (`TrainData::state`), for example because several workers yield its batches in no fixed order";
    assert_eq!(trainer.plan().notes, [note]);
    trainer.fit().expect("a fit");
    let error = run()
        .resume("auto")
        .build()
        .expect_err("a refusal")
        .to_string();
    let expected = "does not fit this run: it holds no data position, so the training data would start anew; the data \
                    must implement `state` and `load_state` (any value but null will do if all batches are alike); burn's \
                    loaders with workers have no fixed order: use `DatasetLoader`";
    assert!(
        error.starts_with("cannot resume: ") && error.ends_with(expected),
        "{error}"
    );
}

// ── Callbacks that decide ────────────────────────────────────────────────────────────────────────────

/// Callback that announces a metric and never records it.
struct Promises;

#[callback]
impl Callback for Promises {
    fn keys(&self) -> Vec<String> {
        vec!["val/promised".to_owned()]
    }

    fn on_eval(&mut self, _: &bdh::hooks::EvalEnd<'_>) -> bdh::HookResult {
        Ok(())
    }
}

#[test]
fn failure_of_a_deciding_callback_ends_the_run() {
    let stop = EarlyStop::default().metric("promised");
    let run = tiny::run(4)
        .eval(every(2))
        .callback(Promises)
        .callback(stop);
    let error = run
        .build()
        .expect("a metric that is announced")
        .fit()
        .expect_err("it was to decide");
    assert!(
        matches!(&error, TrainError::Callback { callback, step: 2, .. } if callback == "early_stop")
    );
    let text = error.to_string();
    assert!(
        text.contains("unknown metric \"promised\": this eval has val/loss"),
        "{text}"
    );

    let stops = NonFiniteGuard::default().action(OnNonFinite::Stop);
    assert_eq!(
        (
            stops.error_policy(),
            NonFiniteGuard::default().error_policy()
        ),
        (Abort, Disable)
    );
    assert_eq!(
        (
            Checkpoints::default().error_policy(),
            EarlyStop::default().error_policy()
        ),
        (Abort, Abort)
    );
    assert_eq!(on_eval(|_| Ok(())).error_policy(), Disable);
}
