//! Every callback of the crate, with each setting that changes its keys.

use bdh::Callback;
use bdh::cadence::{every, last};
use bdh::testing::CallbackCheck;
use bdh_callbacks::{
    Activations, Artifacts, Checkpoints, Clipping, ConfusionMatrix, EarlyCheckpoints, EarlyStop,
    Ema, ForecastEnd, GradientNoise, Histograms, LossSpikes, MemoryMonitor, Mode, NonFiniteGuard,
    Norms, Overlay, ParamFilter, Ridges, Samples, StepProfiler, SystemMonitor, Throughput,
    UpdateRatios,
};
use serde_json::json;
use std::fs;
use std::path::Path;

/// Callback, built in code and by name, and the keys that it records in a run of the tiny model.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) build: fn() -> Box<dyn Callback>,
    settings: &'static str,
    pub(crate) keys: &'static [&'static str],
}

/// Keys whose values differ between two equal runs: times, memory and load.
const MEASURED: [&str; 7] = [
    "train/tok_per_sec",
    "train/step_time",
    "train/data_wait",
    "train/mfu",
    "memory/*",
    "system/*",
    "profile*",
];

impl Case {
    /// Returns the public check of callbacks for this one.
    pub(crate) fn check(&self) -> CallbackCheck<fn() -> Box<dyn Callback>> {
        eprintln!("{} with {:?}", self.name, self.settings); // shown if a check fails
        CallbackCheck::of(self.build)
            .by_name(self.name, &self.settings.replace("PAST", past_runs()))
            .records(self.keys.iter().copied())
            .measures(MEASURED)
    }
}

/// Returns a folder with ten finished runs, for callbacks that learn from past runs. Test processes share it.
fn past_runs() -> &'static str {
    const DIR: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/past_runs-2");
    if !Path::new(DIR).exists() {
        let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        (0..10).for_each(|run| past_run(&scratch.path().join(format!("run-{run}")), run));
        let _ = fs::rename(scratch.path(), DIR); // fails if another process has made the same folder
    }
    DIR
}

fn past_run(dir: &Path, number: u32) {
    let end = 3.0 + 0.1 * f64::from(number);
    let line = |step| json!({ "step": step, "val/loss": end + 3.0 / (1.0 + f64::from(step)) });
    let lines = [0, 4, 8, 12].map(|step| line(step).to_string() + "\n");
    let file = json!({ "steps": 12, "status": "completed", "config": { "trainer": { "steps": 10 + number } } });
    fs::create_dir(dir).expect("a directory");
    fs::write(dir.join("metrics.jsonl"), lines.concat()).expect("records");
    fs::write(dir.join("run.json"), file.to_string()).expect("a run");
}

