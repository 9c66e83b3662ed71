//! One run, from the first entry of its log to the last.

use crate::artifact;
use crate::folder::{self, Folder};
use crate::journal::Journal;
use crate::limit::Limit;
use crate::proto::{Artifact, Exit, FileItem, Files, Git, Items, Kind, Output, Run, Time};
use crate::rows::{Moment, OWN_KEYS, Rows, item};
use crate::settings::{Resume, Settings};
use crate::text::random_name;
use crate::values::Encoded;
use bdh::files::write_atomically;
use bdh::lines::Lines;
use bdh::{BoxError, Feedback, Outcome, Problem, Record, RunInfo, Value, now};
use serde_json::{Map, Value as Json, json};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often the summary goes into the log. W&B's own programs write it with every row, which doubles the log.
const SUMMARY_EVERY: Duration = Duration::from_secs(2);

/// Steps between two lines of output.
const LINE_EVERY: u64 = 100;

/// A run that is being logged.
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

impl Session {
    /// Begins the log of a run, or goes on with that of a resumed one.
    pub(super) fn open(settings: Settings, run: &RunInfo, online: bool) -> Result<Self, BoxError> {
        let resumed = resumed(&settings, run)?;
        let is_new = resumed.is_none();
        let (folder, journal, rows) = match resumed {
            Some(resumed) => resumed,
            None => begin(&settings, run, online)?,
        };
        let mut session = Self {
            folder,
            settings,
            feedback: run.feedback.clone(),
            journal,
            rows,
            lines: Lines::new(Some(LINE_EVERY), run),
            summarized: Instant::now(),
            started: Instant::now(),
            run_dir: run.dir.clone(),
            limit: Limit::default(),
            step: run.resumed_at.unwrap_or(0),
        };
        session.introduce(run, is_new)?;
        if let Some(record) = run.resumed_record.as_ref()
            && session.rows.last_step() < Some(record.clock.step)
        {
            session.write(record)?;
        }
        Ok(session)
    }

    /// The entries before the first row.
    fn introduce(&mut self, run: &RunInfo, is_new: bool) -> Result<(), BoxError> {
        let config = config(run, &self.settings.sweep_params);
        let update = config
            .iter()
            .map(|(key, value)| item(key.clone(), value.to_string()))
            .collect();
        let config_items = Items {
            update,
            remove: Vec::new(),
        };
        if is_new {
            self.put(Kind::Run(self.run(run, config_items)))?;
        } else {
            self.put(Kind::Config(config_items))?;
        }
        let files = folder::make(&self.folder.root, "files")?;
        write_atomically(&files.join("config.yaml"), config_yaml(config)?.as_bytes())?;
        let metadata = serde_json::to_vec_pretty(&self.metadata(run))?;
        write_atomically(&files.join("wandb-metadata.json"), &metadata)?;
        Ok(self.put(own_files(&["wandb-metadata.json"], 0))?)
    }

    fn run(&self, run: &RunInfo, config: Items) -> Run {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let settings = &self.settings;
        let is_git = !settings.disable_git
            && (settings.git_commit.is_some() || settings.git_remote_url.is_some());
        let git = is_git.then(|| Git {
            remote_url: text(&settings.git_remote_url),
            commit: text(&settings.git_commit),
        });
        Run {
            run_id: self.folder.run_id.clone(),
            entity: text(&settings.entity),
            project: settings.project.clone(),
            config: Some(config),
            group: text(&settings.group),
            job_type: text(&settings.job_type),
            display_name: settings.name.clone().unwrap_or_else(|| run.name.clone()),
            notes: text(&settings.notes),
            tags: settings.tags.clone(),
            sweep_id: text(&settings.sweep_id),
            host: text(&settings.host),
            start_time: Some(time(run.started_at)),
            git,
        }
    }

    /// What `wandb-metadata.json` says: of the program and when it began, and nothing of the machine or its user.
    fn metadata(&self, run: &RunInfo) -> Json {
        let started =
            jiff::Timestamp::from_second(run.started_at as i64).map(|time| time.to_string());
        let Settings {
            git_commit,
            git_remote_url,
            disable_git,
            ..
        } = &self.settings;
        let git = (!disable_git).then(|| json!({ "commit": git_commit, "remote": git_remote_url }));
        json!({ "program": concat!("bdh ", env!("CARGO_PKG_VERSION")), "startedAt": started.ok(), "git": git })
    }

