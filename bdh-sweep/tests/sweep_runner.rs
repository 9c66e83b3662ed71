//! A sweep runs each trial once, even if the sweep or a trial is killed.
#![cfg(unix)] // the trials are shell scripts

use bdh_sweep::{Runner, Running, Status, Sweep, SweepOutcome, Trial, TrialStore, Watcher};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A trial that records `x * x`, and notes its arguments.
const SQUARE: &str = r#"
echo "$1" >> "$NOTES"
mkdir -p "$BDH_TRIAL_DIR"
x=${1#--x=}
echo "{\"step\":1,\"loss\":$((x * x))}" >> "$BDH_TRIAL_DIR/metrics.jsonl"
"#;

/// A folder for a sweep whose trials are a shell script.
struct Place {
    dir: TempDir,
    yaml: String,
}

impl Place {
    fn new(script: &str, more: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let notes = dir.path().join("notes");
        let script = script.replace("$NOTES", &notes.display().to_string());
        fs::write(dir.path().join("trial.sh"), script).expect("a script");
        let yaml = format!(
            "metric: {{ name: loss }}\nparameters: {{ x: {{ values: [1, 2, 3, 4] }} }}\n\
             command: [sh, {}/trial.sh, '${{args}}']\n{more}",
            dir.path().display()
        );
        Self { dir, yaml }
    }

    fn grid(script: &str) -> Self {
        Self::new(script, "method: grid\n")
    }

    fn store(&self) -> TrialStore {
        TrialStore::open(self.dir.path().join("sweep"), &self.yaml, 1).expect("a trial store")
    }

    fn run(&self, runner: &Runner) -> SweepOutcome {
        let sweep: Sweep = self.yaml.parse().expect("a sweep");
        runner
            .run(&sweep, &self.store(), &mut Silent)
            .expect("a sweep that runs")
    }

    fn trials(&self) -> Vec<Trial> {
        self.store().trials().expect("trials")
    }

    /// Returns the notes of all processes, sorted.
    fn notes(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("notes")).unwrap_or_default();
        let mut notes: Vec<_> = text.lines().map(str::to_owned).collect();
        notes.sort();
        notes
    }

    fn values(&self) -> Vec<Option<f64>> {
        self.trials().iter().map(|trial| trial.value).collect()
    }
}

struct Silent;

impl Watcher for Silent {}

fn statuses(trials: &[Trial]) -> Vec<Status> {
    trials.iter().map(|trial| trial.status).collect()
}

#[test]
fn each_grid_point_is_one_process_and_one_trial() {
    let place = Place::grid(SQUARE);
    assert_eq!(
        place.run(&Runner {
            jobs: 2,
            ..Runner::default()
        }),
        SweepOutcome::Complete
    );
    assert_eq!(place.notes(), ["--x=1", "--x=2", "--x=3", "--x=4"]);
    assert_eq!(place.values(), [1.0, 4.0, 9.0, 16.0].map(Some));
    assert_eq!(statuses(&place.trials()), [Status::Completed; 4]);

    assert_eq!(place.run(&Runner::default()), SweepOutcome::Complete);
    assert_eq!(place.notes().len(), 4, "nothing is run twice");
}

#[test]
fn random_sweep_needs_a_count_or_a_cap() {
    let place = Place::new(SQUARE, "method: random\nrun_cap: 3\n");
    place.run(&Runner {
        count: Some(2),
        ..Runner::default()
    });
    assert_eq!(place.trials().len(), 2);
    place.run(&Runner {
        count: Some(9),
        ..Runner::default()
    });
    assert_eq!(place.trials().len(), 3, "the cap is in the file");
    let draws: Vec<_> = place
        .trials()
        .iter()
        .map(|trial| trial.values.clone())
        .collect();

    let endless = Place::new(SQUARE, "method: random\n");
    let sweep: Sweep = endless.yaml.parse().expect("a sweep");
    let error = Runner::default().run(&sweep, &endless.store(), &mut Silent);
    assert!(
        error
            .expect_err("endless")
            .to_string()
            .contains("give a count, or `run_cap`")
    );
    endless.run(&Runner {
        count: Some(3),
        ..Runner::default()
    });
    let again: Vec<_> = endless
        .trials()
        .iter()
        .map(|trial| trial.values.clone())
        .collect();
    assert_eq!(draws, again, "the same seed draws the same");
}

