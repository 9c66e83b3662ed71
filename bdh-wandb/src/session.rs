//! Log of one run, from its first entry to its last.

use crate::artifact;
use crate::folder::{self, Folder};
use crate::journal::Journal;
use crate::limit::Limit;
use crate::proto::{Artifact, Exit, FileItem, Files, Git, Items, Kind, Output, Run, Time};
use crate::rows::{Moment, OWN_KEYS, Rows, item};
use crate::settings::{Resume, Settings};
use crate::text::random_name;
use crate::values::Encoded;
use bdh::clock::now;
use bdh::files::write_atomically;
use bdh::lines::Lines;
use bdh::sink::Feedback;
use bdh::{BoxError, Clock, Outcome, Record, RunInfo, Value, Warning};
use serde_json::{Map, Value as Json, json};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time between two entries of the summary. W&B's own client writes one with every row, which doubles the log.
const SUMMARY_EVERY: Duration = Duration::from_secs(2);

/// Steps between two lines of output.
const LINE_EVERY: u64 = 100;

/// Run that is being logged.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) folder: Folder,
    pub(super) settings: Settings,
    pub(super) feedback: Feedback,
    journal: Journal,
    rows: Rows,
    lines: Lines,
    summarized: Instant,
    started: Instant,
    run_dir: Option<PathBuf>,
    limit: Limit,
    step: u64,
}

/// Open log of a run.
struct OpenLog {
    folder: Folder,
    journal: Journal,
    rows: Rows,
}

impl Session {
    /// Begins the log of a run, or continues that of a resumed one.
    pub(super) fn open(settings: Settings, run: &RunInfo, online: bool) -> Result<Self, BoxError> {
        let resumed = resumed(&settings, run)?;
        let is_new = resumed.is_none();
        let log = match resumed {
            Some(log) => log,
            None => begin(&settings, run, online)?,
        };
        let mut session = Self {
            folder: log.folder,
            settings,
            feedback: run.feedback.clone(),
            journal: log.journal,
            rows: log.rows,
            lines: Lines::new(Some(LINE_EVERY), run),
            summarized: Instant::now(),
            started: Instant::now(),
            run_dir: run.dir.clone(),
            limit: Limit::default(),
            step: run.resumed_at.unwrap_or(0),
        };
        session.write_head(run, is_new)?;
        session.write_missing_record(run)?;
        Ok(session)
    }

    /// Writes the record of the resumed step, which a run killed between its checkpoint and that record lacks.
    fn write_missing_record(&mut self, run: &RunInfo) -> Result<(), BoxError> {
        if let Some(record) = run.resumed_record.as_ref()
            && self.rows.last_step() < Some(record.clock.step)
        {
            self.write(record)?;
        }
        Ok(())
    }

    /// Writes the entries before the first row: the run or its new configuration, and its metadata.
    fn write_head(&mut self, run: &RunInfo, is_new: bool) -> Result<(), BoxError> {
        let config = config(run, &self.settings.sweep_params);
        let mut items = Items::default();
        for (key, value) in &config {
            items.update.push(item(key.clone(), value.to_string()));
        }
        if is_new {
            self.put(Kind::Run(self.run(run, items)))?;
        } else {
            self.put(Kind::Config(items))?;
        }
        self.write_head_files(run, config)?;
        Ok(self.put(own_files(&["wandb-metadata.json"], 0))?)
    }

    fn write_head_files(&self, run: &RunInfo, config: Map<String, Json>) -> Result<(), BoxError> {
        let files = folder::make(&self.folder.root, "files")?;
        write_atomically(&files.join("config.yaml"), config_yaml(config)?.as_bytes())?;
        let metadata = serde_json::to_vec_pretty(&self.metadata(run))?;
        write_atomically(&files.join("wandb-metadata.json"), &metadata)?;
        Ok(())
    }

