//! Sinks receive one record a step, in order; the files hold the same; `run.json` is there from the start to the end.

#![expect(
    clippy::unit_arg,
    reason = "a hook that cannot fail reads best on one line"
)]

#[path = "support/tiny.rs"]
mod tiny;

use bdh::cadence::{at, every, fraction, last, never, start};
use bdh::stats::Histogram;
use bdh::{CallbackExt, MemorySink, Record, TrainResult, Value};
use serde_json::json;
use std::path::Path;

fn fit(run: tiny::Builder) -> TrainResult<tiny::Tiny> {
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes")
}

fn lines(dir: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(dir.join("metrics.jsonl")).expect("metrics.jsonl");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn run_json(dir: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(dir.join("run.json")).expect("run.json")).expect("JSON")
}

fn steps(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.clock.step).collect()
}

#[test]
fn values_of_all_hooks_of_a_step_are_one_record() {
    let memory = MemorySink::default();
    fit(tiny::run(6)
        .eval(start() | every(2))
        .sink(memory.clone())
        .callback(tiny::on_step_start(|ctx| Ok(ctx.log("a", 1.0))))
        .callback(tiny::after_backward(|ctx| {
            Ok(ctx.log("b", ctx.loss.clone()))
        }))
        .callback(tiny::on_step(|ctx| Ok(ctx.log("c", 3.0))))
        .callback(tiny::on_eval(|ctx| Ok(ctx.log("d", 4.0)))));
    let records = memory.records();
    assert_eq!(steps(&records), [0, 1, 2, 3, 4, 5, 6]);
    let keys = |record: &Record| -> Vec<String> {
        record.values.iter().map(|(key, _)| key.clone()).collect()
    };
    assert_eq!(keys(&records[1]), ["train/loss", "lr", "a", "b", "c"]);
    let val = ["val/loss", "val/accuracy", "val/bpb", "val/perplexity"];
    assert_eq!(keys(&records[0])[..4], val);
    assert_eq!(keys(&records[2])[5..9], val);
    assert_eq!(keys(&records[2])[9], "d");
    let clock = records[6].clock;
    assert_eq!(
        (clock.micro_batches, clock.samples, clock.tokens),
        (6, 12, 48)
    );
}

#[test]
fn eval_takes_over_a_metric_that_a_callback_logged_earlier() {
    let (memory, undisturbed) = (MemorySink::default(), MemorySink::default());
    let run = |memory: &MemorySink| tiny::run(6).eval(every(2)).sink(memory.clone());
    fit(run(&undisturbed));
    let mine = tiny::on_step(|ctx| Ok(ctx.log("val/loss", 0.0))).named("mine");
    let fitted = fit(run(&memory).callback(mine));
    let series = memory.series("val/loss");
    assert_eq!(series[0], (1, 0.0));
    assert_eq!(series[1..], undisturbed.series("val/loss"));
    assert_eq!(fitted.warnings.len(), 1, "{:?}", fitted.warnings);
}

#[test]
fn a_step_without_logged_values_has_no_record() {
    let memory = MemorySink::default();
    fit(tiny::run(20)
        .log(every(fraction(0.25)))
        .eval(never())
        .sink(memory.clone()));
    assert_eq!(steps(&memory.records()), [5, 10, 15, 20]);
}

#[test]
fn the_last_step_is_always_recorded_and_in_the_plan() {
    let memory = MemorySink::default();
    let run = tiny::run(20)
        .log(every(7))
        .eval(never())
        .sink(memory.clone());
    let trainer = run.build().expect("a valid run");
    let row = trainer
        .plan()
        .rows
        .iter()
        .find(|row| row.name == "record")
        .expect("its row");
    assert_eq!(row.firings.as_deref(), Some(&[7, 14, 20][..]));
    let fitted = trainer.fit().expect("a run that completes");
    assert_eq!(steps(&memory.records()), [7, 14, 20]);
    assert!(
        fitted
            .last
            .expect("a record")
            .scalar("train/loss")
            .is_some()
    );

    let memory = MemorySink::default();
    fit(tiny::run(20)
        .log(never())
        .eval(never())
        .sink(memory.clone()));
    assert_eq!(memory.records(), [], "`never` records no step");
}

