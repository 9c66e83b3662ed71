//! Judges from pinned Python packages: TensorBoard and W&B read the files of our sinks, scikit-learn computes our metrics,
//! tiktoken encodes our texts.
//!
//! Each judge is a virtual environment in the target directory, made on first use and under a lock, so that test programs
//! can share it. If that is impossible (no Python, no network), a test prints `skipped: …` and passes.
//!
//! | variable | does |
//! |---|---|
//! | `BDH_JUDGES=required` | fails the test if a judge is not available |
//! | `BDH_JUDGES=off` | uses no judge |
//! | `BDH_JUDGE_MODERN=DIR`, `BDH_JUDGE_WANDB_0_19=DIR`, `BDH_JUDGE_SCIKIT_LEARN=DIR`, `BDH_JUDGE_TIKTOKEN=DIR`, `BDH_JUDGE_ORIGINALS=DIR` | uses an existing environment |

#![allow(dead_code, reason = "each test takes what it needs")]

use serde_json::Value;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// Time after which a failed installation is tried again.
const RETRY_AFTER: Duration = Duration::from_mins(10);

/// Python environment with the reference programs.
#[derive(Debug)]
pub(crate) struct Judge {
    dir: PathBuf,
}

/// Packages of a judge.
struct Recipe {
    /// Name of the folder, with a version.
    name: &'static str,
    variable: &'static str,
    packages: &'static [&'static str],
}

const MODERN: Recipe = Recipe {
    name: "modern-1",
    variable: "BDH_JUDGE_MODERN",
    packages: &[
        "tensorboard==2.21.0",
        "wandb==0.31.0",
        "sweeps==0.3.0",
        "safetensors==0.8.0",
        "numpy",
    ],
};

const WANDB_0_19: Recipe = Recipe {
    name: "wandb-0.19.11",
    variable: "BDH_JUDGE_WANDB_0_19",
    packages: &["wandb==0.19.11"],
};

/// Reference of the metrics of evals.
const SCIKIT_LEARN: Recipe = Recipe {
    name: "scikit-learn-1.9.1",
    variable: "BDH_JUDGE_SCIKIT_LEARN",
    packages: &["scikit-learn==1.9.1", "numpy"],
};

/// Reference of the byte-pair encoding of tokenizers.
const TIKTOKEN: Recipe = Recipe {
    name: "tiktoken-0.14.0",
    variable: "BDH_JUDGE_TIKTOKEN",
    packages: &["tiktoken==0.14.0"],
};

/// Originals of our sinks, for the comparison in a bench.
const ORIGINALS: Recipe = Recipe {
    name: "originals-1",
    variable: "BDH_JUDGE_ORIGINALS",
    packages: &["tensorboardX==2.6.5", "wandb==0.31.0", "numpy"],
};

impl Judge {
    /// Returns TensorBoard 2.21, wandb 0.31, sweeps 0.3 and safetensors. `None` if they are not available.
    ///
    /// A test begins with `let Some(judge) = Judge::modern() else { return };`.
    pub(crate) fn modern() -> Option<Self> {
        Self::of(&MODERN)
    }

    /// Returns wandb 0.19, which reads `.wandb` files in Python. `None` if it is not available.
    pub(crate) fn wandb_0_19() -> Option<Self> {
        Self::of(&WANDB_0_19)
    }

    /// Returns scikit-learn 1.9. `None` if it is not available.
    pub(crate) fn scikit_learn() -> Option<Self> {
        Self::of(&SCIKIT_LEARN)
    }

    /// Returns tiktoken 0.14. `None` if it is not available.
    pub(crate) fn tiktoken() -> Option<Self> {
        Self::of(&TIKTOKEN)
    }

    /// Returns tensorboardX 2.6 and wandb 0.31. `None` if they are not available.
    pub(crate) fn originals() -> Option<Self> {
        Self::of(&ORIGINALS)
    }

    fn of(recipe: &Recipe) -> Option<Self> {
        let wish = wish();
        let made = if wish == "off" {
            Err("BDH_JUDGES=off".to_owned())
        } else {
            recipe.make()
        };
        let why = match made {
            Ok(dir) => return Some(Self { dir }),
            Err(why) => format!("no judge `{}`: {why}", recipe.name),
        };
        assert!(wish != "required", "{why}");
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        // Past the capture of the test harness, so that a skipped test is visible.
        let _ = writeln!(io::stderr(), "skipped: {test}: {why}");
        None
    }

