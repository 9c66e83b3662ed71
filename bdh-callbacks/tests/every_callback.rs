//! The suite that every callback of the crate passes, and what each promises besides.
//!
//! Every test trains alone: the CPU has one generator of random numbers for the process, and each run seeds it.

#![expect(clippy::unit_arg, reason = "a hook that cannot fail reads best on one line")]

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::burn::optim::SgdConfig;
use bdh::{
    Attach, Callback, Checkpoint, Fitted, Hook, Hooks, MemorySink, Outcome, at,
    callbacks_from_toml, every, fraction, last, latest_checkpoint,
};
use bdh_callbacks::{
    Activations, Checkpoints, Clipping, EarlyCheckpoints, EarlyStop, Finite, GradientNoise,
    Histograms, Memory, Mode, Norms, Overlay, ParamFilter, Profile, Ratios, Samples, Spikes,
    System, Throughput,
};
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// A callback, built in code and by name, and what it records in a run of the tiny model.
struct Case {
    name: &'static str,
    build: fn() -> Box<dyn Callback>,
    settings: &'static str,
    keys: &'static [&'static str],
}

const CASES: [Case; 21] = [
    Case {
        name: "norms",
        build: || Box::new(Norms::default()),
        settings: "",
        keys: &["train/weight_norm", "train/grad_norm"],
    },
    Case {
        name: "norms",
        build: || {
            let norms = Norms::builder().cadence(every(3) | last()).per_parameter(true).build();
            Box::new(norms.expect("valid settings"))
        },
        settings: "cadence = \"every 3 steps | last\"\nper_parameter = true",
        keys: &[
            "train/weight_norm",
            "train/grad_norm",
            "norm/weight/embed.weight",
            "norm/weight/head.weight",
            "norm/weight/head.bias",
            "norm/grad/embed.weight",
            "norm/grad/head.weight",
            "norm/grad/head.bias",
        ],
    },
    Case {
        name: "throughput",
        build: || {
            let throughput = Throughput::builder().warmup_steps(2_u64).peak_flops(1e9).build();
            Box::new(throughput.expect("valid settings"))
        },
        settings: "warmup_steps = 2\npeak_flops = 1e9",
        keys: &[
            "train/tokens",
            "train/flops",
            "train/tok_per_sec",
            "train/step_time",
            "train/data_wait",
            "train/mfu",
        ],
    },
    Case {
        name: "early_checkpoints",
        build: || Box::new(EarlyCheckpoints::at([2, 5])),
        settings: "at = \"at 2,5 steps\"",
        keys: &[],
    },
    Case {
        name: "histograms",
        build: || Box::new(Histograms::default()),
        settings: "",
        keys: &[
            "weights/embed.weight",
            "weights/head.weight",
            "gradients/embed.weight",
            "gradients/head.weight",
        ],
    },
    Case {
        name: "histograms",
        build: || {
            let params = ParamFilter::from(["head*"]).limit(1);
            let histograms = Histograms::builder().params(params).bins(8_usize).cadence(every(2));
            let histograms = histograms.clipped_gradients(true).updates(true).activations(true);
            Box::new(histograms.weights(false).build().expect("valid settings"))
        },
        settings: "cadence = 2\nparams = { names = \"head*\", limit = 1 }\nbins = 8\nweights = false\n\
            clipped_gradients = true\nupdates = true\nactivations = true",
        keys: &[
            "gradients/head.weight",
            "gradients_clipped/head.weight",
            "updates/head.weight",
            "activations/embed",
        ],
    },
    Case {
        name: "norms",
        build: || {
            let norms = Norms::builder().clipped(true).updates(true).per_parameter(true);
            let norms = norms.params("embed*").group("out", "head*").build();
            Box::new(norms.expect("valid settings"))
        },
        settings: "clipped = true\nupdates = true\nper_parameter = true\nparams = \"embed*\"\n\
            groups = { out = \"head*\" }",
        keys: &[
            "train/weight_norm",
            "train/grad_norm",
            "train/grad_norm_clipped",
            "train/update_norm",
            "train/weight_norm/out",
            "train/grad_norm/out",
            "train/grad_norm_clipped/out",
            "train/update_norm/out",
            "norm/weight/embed.weight",
            "norm/grad/embed.weight",
            "norm/grad_clipped/embed.weight",
            "norm/update/embed.weight",
        ],
    },
    Case {
        name: "clipping",
        build: || Box::new(Clipping::recorded(every(1))),
        settings: "record = \"every step\"",
        keys: &["train/clip_coefficient", "train/clip_fraction"],
    },
    Case {
        name: "overlay",
        build: || Box::new(Overlay::builder().cadence(every(5)).build().expect("valid settings")),
        settings: "cadence = 5",
        keys: &["histograms/weights", "histograms/gradients"],
    },
    Case {
        name: "activations",
        build: || Box::new(Activations::default()),
        settings: "",
        keys: &[
            "activations/embed/mean",
            "activations/embed/std",
            "activations/embed/rms",
            "activations/embed/zeros",
            "activations/embed/dead",
        ],
    },
    Case {
        name: "ratios",
        build: || Box::new(Ratios::default()),
        settings: "",
        keys: &["ratio/grad_std/embed.weight", "ratio/grad_std/head.weight"],
    },
    Case {
        name: "ratios",
        build: || {
            let ratios = Ratios::builder().cadence(every(2)).params("*bias").l2(true).log10(true);
            Box::new(ratios.updates(true).lines(false).build().expect("valid settings"))
        },
        settings: "cadence = 2\nparams = \"*bias\"\nl2 = true\nlog10 = true\nupdates = true\nlines = false",
        keys: &[
            "ratio/log10_grad_std/head.bias",
            "ratio/log10_grad_l2/head.bias",
            "ratio/log10_update_std/head.bias",
            "ratio/log10_update_l2/head.bias",
        ],
    },
    Case {
        name: "samples",
        build: || {
            let samples = Samples::builder().cadence(every(5) | last()).prompts(["abc", "d"]);
            Box::new(samples.max_tokens(20_usize).build().expect("valid settings"))
        },
        settings: "cadence = \"every 5 steps | last\"\nprompts = [\"abc\", \"d\"]\nmax_tokens = 20",
        keys: &[
            "samples/distinct_1",
            "samples/distinct_2",
            "samples/distinct_3",
            "samples/repetition",
            "samples/longest_repeat",
            "samples/entropy",
            "samples/log_prob",
            "samples/degenerate",
            "samples/0",
            "samples/1",
            "samples",
        ],
    },
    Case {
        name: "early_stop",
        build: || {
            let stop = EarlyStop::builder().patience(9_u32).stop_on_nan(false).build();
            Box::new(stop.expect("valid settings"))
        },
        settings: "patience = 9\nstop_on_nan = false",
        keys: &[],
    },
    Case {
        name: "finite",
        build: || Box::new(Finite::default()),
        settings: "action = \"report\"",
        keys: &["finite/grad", "finite/loss"],
    },
    Case {
        name: "spikes",
        build: || {
            let spikes = Spikes::builder().warmup(2_u32).threshold(0.0).build();
            Box::new(spikes.expect("valid settings"))
        },
        settings: "warmup = 2\nthreshold = 0.0",
        keys: &["spike/loss", "spike/grad_norm", "spikes"],
    },
    Case {
        name: "checkpoints",
        build: || {
            let best = Checkpoints::builder().metric("accuracy").mode(Mode::Max).keep(2_usize);
            Box::new(best.build().expect("valid settings"))
        },
        settings: "metric = \"accuracy\"\nmode = \"max\"\nkeep = 2",
        keys: &[],
    },
    Case {
        name: "memory",
        build: || {
            let memory = Memory::builder().cadence(every(2)).build();
            Box::new(memory.expect("valid settings"))
        },
        settings: "cadence = \"every 2 steps\"",
        keys: &["memory/rss", "memory/leak"],
    },
    Case {
        name: "system",
        build: || {
            let system = System::builder().cadence(every(2)).build();
            Box::new(system.expect("valid settings"))
        },
        settings: "cadence = \"every 2 steps\"",
        keys: &["system/cpu_process", "system/cpu_machine"],
    },
    Case {
        name: "gradient_noise",
        build: || {
            let noise = GradientNoise::builder().decay(0.9).build();
            Box::new(noise.expect("valid settings"))
        },
        settings: "decay = 0.9",
        keys: &["noise/scale", "noise/scale_tokens", "noise/grad_sq", "noise/trace"],
    },
    Case {
        name: "profile",
        build: || {
            let profile = Profile::builder().first_step(3_u64).steps(4_u64).sync(true).build();
            Box::new(profile.expect("valid settings"))
        },
        settings: "first_step = 3\nsteps = 4\nsync = true",
        keys: &[
            "profile/data",
            "profile/forward_backward",
            "profile/clipping",
            "profile/optimizer",
            "profile/other",
            "profile",
        ],
    },
];