#[test]
fn the_step_of_a_stop_is_recorded_until_the_run_resumes() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let run = |name: &str| {
        let counts = tiny::on_step(|ctx| Ok(ctx.log("calls", 1.0)))
            .on(every(2))
            .named("counts");
        let run = tiny::run(8).log(every(3)).checkpoint(every(3) | last());
        run.callback(counts).run_dir(scratch.path().join(name))
    };
    fit(run("whole"));
    let whole = lines(&scratch.path().join("whole"));
    for (stop, has_other_values) in [(4, true), (5, false)] {
        let (name, dir) = (format!("{stop}"), scratch.path().join(stop.to_string()));
        let save_and_stop = tiny::on_step(move |ctx| {
            let name = format!("at_{}", ctx.step());
            ctx.checkpoint(bdh::checkpoint::CheckpointRequest {
                name,
                pinned: false,
            });
            Ok(ctx.stop("it is time"))
        });
        let stopped = fit(run(&name).callback(save_and_stop.on(at([stop])).named("stop")));
        let end = stopped.last.expect("a record");
        assert!(end.clock.step == stop && end.scalar("train/loss").is_some());
        assert_eq!(end.scalar("calls").is_some(), has_other_values);
        let line = lines(&dir).pop().expect("a line");
        assert_eq!(line["train/loss"].as_f64(), end.scalar("train/loss"));
        assert!(run_json(&dir)["final_metrics"]["train/loss"].is_number());

        fit(run(&name).resume("auto"));
        let mut resumed = lines(&dir);
        let mut whole = whole.clone();
        for line in resumed.iter_mut().chain(&mut whole) {
            line.as_object_mut().expect("an object").remove("elapsed");
        }
        assert_eq!(resumed, whole);
    }
}

#[test]
fn a_key_that_is_logged_twice_keeps_the_last_value() {
    let memory = MemorySink::default();
    let twice = tiny::on_step(|ctx| {
        ctx.log("twice", 1.0);
        Ok(ctx.log("twice", 2.0))
    });
    let fitted = fit(tiny::run(1)
        .sink(memory.clone())
        .callback(twice)
        .callback(tiny::on_fit_end(|ctx| Ok(ctx.log("late", 7.0)))));
    assert_eq!(memory.series("twice"), [(1, 2.0)]);
    let last = fitted.last.expect("a record");
    assert_eq!(
        last.scalar("late"),
        Some(7.0),
        "values logged in on_fit_end join the last record"
    );
}

#[test]
fn the_file_holds_the_records_that_sinks_received() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let memory = MemorySink::default();
    let histogram = Histogram {
        edges: vec![0.0, 1.0, 2.0],
        counts: vec![3, 4],
        non_finite: 1,
    };
    let rich = tiny::on_step(move |ctx| {
        ctx.log("text", Value::Text("once".to_owned()));
        ctx.log("histogram", Value::Histogram(histogram.clone()));
        ctx.log("image", Value::Image(vec![1, 2, 3]));
        ctx.log("nan", f64::NAN);
        ctx.log("less", f64::NEG_INFINITY);
        ctx.log("step", 0.5); // not the clock's
        Ok(())
    });
    fit(tiny::run(5)
        .run_dir(&dir)
        .sink(memory.clone())
        .callback(rich.on(at([3]))));

    let (lines, records) = (lines(&dir), memory.records());
    assert_eq!(lines.len(), records.len());
    for (line, record) in lines.iter().zip(&records) {
        assert_eq!(line["step"], record.clock.step);
        assert_eq!(line["tokens"], record.clock.tokens);
        for (key, scalar) in record.scalars().filter(|(_, scalar)| scalar.is_finite()) {
            assert!(
                key == "step" || line[key].as_f64() == Some(scalar),
                "{key}: {line}"
            );
        }
    }
    let rich = &lines[2];
    assert_eq!(rich["text"], json!({ "text": "once" }));
    assert_eq!(rich["histogram"]["counts"], json!([3, 4]));
    assert_eq!(
        (&rich["nan"], &rich["less"]),
        (&json!("NaN"), &json!("-Infinity"))
    );
    assert!(rich.get("image").is_none());
}