    /// Writes a record: its files, its artifacts, its row, its lines.
    pub(super) fn write(&mut self, record: &Record) -> Result<(), BoxError> {
        self.step = record.clock.step;
        let files = self.folder.files();
        let mut encoded = Encoded::new(self.step, &files);
        for (key, value) in &record.values {
            match value {
                Value::File {
                    path,
                    kind,
                    aliases,
                } => self.artifact(path, kind, aliases)?,
                _ if OWN_KEYS.contains(&key.as_str()) => {}
                _ => {
                    if let Err(error) = encoded.add(key, value)
                        && let Some(error) = self.limit.pass("media", error.to_string())
                    {
                        let consequence = format!("the run goes on without this `{key}`");
                        self.tell("write", &error, &consequence);
                    }
                }
            }
        }
        if let Some(files) = encoded.files() {
            self.put(files)?;
        }
        // Also where only a file was logged: a resume cuts the log behind a row.
        if !record.values.is_empty() {
            let at = Moment {
                step: self.step,
                tokens: record.clock.tokens,
                runtime: record.clock.elapsed.as_secs_f64(),
                timestamp: now(),
            };
            for kind in self.rows.row(at, encoded.values) {
                self.put(kind)?;
            }
        }
        if self.summarized.elapsed() >= SUMMARY_EVERY {
            self.summarize()?;
        }
        for line in self.lines.of(record) {
            self.output(&line)?;
        }
        self.tell_fault();
        Ok(())
    }

    /// Writes an entry. One that is too long for a reader is reported and left out.
    fn put(&mut self, kind: Kind) -> io::Result<()> {
        match self.journal.put(kind) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                if let Some(error) = self.limit.pass("entry", error.to_string()) {
                    self.tell("write", &error, "the run goes on without this entry");
                }
                Ok(())
            }
            put => put,
        }
    }

    /// Reports the first fault of the disk that ended nothing.
    fn tell_fault(&mut self) {
        if let Some(error) = self.journal.untold_fault() {
            self.tell("write", &error, "it is tried again with each record");
        }
    }

    /// Stages what lies at a path; what cannot be staged is told, and the run goes on.
    fn artifact(&mut self, path: &Path, kind: &str, aliases: &[String]) -> Result<(), BoxError> {
        match self.stage(path, kind, aliases) {
            Ok(mut artifact) => {
                artifact.project.clone_from(&self.settings.project);
                artifact.entity = self.settings.entity.clone().unwrap_or_default();
                Ok(self.put(Kind::Artifact(artifact))?)
            }
            Err(error) => {
                if let Some(error) = self.limit.pass("artifact", error.to_string()) {
                    self.tell("artifact", &error, "the run goes on without this artifact");
                }
                Ok(())
            }
        }
    }

    fn stage(&self, path: &Path, kind: &str, aliases: &[String]) -> io::Result<Artifact> {
        let artifacts = folder::make(&self.folder.root, "artifacts")?;
        let staging = artifacts.join(format!("{}-{}", self.step, random_name(8)));
        let run_id = &self.folder.run_id;
        artifact::stage(
            path,
            kind,
            aliases,
            run_id,
            &staging,
            self.run_dir.as_deref(),
        )
    }

    fn summarize(&mut self) -> Result<(), BoxError> {
        self.summarized = Instant::now();
        match self.rows.summary() {
            Some(summary) => Ok(self.put(summary)?),
            None => Ok(()),
        }
    }

    /// A line of the run's output.
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

    /// Makes all that was written survive the machine.
    pub(super) fn flush(&mut self) -> Result<(), BoxError> {
        self.summarize()?;
        self.journal.flush()?;
        self.tell_fault();
        Ok(())
    }

    /// The last entries: the summary, how the run ended.
    pub(super) fn close(&mut self, outcome: &Outcome) -> Result<(), BoxError> {
        let exit_code = i32::from(matches!(outcome, Outcome::Failed(_)));
        if *outcome != Outcome::Completed {
            self.output(&format!("run {outcome}"))?;
        }
        self.summarize()?;
        let summary = self.folder.files().join("wandb-summary.json");
        write_atomically(&summary, self.rows.summary_json().as_bytes())?;
        self.put(own_files(&["wandb-summary.json", "config.yaml"], 1))?;
        let runtime = self.started.elapsed().as_secs() as i32;
        self.put(Kind::Exit(Exit { exit_code, runtime }))?;
        self.journal.sync()?;
        if *outcome == Outcome::Completed && self.settings.resume == Some(Resume::Auto) {
            self.folder.is_finished();
        }
        Ok(())
    }

    /// Whether the user wants to hear of nothing but failures.
    pub(super) fn is_silent(&self) -> bool {
        self.settings.silent || self.settings.quiet
    }

    /// Says something to a person who wants to hear it.
    pub(super) fn say(&self, text: impl Into<String>) {
        if !self.is_silent() {
            self.feedback.remark(text);
        }
    }

    /// Tells the run of something that ends nothing.
    pub(super) fn tell(&self, during: &str, error: &str, consequence: &str) {
        self.feedback.tell(Problem {
            who: "wandb".to_owned(),
            during: during.to_owned(),
            step: self.step,
            error: error.to_owned(),
            consequence: consequence.to_owned(),
        });
    }
}

