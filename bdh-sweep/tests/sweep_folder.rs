//! The folder of a sweep: which of its files are trials, and what a trial that is taken up again has reached.
#![cfg(unix)] // the trials are shell scripts

use bdh_sweep::{Ledger, Runner, Status, Sweep, SweepOutcome, Watcher};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A grid of three trials, each a call of a shell script in the folder `$BDH_TRIAL_DIR`.
struct Place {
    dir: TempDir,
    yaml: String,
}

struct Silent;

impl Watcher for Silent {}

impl Place {
    fn new(script: &str, args: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("trial.sh");
        fs::write(
            &path,
            format!("mkdir -p \"$BDH_TRIAL_DIR\"; cd \"$BDH_TRIAL_DIR\"\n{script}"),
        )
        .expect("a script");
        let yaml = format!(
            "method: grid\nmetric: {{ name: loss }}\nparameters: {{ x: {{ values: [1, 2, 3] }} }}\n\
             command: [sh, {}, '{args}']\n",
            path.display()
        );
        Self { dir, yaml }
    }

    fn sweep(&self) -> PathBuf {
        self.dir.path().join("sweep")
    }

    /// A file in the folder of the trials, which is made for it.
    fn trial_file(&self, name: &str) -> PathBuf {
        let trials = self.sweep().join("trials");
        fs::create_dir_all(&trials).expect("a directory");
        trials.join(name)
    }

    fn run(&self) -> Result<SweepOutcome, String> {
        let ledger =
            Ledger::open(self.sweep(), &self.yaml, 1).map_err(|error| error.to_string())?;
        let sweep: Sweep = self.yaml.parse().expect("a sweep");
        Runner::default()
            .run(&sweep, &ledger, &mut Silent)
            .map_err(|error| error.to_string())
    }

    /// The value of each trial; all of them are completed.
    fn values(&self) -> Vec<f64> {
        let trials = Ledger::read(self.sweep()).expect("trials");
        assert!(
            trials.iter().all(|trial| trial.status == Status::Completed),
            "{trials:?}"
        );
        trials.into_iter().filter_map(|trial| trial.value).collect()
    }
}

/// A trial that records its parameter.
const RECORD: &str = r#"echo "{\"step\":1,\"loss\":${1#--x=}}" > metrics.jsonl"#;

#[test]
fn files_that_are_named_otherwise_are_no_trials() {
    // The value is in the file that `${args_json_file}` names: {"x":2}.
    let script = r#"x=$(tr -dc 0-9 < "$1"); echo "{\"step\":1,\"loss\":$x}" > metrics.jsonl"#;
    let place = Place::new(script, "${args_json_file}");
    let others = [
        "0003 (copy).json",
        "1.json",
        "00002.json",
        "0000.json",
        "0002.json~",
        ".0002.json.swp",
        "notes.json",
    ];
    for name in others {
        fs::write(place.trial_file(name), "{").expect("a file");
    }
    fs::create_dir(place.trial_file("old.json")).expect("a folder");
    symlink("nowhere", place.trial_file("link.json")).expect("a link");
    assert_eq!(place.run(), Ok(SweepOutcome::Complete));
    assert_eq!(place.values(), [1.0, 2.0, 3.0]);
    assert!(place.trial_file("0001.args.json").is_file());
    for name in others {
        assert_eq!(
            fs::read_to_string(place.trial_file(name)).expect("a file"),
            "{",
            "{name} is left alone"
        );
    }
}