#[test]
fn run_json_has_the_status_at_the_start_and_at_the_end() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("first");
    let path = dir.clone();
    let running = tiny::on_step(move |_| {
        let file = run_json(&path);
        assert_eq!(file["status"], "running");
        assert_eq!(file["outcome"], serde_json::Value::Null);
        Ok(())
    });
    let run = tiny::run(3)
        .run_dir(&dir)
        .seed(5)
        .config(json!({ "depth": 2 }));
    let fitted = fit(run.callback(running.named("look")));
    assert_eq!(fitted.warnings, []);

    let file = run_json(&dir);
    assert_eq!(file["name"], "first");
    assert_eq!((&file["steps"], &file["seed"]), (&json!(3), &json!(5)));
    assert_eq!(file["config"]["user"]["depth"], 2);
    assert_eq!(file["config"]["trainer"]["grad_accum_steps"], 1);
    assert_eq!(
        (&file["status"], &file["outcome"]),
        (&json!("completed"), &json!("completed"))
    );
    assert_eq!(file["overhead"]["rows"][0]["name"], "look");
    assert_eq!(file["overhead"]["reads"], 3);
    let last = fitted.last.expect("a record");
    assert_eq!(
        file["final_metrics"]["train/loss"].as_f64(),
        last.scalar("train/loss")
    );
}

#[test]
fn run_json_distinguishes_nan_and_infinities() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    fit(tiny::run(1)
        .run_dir(&dir)
        .callback(tiny::on_step(|ctx| Ok(ctx.log("nan", f64::NAN)))));
    assert_eq!(run_json(&dir)["final_metrics"]["nan"], "NaN");
}

#[test]
fn a_directory_that_holds_a_run_is_not_overwritten() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fit(tiny::run(1).run_dir(dir.path()));
    let error = tiny::run(1)
        .run_dir(dir.path())
        .build()
        .expect_err("the directory is taken");
    assert!(error.to_string().contains("exists already"), "{error}");
}

#[test]
fn an_endless_running_mean_keeps_no_history() {
    let memory = MemorySink::default();
    let mut mean = None;
    let smooth = tiny::on_step(move |ctx| {
        let loss = ctx.loss.clone();
        let next = match mean.take() {
            None => loss,
            Some(mean) => mean * 0.9 + loss * 0.1,
        };
        ctx.log("smooth", next.clone());
        mean = Some(next);
        Ok(())
    });
    fit(tiny::run(300)
        .eval(last())
        .sink(memory.clone())
        .callback(smooth));
    let losses = memory.series("train/loss");
    let expected = losses[1..]
        .iter()
        .fold(losses[0].1, |mean, (_, loss)| mean * 0.9 + loss * 0.1);
    assert_eq!(memory.series("smooth")[299].1, expected);
}

#[test]
#[cfg(unix)]
fn every_file_of_a_run_has_the_mode_that_the_umask_gives() {
    use std::os::unix::fs::PermissionsExt;

    fn modes(dir: &Path, found: &mut Vec<(std::path::PathBuf, u32)>) {
        for entry in std::fs::read_dir(dir).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                modes(&path, found);
            } else {
                let mode = path.metadata().expect("a file").permissions().mode();
                found.push((path, mode));
            }
        }
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    fit(tiny::run(2).run_dir(dir.path()).checkpoint(last()));
    std::fs::write(dir.path().join("another"), "").expect("a file");
    let mut found = Vec::new();
    modes(dir.path(), &mut found);
    assert!(found.len() >= 7, "{found:?}");
    let expected = found
        .iter()
        .find(|(path, _)| path.ends_with("another"))
        .expect("it")
        .1;
    assert!(found.iter().all(|(_, mode)| *mode == expected), "{found:?}");
}

#[test]
fn configuration_that_json_cannot_hold_is_refused() {
    let keys = std::collections::BTreeMap::from([((1, 2), 3)]);
    let error = tiny::run(1)
        .config(keys)
        .build()
        .expect_err("tuples as keys");
    let text = error.to_string();
    assert!(
        text.starts_with("`config` is key must be a string"),
        "{text}"
    );
}