impl Case {
    fn by_name(&self) -> Box<dyn Callback> {
        let text = format!("[[callback]]\nuse = \"{}\"\n{}", self.name, self.settings);
        callbacks_from_toml(&text).expect("a valid configuration").remove(0)
    }
}

/// The suite's runs accumulate: some callbacks look at micro-batches.
const MICRO_BATCHES: usize = 2;

/// A run of the suite: that of the tiny model, with more than one micro-batch.
fn run(steps: u64) -> tiny::Builder {
    tiny::run(steps).grad_accum_steps(MICRO_BATCHES).clip_grad_norm(0.5)
}

fn fit(run: tiny::Builder) -> Fitted<tiny::Tiny> {
    run.build().expect("a valid run").fit().expect("a run that completes")
}

/// The keys that a run records besides the trainer's own, and besides those of GPUs, which a machine may have.
fn keys(memory: &MemorySink) -> BTreeSet<String> {
    let is_own = |key: &str| ["train/loss", "lr"].contains(&key) || key.starts_with("val/");
    let records = memory.records();
    let keys = records.iter().flat_map(|record| record.values.iter().map(|(key, _)| key.clone()));
    keys.filter(|key| !is_own(key) && !key.starts_with("system/gpu.")).collect()
}

/// The steps on which something was recorded under a key.
fn steps_with(memory: &MemorySink, key: &str) -> Vec<u64> {
    let records = memory.records();
    let has = |record: &&bdh::Record| record.values.iter().any(|(known, _)| known == key);
    records.iter().filter(has).map(|record| record.clock.step).collect()
}

