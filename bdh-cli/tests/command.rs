//! The command `bdh` with runs and programs that do not use this library.
#![cfg(unix)] // the trials are shell scripts

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize_to_file};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

/// A program without this library: it writes a curve that ends at `x * x`, and its settings.
const TRIAL: &str = r#"
x=${1#--x=}
[ "$x" = 3 ] && { echo "Error: 3 is not allowed"; exit 1; }
mkdir -p "$BDH_TRIAL_DIR" && cd "$BDH_TRIAL_DIR"
for step in 1 2 3 4; do
    echo "{\"loss\":$((x * x + 4 - step)),\"step\":$step,\"tokens\":$((step * 10)),\"elapsed\":$step}" >> metrics.jsonl
done
echo "{\"steps\":4,\"status\":\"completed\",\"config\":{\"user\":{\"args\":{\"x\":$x}}}}" > run.json
"#;

const SWEEP: &str = "\
program: trial.sh
method: grid
metric: { name: loss }
parameters: { x: { values: [2, 1, 3] } }
command: [sh, '${program}', '${args}']
";

/// Folder in which the command runs.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).expect("a file")
    }

    fn run(&self, words: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bdh"));
        command
            .args(words.split_whitespace())
            .current_dir(self.path());
        command.output().expect("the command runs")
    }

    fn succeeds(&self, words: &str) -> String {
        let output = self.run(words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words}: {errors}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Returns the message of a command that fails with exit code 2.
    fn refuses(&self, words: &str) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(2), "{words}");
        String::from_utf8(output.stderr).expect("text")
    }

    /// Writes a file with one tensor, `weight`.
    fn write_weights(&self, name: &str, values: [f32; 2]) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
        let view = TensorView::new(Dtype::F32, vec![2], &bytes).expect("two values");
        serialize_to_file([("weight", view)], None, &path).expect("a file");
    }

    /// Writes a run whose loss falls from 4 towards an end that depends on its setting.
    fn write_run(&self, number: u32) {
        let lr = f64::from(number) / 10.0;
        let end = 1.0 + (lr - 0.5).powi(2);
        let mut metrics = String::new();
        for step in 0..=64 {
            let loss = end + 3.0 * f64::from(65 - step).powi(2) / 65.0_f64.powi(2);
            let line =
                json!({ "val/loss": loss, "train/loss": loss, "step": step, "elapsed": step });
            metrics += &format!("{line}\n");
        }
        let run = json!({
            "steps": 64, "status": "completed", "started_at": number,
            "config": { "user": { "args": { "lr": lr } } },
        });
        self.write(&format!("runs/{number:02}/run.json"), &run.to_string());
        self.write(&format!("runs/{number:02}/metrics.jsonl"), &metrics);
    }
}

fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

#[test]
fn help_lists_subcommands_and_refuses_unknown_ones() {
    let place = Place::new();
    contains(
        &place.succeeds("--help"),
        &[
            "sweep",
            "compare",
            "forecast",
            "average",
            "wandb",
            "--version",
        ],
    );
    contains(
        &place.succeeds("sweep --help"),
        &["Usage: bdh sweep", "--count", "--stop-regret"],
    );
    contains(
        &place.succeeds("compare --help"),
        &["--csv", "[default: val/loss]"],
    );
    contains(&place.succeeds("wandb --help"), &["sync", "repair"]);
    contains(
        &place.refuses("swep"),
        &["unrecognized subcommand 'swep'", "sweep"],
    );
    contains(&place.refuses(""), &["Usage: bdh"]);
}

#[test]
fn any_program_can_be_swept_and_compared() {
    let place = Place::new();
    place.write("trial.sh", TRIAL);
    place.write("squares.yaml", SWEEP);
    let dry = place.succeeds("sweep squares.yaml --dry-run");
    contains(
        &dry,
        &["3 trials", "sh trial.sh --x=2", "sh trial.sh --x=1"],
    );
    assert!(!place.path().join("runs").exists(), "nothing was run");

    let out = place.succeeds("sweep squares.yaml");
    let shown = [
        "3 trials, 1 at once, in runs/squares",
        "completed   loss 4.0000",
        "Error: 3 is not allowed",
        "bdh compare runs/squares --csv runs.csv",
    ];
    contains(&out, &shown);
    let again = place.succeeds("sweep squares.yaml");
    contains(&again, &["resumes  3 of them are finished already"]);

    let out = place.succeeds("compare runs/squares --metric loss --csv all.csv --html all.html");
    contains(
        &out,
        &[
            "trial-0001",
            "trial-0002",
            "wrote all.csv",
            "wrote all.html",
        ],
    );
    let csv = place.read("all.csv");
    let order: Vec<_> = csv
        .lines()
        .skip(1)
        .map(|line| line.split(',').next())
        .collect();
    assert_eq!(
        order[..2],
        [Some("trial-0002"), Some("trial-0001")],
        "the best first: {csv}"
    );
    contains(&place.read("all.html"), &["trial-0001", "<script"]);
}