/// Asserts that the sweep ends at once, with a sentence that has these parts.
fn refused(place: &Place, parts: &[&str]) {
    let began = Instant::now();
    let error = place.run().expect_err(parts[0]);
    for part in parts {
        assert!(error.contains(part), "`{part}` is missing in: {error}");
    }
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn what_stands_in_the_place_of_a_trial_is_refused_in_one_sentence() {
    let with = |put: &dyn Fn(&Path)| {
        let place = Place::new(RECORD, "${args}");
        put(&place.trial_file("0002.json"));
        place
    };
    let dangling = with(&|path| symlink("nowhere", path).expect("a link"));
    refused(
        &dangling,
        &[
            "0002.json` is, or leads through, a link",
            "no trial: move it elsewhere",
        ],
    );
    let folder = with(&|path| fs::create_dir(path).expect("a folder"));
    refused(
        &folder,
        &["0002.json` is not a regular file", "move it elsewhere"],
    );

    let place = Place::new(RECORD, "${args}");
    assert_eq!(place.run(), Ok(SweepOutcome::Complete));
    fs::copy(place.trial_file("0001.json"), place.trial_file("0002.json")).expect("a copy");
    refused(
        &place,
        &["0002.json` is a copy of trial 1: delete it, and trial 2 is run"],
    );
    fs::remove_file(place.trial_file("0002.json")).expect("the copy");
    assert_eq!(place.run(), Ok(SweepOutcome::Complete));
    assert_eq!(place.values(), [1.0, 2.0, 3.0]);
}

#[test]
fn a_trial_whose_file_was_deleted_while_it_runs_is_waited_for_and_run_anew() {
    let place = Place::new(RECORD, "${args}");
    // As the process of the trial holds it.
    let lock = fs::File::create(place.trial_file("0002.lock")).expect("a lock");
    lock.lock().expect("locked");
    thread::scope(|scope| {
        let sweep = scope.spawn(|| place.run());
        let began = Instant::now();
        while Ledger::read(place.sweep())
            .is_ok_and(|trials| trials.iter().filter(|t| t.status.is_over()).count() < 2)
        {
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "the others are not waited for"
            );
            thread::sleep(Duration::from_millis(10));
        }
        assert!(!sweep.is_finished());
        drop(lock);
        assert_eq!(sweep.join().expect("no panic"), Ok(SweepOutcome::Complete));
    });
    assert_eq!(place.values(), [1.0, 2.0, 3.0]);
}

#[test]
fn a_trial_that_is_taken_up_again_has_the_value_that_its_run_recorded_last() {
    // As a resume from the checkpoint of step 15 does it: the file is cut in place and grows beyond its old length,
    // which was in the middle of what is now the last line.
    let script = r#"
record() { echo "{\"train\":1.5,\"step\":$1,\"elapsed\":$2$3}" >> metrics.jsonl; }
[ -e metrics.jsonl ] && { head -n 15 metrics.jsonl > kept; cat kept > metrics.jsonl; }
i=$(cat metrics.jsonl 2> /dev/null | wc -l)
while [ $i -lt 20 ]; do
  i=$((i + 1))
  case $i in 5|10|15|20) record $i 0.5 ",\"loss\":$((100 - i))" ;; *) record $i 0.5 "" ;; esac
done
"#;
    let place = Place::new(script, "${args}");
    let run = place.sweep().join("trial-0001");
    fs::create_dir_all(&run).expect("a directory");
    let line = |step: u64| {
        let loss = if step.is_multiple_of(5) {
            format!(",\"loss\":{}", 100 - step)
        } else {
            String::new()
        };
        format!("{{\"train\":1.5,\"step\":{step},\"elapsed\":100.25{loss}}}\n")
    };
    fs::write(
        run.join("metrics.jsonl"),
        (1..=19).map(line).collect::<String>(),
    )
    .expect("records");
    fs::write(run.join("run.json"), r#"{"status":"running","steps":20}"#).expect("a run");
    let left = r#"{"number":1,"values":{"x":1},"point":[],"status":"running","value":null,"why":null,
                   "host":"elsewhere","pid":1,"began_at":0,"seconds":1}"#;
    fs::write(place.trial_file("0001.json"), left).expect("a trial");
    assert_eq!(place.run(), Ok(SweepOutcome::Complete));
    assert_eq!(place.values(), [80.0; 3], "85 is that of step 15");
}

#[test]
fn a_folder_that_was_begun_with_a_value_that_is_refused_now_goes_on_with_the_corrected_file() {
    let mut place = Place::new(RECORD, "${args}");
    place.yaml = place.yaml.replace("[1, 2, 3]", "[0.001]");
    assert_eq!(place.run(), Ok(SweepOutcome::Complete));
    let before = place.yaml.replace("[0.001]", "[1e-3]");
    fs::write(place.sweep().join("sweep.yaml"), before).expect("the file");
    assert_eq!(place.run(), Ok(SweepOutcome::Complete));
}
