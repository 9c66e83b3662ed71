//! Tests of sweeps of `nanochat_sweep`, offline and with a real W&B agent.

#[path = "../../bdh-callbacks/tests/support/judges.rs"]
mod judges;
#[path = "support/program.rs"]
mod program;
#[path = "../../bdh-wandb/tests/support/wandb_server.rs"]
mod wandb_server;

use bdh_sweep::{Status, Sweep, TrialStore};
use judges::Judge;
use program::{Ended, contains};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use wandb_server::{Server, wait_until};

/// Flags that make any run very short.
const SMALL: &str = "--device=cpu --data=text.txt --max-seq-len=32 --micro-batch=2 --eval-tokens=64 --early-save=off";

type Place = program::Place<NanochatSweep>;

/// Program under test.
struct NanochatSweep;

impl program::Name for NanochatSweep {
    const NAME: &'static str = "nanochat_sweep";
}

/// Writes a sweep file of small runs.
fn sweep_file(place: &Place, more: &str) {
    let words: Vec<_> = SMALL.split(' ').collect();
    let yaml = format!(
        "method: random\nmetric: {{ name: val_bpb, goal: minimize }}\nparameters:\n  depth: {{ value: 2 }}\n  \
         n_embd_override: {{ values: [64] }}\n  \
         lr_override: {{ distribution: log_uniform_values, min: 0.0001, max: 0.01 }}\n\
         command: ['${{program}}', {}, --log-backend=none, '${{args}}']\n{more}",
        words.join(", ")
    );
    fs::write(place.at("tiny.yaml"), yaml).expect("a file");
}

#[test]
fn sweep_file_runs_offline_resumes_and_is_compared() {
    let place = Place::new();
    sweep_file(&place, "");
    let out =
        place.succeeds("sweep tiny.yaml --count 2 --jobs 2 -- --num-iterations 3 --eval-every 1");
    contains(
        &out,
        &[
            "2 trials, 2 at once, in runs/tiny",
            "trial   1/2",
            "val_bpb",
            "completed",
            "trial-0002",
        ],
    );
    assert!(out.lines().all(|line| line.chars().count() <= 130), "{out}");
    let first = place.json("runs/tiny/trial-0001/run.json");
    assert_eq!(first["config"]["user"]["args"]["depth"], 2);
    assert_eq!(place.steps("runs/tiny/trial-0001"), [0, 1, 2, 3]);

    let out = place.succeeds("sweep tiny.yaml --count 3 -- --num-iterations 3 --eval-every 1");
    contains(
        &out,
        &["resumes  2 of them are finished already", "trial   3/3"],
    );
    assert!(
        !out.contains("trial   1/3"),
        "finished trials are not repeated\n{out}"
    );

    let out = place.succeeds("compare runs/tiny --csv all.csv --html all.html --sort lr_override");
    contains(
        &out,
        &[
            "lr_override",
            "trial-0003",
            "wrote all.csv",
            "wrote all.html",
        ],
    );
    let csv = fs::read_to_string(place.at("all.csv")).expect("a table");
    assert_eq!(csv.lines().count(), 4);
    assert!(
        csv.starts_with(
            "run,status,depth,lr_override,n_embd_override,val_bpb,loss,weight_norm,grad_norm"
        ),
        "{csv}"
    );
    place.refuses(
        "compare runs/tiny --sort nothing",
        &["no column `nothing`", "lr_override"],
    );
    place.refuses("compare runs/none", &["there are no runs in runs/none"]);
}

/// Flags that make a run on synthetic text very short.
const SYNTHETIC: &str = "--depth 2 --n_embd_override 64 --device cpu --data synthetic --max-seq-len 64 \
                         --device-batch-size 2 --eval-tokens 512 --log-backend none";