    fn run(&self, run: &RunInfo, config: Items) -> Run {
        let settings = &self.settings;
        Run {
            run_id: self.folder.run_id.clone(),
            entity: settings.entity.clone().unwrap_or_default(),
            project: settings.project.clone(),
            config: Some(config),
            group: settings.group.clone().unwrap_or_default(),
            job_type: settings.job_type.clone().unwrap_or_default(),
            display_name: settings.name.clone().unwrap_or_else(|| run.name.clone()),
            notes: settings.notes.clone().unwrap_or_default(),
            tags: settings.tags.clone(),
            sweep_id: settings.sweep_id.clone().unwrap_or_default(),
            host: settings.host.clone().unwrap_or_default(),
            start_time: Some(time(run.started_at)),
            git: git(settings),
        }
    }

    /// Returns the content of `wandb-metadata.json`: the program and its start, nothing about the machine or its user.
    fn metadata(&self, run: &RunInfo) -> Json {
        let settings = &self.settings;
        let started = jiff::Timestamp::from_second(run.started_at as i64).ok();
        let mut git = Json::Null;
        if !settings.disable_git {
            git = json!({ "commit": settings.git_commit, "remote": settings.git_remote_url });
        }
        json!({
            "program": concat!("bdh ", env!("CARGO_PKG_VERSION")),
            "startedAt": started.map(|time| time.to_string()),
            "git": git,
        })
    }

    /// Writes a record: its artifacts, its files, its row and its lines of output.
    pub(super) fn write(&mut self, record: &Record) -> Result<(), BoxError> {
        self.step = record.clock.step;
        let files = self.folder.files();
        let mut encoded = Encoded::new(self.step, &files);
        for (key, value) in &record.values {
            self.add(key, value, &mut encoded)?;
        }
        if let Some(files) = encoded.files() {
            self.put(files)?;
        }
        // A record of files only gets a row too: a resume cuts the log after a row.
        if !record.values.is_empty() {
            self.put_row(record, encoded.values)?;
        }
        if self.summarized.elapsed() >= SUMMARY_EVERY {
            self.summarize()?;
        }
        for line in self.lines.of(record) {
            self.output(&line)?;
        }
        self.warn_of_fault();
        Ok(())
    }

    /// Writes the artifact of a value, or adds the value to a row.
    fn add(&mut self, key: &str, value: &Value, row: &mut Encoded<'_>) -> Result<(), BoxError> {
        match value {
            Value::File {
                path,
                kind,
                aliases,
            } => self.artifact(path, kind, aliases)?,
            _ if OWN_KEYS.contains(&key) => {}
            _ => {
                if let Err(error) = row.add(key, value) {
                    self.warn_of_media(key, &error);
                }
            }
        }
        Ok(())
    }

    fn put_row(&mut self, record: &Record, values: Vec<(String, String)>) -> io::Result<()> {
        let at = Moment {
            step: self.step,
            tokens: tokens(&record.clock),
            runtime: record.clock.elapsed.as_secs_f64(),
            timestamp: now(),
        };
        for kind in self.rows.row(at, values) {
            self.put(kind)?;
        }
        Ok(())
    }

