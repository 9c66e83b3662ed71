//! A key is recorded by one: two that would share it are refused, or reported, and none replaces the other's values.

#![expect(
    clippy::unit_arg,
    reason = "a hook that cannot fail reads best on one line"
)]

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::{Attach, ConfigError, MemorySink, callbacks_from_toml, every, on_eval, on_step};
use bdh_callbacks::{EarlyStop, Ema, Histograms, Norms, ParamFilter};

#[test]
fn two_callbacks_that_announce_one_key_are_refused_with_both_names() {
    let twice = tiny::run(4)
        .callback(Ema::default())
        .callback(Ema::default().named("slow"));
    let error = twice.build().err().expect("one of them would be lost");
    let expected = "`ema` and `slow` both record `val/ema_*`; let one record under a prefix of its own with \
                    `.prefix(\"…\")`";
    assert!(matches!(error, ConfigError::DuplicateKey { .. }));
    assert_eq!(error.to_string(), expected);

    let norms = tiny::run(4)
        .callback(Norms::default())
        .callback(Norms::default().named("again"));
    assert!(norms.build().is_err());
}

#[test]
fn under_a_prefix_two_of_a_kind_record_side_by_side_and_can_be_monitored() {
    let memory = MemorySink::default();
    let slow = Ema::builder()
        .decay(0.1)
        .build()
        .expect("a decay")
        .prefix("slow");
    let stop = EarlyStop::builder()
        .metric("slow/ema_loss")
        .patience(9)
        .build()
        .expect("a name");
    let run = tiny::run(6).eval(every(2)).sink(memory.clone());
    let fitted = run
        .callback(Ema::default())
        .callback(slow)
        .callback(stop)
        .build();
    let fitted = fitted.expect("a valid run").fit().expect("a fit");
    assert_eq!(fitted.problems, []);
    let [own, slow] = ["val/ema_loss", "val/slow/ema_loss"].map(|key| memory.series(key));
    assert_eq!((own.len(), slow.len()), (3, 3));
    assert_ne!(own[2], slow[2], "of other decays");
}

#[test]
fn a_configuration_file_gives_a_prefix_as_well() {
    let text =
        "[[callback]]\nuse = \"ema\"\n[[callback]]\nuse = \"ema\"\nprefix = \"slow\"\ndecay = 0.5";
    let callbacks = callbacks_from_toml(text).expect("a configuration");
    assert_eq!(
        (callbacks[1].name(), callbacks[1].keys()),
        ("ema_slow".into(), vec!["val/slow/ema_*".into()])
    );
    tiny::run(4)
        .callbacks(callbacks)
        .build()
        .expect("each has keys of its own");
}

#[test]
fn one_kind_of_two_sets_of_parameters_shares_a_pattern_and_no_key() {
    let of = |name: &str, params: &str| {
        let params = ParamFilter::from(params);
        let histograms = Histograms::builder()
            .params(params)
            .cadence(every(2))
            .build();
        histograms.expect("a pattern").named(name)
    };
    let run = |second: &str| {
        let run = tiny::run(4)
            .callback(of("first", "embed*"))
            .callback(of("second", second));
        run.build()
            .expect("a pattern says nothing of parameters")
            .fit()
            .expect("a fit")
            .problems
    };
    assert_eq!(run("head*"), []);
    let problems = run("embed*");
    assert_eq!(problems.len(), 1, "reported once: {problems:?}");
    assert!(
        problems[0]
            .to_string()
            .contains("it records `gradients/embed.weight`, which `"),
        "{}",
        problems[0]
    );
}

#[test]
fn what_the_trainer_records_stays_the_trainers_and_who_logs_it_too_is_reported_once() {
    let memory = MemorySink::default();
    let undisturbed = MemorySink::default();
    let loss = on_step(|at| Ok(at.log("train/loss", 0.0))).named("mine");
    let eval = on_eval(|at| Ok(at.log("val/loss", 0.0)));
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
    let problems = fitted.fit().expect("a fit").problems;
    for key in ["train/loss", "val/loss"] {
        assert_eq!(memory.series(key), undisturbed.series(key), "{key}");
    }
    let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
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
fn a_callback_that_announces_a_metric_of_the_task_is_refused() {
    struct Mine;
    #[bdh::callback]
    impl bdh::Callback for Mine {
        fn keys(&self) -> Vec<String> {
            vec!["val/accuracy".to_owned()]
        }

        fn on_eval(&mut self, _: &bdh::EvalEnd<'_>) -> bdh::HookResult {
            Ok(())
        }
    }
    let error = tiny::run(4)
        .callback(Mine)
        .build()
        .err()
        .expect("it is the trainer's");
    assert!(
        error
            .to_string()
            .starts_with("`trainer` and `Mine` both record `val/accuracy`"),
        "{error}"
    );
}