    /// Returns the path of a program of the packages, such as `tensorboard` or `wandb`.
    pub(crate) fn bin(&self, name: &str) -> PathBuf {
        bin(&self.dir, name)
    }

    /// Runs a script of `tests/judges` to its end.
    pub(crate) fn python<A: AsRef<OsStr>>(
        &self,
        script: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/judges")
            .join(script);
        Command::new(self.bin("python"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .arg(script)
            .args(args)
            .output()
            .expect("the judge's Python starts")
    }

    /// Runs a script of `tests/judges`. Returns its output as JSON, in which NaN and infinities are strings.
    pub(crate) fn json<A: AsRef<OsStr>>(
        &self,
        script: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Value {
        let output = self.python(script, args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script} failed: {errors}");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{script} printed no JSON: {error}\n{errors}"))
    }
}

impl Recipe {
    /// Returns the environment's folder, and makes it if necessary. An error is one line.
    fn make(&self) -> Result<PathBuf, String> {
        if let Some(dir) = std::env::var_os(self.variable) {
            return Ok(dir.into());
        }
        let judges = folder()?;
        let text = |error: io::Error| format!("`{}`: {error}", judges.display());
        fs::create_dir_all(&judges).map_err(text)?;
        let lock = File::create(judges.join(format!("{}.lock", self.name))).map_err(text)?;
        lock.lock().map_err(text)?; // held until the file is dropped
        self.install(&judges.join(self.name))
    }

    fn install(&self, dir: &Path) -> Result<PathBuf, String> {
        let note = |ending| dir.with_file_name(format!("{}.{ending}", self.name));
        let (ready, failed) = (note("ready"), note("failed"));
        if fs::read_to_string(&ready).is_ok_and(|packages| packages == self.packages.join(" ")) {
            return Ok(dir.to_owned());
        }
        if wish() != "required"
            && let Some(why) = recent_failure(&failed)
        {
            return Err(why);
        }
        let made = self.build(dir);
        let (note, text) = match &made {
            Ok(()) => (ready, self.packages.join(" ")),
            Err(why) => (failed, why.clone()),
        };
        fs::write(note, text).map_err(|error| error.to_string())?;
        made.map(|()| dir.to_owned())
    }

    fn build(&self, dir: &Path) -> Result<(), String> {
        run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(dir))?;
        let pip = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ];
        let hurry = ["--retries", "1", "--timeout", "20"]; // fail soon without a network
        run(Command::new(bin(dir, "python"))
            .args(pip)
            .args(hurry)
            .args(self.packages))
    }
}

/// Returns the folder `judges` in the target directory. Unit tests have no variable for it, and search from their program.
fn folder() -> Result<PathBuf, String> {
    if let Some(scratch) = option_env!("CARGO_TARGET_TMPDIR") {
        return Ok(Path::new(scratch).with_file_name("judges"));
    }
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let target = program
        .ancestors()
        .nth(3)
        .ok_or("the test program lies in no target directory")?;
    Ok(target.join("judges"))
}

fn wish() -> String {
    std::env::var("BDH_JUDGES").unwrap_or_default()
}

fn recent_failure(note: &Path) -> Option<String> {
    let age = fs::metadata(note)
        .ok()?
        .modified()
        .ok()?
        .elapsed()
        .unwrap_or_default();
    (age < RETRY_AFTER).then(|| fs::read_to_string(note).unwrap_or_default())
}

/// Returns the path of a program of a virtual environment.
fn bin(dir: &Path, name: &str) -> PathBuf {
    let (folder, ending) = if cfg!(windows) {
        ("Scripts", ".exe")
    } else {
        ("bin", "")
    };
    dir.join(folder).join(format!("{name}{ending}"))
}

/// Runs a command to its end. The error is the last line that it wrote to stderr.
fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("`{program}`: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let last = errors
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("it failed");
    Err(format!("`{program}`: {last}"))
}