#[test]
fn building_in_code_and_by_name_gives_the_same() {
    let _alone = tiny::alone();
    for case in &CASES {
        let (built, named) = ((case.build)(), case.by_name());
        assert_eq!((built.name(), named.name()), (case.name.into(), case.name.into()));
        assert_eq!(named.cadence(), built.cadence());
        assert_eq!(named.keys(), built.keys());
        assert_eq!(named.files(100), built.files(100));
        assert_eq!(named.hooks(), built.hooks());
    }
}

#[test]
fn each_records_exactly_the_keys_that_it_announces() {
    let _alone = tiny::alone();
    for case in &CASES {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let memory = MemorySink::default();
        let run = run(12).run_dir(dir.path().join("run")).sink(memory.clone());
        assert_eq!(fit(run.callback((case.build)())).problems, []);
        let expected: BTreeSet<String> = case.keys.iter().map(ToString::to_string).collect();
        assert_eq!(keys(&memory), expected, "{}", case.name);

        let matches = |key: &str, announced: &String| match announced.strip_suffix('*') {
            Some(start) => key.starts_with(start),
            None => key == announced,
        };
        let announced = (case.build)().keys();
        let is_announced = |key: &&str| announced.iter().any(|one| matches(key, one));
        let is_recorded = |one: &String| case.keys.iter().any(|key| matches(key, one));
        assert!(case.keys.iter().all(is_announced), "{announced:?}");
        assert!(announced.iter().all(is_recorded), "{announced:?}");
    }
}