#[test]
fn crashed_hanging_and_silent_trials_fail() {
    let script = r#"
mkdir -p "$BDH_TRIAL_DIR"
case $1 in
  --x=1) echo '{"step":1,"loss":1}' > "$BDH_TRIAL_DIR/metrics.jsonl" ;;
  --x=2) echo "error: out of memory" >&2; exit 7 ;;
  --x=3) trap "" TERM; sleep 0.5; echo '{"step":5,"loss":"NaN"}' > "$BDH_TRIAL_DIR/metrics.jsonl" ;;
  --x=4) exec sleep 600 ;;
esac
"#;
    let place = Place::grid(script);
    let runner = Runner {
        timeout: Some(Duration::from_secs(3)),
        ..Runner::default()
    };
    assert_eq!(place.run(&runner), SweepOutcome::Complete);
    let trials = place.trials();
    assert_eq!(
        statuses(&trials),
        [
            Status::Completed,
            Status::Failed,
            Status::Diverged,
            Status::Failed
        ]
    );
    let why = |index: usize| trials[index].why.clone().unwrap_or_default();
    assert_eq!(why(1), "exit status: 7: error: out of memory");
    assert_eq!(why(3), "the trial ran for longer than 3 s");
    assert!(trials[3].seconds < 20.0, "{}", trials[3].seconds);

    let silent = Place::grid("case $1 in --x=1) exit 0;; esac\n");
    silent.run(&Runner {
        count: Some(1),
        ..Runner::default()
    });
    let why = silent.trials()[0].why.clone().unwrap_or_default();
    assert_eq!(why, "the trial recorded no `loss` in its metrics.jsonl");
}

#[test]
fn sweep_gives_up_if_the_first_trials_all_fail() {
    let place = Place::grid("echo 'error: no such flag' >&2; exit 2\n");
    let outcome = place.run(&Runner::default());
    assert_eq!(
        outcome,
        SweepOutcome::GaveUp("exit status: 2: error: no such flag".to_owned())
    );
    assert_eq!(place.trials().len(), 3);
}

#[test]
fn folder_rejects_another_sweep() {
    let place = Place::grid(SQUARE);
    place.run(&Runner {
        count: Some(1),
        ..Runner::default()
    });
    let open = |yaml: &str, seed| {
        TrialStore::open(place.dir.path().join("sweep"), yaml, seed)
            .map(drop)
            .map_err(|e| e.to_string())
    };
    let other = place.yaml.replace("[1, 2, 3, 4]", "[1, 2]");
    assert!(
        open(&other, 1)
            .expect_err("other values")
            .contains("belongs to another sweep.yaml")
    );
    assert!(
        open(&place.yaml, 2)
            .expect_err("another seed")
            .contains("belongs to another seed")
    );
    assert_eq!(
        open(&format!("{}run_cap: 9\n", place.yaml), 1),
        Ok(()),
        "a cap may change"
    );

    fs::write(place.dir.path().join("sweep/trials/0001.json"), "{").expect("a damaged trial");
    let error = place.store().trials().expect_err("damaged").to_string();
    assert!(
        error.contains("0001.json` is not a trial") && error.contains("delete it"),
        "{error}"
    );
}