pub(crate) const CASES: [Case; 26] = [
    Case {
        name: "norms",
        build: || Box::new(Norms::default()),
        settings: "",
        keys: &["train/weight_norm", "train/grad_norm"],
    },
    Case {
        name: "norms",
        build: || Box::new(Norms::default().on(every(3) | last()).per_parameter(true)),
        settings: "on = \"every 3 steps | last\"\nper_parameter = true",
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
        build: || Box::new(Throughput::default().warmup_steps(2).peak_flops(1e9)),
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
        settings: "on = \"at 2,5 steps\"",
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
            let histograms = Histograms::default()
                .on(every(2))
                .params(ParamFilter::from(["head*"]).limit(1))
                .bins(8)
                .weights(false)
                .clipped_gradients(true)
                .updates(true)
                .activations(true);
            Box::new(histograms)
        },
        settings: "on = 2\nparams = { names = \"head*\", limit = 1 }\nbins = 8\nweights = false\n\
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
            let norms = Norms::default()
                .clipped(true)
                .updates(true)
                .per_parameter(true)
                .params("embed*")
                .group("out", "head*");
            Box::new(norms)
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
        build: || Box::new(Clipping::default().on(every(1))),
        settings: "on = \"every step\"",
        keys: &["train/clip_coefficient", "train/clip_fraction"],
    },
    Case {
        name: "overlay",
        build: || Box::new(Overlay::default().on(every(5))),
        settings: "on = 5",
        keys: &["histograms/weights", "histograms/gradients"],
    },
    Case {
        name: "ridges",
        build: || Box::new(Ridges::default().on(every(5))),
        settings: "on = 5",
        keys: &[
            "histograms/ridge/embed.weight",
            "histograms/ridge/head.weight",
        ],
    },
    Case {
        name: "confusion",
        build: || Box::new(ConfusionMatrix::default().normalize(false)),
        settings: "normalize = false",
        keys: &[], // only an eval of a classifier has a confusion matrix
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
        build: || Box::new(UpdateRatios::default()),
        settings: "",
        keys: &["ratio/grad_std/embed.weight", "ratio/grad_std/head.weight"],
    },
    Case {
        name: "ratios",
        build: || {
            let ratios = UpdateRatios::default()
                .on(every(2))
                .params("*bias")
                .l2(true)
                .log10(true)
                .updates(true)
                .lines(false);
            Box::new(ratios)
        },
        settings: "on = 2\nparams = \"*bias\"\nl2 = true\nlog10 = true\nupdates = true\nlines = false",
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
            let samples = Samples::default()
                .on(every(5) | last())
                .prompts(["abc", "d"])
                .max_tokens(20);
            Box::new(samples)
        },
        settings: "on = \"every 5 steps | last\"\nprompts = [\"abc\", \"d\"]\nmax_tokens = 20",
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
        build: || Box::new(EarlyStop::default().patience(9).stop_on_nan(false)),
        settings: "patience = 9\nstop_on_nan = false",
        keys: &[],
    },
    Case {
        name: "ema",
        build: || Box::new(Ema::default().decay(0.9)),
        settings: "decay = 0.9",
        keys: &[
            "val/ema_loss",
            "val/ema_perplexity",
            "val/ema_accuracy",
            "val/ema_bpb",
        ],
    },
    Case {
        name: "finite",
        build: || Box::new(NonFiniteGuard::default()),
        settings: "action = \"report\"",
        keys: &["finite/grad", "finite/loss"],
    },
    Case {
        name: "forecast",
        build: || Box::new(ForecastEnd::from_runs(past_runs()).metric("loss")),
        settings: "runs = \"PAST\"\nmetric = \"loss\"",
        keys: &[
            "forecast/val_loss",
            "forecast/val_loss_low",
            "forecast/val_loss_high",
            "forecast/val_loss_settings_only",
        ],
    },
    Case {
        name: "spikes",
        build: || Box::new(LossSpikes::default().warmup(2).threshold(0.0)),
        settings: "warmup = 2\nthreshold = 0.0",
        keys: &["spike/loss", "spike/grad_norm", "spikes"],
    },
    Case {
        name: "checkpoints",
        build: || {
            let best = Checkpoints::default()
                .metric("accuracy")
                .mode(Mode::Max)
                .keep(2);
            Box::new(best)
        },
        settings: "metric = \"accuracy\"\nmode = \"max\"\nkeep = 2",
        keys: &[],
    },
    Case {
        name: "memory",
        build: || Box::new(MemoryMonitor::default().on(every(2))),
        settings: "on = \"every 2 steps\"",
        keys: &["memory/rss", "memory/leak"],
    },
    Case {
        name: "system",
        build: || Box::new(SystemMonitor::default().on(every(2))),
        settings: "on = \"every 2 steps\"",
        keys: &["system/cpu_process", "system/cpu_machine", "system/*"], // and the machine's GPUs
    },
    Case {
        name: "gradient_noise",
        build: || Box::new(GradientNoise::default().decay(0.9)),
        settings: "decay = 0.9",
        keys: &[
            "noise/scale",
            "noise/scale_tokens",
            "noise/grad_sq",
            "noise/trace",
        ],
    },
    Case {
        name: "profile",
        build: || Box::new(StepProfiler::default().first_step(3).steps(4).sync(true)),
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
    Case {
        name: "artifacts",
        build: || Box::new(Artifacts::best_by("bpb")),
        settings: "metric = \"bpb\"",
        keys: &[
            "checkpoint/step_00000004",
            "checkpoint/step_00000008",
            "checkpoint/step_00000012",
        ],
    },
];