#[test]
fn compare_shows_the_last_step_of_sparse_records() {
    let place = Place::new();
    place.succeeds(&format!(
        "{SYNTHETIC} --steps 20 --log-every 7 --eval-every 7 --name a"
    ));
    assert_eq!(place.steps("runs/a"), [0, 7, 14, 20]);
    let metrics = place.metrics("runs/a");
    let recorded = |key: &str| [&metrics[2], &metrics[3]].map(|line| line[key].as_f64());

    let out = place.succeeds("compare runs --csv all.csv");
    let csv = fs::read_to_string(place.at("all.csv")).expect("a table");
    let rows: Vec<Vec<_>> = csv.lines().map(|line| line.split(',').collect()).collect();
    let [names, row] = &rows[..] else {
        panic!("{csv}")
    };
    let shown = |name: &str| {
        let place = names.iter().position(|column| *column == name).expect(name);
        row[place].parse::<f64>().ok()
    };
    for (column, key) in [("val_bpb", "val_bpb"), ("loss", "train/loss")] {
        let [earlier, last] = recorded(key);
        assert_ne!(earlier, last, "{key} is another after six more steps");
        assert_eq!(shown(column), last, "{column}");
    }
    assert_eq!(shown("last_step"), Some(20.0));
    let last = recorded("val_bpb")[1].expect("a number");
    let line = out
        .lines()
        .find(|line| line.starts_with("1 "))
        .expect("the run");
    assert_eq!(
        line.split_whitespace().nth(1),
        Some(&*format!("{last:.4}")),
        "{out}"
    );
}

#[test]
#[cfg(unix)]
fn files_of_a_sweep_have_the_mode_of_the_umask() {
    use std::os::unix::fs::PermissionsExt as _;

    for (umask, of_files, of_folders) in [("022", 0o644, 0o755), ("077", 0o600, 0o700)] {
        let place = Place::new();
        sweep_file(&place, "");
        // The umask belongs to a process, so a shell sets it only for the program.
        let program = place.command("").get_program().to_owned();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"])
            .arg(program);
        let words = "sweep tiny.yaml --count 2 -- --num-iterations 2 --save-every 1";
        shell.args(words.split(' ')).current_dir(place.0.path());
        let ended = Ended::from(shell.output().expect("a shell"));
        assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{}", ended.out);

        let made: Vec<_> = place
            .files()
            .into_keys()
            .filter(|path| path.starts_with(place.at("runs")))
            .collect();
        for name in [
            "tiny/sweep.yaml",
            "tiny/seed",
            "tiny/trials/0001.json",
            "tiny/trial-0001/run.json",
        ] {
            assert!(
                made.contains(&place.at("runs").join(name)),
                "{name} is not in {made:?}"
            );
        }
        let checkpoint = place.at("runs/tiny/trial-0001/checkpoints/step_00000002");
        assert!(
            made.iter()
                .filter(|path| path.starts_with(&checkpoint))
                .count()
                > 3,
            "{made:?}"
        );
        for path in made {
            let bits = path.metadata().expect("it is there").permissions().mode() & 0o777;
            let expected = if path.is_dir() { of_folders } else { of_files };
            assert_eq!(
                bits,
                expected,
                "{} is {bits:o} where the umask is {umask}",
                path.display()
            );
        }
    }
}

#[test]
fn failed_trial_is_a_row_and_does_not_stop_others() {
    let place = Place::new();
    sweep_file(&place, "");
    let yaml = fs::read_to_string(place.at("tiny.yaml")).expect("the file");
    // 100 channels are not a multiple of the head size 64.
    let yaml = yaml
        .replace("method: random", "method: grid")
        .replace("values: [64]", "values: [100, 64]");
    let yaml = yaml.replace(
        "distribution: log_uniform_values, min: 0.0001, max: 0.01",
        "value: 0.001",
    );
    fs::write(place.at("tiny.yaml"), yaml).expect("a file");
    let out = place.succeeds("sweep tiny.yaml -- --num-iterations 2");
    contains(
        &out,
        &["trial   1/2  failed", "width 100", "trial   2/2  completed"],
    );
    let trials = TrialStore::read(place.at("runs/tiny")).expect("trials");
    let statuses: Vec<_> = trials.iter().map(|trial| trial.status).collect();
    assert_eq!(statuses, [Status::Failed, Status::Completed]);
}

#[test]
fn misspelt_parameter_is_named_in_the_error() {
    let place = Place::new();
    sweep_file(&place, "");
    let yaml = fs::read_to_string(place.at("tiny.yaml")).expect("the file");
    fs::write(
        place.at("tiny.yaml"),
        yaml.replace("lr_override", "lr_overide"),
    )
    .expect("a file");
    let ended = place.run("sweep tiny.yaml --count 3 -- --num-iterations 1");
    assert_eq!(ended.code, Some(2), "{}", ended.out);
    contains(
        &ended.err,
        &[
            "unexpected argument '--lr_overide",
            "tip: a similar argument exists: '--lr-override'",
        ],
    );
    let why = TrialStore::read(place.at("runs/tiny")).expect("trials")[0]
        .why
        .clone()
        .unwrap_or_default();
    assert!(
        why.contains("--lr_overide") && !why.contains("--help"),
        "{why}"
    );
}

