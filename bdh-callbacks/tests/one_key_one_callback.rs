//! Each key belongs to one callback. Two that record the same key are refused or reported, and no value is replaced.

#![expect(
    clippy::unit_arg,
    reason = "a hook that cannot fail reads best on one line"
)]

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::cadence::every;
use bdh::hooks::{on_eval, on_step};
use bdh::{CallbackExt, ConfigError, MemorySink, registry};
use bdh_callbacks::{EarlyStop, Ema, Histograms, Norms, ParamFilter};

#[test]
fn two_callbacks_with_one_key_are_refused_by_name() {
    let twice = tiny::run(4)
        .callback(Ema::default())
        .callback(Ema::default().named("slow"));
    let error = twice.build().expect_err("one of them would be lost");
    let expected = "`ema` and `slow` both record `*/ema_*`; let one record under a prefix of its own with \
                    `.prefix(\"…\")`";
    assert!(matches!(error, ConfigError::DuplicateKey { .. }));
    assert_eq!(error.to_string(), expected);

    let norms = tiny::run(4)
        .callback(Norms::default())
        .callback(Norms::default().named("again"));
    assert!(norms.build().is_err());
}

#[test]
fn prefix_separates_the_keys_of_two_callbacks_of_a_kind() {
    let memory = MemorySink::default();
    let slow = Ema::default().decay(0.1).prefix("slow");
    let stop = EarlyStop::default().metric("val/slow/ema_loss").patience(9);
    let run = tiny::run(6).eval(every(2)).sink(memory.clone());
    let fitted = run
        .callback(Ema::default())
        .callback(slow)
        .callback(stop)
        .build();
    let fitted = fitted.expect("a valid run").fit().expect("a fit");
    assert_eq!(fitted.warnings, []);
    let [own, slow] = ["val/ema_loss", "val/slow/ema_loss"].map(|key| memory.series(key));
    assert_eq!((own.len(), slow.len()), (3, 3));
    assert_ne!(own[2], slow[2], "their decays differ");
}

#[test]
fn prefix_can_be_given_in_a_file() {
    let text =
        "[[callback]]\nuse = \"ema\"\n[[callback]]\nuse = \"ema\"\nprefix = \"slow\"\ndecay = 0.5";
    let callbacks = registry::from_toml(text).expect("a configuration");
    assert_eq!(
        (callbacks[1].name(), callbacks[1].keys()),
        ("ema_slow".into(), vec!["*/slow/ema_*".into()])
    );
    tiny::run(4)
        .callbacks(callbacks)
        .build()
        .expect("each has its own keys");
}

#[test]
fn callbacks_may_share_a_pattern_if_their_keys_differ() {
    let of = |name: &str, params: &str| {
        let params = ParamFilter::from(params);
        let histograms = Histograms::default().params(params).on(every(2));
        histograms.named(name)
    };
    let run = |second: &str| {
        let run = tiny::run(4)
            .callback(of("first", "embed*"))
            .callback(of("second", second));
        run.build()
            .expect("patterns are not compared")
            .fit()
            .expect("a fit")
            .warnings
    };
    assert_eq!(run("head*"), []);
    let warnings = run("embed*");
    assert_eq!(warnings.len(), 1, "reported once: {warnings:?}");
    assert!(
        warnings[0]
            .to_string()
            .contains("it records `gradients/embed.weight`, which `"),
        "{}",
        warnings[0]
    );
}

#[test]
fn keys_of_the_trainer_cannot_be_replaced() {
    let memory = MemorySink::default();
    let undisturbed = MemorySink::default();
    let loss = on_step(|ctx| Ok(ctx.log("train/loss", 0.0))).named("mine");
    let eval = on_eval(|ctx| Ok(ctx.log("val/loss", 0.0)));
    let run = |memory: &MemorySink| tiny::run(6).eval(every(2)).sink(memory.clone());
    run(&undisturbed)
        .build()
        .expect("a valid run")
        .fit()
        .expect("a fit");
    let fitted = run(&memory)
        .callback(loss)
        .callback(eval)
        .build()
        .expect("not announced");
    let warnings = fitted.fit().expect("a fit").warnings;
    for key in ["train/loss", "val/loss"] {
        assert_eq!(memory.series(key), undisturbed.series(key), "{key}");
    }
    let texts: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    let expected = "`mine` failed in `on_step` at step 1: it records `train/loss`, which the trainer records too; such \
                    values of `mine` are left out; give it keys of its own, as with `.prefix(\"…\")`";
    assert_eq!(texts.len(), 2, "once each: {texts:?}");
    assert_eq!(texts[0], expected);
    assert!(
        texts[1].contains("it records `val/loss`, which the trainer records too"),
        "{}",
        texts[1]
    );
}

#[test]
fn callback_with_a_metric_of_the_task_is_refused() {
    struct Mine;
    #[bdh::callback]
    impl bdh::Callback for Mine {
        fn keys(&self) -> Vec<String> {
            vec!["val/accuracy".to_owned()]
        }

        fn on_eval(&mut self, _: &bdh::hooks::EvalEnd<'_>) -> bdh::HookResult {
            Ok(())
        }
    }
    let error = tiny::run(4).callback(Mine).build().expect_err("a refusal");
    assert!(
        error
            .to_string()
            .starts_with("`trainer` and `Mine` both record `val/accuracy`"),
        "{error}"
    );
}
