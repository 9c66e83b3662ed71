//! The folder of a sweep: which files are trials, and the values of resumed trials.
#![cfg(unix)] // the trials are shell scripts

use bdh_sweep::{Runner, Status, Sweep, SweepOutcome, TrialStore, Watcher};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A grid of three trials; each runs a shell script in the folder `$BDH_TRIAL_DIR`.
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

    /// Returns the path of a file in the folder of the trials, which it creates.
    fn trial_file(&self, name: &str) -> PathBuf {
        let trials = self.sweep().join("trials");
        fs::create_dir_all(&trials).expect("a directory");
        trials.join(name)
    }

    fn run(&self) -> Result<SweepOutcome, String> {
        let store =
            TrialStore::open(self.sweep(), &self.yaml, 1).map_err(|error| error.to_string())?;
        let sweep: Sweep = self.yaml.parse().expect("a sweep");
        Runner::default()
            .run(&sweep, &store, &mut Silent)
            .map_err(|error| error.to_string())
    }

    /// Returns the value of each trial; all trials must be completed.
    fn values(&self) -> Vec<f64> {
        let trials = TrialStore::read(self.sweep()).expect("trials");
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
fn files_with_other_names_are_not_trials() {
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
            "{name} is unchanged"
        );
    }
}

/// Asserts that the sweep fails at once, with an error that has these parts.
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
fn wrong_file_in_place_of_a_trial_is_an_error() {
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
            "not a trial: move it elsewhere",
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
        &["0002.json` is a copy of trial 1: delete it to run trial 2"],
    );
    fs::remove_file(place.trial_file("0002.json")).expect("the copy");
    assert_eq!(place.run(), Ok(SweepOutcome::Complete));
    assert_eq!(place.values(), [1.0, 2.0, 3.0]);
}

#[test]
fn deleted_running_trial_is_awaited_and_run_again() {
    let place = Place::new(RECORD, "${args}");
    // The process of the trial would hold this lock.
    let lock = fs::File::create(place.trial_file("0002.lock")).expect("a lock");
    lock.lock().expect("locked");
    thread::scope(|scope| {
        let sweep = scope.spawn(|| place.run());
        let began = Instant::now();
        while TrialStore::read(place.sweep())
            .is_ok_and(|trials| trials.iter().filter(|t| t.status.is_over()).count() < 2)
        {
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "the other trials should not wait"
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
fn resumed_trial_has_the_last_recorded_value() {
    // A resume from the checkpoint of step 15 truncates the file in place. The file then grows beyond its old length,
    // which was in the middle of the new last line.
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
    assert_eq!(place.values(), [80.0; 3], "85 is the value of step 15");
}

#[test]
fn old_folder_with_a_rejected_value_accepts_the_corrected_file() {
    let mut place = Place::new(RECORD, "${args}");
    place.yaml = place.yaml.replace("[1, 2, 3]", "[0.001]");
    assert_eq!(place.run(), Ok(SweepOutcome::Complete));
    let before = place.yaml.replace("[0.001]", "[1e-3]");
    fs::write(place.sweep().join("sweep.yaml"), before).expect("the file");
    assert_eq!(place.run(), Ok(SweepOutcome::Complete));
}