#[test]
fn user_errors_in_a_sweep_are_one_sentence_and_write_nothing() {
    let place = Place::new();
    sweep_file(&place, "");
    let bad = fs::read_to_string(place.at("tiny.yaml"))
        .expect("the file")
        .replace("min: 0.0001", "mim: 0.0001");
    fs::write(place.at("bad.yaml"), bad).expect("a file");
    place.refuses(
        "sweep bad.yaml --count 1",
        &["`bad.yaml`: ", "unknown field `mim`", "line 6"],
    );
    place.refuses("sweep none.yaml", &["`none.yaml` cannot be read"]);
    place.refuses("sweep tiny.yaml", &["give a count, or `run_cap`"]);
    for (flags, part) in [
        ("--jobs 0", "use a number from 1"),
        ("--timeout 5", "90s, 30m or 1.5h"),
        ("--devices cpu", "use cuda:0-7"),
        ("--devices cuda:3-1", "use cuda:0-7"),
        ("--count 0", "'--count <TRIALS>'"),
    ] {
        let ended = place.run(&format!("sweep tiny.yaml --count 1 {flags}"));
        assert_eq!(ended.code, Some(2), "{flags}");
        assert!(ended.err.contains(part), "{flags}: {}", ended.err);
    }
    assert!(!place.at("runs").exists());
    let out = place.succeeds("sweep tiny.yaml --count 2 --dry-run -- --steps 7");
    contains(
        &out,
        &[
            "2 trials",
            "--depth=2 --lr_override=0.0",
            "--n_embd_override=64 --steps 7",
        ],
    );
    assert!(!place.at("runs").exists());
}

#[test]
fn live_sweep_predicts_trials_and_stops_poor_ones() {
    let place = Place::new();
    sweep_file(&place, "");
    let yaml = fs::read_to_string(place.at("tiny.yaml")).expect("the file");
    // Eight finished trials, and one with a rate at which two of them have learned little.
    let rates = "values: [0.004, 0.003, 0.002, 0.001, 0.0003, 0.0001, 0.00003, 0.00001, 0.00002]";
    let yaml = yaml.replace(
        "distribution: log_uniform_values, min: 0.0001, max: 0.01",
        rates,
    );
    fs::write(
        place.at("tiny.yaml"),
        yaml.replace("method: random", "method: grid"),
    )
    .expect("a file");
    let more = "--num-iterations 600 --warmup-steps 10 --eval-every 30";
    place.succeeds(&format!("sweep tiny.yaml --count 8 --jobs 2 -- {more}"));
    let out = place.succeeds(&format!(
        "sweep tiny.yaml --live --stop-regret 0.01 -- {more}"
    ));
    contains(
        &out,
        &[
            "trial   9/9  ended early",
            "does not beat the best",
            "the stop rule (regret 0.01) ended 1 trial early and saved",
        ],
    );
    let ended = place.run("sweep tiny.yaml --stop-regret 0.01");
    assert!(
        ended.code == Some(2) && ended.err.contains("--live"),
        "{}",
        ended.err
    );
}

/// Returns the path of a file of the study in the repository.
fn study(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../studies/early")
        .join(file);
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))] // other logarithms may end in another digit
fn report_of_the_study_is_the_output_of_forecast() {
    let place = Place::new();
    let out = place.succeeds(&format!("forecast {} --json all.json", study("runs.json")));
    let report = fs::read_to_string(study("report.txt")).expect("the report");
    let printed: Vec<_> = out
        .lines()
        .filter(|line| !line.starts_with("wrote "))
        .collect();
    for (printed, told) in printed.iter().zip(report.lines()) {
        assert_eq!(*printed, told);
    }
    assert_eq!(printed.len(), report.lines().count());
    let json = place.json("all.json");
    assert_eq!(json["finished"], 70);
    assert!(json["tests"][0]["cuts"][0]["cells"][1]["score"]["error"]["rmse"].is_f64());
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/forecasting.md");
    let docs = fs::read_to_string(docs).expect("the page");
    contains(
        &docs,
        &[
            "64 random trials",
            "Seed noise: 0.0184",
            "60 of 70 runs, saved 80 %",
        ],
    );
}

