//! A run's folder with a log in it.

use super::super::{Finished, News, Pace, Tell, Upload, Uploader};
use crate::artifact;
use crate::journal::Journal;
use crate::proto::{
    Exit, FileItem, Files, History, Items, Kind, Metric, MetricOptions, Output, Run, Step, Time,
};
use crate::rows::item;
use crate::settings::{Given, Settings};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A key that nothing else looks like.
pub(super) const KEY: &str = "c0ffee5ec2e7c0ffee5ec2e7c0ffee5ec2e7c0ff";

/// Fast enough for a test.
pub(super) const PACE: Pace = Pace {
    first: Duration::from_millis(20),
    period: Duration::from_millis(100),
    heartbeat: Duration::from_millis(500),
    retry: Duration::from_millis(50),
    retry_max: Duration::from_millis(200),
    farewell: Duration::from_secs(30),
};

/// A run that is being logged.
pub(super) struct Logged {
    pub(super) dir: tempfile::TempDir,
    journal: Journal,
    rows: i64,
}

impl Logged {
    /// A log with its first entries.
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(dir.path().join("files")).expect("a folder");
        let journal =
            Journal::create(&dir.path().join("run-abc12345.wandb"), "abc12345").expect("a new log");
        let mut logged = Self {
            dir,
            journal,
            rows: 0,
        };
        logged.put(Kind::Run(run()));
        logged
    }

    /// Goes on after the row of a step, as a resumed run does.
    pub(super) fn go_on(&mut self, step: u64) {
        let (journal, _) = Journal::go_on(&self.log(), "abc12345", step).expect("a log");
        (self.journal, self.rows) = (journal, step as i64 / 10 + 1);
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.path().join("run-abc12345.wandb")
    }

    pub(super) fn files(&self) -> PathBuf {
        self.dir.path().join("files")
    }

    pub(super) fn put(&mut self, kind: Kind) {
        self.journal.put(kind).expect("an entry");
    }

    pub(super) fn rows(&mut self, count: i64) {
        for _ in 0..count {
            self.row(&[]);
        }
    }

    /// A row of a number for each row, and of what else is given.
    pub(super) fn row(&mut self, more: &[(&str, &str)]) {
        let row = self.rows;
        self.rows += 1;
        let own = [
            ("train/loss", format!("{:?}", 1.0 / (row + 1) as f64)),
            ("step", (row * 10).to_string()),
            ("_step", row.to_string()),
            ("_timestamp", format!("{:?}", 1.7e9 + row as f64)),
            ("_runtime", format!("{:?}", row as f64 / 4.0)),
        ];
        let own = own.map(|(key, value)| item(key.to_owned(), value));
        let more = more
            .iter()
            .map(|(key, value)| item((*key).to_owned(), (*value).to_owned()));
        let item = own.into_iter().chain(more).collect();
        self.put(Kind::History(History {
            item,
            step: Some(Step { num: row }),
        }));
    }

    /// One of everything that a log can hold, and its end.
    pub(super) fn all_kinds(&mut self) {
        let options = Some(MetricOptions {
            defined: true,
            ..MetricOptions::default()
        });
        for name in ["train/loss", "nan"] {
            let (name, step_metric) = (name.to_owned(), "step".to_owned());
            self.put(Kind::Metric(Metric {
                name,
                step_metric,
                options,
                ..Metric::default()
            }));
        }
        self.file("wandb-metadata.json", "{\"program\": \"bdh\"}", 0);
        self.file("media/html/page_1.html", "<b>page</b>", 0);
        self.rows(5);
        let page = r#"{"_type":"html-file","path":"media/html/page_1.html","size":11}"#;
        self.row(&[
            ("nan", "NaN"),
            ("inf", "-Infinity"),
            ("page", page),
            ("a\"b", "\"ü\\n\""),
        ]);
        self.configure(&[("later", "5")]);
        for line in ["a line\n", "\n", "half ", "of one\n", "ünï\n"] {
            let timestamp = Some(Time {
                seconds: 1_795_248_017,
                nanos: 5_000,
            });
            self.put(Kind::Output(Output {
                stream: 1,
                timestamp,
                line: line.to_owned(),
            }));
        }
        self.artifact("checkpoint");
        self.put(Kind::Summary(items(&[
            ("train/loss", "0.2"),
            ("nan", "NaN"),
            ("_step", "5"),
        ])));
        self.file("wandb-summary.json", "{}", 1);
        self.file("config.yaml", "wandb_version: 1\n", 1);
        self.exit(0);
    }

    pub(super) fn configure(&mut self, pairs: &[(&str, &str)]) {
        self.put(Kind::Config(items(pairs)));
    }

    pub(super) fn summarize(&mut self, pairs: &[(&str, &str)]) {
        self.put(Kind::Summary(items(pairs)));
    }

    pub(super) fn exit(&mut self, exit_code: i32) {
        self.put(Kind::Exit(Exit {
            exit_code,
            runtime: 7,
        }));
    }

    pub(super) fn file(&mut self, name: &str, text: &str, policy: i32) {
        self.write(name, text);
        let file = FileItem {
            path: name.to_owned(),
            policy,
            kind: 1,
        };
        self.put(Kind::Files(Files { files: vec![file] }));
    }

    /// Many files in one entry.
    pub(super) fn files_at_once(&mut self, names: &[String]) {
        for name in names {
            self.write(name, name);
        }
        let file = |name: &String| FileItem {
            path: name.clone(),
            policy: 0,
            kind: 2,
        };
        self.put(Kind::Files(Files {
            files: names.iter().map(file).collect(),
        }));
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.files().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    pub(super) fn artifact(&mut self, name: &str) {
        let folder = self.dir.path().join(name);
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join("model.bin"), "weights ".repeat(20_000)).expect("a file");
        fs::write(folder.join("state.json"), "{}").expect("a file");
        let artifacts = self.dir.path().join("artifacts");
        fs::create_dir_all(&artifacts).expect("a folder");
        let staging = artifacts.join(name);
        let aliases = ["best".to_owned()];
        let artifact = artifact::stage(&folder, "model", &aliases, "abc12345", &staging, None);
        let mut artifact = artifact.expect("an artifact");
        (artifact.entity, artifact.project) = ("tester".to_owned(), "birds of prey".to_owned());
        self.put(Kind::Artifact(artifact));
    }

    pub(super) fn upload(&self, url: &str) -> (Uploader, Ears) {
        self.upload_at(url, PACE)
    }

    pub(super) fn upload_at(&self, url: &str, pace: Pace) -> (Uploader, Ears) {
        let ears = Ears::default();
        let upload = Upload {
            log: self.log(),
            run: self.dir.path().to_owned(),
            settings: settings(url),
            pace,
        };
        (
            Uploader::start(upload, ears.tell()).expect("an uploader"),
            ears,
        )
    }
}