/// The log that a resumed run goes on with, if it is there and is the one that was asked for.
fn resumed(
    settings: &Settings,
    run: &RunInfo,
) -> Result<Option<(Folder, Journal, Rows)>, BoxError> {
    let (Some(step), Some(dir)) = (run.resumed_at, &run.dir) else {
        return Ok(None);
    };
    let asked = settings.run_id.as_ref();
    let is_asked_for = |folder: &Folder| asked.is_none_or(|asked| *asked == folder.run_id);
    let Some(folder) =
        Folder::of_run(dir, settings.dir.as_deref().unwrap_or(dir)).filter(is_asked_for)
    else {
        return Ok(None);
    };
    let (journal, rows) = Journal::go_on(&folder.log(), &folder.run_id, step)?;
    let _ = fs::remove_file(folder.synced()); // it is no longer all on the server
    Ok(Some((folder, journal, rows)))
}

/// The log of a run that begins.
fn begin(
    settings: &Settings,
    run: &RunInfo,
    online: bool,
) -> Result<(Folder, Journal, Rows), BoxError> {
    let here = Path::new(".");
    let base = settings
        .dir
        .as_deref()
        .or(run.dir.as_deref())
        .unwrap_or(here);
    let run_id = run_id(settings, base);
    #[cfg(feature = "online")]
    if online {
        super::online::check_resume(settings, &run_id)?;
    }
    let folder = Folder::create(base, run_id, online, run.dir.as_deref())?;
    if settings.resume == Some(Resume::Auto) {
        folder.is_begun()?;
    }
    let journal = Journal::create(&folder.log(), &folder.run_id)?;
    Ok((folder, journal, Rows::default()))
}

/// The id of a run that begins: the one that was asked for, with `WANDB_RESUME=auto` that of a run that did not
/// finish, or a new one.
fn run_id(settings: &Settings, base: &Path) -> String {
    let is_auto = settings.resume == Some(Resume::Auto);
    let unfinished = || is_auto.then(|| folder::unfinished(base)).flatten();
    settings
        .run_id
        .clone()
        .or_else(unfinished)
        .unwrap_or_else(|| random_name(8))
}

/// The configuration: the user's own keys, `bdh` for the trainer's, and over both what a sweep has chosen.
fn config(run: &RunInfo, sweep: &Map<String, Json>) -> Map<String, Json> {
    let mut all = run.config.clone();
    let user = all
        .as_object_mut()
        .and_then(|all| all.remove("user"))
        .unwrap_or_default();
    let mut config = match user {
        Json::Object(user) => user,
        Json::Null => Map::new(),
        other => Map::from_iter([("config".to_owned(), other)]),
    };
    config.insert("bdh".to_owned(), all);
    config.extend(
        sweep
            .iter()
            .map(|(key, value)| (key.clone(), value.clone())),
    );
    config
}

/// `config.yaml`, in the form that W&B's programs give it.
fn config_yaml(config: Map<String, Json>) -> Result<String, BoxError> {
    let mut all = Map::from_iter([("wandb_version".to_owned(), json!(1))]);
    all.extend(
        config
            .into_iter()
            .map(|(key, value)| (key, json!({ "value": value }))),
    );
    Ok(serde_norway::to_string(&all)?)
}

/// The entry for files that are W&B's own; policy 0 uploads now, 1 at the end.
fn own_files(names: &[&str], policy: i32) -> Kind {
    let file = |name: &&str| FileItem {
        path: (*name).to_owned(),
        policy,
        kind: 1,
    };
    Kind::Files(Files {
        files: names.iter().map(file).collect(),
    })
}

fn time(seconds: f64) -> Time {
    Time {
        seconds: seconds as i64,
        nanos: (seconds.fract() * 1e9) as i32,
    }
}