#[test]
fn forecast_of_saved_runs_equals_that_of_the_runs() {
    let place = Place::new();
    sweep_file(&place, "");
    place.succeeds("sweep tiny.yaml --count 3 -- --num-iterations 8 --eval-every 1");
    let out = place.succeeds("forecast runs --cuts 25%,50% --save runs.json --html runs.html");
    contains(
        &out,
        &["forecast of 3 runs", "wrote runs.json", "wrote runs.html"],
    );
    let again = place.succeeds("forecast runs.json --cuts 25%,50%");
    assert_eq!(again.lines().next(), out.lines().next());
    let page = fs::read_to_string(place.at("runs.html")).expect("the page");
    assert!(page.contains("\"forecast\":{") && page.contains("settings only"));
    place.refuses("forecast nothing", &["there are no runs in nothing"]);
    place.refuses(
        "forecast text.txt",
        &["`text.txt` is not a file written by --save"],
    );
    let ended = place.run("forecast runs --cuts 0%");
    assert!(
        ended.code == Some(2) && ended.err.contains("a share like"),
        "{}",
        ended.err
    );
}

/// Returns the arguments of the root `sweep.yaml` for some values, without the program.
fn root_words(values: &Value) -> Vec<String> {
    let sweep = Sweep::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../sweep.yaml"))
        .expect("the root file");
    let values = values.as_object().expect("an object");
    let words = sweep
        .command_line(values, "?", Path::new("?"))
        .expect("a command");
    assert_eq!(
        words[0], "target/release/examples/nanochat_sweep",
        "what the README builds"
    );
    words[1..].to_vec()
}

#[test]
fn root_sweep_file_starts_this_program() {
    let place = Place::new();
    let words = root_words(&json!({ "depth": 8, "n_embd_override": 256, "lr_override": 1e-5 }));
    let out = place.succeeds(&format!(
        "{} --dry-run --data=synthetic --tokenizer=bytes",
        words.join(" ")
    ));
    contains(
        &out,
        &["model    depth 8, width 256", "  matrix        lr 0.000010"],
    );
}

#[test]
fn values_of_an_agent_override_the_command_line() {
    let place = Place::new();
    let chosen = "wandb_version: 1\nlr_override:\n  value: 0.003\nquiet:\n  value: true\nn_embd_override:\n  value: null\ndata:\n  value: null\n";
    fs::write(place.at("chosen.yaml"), chosen).expect("a file");
    let run = |words: &str, file: &str| {
        let mut command = place.command(words);
        command.env("WANDB_SWEEP_PARAM_PATH", place.at(file));
        Ended::from(command.output().expect("the program starts"))
    };
    let words = format!(
        "{SMALL} --depth=2 --n_embd_override=64 --lr_override=0.009 --num-iterations=1 --data=None \
         --log_backend=None --name=a"
    );
    let ended = run(&words, "chosen.yaml");
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (Some(0), ""),
        "{}",
        ended.err
    );
    let args = &place.json("runs/a/run.json")["config"]["user"]["args"];
    assert_eq!(
        (&args["lr_override"], &args["quiet"]),
        (&json!(0.003), &json!(true))
    );

    for (text, part) in [
        ("wandb_version: 1\nn_layer:\n  value: 4\n", "'--n_layer"),
        (
            "wandb_version: 1\nmodel:\n  value: {depth: 4}\n",
            "'--model",
        ),
        ("wandb_version: 1\ndepth: 4\n", "`depth` has no `value`"),
    ] {
        fs::write(place.at("chosen.yaml"), text).expect("a file");
        let ended = run(&words.replace("name=a", "name=b"), "chosen.yaml");
        assert_eq!(ended.code, Some(2), "{text}");
        assert!(ended.err.contains(part), "{text}: {}", ended.err);
    }
    assert!(!place.at("runs/b").exists());
}

/// Directory where the root `sweep.yaml` works on a CPU, with the environment of W&B's programs.
struct Agency {
    place: Place,
    server: Server,
    judge: Judge,
}

impl Agency {
    /// Starts the server; returns `None` without Python and W&B.
    fn new(steps: &str) -> Option<Self> {
        let judge = Judge::modern()?;
        let server = Server::start(&["--sweep-runs", "2"])?;
        let place = Place::new();
        let root = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../sweep.yaml"));
        let mut more: Vec<_> = SMALL
            .split(' ')
            .map(|word| format!("  - {word}\n"))
            .collect();
        more.push(format!("  - --num-iterations={steps}\n"));
        let yaml = root.expect("the root file").replace(
            "  - ${args}\n",
            &format!("{}  - ${{args}}\n", more.concat()),
        );
        assert!(yaml.contains("--num-iterations"));
        fs::write(place.at("sweep.yaml"), yaml).expect("a file");
        let examples = place.at("target/release/examples");
        fs::create_dir_all(&examples).expect("a directory");
        let program = place.command("").get_program().to_owned();
        fs::copy(program, examples.join("nanochat_sweep")).expect("the program");
        Some(Self {
            place,
            server,
            judge,
        })
    }