impl Uploader {
    /// Waits for the end, with nobody who wants it over sooner.
    pub(super) fn finish_in(self, timeout: Duration) -> Finished {
        self.finish(timeout, |_| false)
    }
}

fn run() -> Run {
    Run {
        run_id: "abc12345".to_owned(),
        entity: "tester".to_owned(),
        project: "birds of prey".to_owned(),
        config: Some(items(&[("lr", "0.1"), ("model", r#"{"depth":2}"#)])),
        group: "group".to_owned(),
        job_type: "train".to_owned(),
        display_name: "a run".to_owned(),
        notes: "why".to_owned(),
        tags: vec!["a".to_owned(), "b c".to_owned()],
        sweep_id: "swp1".to_owned(),
        host: "box".to_owned(),
        start_time: Some(Time {
            seconds: 1_700_000_000,
            nanos: 0,
        }),
        git: None,
    }
}

fn items(pairs: &[(&str, &str)]) -> Items {
    let update = pairs
        .iter()
        .map(|(key, value)| item((*key).to_owned(), (*value).to_owned()));
    Items {
        update: update.collect(),
        remove: Vec::new(),
    }
}

/// Settings for a server, and nothing from this machine.
pub(super) fn settings(url: &str) -> Settings {
    settings_with(url, &[])
}

pub(super) fn settings_with(url: &str, more: &[(&str, &str)]) -> Settings {
    let env = |name: &str| match name {
        "WANDB_BASE_URL" => Some(url.to_owned()),
        "WANDB_API_KEY" => Some(KEY.to_owned()),
        "WANDB_DIR" | "HOME" => Some("/nowhere/at/all".to_owned()),
        "WANDB_PROJECT" => Some("birds of prey".to_owned()),
        name => more
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned()),
    };
    Settings::resolve(&Given::default(), env).expect("good settings")
}

/// What an uploader has said.
#[derive(Clone, Default)]
pub(super) struct Ears(Arc<Mutex<Vec<News>>>);

impl Ears {
    pub(super) fn tell(&self) -> Tell {
        let heard = Arc::clone(&self.0);
        Arc::new(move |news| heard.lock().expect("no panic").push(news))
    }

    pub(super) fn heard(&self) -> Vec<News> {
        self.0.lock().expect("no panic").clone()
    }

    pub(super) fn remarks(&self) -> Vec<String> {
        let remark = |news| {
            if let News::Remark(text) = news {
                Some(text)
            } else {
                None
            }
        };
        self.heard().into_iter().filter_map(remark).collect()
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let problem = |news| {
            if let News::Problem(problem) = news {
                Some(problem.to_string())
            } else {
                None
            }
        };
        self.heard().into_iter().filter_map(problem).collect()
    }
}

/// A copy of a folder: who sends a run may write into it.
pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// Whether any file below a folder holds a text.
pub(super) fn holds(dir: &Path, text: &str) -> bool {
    fs::read_dir(dir).expect("a folder").flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return holds(&path, text);
        }
        let bytes = fs::read(path).expect("a file");
        bytes
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    })
}