#[test]
fn each_acts_on_the_steps_and_leaves_the_files_of_its_plan() {
    let _alone = tiny::alone();
    for case in &CASES {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let memory = MemorySink::default();
        let trainer = run(12)
            .eval(bdh::never())
            .run_dir(dir.path())
            .sink(memory.clone())
            .callback((case.build)())
            .build()
            .expect("a valid run");
        let row = trainer.plan().rows.last().expect("a row for the callback").clone();
        let planned = row.firings.expect("counted in steps");
        let files = trainer.plan().files.clone();
        let fitted = trainer.fit().expect("a run that completes");

        assert_eq!(fitted.overhead.rows[0].calls, calls(row.hooks, planned.len()), "{}", case.name);
        if let Some(key) = case.keys.first() {
            assert_eq!(steps_with(&memory, key), planned, "{}", case.name);
        }
        for file in files {
            assert!(dir.path().join(&file).exists(), "{}: {file}", case.name);
        }
    }
}

/// How often a callback is called in a run without evals and checkpoints of the trainer's own: each hook of
/// a step when it is due, and once before the first step and after the last.
fn calls(hooks: Hooks, due: usize) -> u64 {
    let times = |hook| match hook {
        Hook::OnFitStart | Hook::OnFitEnd => 1,
        Hook::OnEvalBatch | Hook::OnEval | Hook::OnCheckpoint => 0,
        Hook::OnMicroBatch => due * MICRO_BATCHES,
        _ => due,
    };
    hooks.iter().map(times).sum::<usize>() as u64
}

#[test]
fn training_is_bit_identical_with_all_of_them() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = |name: &str| {
        tiny::run_with(0.3, 12)
            .clip_grad_norm(0.5)
            .eval(every(4))
            .checkpoint(last())
            .run_dir(dir.path().join(name))
    };
    let saved = |name: &str| {
        let path = dir.path().join(name).join("checkpoints/step_00000012");
        let files = ["model.safetensors", "optimizer.safetensors"];
        files.map(|file| std::fs::read(path.join(file)).expect("a file"))
    };
    fit(run("alone"));
    for case in &CASES {
        fit(run("watched").callback((case.build)()));
        assert!(saved("watched") == saved("alone"), "{}", case.name);
        std::fs::remove_dir_all(dir.path().join("watched")).expect("the run directory");
    }
    let all = CASES.iter().enumerate().fold(run("watched"), |run, (index, case)| {
        run.callback((case.build)().named(index.to_string()))
    });
    assert_eq!(fit(all).problems, []);
    assert!(saved("watched") == saved("alone"));
}

#[test]
fn each_comes_through_a_resume() {
    let _alone = tiny::alone();
    for case in &CASES {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (whole, resumed) = (dir.path().join("whole"), dir.path().join("resumed"));
        let run = |dir: &Path| run(12).checkpoint(every(4)).run_dir(dir).callback((case.build)());
        fit(run(&whole));
        let stop = tiny::on_step(|at| {
            at.stop("interrupted");
            Ok(())
        });
        fit(run(&resumed).callback(stop.every(at([6]))));

        let checkpoint = resumed.join("checkpoints/step_00000004");
        let saved = Checkpoint::read(&checkpoint).expect("a whole checkpoint").state;
        let mut again = (case.build)();
        if let Some(state) = saved.callbacks.get(case.name) {
            again.load_state(state.clone()).expect("its own state");
            assert_eq!(again.state(), *state);
        }
        let fitted = fit(run(&resumed).resume(checkpoint));
        assert_eq!((fitted.outcome, fitted.problems), (Outcome::Completed, vec![]));
        assert_eq!(records(&resumed), records(&whole), "{}", case.name);
    }
}

/// The records on disk without what the clock on the wall measures. A process warms up on its first
/// steps, so on those it records no rates.
fn records(dir: &Path) -> Vec<Value> {
    let timing =
        ["elapsed", "train/tok_per_sec", "train/step_time", "train/data_wait", "train/mfu"];
    let text = std::fs::read_to_string(dir.join("metrics.jsonl")).expect("metrics.jsonl");
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line).expect("JSON");
        let is_timing = |key: &str| {
            let group = key.split('/').next();
            timing.contains(&key) || ["memory", "system", "profile"].map(Some).contains(&group)
        };
        line.as_object_mut().expect("an object").retain(|key, _| !is_timing(key));
        line
    };
    text.lines().map(line).collect()
}