    /// Writes an entry; one that is too long for readers is left out with a warning.
    fn put(&mut self, kind: Kind) -> io::Result<()> {
        match self.journal.put(kind) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                if let Some(error) = self.limit.pass("entry", error.to_string()) {
                    self.warn("write", &error, "the run continues without this entry");
                }
                Ok(())
            }
            put => put,
        }
    }

    fn warn_of_media(&self, key: &str, error: &io::Error) {
        if let Some(error) = self.limit.pass("media", error.to_string()) {
            let consequence = format!("the run continues without this `{key}`");
            self.warn("write", &error, &consequence);
        }
    }

    /// Sends a warning for the first disk fault after which the log can still be written.
    fn warn_of_fault(&mut self) {
        if let Some(error) = self.journal.unreported_fault() {
            self.warn("write", &error, "the write is retried with each record");
        }
    }

    /// Stages the file or folder at a path; one that cannot be staged is left out with a warning.
    fn artifact(&mut self, path: &Path, kind: &str, aliases: &[String]) -> Result<(), BoxError> {
        match self.stage(path, kind, aliases) {
            Ok(mut artifact) => {
                artifact.project.clone_from(&self.settings.project);
                artifact.entity = self.settings.entity.clone().unwrap_or_default();
                Ok(self.put(Kind::Artifact(artifact))?)
            }
            Err(error) => {
                self.warn_of_artifact(&error);
                Ok(())
            }
        }
    }

    fn warn_of_artifact(&self, error: &io::Error) {
        if let Some(error) = self.limit.pass("artifact", error.to_string()) {
            let consequence = "the run continues without this artifact";
            self.warn("artifact", &error, consequence);
        }
    }

    fn stage(&self, path: &Path, kind: &str, aliases: &[String]) -> io::Result<Artifact> {
        let artifacts = folder::make(&self.folder.root, "artifacts")?;
        let staging = artifacts.join(format!("{}-{}", self.step, random_name(8)));
        let (run_id, run_dir) = (&self.folder.run_id, self.run_dir.as_deref());
        artifact::stage(path, kind, aliases, run_id, &staging, run_dir)
    }

    fn summarize(&mut self) -> Result<(), BoxError> {
        self.summarized = Instant::now();
        match self.rows.summary() {
            Some(summary) => Ok(self.put(summary)?),
            None => Ok(()),
        }
    }

    /// Writes a line of the run's output.
    pub(super) fn output(&mut self, line: &str) -> Result<(), BoxError> {
        if !self.settings.console {
            return Ok(());
        }
        let line = format!("{line}\n");
        Ok(self.put(Kind::Output(Output {
            stream: 1,
            timestamp: Some(time(now())),
            line,
        }))?)
    }

    /// Waits until everything is on the disk.
    pub(super) fn flush(&mut self) -> Result<(), BoxError> {
        self.summarize()?;
        self.journal.flush()?;
        self.warn_of_fault();
        Ok(())
    }

    /// Writes the last entries: the summary, and how the run ended.
    pub(super) fn close(&mut self, outcome: &Outcome) -> Result<(), BoxError> {
        let exit_code = i32::from(matches!(outcome, Outcome::Failed(_)));
        if *outcome != Outcome::Completed {
            self.output(&format!("run {outcome}"))?;
        }
        self.summarize()?;
        self.write_summary_file()?;
        let runtime = self.started.elapsed().as_secs() as i32;
        self.put(Kind::Exit(Exit { exit_code, runtime }))?;
        self.journal.sync()?;
        if *outcome == Outcome::Completed && self.settings.resume == Some(Resume::Auto) {
            self.folder.mark_finished();
        }
        Ok(())
    }

    fn write_summary_file(&mut self) -> io::Result<()> {
        let summary = self.folder.files().join("wandb-summary.json");
        write_atomically(&summary, self.rows.summary_json().as_bytes())?;
        self.put(own_files(&["wandb-summary.json", "config.yaml"], 1))
    }

    /// Whether only failures are reported: `WANDB_QUIET` or `WANDB_SILENT`.
    pub(super) fn is_silent(&self) -> bool {
        self.settings.silent || self.settings.quiet
    }

    /// Sends a notice, unless the session is quiet.
    pub(super) fn notice(&self, text: impl Into<String>) {
        if !self.is_silent() {
            self.feedback.notice(text);
        }
    }

    /// Sends a warning; the run continues.
    pub(super) fn warn(&self, phase: &str, cause: &str, consequence: &str) {
        self.feedback.warn(Warning {
            source: "wandb".to_owned(),
            phase: phase.to_owned(),
            step: self.step,
            cause: cause.to_owned(),
            consequence: consequence.to_owned(),
        });
    }
}

/// Returns the tokens trained on; `None` for data that counts samples only, such as images.
fn tokens(clock: &Clock) -> Option<u64> {
    let is_text = clock.tokens > 0 || clock.samples == 0;
    is_text.then_some(clock.tokens)
}