#[test]
fn command_is_expanded_as_by_wandbs_agent() {
    let sweep = |command: &str| {
        let yaml = format!(
            "{{method: random, program: train, parameters: {{a: {{value: 1}}}}, command: {command}}}"
        );
        yaml.parse::<Sweep>().expect("a sweep")
    };
    let values = json!({ "lr": 1e-5, "bias": true, "off": false, "name": "a b", "none": null,
                         "model": { "depth": 2, "who": "it's" }, "list": [1, 2.0, 1e16, 0.0001] });
    let values = values.as_object().expect("an object");
    let argv = |command: &str| {
        sweep(command)
            .command_line(values, "this", Path::new("/t/args.json"))
            .map_err(|e| e.to_string())
    };
    let all = |before: &str| {
        [
            "lr=1e-05",
            "bias=True",
            "off=False",
            "name=a b",
            "none=None",
            "model={'depth': 2, 'who': \"it's\"}",
            "list=[1, 2.0, 1e+16, 0.0001]",
        ]
        .map(|word| format!("{before}{word}"))
        .to_vec()
    };
    assert_eq!(argv("['${args}']"), Ok(all("--")));
    assert_eq!(argv("['${args_no_hyphens}']"), Ok(all("")));
    assert_eq!(argv("['${args_append_hydra}']"), Ok(all("+")));
    assert_eq!(argv("['${args_override_hydra}']"), Ok(all("++")));
    let apart: Vec<_> = all("--")
        .iter()
        .filter_map(|word| {
            word.split_once('=')
                .map(|(key, value)| [key.to_owned(), value.to_owned()])
        })
        .flatten()
        .collect();
    assert_eq!(argv("['${args_no_equals}']"), Ok(apart));
    let switches: Vec<_> = all("--")
        .iter()
        .map(|word| word.replace("--bias=True", "--bias"))
        .collect();
    let switches: Vec<_> = switches
        .into_iter()
        .filter(|word| word != "--off=False")
        .collect();
    assert_eq!(argv("['${args_no_boolean_flags}']"), Ok(switches));
    let fixed = argv("['${env}', '${interpreter}', '${program}', plain, '${args_json_file}']");
    let expected = ["/usr/bin/env", "python", "train", "plain", "/t/args.json"];
    assert_eq!(fixed, Ok(expected.map(str::to_owned).to_vec()));
    let json = argv("['${args_json}']").expect("one word");
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&json[0]).expect("JSON"),
        json!(values)
    );
    let home = std::env::var("PATH").expect("PATH is set");
    let set = argv("['a${envvar:PATH}b', '${args_json_file}']").expect("a command line");
    assert_eq!(set[0], format!("a{home}b"));
    assert!(
        argv("['${envvar:NO_SUCH}', '${args}']")
            .expect_err("unset")
            .contains("`NO_SUCH`, which is not set")
    );
    assert!(
        argv("['--x=${args}', '${args}']")
            .expect_err("inside a word")
            .contains("a whole word can be")
    );

    let none: Sweep = "{method: random, parameters: {a: {value: 1}}}"
        .parse()
        .expect("a sweep");
    let line = none
        .command_line(values, "this", Path::new("f"))
        .expect("a command line");
    assert_eq!((line[0].as_str(), line[1].as_str()), ("this", "--lr=1e-05"));
}

#[test]
fn early_termination_ends_trials_that_are_behind() {
    // The second of two concurrent trials is worse from the beginning, and would never end by itself.
    let script = r#"
mkdir -p "$BDH_TRIAL_DIR"
x=${1#--x=}
trap 'exit 0' TERM
i=0
while [ $i -lt 40 ]; do
  i=$((i + 1)); echo "{\"step\":$i,\"loss\":$x}" >> "$BDH_TRIAL_DIR/metrics.jsonl"
  [ $x -gt 1 ] && [ $i -ge 5 ] && i=5
  sleep 0.1
done
"#;
    let place = Place::new(
        script,
        "method: grid\nearly_terminate: { type: hyperband, min_iter: 3 }\n",
    );
    let runner = Runner {
        jobs: 2,
        count: Some(2),
        ..Runner::default()
    };
    assert_eq!(place.run(&runner), SweepOutcome::Complete);
    let trials = place.trials();
    assert_eq!(statuses(&trials), [Status::Completed, Status::EndedEarly]);
    assert!(
        trials[1]
            .why
            .as_deref()
            .is_some_and(|why| why.starts_with("hyperband: "))
    );
    assert_eq!(
        place.values(),
        [Some(1.0), Some(2.0)],
        "the value of an ended trial is kept"
    );
}

/// Ends the second trial after its first record.
struct EndTheSecond(Vec<Running>);

impl Watcher for EndTheSecond {
    fn looked(&mut self, running: &[Running]) -> Vec<(u64, String)> {
        self.0.extend_from_slice(running);
        let second = running
            .iter()
            .find(|running| running.trial.number == 2 && running.step > 0);
        second
            .map(|running| (running.trial.number, "seen enough".to_owned()))
            .into_iter()
            .collect()
    }
}

#[test]
fn watcher_sees_trajectories_and_can_end_a_trial() {
    let script = r#"
mkdir -p "$BDH_TRIAL_DIR"
echo '{"steps": 7}' > "$BDH_TRIAL_DIR/run.json"
echo '{"step":1,"loss":3}' > "$BDH_TRIAL_DIR/metrics.jsonl"
case $1 in --x=2) exec sleep 600;; esac
"#;
    let place = Place::grid(script);
    let sweep: Sweep = place.yaml.parse().expect("a sweep");
    let mut watcher = EndTheSecond(Vec::new());
    let runner = Runner {
        count: Some(2),
        ..Runner::default()
    };
    runner
        .run(&sweep, &place.store(), &mut watcher)
        .expect("a sweep that runs");
    assert_eq!(
        statuses(&place.trials()),
        [Status::Completed, Status::EndedEarly]
    );
    assert_eq!(place.trials()[1].why.as_deref(), Some("seen enough"));
    let seen = watcher
        .0
        .iter()
        .find(|running| running.step == 1)
        .expect("a trajectory");
    assert_eq!((seen.steps, &seen.history[..]), (Some(7), &[(1, 3.0)][..]));
}