#[test]
fn each_survives_losses_and_gradients_that_are_not_numbers() {
    let _alone = tiny::alone();
    for case in &CASES {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let memory = MemorySink::default();
        let fitted = fit(tiny::compose(tiny::task(tiny::ROWS), tiny::Tiny::new(0.0), 6)
            .optimizer(SgdConfig::new().build(), 1e38)
            .run_dir(dir.path().join("run"))
            .sink(memory.clone())
            .callback((case.build)()));
        assert_eq!((fitted.outcome, fitted.problems), (Outcome::Completed, vec![]));
        assert!(memory.series("train/loss")[3].1.is_nan(), "the run was meant to diverge");
    }
}

// ── What each promises besides ───────────────────────────────────────────────────────────────────────

#[test]
fn norms_are_those_of_weights_before_the_update_and_of_gradients_before_clipping() {
    let _alone = tiny::alone();
    let memory = MemorySink::default();
    let by_hand = tiny::before_optimizer_step(|at| {
        at.log("by_hand", at.grad_norm.expect("clipping is on").clone());
        Ok(())
    });
    let run = tiny::run(3).clip_grad_norm(1e-3).sink(memory.clone());
    fit(run.callback(by_hand).callback(Norms::per_parameter()));
    assert_eq!(memory.series("train/grad_norm"), memory.series("by_hand"));

    let square = |bits: &u32| f64::from(f32::from_bits(*bits)).powi(2);
    let squares: Vec<f64> = tiny::weights(&tiny::Tiny::new(0.0))
        .iter()
        .map(|values| values.iter().map(square).sum())
        .collect();
    let about = |key, expected: f64| {
        let found = memory.series(key)[0].1;
        assert!((found / expected - 1.0).abs() < 1e-6, "{key} is {found} instead of {expected}");
    };
    about("train/weight_norm", squares.iter().sum::<f64>().sqrt());
    about("norm/weight/embed.weight", squares[0].sqrt());
}

const LONG: Duration = Duration::from_millis(20);

/// Mean step times in seconds as `throughput` records them in a run in which something takes long.
fn step_times(
    throughput: impl Callback + 'static,
    slow: impl Callback + 'static,
) -> Vec<(u64, f64)> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let memory = MemorySink::default();
    let fitted = fit(tiny::run(8)
        .eval(every(1))
        .checkpoint(every(1))
        .run_dir(dir.path().join("run"))
        .sink(memory.clone())
        .callback(slow)
        .callback(throughput));
    assert_eq!(fitted.problems, []);
    let times = memory.series("train/step_time");
    for ((_, rate), (_, time)) in memory.series("train/tok_per_sec").iter().zip(&times) {
        assert!((rate * time / 8.0 - 1.0).abs() < 1e-9, "a step has 8 tokens");
    }
    times
}

fn steps(times: &[(u64, f64)]) -> Vec<u64> {
    times.iter().map(|(step, _)| *step).collect()
}

#[test]
fn throughput_counts_neither_evals_nor_checkpoints() {
    let _alone = tiny::alone();
    let slow = tiny::on_eval_batch(|_| Ok(std::thread::sleep(LONG)));
    let times = step_times(Throughput::default(), slow);
    assert_eq!(steps(&times), [2, 3, 4, 5, 6, 7, 8]);
    let is_short = |(_, time): &(u64, f64)| *time < LONG.as_secs_f64();
    assert!(times.iter().filter(|time| is_short(time)).count() >= 5, "{times:?}");

    let slow = tiny::on_checkpoint(|_| Ok(std::thread::sleep(LONG)));
    let times = step_times(Throughput::default(), slow);
    assert!(times.iter().filter(|time| is_short(time)).count() >= 5, "{times:?}");
}

#[test]
fn throughput_counts_whatever_a_step_waits_for() {
    let _alone = tiny::alone();
    let slow = tiny::on_step(|_| Ok(std::thread::sleep(LONG)));
    let times = step_times(Throughput::default(), slow);
    assert!(times.iter().all(|(_, time)| *time >= LONG.as_secs_f64()), "{times:?}");
}