    /// Returns a call of W&B's own program, on the loopback server.
    fn wandb(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.judge.bin("wandb"));
        command
            .args(words)
            .current_dir(self.place.0.path())
            .stdin(Stdio::null());
        command
            .env("WANDB_BASE_URL", self.server.url())
            .env("WANDB_API_KEY", "0".repeat(40));
        command
            .env("HOME", self.place.0.path())
            .env("WANDB_ERROR_REPORTING", "false");
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Creates the sweep, and returns the arguments that start an agent.
    fn sweep(&self) -> String {
        let made = self
            .wandb(&["sweep", "--entity", "e", "--project", "p", "sweep.yaml"])
            .output();
        let said = String::from_utf8_lossy(&made.expect("wandb starts").stderr).into_owned();
        let agent = said
            .lines()
            .find_map(|line| line.split("wandb agent ").nth(1));
        agent
            .unwrap_or_else(|| panic!("no agent to start:\n{said}"))
            .trim()
            .to_owned()
    }

    fn runs(&self) -> Vec<(String, Value)> {
        let dump = self.server.dump();
        let runs = dump["runs"].as_object().cloned().unwrap_or_default();
        runs.into_iter().collect()
    }
}

#[test]
fn wandb_agent_runs_the_root_sweep_file() {
    let Some(agency) = Agency::new("2") else {
        return;
    };
    let path = agency.sweep();
    let said = agency
        .wandb(&["agent", &path])
        .output()
        .expect("the agent starts");
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    let runs = agency.runs();
    assert_eq!(runs.len(), 2);
    let sweep_id = path.rsplit('/').next().expect("an id");
    let mut widths = BTreeSet::new();
    for (name, run) in &runs {
        assert_eq!(
            (&run["exitcode"], &run["complete"]),
            (&json!(0), &json!(true)),
            "{name}"
        );
        assert_eq!(run["sweep"], sweep_id, "{name}");
        let value = |key: &str| run["config"][key]["value"].clone();
        assert_eq!(
            (value("depth"), value("lr_override")),
            (json!(8), json!(0.0001)),
            "{name}"
        );
        widths.insert(value("n_embd_override").to_string());
        assert!(
            run["summary"]["val_bpb"]
                .as_f64()
                .is_some_and(|bpb| bpb > 1.0),
            "{name}"
        );
        assert!(
            run["history"]
                .as_array()
                .is_some_and(|rows| rows.iter().any(|row| row["val_bpb"].is_f64()))
        );
    }
    assert_eq!(
        widths,
        ["256", "384"].map(str::to_owned).into_iter().collect()
    );
}

#[test]
#[cfg(unix)]
fn stopped_wandb_agent_ends_its_run_cleanly() {
    let Some(agency) = Agency::new("100000") else {
        return;
    };
    let path = agency.sweep();
    let mut agent = agency
        .wandb(&["agent", "--forward-signals", &path])
        .stderr(Stdio::null())
        .spawn()
        .expect("an agent");
    wait_until("the run sends rows", || {
        agency
            .runs()
            .iter()
            .any(|(_, run)| run["history"].as_array().is_some_and(|rows| rows.len() > 3))
    });
    let pid = agent.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .expect("kill")
            .success()
    );
    agent.wait().expect("the agent ends");
    wait_until("the run ends", || {
        agency.runs().iter().all(|(_, run)| run["complete"] == true)
    });
    let (_, run) = agency.runs().swap_remove(0);
    assert_eq!(
        run["exitcode"], 0,
        "an end that was asked for is no failure"
    );
    let dir = fs::read_dir(agency.place.at("runs"))
        .expect("runs")
        .next()
        .expect("a run")
        .expect("an entry");
    wait_until("run.json is written", || {
        let text = fs::read(dir.path().join("run.json")).unwrap_or_default();
        serde_json::from_slice::<Value>(&text).is_ok_and(|run| run["status"] == "stopped")
    });
}