/// Starts this test program again, as a process that runs the sweep.
fn sweep_process(place: &Place) -> Child {
    let program = std::env::current_exe().expect("the path of this test");
    Command::new(program)
        .args([
            "--exact",
            "only_a_process_for_other_tests",
            "--include-ignored",
            "--quiet",
        ])
        .env("SWEEP_YAML", &place.yaml)
        .env("SWEEP_DIR", place.dir.path().join("sweep"))
        .spawn()
        .expect("a process")
}

#[test]
#[ignore = "not a test: other tests run this as a process"]
fn only_a_process_for_other_tests() {
    let (Ok(yaml), Ok(dir)) = (std::env::var("SWEEP_YAML"), std::env::var("SWEEP_DIR")) else {
        return;
    };
    let store = TrialStore::open(dir, &yaml, 1).expect("a trial store");
    let sweep: Sweep = yaml.parse().expect("a sweep");
    let runner = Runner {
        jobs: 2,
        ..Runner::default()
    };
    runner
        .run(&sweep, &store, &mut Silent)
        .expect("a sweep that runs");
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(
            began.elapsed() < Duration::from_mins(1),
            "{what}: not within a minute"
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// A trial of ten steps that resumes where it was, and notes each step.
const TEN_STEPS: &str = r#"
mkdir -p "$BDH_TRIAL_DIR"
m="$BDH_TRIAL_DIR/metrics.jsonl"; touch "$m"
trap 'echo "{\"outcome\":{\"stopped\":\"signal\"}}" > "$BDH_TRIAL_DIR/run.json"; exit 130' TERM
i=$(wc -l < "$m")
while [ $i -lt 10 ]; do
  i=$((i + 1)); echo "$1 $i" >> "$NOTES"; echo "{\"step\":$i,\"loss\":$i}" >> "$m"; sleep 0.1
done
echo '{"status":"completed"}' > "$BDH_TRIAL_DIR/run.json"
"#;

/// Returns the notes of every step of every trial, once.
fn all_steps() -> Vec<String> {
    let mut all: Vec<_> = (1..=4)
        .flat_map(|x| (1..=10).map(move |step| format!("--x={x} {step}")))
        .collect();
    all.sort();
    all
}

#[test]
fn killed_sweep_resumes_without_repeating_steps() {
    let place = Place::grid(TEN_STEPS);
    for kills in 1..=3 {
        let mut process = sweep_process(&place);
        wait_until("some more steps", || place.notes().len() >= kills * 7);
        process.kill().expect("killed"); // its trials continue
        process.wait().expect("dead");
    }
    assert!(
        place.notes().len() < 40,
        "the sweep should be killed before its end"
    );
    assert!(sweep_process(&place).wait().expect("the end").success());
    assert_eq!(place.notes(), all_steps());
    assert_eq!(statuses(&place.trials()), [Status::Completed; 4]);
    assert_eq!(place.values(), [Some(10.0); 4]);
}

#[test]
fn interrupted_sweep_saves_and_resumes_its_trials() {
    let place = Place::grid(TEN_STEPS);
    let mut process = sweep_process(&place);
    wait_until("some steps", || place.notes().len() >= 5);
    let pid = process.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .expect("kill")
            .success()
    );
    assert!(process.wait().expect("the end").success());
    let trials = place.trials();
    assert!(
        trials
            .iter()
            .any(|trial| trial.status == Status::Interrupted),
        "{trials:?}"
    );
    let steps = place.notes().len();
    thread::sleep(Duration::from_millis(300));
    assert_eq!(
        place.notes().len(),
        steps,
        "no trial continues after the sweep"
    );

    assert!(sweep_process(&place).wait().expect("the end").success());
    assert_eq!(place.notes(), all_steps());
}

#[test]
fn several_processes_share_a_sweep() {
    let script = r#"
echo "$PPID" >> "$NOTES"
mkdir -p "$BDH_TRIAL_DIR"; sleep 0.2
echo '{"step":1,"loss":1}' >> "$BDH_TRIAL_DIR/metrics.jsonl"
"#;
    let place = Place::new(script, "method: random\nrun_cap: 24\n");
    let mut processes: Vec<_> = (0..4).map(|_| sweep_process(&place)).collect();
    assert!(
        processes
            .iter_mut()
            .all(|process| process.wait().expect("the end").success())
    );
    let trials = place.trials();
    let numbers: Vec<_> = trials.iter().map(|trial| trial.number).collect();
    assert_eq!(numbers, (1..=24).collect::<Vec<_>>());
    assert_eq!(place.notes().len(), 24);
    assert!(trials.iter().all(|trial| trial.status == Status::Completed));
    let workers: BTreeSet<_> = place.notes().into_iter().collect();
    assert_eq!(
        workers.len(),
        4,
        "no process ends because another was faster"
    );
}

#[test]
fn trial_that_fails_after_a_resume_is_not_resumed_again() {
    let script = r#"
mkdir -p "$BDH_TRIAL_DIR"
[ -e "$BDH_TRIAL_DIR/run.json" ] && { echo "error: the checkpoint is damaged" >&2; exit 2; }
trap 'exit 130' TERM
echo '{"status":"stopped","outcome":{"stopped":"signal"}}' > "$BDH_TRIAL_DIR/run.json"
echo begun >> "$NOTES"
sleep 600 & wait
"#;
    let place = Place::new(script, "method: random\nrun_cap: 1\n");
    let mut process = sweep_process(&place);
    wait_until("the trial has begun", || !place.notes().is_empty());
    let pid = process.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .expect("kill")
            .success()
    );
    process.wait().expect("the end");
    assert_eq!(statuses(&place.trials()), [Status::Interrupted]);
    place.run(&Runner::default());
    assert_eq!(statuses(&place.trials()), [Status::Failed]);
    let why = place.trials()[0].why.clone().unwrap_or_default();
    assert_eq!(why, "exit status: 2: error: the checkpoint is damaged");
}

