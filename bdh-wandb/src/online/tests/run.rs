//! Folder of a run with a log, for tests of the upload.

use super::super::{Finished, Notify, Pace, Upload, UploadMessage, Uploader};
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

/// API key that differs from every other text.
pub(super) const KEY: &str = "c0ffee5ec2e7c0ffee5ec2e7c0ffee5ec2e7c0ff";

/// Times short enough for a test.
pub(super) const PACE: Pace = Pace {
    first: Duration::from_millis(20),
    period: Duration::from_millis(100),
    heartbeat: Duration::from_millis(500),
    retry: Duration::from_millis(50),
    retry_max: Duration::from_millis(200),
    farewell: Duration::from_secs(30),
};

/// Run that is being logged.
pub(super) struct Logged {
    pub(super) dir: tempfile::TempDir,
    journal: Journal,
    rows: i64,
}

impl Logged {
    /// Creates a log with its first entries.
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

    /// Continues after the row of a step, like a resumed run.
    pub(super) fn resume_at(&mut self, step: u64) {
        let (journal, _) = Journal::resume(&self.log(), "abc12345", step).expect("a log");
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

    /// Writes a row with values that depend on its number, and with the given ones.
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

    /// Writes an entry of every kind, and the exit.
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

    /// Writes many files in one entry.
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

    pub(super) fn upload(&self, url: &str) -> (Uploader, Inbox) {
        self.upload_at(url, PACE)
    }

    pub(super) fn upload_at(&self, url: &str, pace: Pace) -> (Uploader, Inbox) {
        let inbox = Inbox::default();
        let upload = Upload {
            log: self.log(),
            run: self.dir.path().to_owned(),
            settings: settings(url),
            pace,
        };
        let uploader = Uploader::start(upload, inbox.notify()).expect("an uploader");
        (uploader, inbox)
    }
}

impl Uploader {
    /// Waits for the end without a way to end the wait sooner.
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

/// Returns settings for a server, without any from this machine.
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

/// Messages that an uploader has sent.
#[derive(Clone, Default)]
pub(super) struct Inbox(Arc<Mutex<Vec<UploadMessage>>>);

impl Inbox {
    pub(super) fn notify(&self) -> Notify {
        let messages = Arc::clone(&self.0);
        Arc::new(move |message| messages.lock().expect("no panic").push(message))
    }

    pub(super) fn messages(&self) -> Vec<UploadMessage> {
        self.0.lock().expect("no panic").clone()
    }

    pub(super) fn notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        for message in self.messages() {
            if let UploadMessage::Notice(text) = message {
                notices.push(text);
            }
        }
        notices
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for message in self.messages() {
            if let UploadMessage::Warning(warning) = message {
                warnings.push(warning.to_string());
            }
        }
        warnings
    }
}

/// Copies a folder, because a sync writes into it.
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

/// Whether any file below a folder contains a text.
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
