//! Every callback of the crate, in each way that records other keys.

use bdh::testing::CallbackCheck;
use bdh::{Callback, every, last};
use bdh_callbacks::{
    Activations, Artifacts, Checkpoints, Clipping, EarlyCheckpoints, EarlyStop, Ema, Finite,
    ForecastEnd, GradientNoise, Histograms, Memory, Mode, Norms, Overlay, ParamFilter, Profile,
    Ratios, Ridges, Samples, Spikes, System, Throughput,
};
use serde_json::json;
use std::fs;
use std::path::Path;

/// A callback, built in code and by name, and what it records in a run of the tiny model.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) build: fn() -> Box<dyn Callback>,
    settings: &'static str,
    pub(crate) keys: &'static [&'static str],
}

/// What no two runs record alike: times, memory and load.
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
    /// The check that anyone can make of a callback of theirs.
    pub(crate) fn check(&self) -> CallbackCheck<fn() -> Box<dyn Callback>> {
        eprintln!("{} with {:?}", self.name, self.settings); // shown where a check fails
        CallbackCheck::of(self.build)
            .by_name(self.name, &self.settings.replace("PAST", past_runs()))
            .records(self.keys.iter().copied())
            .measures(MEASURED)
    }
}

/// A folder with ten runs that are through, for a callback that learns from such. Test processes share it.
fn past_runs() -> &'static str {
    const DIR: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/past_runs-2");
    if !Path::new(DIR).exists() {
        let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        (0..10).for_each(|run| past_run(&scratch.path().join(format!("run-{run}")), run));
        let _ = fs::rename(scratch.path(), DIR); // another process may have been faster
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

pub(crate) const CASES: [Case; 25] = [
    Case {
        name: "norms",
        build: || Box::new(Norms::default()),
        settings: "",
        keys: &["train/weight_norm", "train/grad_norm"],
    },
    Case {
        name: "norms",
        build: || {
            let norms = Norms::builder()
                .cadence(every(3) | last())
                .per_parameter(true)
                .build();
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
            let throughput = Throughput::builder()
                .warmup_steps(2_u64)
                .peak_flops(1e9)
                .build();
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
            let histograms = Histograms::builder()
                .params(params)
                .bins(8_usize)
                .cadence(every(2));
            let histograms = histograms
                .clipped_gradients(true)
                .updates(true)
                .activations(true);
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
            let norms = Norms::builder()
                .clipped(true)
                .updates(true)
                .per_parameter(true);
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
        build: || {
            Box::new(
                Overlay::builder()
                    .cadence(every(5))
                    .build()
                    .expect("valid settings"),
            )
        },
        settings: "cadence = 5",
        keys: &["histograms/weights", "histograms/gradients"],
    },
    Case {
        name: "ridges",
        build: || {
            Box::new(
                Ridges::builder()
                    .cadence(every(5))
                    .build()
                    .expect("valid settings"),
            )
        },
        settings: "cadence = 5",
        keys: &[
            "histograms/ridge/embed.weight",
            "histograms/ridge/head.weight",
        ],
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
            let ratios = Ratios::builder()
                .cadence(every(2))
                .params("*bias")
                .l2(true)
                .log10(true);
            Box::new(
                ratios
                    .updates(true)
                    .lines(false)
                    .build()
                    .expect("valid settings"),
            )
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
            let samples = Samples::builder()
                .cadence(every(5) | last())
                .prompts(["abc", "d"]);
            Box::new(
                samples
                    .max_tokens(20_usize)
                    .build()
                    .expect("valid settings"),
            )
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
            let stop = EarlyStop::builder()
                .patience(9_u32)
                .stop_on_nan(false)
                .build();
            Box::new(stop.expect("valid settings"))
        },
        settings: "patience = 9\nstop_on_nan = false",
        keys: &[],
    },
    Case {
        name: "ema",
        build: || Box::new(Ema::builder().decay(0.9).build().expect("a decay below 1")),
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
        build: || Box::new(Finite::default()),
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
            let best = Checkpoints::builder()
                .metric("accuracy")
                .mode(Mode::Max)
                .keep(2_usize);
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
        keys: &["system/cpu_process", "system/cpu_machine", "system/*"], // and the GPUs of the machine
    },
    Case {
        name: "gradient_noise",
        build: || {
            let noise = GradientNoise::builder().decay(0.9).build();
            Box::new(noise.expect("valid settings"))
        },
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
        build: || {
            let profile = Profile::builder()
                .first_step(3_u64)
                .steps(4_u64)
                .sync(true)
                .build();
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