/// Opens the log of a resumed run; `None` if it is missing, or if the settings name another run id.
fn resumed(settings: &Settings, run: &RunInfo) -> Result<Option<OpenLog>, BoxError> {
    let (Some(step), Some(dir)) = (run.resumed_at, &run.dir) else {
        return Ok(None);
    };
    let base = settings.dir.as_deref().unwrap_or(dir);
    let Some(folder) = Folder::of_run(dir, base) else {
        return Ok(None);
    };
    if let Some(run_id) = &settings.run_id
        && *run_id != folder.run_id
    {
        return Ok(None);
    }
    let (journal, rows) = Journal::resume(&folder.log(), &folder.run_id, step)?;
    let _ = fs::remove_file(folder.synced()); // the server no longer has all of the log
    Ok(Some(OpenLog {
        folder,
        journal,
        rows,
    }))
}

/// Creates the log of a new run.
fn begin(settings: &Settings, run: &RunInfo, online: bool) -> Result<OpenLog, BoxError> {
    let base = base_dir(settings, run);
    let run_id = run_id(settings, base);
    #[cfg(feature = "online")]
    if online {
        super::online::check_resume(settings, &run_id)?;
    }
    let folder = Folder::create(base, run_id, online, run.dir.as_deref())?;
    if settings.resume == Some(Resume::Auto) {
        folder.mark_unfinished()?;
    }
    let journal = Journal::create(&folder.log(), &folder.run_id)?;
    Ok(OpenLog {
        folder,
        journal,
        rows: Rows::default(),
    })
}

/// Returns the folder in which `wandb/` is created.
fn base_dir<'a>(settings: &'a Settings, run: &'a RunInfo) -> &'a Path {
    match (&settings.dir, &run.dir) {
        (Some(dir), _) | (None, Some(dir)) => dir.as_path(),
        (None, None) => Path::new("."),
    }
}

/// Returns the id of a new run: that of the settings, with `WANDB_RESUME=auto` that of the unfinished run, or a new
/// one.
fn run_id(settings: &Settings, base: &Path) -> String {
    if let Some(run_id) = &settings.run_id {
        return run_id.clone();
    }
    if settings.resume == Some(Resume::Auto)
        && let Some(run_id) = folder::unfinished(base)
    {
        return run_id;
    }
    random_name(8)
}

fn git(settings: &Settings) -> Option<Git> {
    let (remote_url, commit) = (&settings.git_remote_url, &settings.git_commit);
    if settings.disable_git || (remote_url.is_none() && commit.is_none()) {
        return None;
    }
    Some(Git {
        remote_url: remote_url.clone().unwrap_or_default(),
        commit: commit.clone().unwrap_or_default(),
    })
}

/// Returns the configuration: the user's keys, `bdh` with the trainer's settings, and over both the values of a sweep.
fn config(run: &RunInfo, sweep: &Map<String, Json>) -> Map<String, Json> {
    let mut all = run.config.clone();
    let user = match &mut all {
        Json::Object(all) => all.remove("user").unwrap_or_default(),
        _ => Json::Null,
    };
    let mut config = match user {
        Json::Object(user) => user,
        Json::Null => Map::new(),
        other => Map::from_iter([("config".to_owned(), other)]),
    };
    config.insert("bdh".to_owned(), all);
    config.extend(sweep.clone());
    config
}

/// Returns the text of `config.yaml`, in the form that W&B's client writes.
fn config_yaml(config: Map<String, Json>) -> Result<String, BoxError> {
    let mut all = Map::from_iter([("wandb_version".to_owned(), json!(1))]);
    for (key, value) in config {
        all.insert(key, json!({ "value": value }));
    }
    Ok(serde_norway::to_string(&all)?)
}

/// Returns the entry for W&B's own files; policy 0 uploads them now, 1 at the end.
fn own_files(names: &[&str], policy: i32) -> Kind {
    let mut files = Vec::new();
    for name in names {
        files.push(FileItem {
            path: (*name).to_owned(),
            policy,
            kind: 1, // W&B's own
        });
    }
    Kind::Files(Files { files })
}

fn time(seconds: f64) -> Time {
    Time {
        seconds: seconds as i64,
        nanos: (seconds.fract() * 1e9) as i32,
    }
}