#[test]
fn throughput_is_the_same_at_whatever_cadence_and_from_wherever_that_comes() {
    let _alone = tiny::alone();
    let slow = || tiny::on_step_start(|_| Ok(std::thread::sleep(LONG)));
    let set = Throughput::builder().every(every(4)).build().expect("valid settings");
    let file = "[[callback]]\nuse = \"throughput\"\nevery = 4";
    let file = callbacks_from_toml(file).expect("a valid configuration").remove(0);
    let (set, file) = (step_times(set, slow()), step_times(file, slow()));
    assert_eq!(steps(&set), [4, 8]);
    // From outside it cannot tell the warm-up from the rest of its first stretch, and leaves both out.
    assert_eq!(steps(&file), [8]);
    for (_, time) in set.iter().chain(&file) {
        assert!(*time >= LONG.as_secs_f64(), "{time}");
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("checkpoints")).into_iter().flatten();
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names: BTreeSet<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.into_iter().collect()
}

#[test]
fn early_checkpoints_come_at_250_500_and_1000_unless_told_otherwise() {
    let _alone = tiny::alone();
    let by_name = callbacks_from_toml("[[callback]]\nuse = \"early_checkpoints\"");
    let by_name = by_name.expect("a valid configuration").remove(0);
    for cadence in [EarlyCheckpoints::default().cadence(), by_name.cadence()] {
        assert_eq!(cadence, at([250, 500, 1_000]));
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let run = tiny::run(510).log(every(100)).eval(bdh::never()).run_dir(&dir);
    fit(run.callback(EarlyCheckpoints::default()));
    assert_eq!(names(&dir), ["ckpt_early_step_250", "ckpt_early_step_500"]);
}

#[test]
fn early_checkpoints_at_fractions_stay_when_others_are_rotated_away() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let early = EarlyCheckpoints::at([fraction(0.1), fraction(0.25)]);
    let run = tiny::run(20).checkpoint(every(1)).keep_checkpoints(1_usize).run_dir(&dir);
    fit(run.callback(early));
    assert_eq!(names(&dir), ["ckpt_early_step_2", "ckpt_early_step_5", "step_00000020"]);
    let newest = latest_checkpoint(&dir.join("checkpoints")).expect("checkpoints");
    assert!(newest.ends_with("step_00000020"));
}

#[test]
fn an_early_checkpoint_has_model_optimizer_step_and_configuration_and_opens_in_python() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let seen = tiny::Seen::new();
    let note = seen.clone();
    let look = tiny::on_step(move |at| {
        note.push(tiny::weights(at.model::<tiny::Tiny>().expect("its model")));
        Ok(())
    });
    fit(tiny::run(6)
        .run_dir(&dir)
        .config(serde_json::json!({ "depth": 2 }))
        .callback(EarlyCheckpoints::at([4]))
        .callback(look.every(at([4]))));
    let path = dir.join("checkpoints/ckpt_early_step_4");

    let bytes = std::fs::read(path.join("model.safetensors")).expect("the model");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let shapes: BTreeMap<String, Vec<usize>> =
        file.iter().map(|(name, tensor)| (name.to_owned(), tensor.shape().to_vec())).collect();
    let expected = [
        ("embed.weight", vec![11, 8]),
        ("head.bias", vec![11]),
        ("head.weight", vec![11, 8]), // out by in, as PyTorch has it
    ];
    assert_eq!(shapes, expected.map(|(name, shape)| (name.to_owned(), shape)).into());

    let bits = |name: &str| -> Vec<u32> {
        let (floats, _) = file.tensor(name).expect("a tensor").data().as_chunks::<4>();
        floats.iter().map(|float| u32::from_le_bytes(*float)).collect()
    };
    let model = &seen.all()[0];
    assert_eq!(bits("embed.weight"), model[0]);
    let transposed = (0..11).flat_map(|out| (0..8).map(move |input| model[1][input * 11 + out]));
    assert_eq!(bits("head.weight"), transposed.collect::<Vec<_>>());

    let saved = Checkpoint::read(&path).expect("a whole checkpoint");
    assert!(saved.optimizer.contains_key("head.weight.momentum.moment_1"));
    assert_eq!(saved.state.clock.step, 4);
    assert_eq!(saved.state.config["user"]["depth"], 2);
    assert_eq!(saved.state.config["trainer"]["steps"], 6);
    assert_eq!(saved.state.config["groups"][0]["schedule"]["peak"], 0.01);
}