#[test]
fn sweep_file_without_command_calls_its_program() {
    let place = Place::new();
    let file = |program: &str| {
        format!(
            "{program}method: grid\nmetric: {{ name: loss }}\nparameters: {{ x: {{ values: [1] }} }}\n"
        )
    };
    place.write("trial.py", "");
    place.write("sweep.yaml", &file("program: trial.py\n"));
    let dry = place.succeeds("sweep sweep.yaml --dry-run");
    contains(&dry, &["/usr/bin/env python ./trial.py --x=1"]);
    place.write("sweep.yaml", &file("program: bin/train\n"));
    contains(
        &place.succeeds("sweep sweep.yaml --dry-run"),
        &["\nbin/train --x=1"],
    );
    place.write("sweep.yaml", &file(""));
    contains(
        &place.refuses("sweep sweep.yaml"),
        &["`sweep.yaml`: no program is named"],
    );
}

#[test]
fn mistakes_in_a_sweep_have_clear_errors() {
    let place = Place::new();
    contains(
        &place.refuses("sweep none.yaml"),
        &["`none.yaml` cannot be read"],
    );
    place.write("bad.yaml", &SWEEP.replace("method: grid", "methd: grid"));
    contains(&place.refuses("sweep bad.yaml"), &["`bad.yaml`", "methd"]);
    place.write("good.yaml", SWEEP);
    contains(
        &place.refuses("sweep good.yaml --dir good.yaml/x"),
        &["--dir good.yaml/x", "file"],
    );
    contains(
        &place.refuses("sweep good.yaml --stop-regret 1"),
        &["--live"],
    );
    contains(
        &place.refuses("compare nothing"),
        &["there are no runs in nothing"],
    );
}

#[test]
fn saved_runs_are_forecast_like_their_folder() {
    let place = Place::new();
    (0..10).for_each(|number| place.write_run(number));
    let words = "--cuts 25%,50% --group lr";
    let out = place.succeeds(&format!(
        "forecast runs {words} --save saved.json --html all.html"
    ));
    contains(
        &out,
        &["forecast of 10 runs", "wrote saved.json", "wrote all.html"],
    );
    assert!(!out.contains("CORE"), "CORE is for nanochat's models only");
    let again = place.succeeds(&format!("forecast saved.json {words} --json all.json"));
    assert_eq!(num_table_lines(&out), num_table_lines(&again));
    let report: serde_json::Value = serde_json::from_str(&place.read("all.json")).expect("JSON");
    assert_eq!(report["runs"].as_array().map(Vec::len), Some(10));
    contains(
        &place.refuses("forecast nothing"),
        &["there are no runs in nothing"],
    );
}

fn num_table_lines(out: &str) -> usize {
    out.lines()
        .take_while(|line| !line.starts_with("wrote"))
        .count()
}

#[test]
fn error_names_the_missing_log() {
    let place = Place::new();
    contains(
        &place.refuses("wandb sync runs/none"),
        &["error: `runs/none`: "],
    );
    contains(
        &place.refuses("wandb repair runs/none.wandb"),
        &["error: `runs/none.wandb`: "],
    );
}

#[test]
fn weights_of_files_and_checkpoints_are_averaged() {
    let place = Place::new();
    place.write_weights("a.safetensors", [1.0, -2.0]);
    place.write_weights("best/model.safetensors", [2.0, 4.0]);
    let out = place.succeeds("average a.safetensors best -o mean.safetensors");
    let expected = "a.safetensors\nbest/model.safetensors\n\
                    wrote mean.safetensors, the mean of 2 files: 2 values in 1 tensor\n";
    assert_eq!(out, expected);
    let bytes = fs::read(place.path().join("mean.safetensors")).expect("a file");
    let mean = SafeTensors::deserialize(&bytes).expect("safetensors");
    let mean = mean.tensor("weight").expect("the tensor");
    assert_eq!(mean.data(), [1.5_f32, 1.0].map(f32::to_le_bytes).concat());

    let over = place.refuses("average a.safetensors best -o a.safetensors");
    contains(&over, &["it is one of the files to average"]);
    let none = place.refuses("average none best -o b.safetensors");
    contains(&none, &["error: cannot read weights from `none`"]);
    contains(&place.refuses("average best"), &["--out <FILE>"]);
    assert!(!place.path().join("b.safetensors").exists());
}