#[test]
fn trial_that_ended_without_its_sweep_is_not_run_again() {
    let script = r#"
mkdir -p "$BDH_TRIAL_DIR"
echo "$1" >> "$NOTES"
sleep 1
echo '{"step":1,"loss":2}' > "$BDH_TRIAL_DIR/metrics.jsonl"
echo '{"status":"stopped","outcome":{"stopped":{"asked":{"by":"early_stop","why":"enough"}}}}' > "$BDH_TRIAL_DIR/run.json"
"#;
    let place = Place::new(script, "method: random\nrun_cap: 2\n");
    let mut process = sweep_process(&place);
    wait_until("both have begun", || place.notes().len() == 2);
    process.kill().expect("killed");
    process.wait().expect("dead");
    place.run(&Runner::default());
    assert_eq!(place.notes().len(), 2);
    assert_eq!(statuses(&place.trials()), [Status::Completed; 2]);
    assert_eq!(place.values(), [Some(2.0); 2]);
}

#[test]
fn each_trial_has_a_gpu_and_a_share_of_the_cores() {
    let script = r#"
mkdir -p "$BDH_TRIAL_DIR"
echo "$CUDA_VISIBLE_DEVICES ${RAYON_NUM_THREADS:-none}" >> "$NOTES"
sleep 0.3
echo '{"step":1,"loss":3}' > "$BDH_TRIAL_DIR/metrics.jsonl"
"#;
    let place = Place::grid(script);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    place.run(&Runner {
        jobs: 2,
        devices: vec![4, 6],
        ..Runner::default()
    });
    let share = (cores / 2).max(1);
    let gpus: Vec<_> = [4, 4, 6, 6].map(|gpu| format!("{gpu} {share}")).to_vec();
    assert_eq!(place.notes(), gpus);
}

#[test]
fn bayes_learns_from_finished_trials() {
    let script = r#"
mkdir -p "$BDH_TRIAL_DIR"
x=${1#--x=}
awk "BEGIN { printf \"{\\\"step\\\":1,\\\"loss\\\":%f}\n\", ($x - 0.7) ^ 2 }" > "$BDH_TRIAL_DIR/metrics.jsonl"
"#;
    let place = Place::new(script, "");
    let yaml = place
        .yaml
        .replace("values: [1, 2, 3, 4]", "min: 0.0, max: 1.0");
    let best = |method: &str| {
        let yaml = format!("{yaml}method: {method}\n");
        let store =
            TrialStore::open(place.dir.path().join(method), &yaml, 3).expect("a trial store");
        let sweep: Sweep = yaml.parse().expect("a sweep");
        let runner = Runner {
            count: Some(12),
            ..Runner::default()
        };
        runner
            .run(&sweep, &store, &mut Silent)
            .expect("a sweep that runs");
        let values = store
            .trials()
            .expect("trials")
            .into_iter()
            .filter_map(|trial| trial.value);
        values.fold(f64::INFINITY, f64::min)
    };
    let (bayes, random) = (best("bayes"), best("random"));
    assert!(bayes < random && bayes < 1e-4, "{bayes} {random}");
}
