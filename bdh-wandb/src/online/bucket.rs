//! The run on the server: its names, its configuration and its metrics.

use super::api::{Api, Failure};
use super::files::refused;
use super::tree::Tree;
use crate::note::Counts;
use crate::proto::{Metric, MetricOptions, Run};
use crate::text;
use serde::de::IgnoredAny;
use serde_json::{Map, Value as Json, json};

const RESUME_STATUS: &str = "query RunResumeStatus($project: String, $entity: String, $name: String!) { \
    model(name: $project, entityName: $entity) { bucket(name: $name, missingOk: true) { \
    id name historyLineCount logLineCount historyTail summaryMetrics } } }";

const UPSERT: &str = "mutation UpsertBucket($name: String, $project: String, $entity: String, $groupName: String, \
    $displayName: String, $notes: String, $commit: String, $config: JSONString, $host: String, $program: String, \
    $repo: String, $jobType: String, $sweep: String, $tags: [String!]) { upsertBucket(input: {name: $name, \
    modelName: $project, entityName: $entity, groupName: $groupName, displayName: $displayName, notes: $notes, \
    commit: $commit, config: $config, host: $host, jobProgram: $program, jobRepo: $repo, jobType: $jobType, \
    sweep: $sweep, tags: $tags}) { inserted bucket { id name displayName historyLineCount \
    project { name entity { name } } } } }";

/// Largest count that is accepted: larger ones are not exact in JSON.
const MAX_COUNT: u64 = 1 << 53;

/// Names of a run on the server, as in its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) entity: String,
    pub(super) project: String,
    pub(super) run_id: String,
}

/// Rows and lines of a run on the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) counts: Counts,
    /// One more than the `_step` of the last row; 0 if the server does not report it.
    pub(super) next_of_rows: u64,
    /// One more than the `_step` of the summary, which may have arrived before its row or long after.
    pub(super) next_of_summary: u64,
}

impl Known {
    /// Reads the rows and lines in the server's answer about a run.
    fn of(bucket: &Json) -> Result<Self, Failure> {
        let tail = bucket["historyTail"].as_str().unwrap_or_default();
        let summary = bucket["summaryMetrics"].as_str().unwrap_or_default();
        Ok(Self {
            counts: Counts {
                rows: count(bucket, "historyLineCount")?,
                lines: count(bucket, "logLineCount")?,
            },
            next_of_rows: next_of_rows(tail)?,
            next_of_summary: next_step(summary)?,
        })
    }

    /// Returns the first `_step` after everything that the server has.
    pub(super) fn next(&self) -> u64 {
        let next = self.next_of_rows.max(self.next_of_summary);
        next.max(self.counts.rows)
    }
}

/// Asks the server for the rows and lines of a run; `None` if it does not know the run.
pub(super) fn known(
    api: &Api,
    entity: Option<&str>,
    project: &str,
    run_id: &str,
) -> Result<Option<Known>, Failure> {
    let variables = json!({ "entity": entity, "project": project, "name": run_id });
    let data = api.graphql("RunResumeStatus", RESUME_STATUS, &variables)?;
    let Some(model) = data.get("model") else {
        return Err(refused("the answer has no data about the run"));
    };
    let bucket = &model["bucket"];
    if bucket.is_null() {
        return Ok(None);
    }
    Known::of(bucket).map(Some)
}

/// Reads a count of the server's.
///
/// An impossible one is refused: with a wrong count, rows would be overwritten.
fn count(bucket: &Json, key: &str) -> Result<u64, Failure> {
    let json = &bucket[key];
    if json.is_null() {
        return Ok(0);
    }
    match json.as_u64() {
        Some(count) if count <= MAX_COUNT => Ok(count),
        _ => Err(impossible(key, &json.to_string())),
    }
}

/// Returns one more than the `_step` of the last row of a history tail, a JSON list of rows as text.
fn next_of_rows(tail: &str) -> Result<u64, Failure> {
    let rows: Vec<String> = serde_json::from_str(tail).unwrap_or_default();
    let mut next = 0;
    for row in &rows {
        next = next.max(next_step(row)?);
    }
    Ok(next)
}

/// Returns one more than the largest `_step` in an object; 0 without one.
///
/// The text is searched rather than parsed, since W&B's objects may contain NaN, which JSON does not have.
fn next_step(object: &str) -> Result<u64, Failure> {
    let mut next = 0;
    for rest in object.split("\"_step\":").skip(1) {
        let rest = rest.trim_start();
        let Some(end) = rest.find(|c: char| !c.is_ascii_digit()) else {
            continue;
        };
        if let Ok(step) = rest[..end].parse::<u64>() {
            next = next.max(step.saturating_add(1));
        }
    }
    if next > MAX_COUNT {
        return Err(impossible("_step", &next.to_string()));
    }
    Ok(next)
}

fn impossible(key: &str, value: &str) -> Failure {
    let value: String = value.chars().take(40).collect();
    refused(format!(
        "the server has a `{key}` of {value}, which no run can have"
    ))
}

/// Description of a run in the part of the log that has been read.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    run: Run,
    config: Tree,
    metrics: Vec<Metric>,
    /// Whether something has changed since the last upsert.
    pub(super) is_stale: bool,
    /// Whether the server has everything except changes of the configuration.
    is_known: bool,
}

impl Bucket {
    pub(super) fn run(&self) -> &Run {
        &self.run
    }

    /// Applies the entry that begins a run.
    pub(super) fn begin(&mut self, mut run: Run) {
        self.configure(&run.config.take().unwrap_or_default());
        self.run = run;
        self.is_known = false;
    }

    pub(super) fn configure(&mut self, changes: &crate::proto::Items) {
        self.config.apply(changes);
        self.is_stale = true;
    }

    /// Adds the definition of a metric; a later one of the same name replaces it.
    pub(super) fn define(&mut self, metric: Metric) {
        let step_metric = metric.step_metric.clone();
        self.set_metric(metric);
        if !step_metric.is_empty() && !self.metrics.iter().any(|known| known.name == step_metric) {
            self.metrics.push(Metric {
                name: step_metric,
                ..Metric::default()
            });
        }
        self.is_stale = true;
    }

    /// Replaces the metric of the same name, or adds it.
    fn set_metric(&mut self, metric: Metric) {
        for known in &mut self.metrics {
            if known.name == metric.name && known.glob_name == metric.glob_name {
                *known = metric;
                return;
            }
        }
        self.metrics.push(metric);
    }

    /// Sends the run to the server: everything the first time, later only the configuration, like W&B's client.
    pub(super) fn upsert(&self, api: &Api, entity: Option<&str>) -> Result<Place, Failure> {
        let entity = non_empty(&self.run.entity).or(entity);
        let variables = Json::Object(self.upsert_variables(entity));
        let data = api.graphql("UpsertBucket", UPSERT, &variables)?;
        let bucket = &data["upsertBucket"]["bucket"];
        if bucket.is_null() {
            return Err(refused("the answer has no run"));
        }
        Ok(self.place(bucket, entity.unwrap_or_default()))
    }

    fn upsert_variables(&self, entity: Option<&str>) -> Map<String, Json> {
        let mut variables = if self.is_known {
            Map::new()
        } else {
            self.description()
        };
        variables.insert("name".to_owned(), json!(self.run.run_id));
        variables.insert("project".to_owned(), json!(self.run.project));
        variables.insert("entity".to_owned(), json!(entity));
        variables.insert("config".to_owned(), json!(self.config()));
        variables
    }

    /// Returns the names in the server's answer; those that are missing keep the requested name.
    fn place(&self, bucket: &Json, entity: &str) -> Place {
        let project = &bucket["project"];
        Place {
            entity: name_or(&project["entity"], entity),
            project: name_or(project, &self.run.project),
            run_id: name_or(bucket, &self.run.run_id),
        }
    }

    /// Returns the variables of the first upsert that describe the run.
    fn description(&self) -> Map<String, Json> {
        let run = &self.run;
        let git = run.git.clone().unwrap_or_default();
        let texts = [
            ("groupName", run.group.as_str()),
            ("jobType", &run.job_type),
            ("displayName", &run.display_name),
            ("notes", &run.notes),
            ("sweep", &run.sweep_id),
            ("host", &run.host),
            ("program", concat!("bdh ", env!("CARGO_PKG_VERSION"))),
            ("commit", &git.commit),
            ("repo", &git.remote_url),
        ];
        let mut variables = Map::new();
        for (key, text) in texts {
            variables.insert(key.to_owned(), json!(non_empty(text)));
        }
        let tags = (!run.tags.is_empty()).then_some(&run.tags);
        variables.insert("tags".to_owned(), json!(tags));
        variables
    }

    /// Records that the server has the current state.
    pub(super) fn mark_sent(&mut self) {
        (self.is_known, self.is_stale) = (true, false);
    }

    /// Returns the configuration as `{"key": {"value": …}}`, with W&B's own part under `_wandb`.
    fn config(&self) -> String {
        let mut fields: Vec<_> = self.config.fields().collect();
        fields.retain(|(key, _)| *key != "_wandb");
        fields.push(("_wandb", self.own_config()));
        for (_, value) in &mut fields {
            *value = format!("{{\"value\":{}}}", strict(value));
        }
        text::object(fields.iter().map(|(key, value)| (*key, value.as_str())))
    }

    /// Returns W&B's own part of the configuration.
    fn own_config(&self) -> String {
        let mut metrics = Vec::with_capacity(self.metrics.len());
        for metric in &self.metrics {
            metrics.push(self.metric(metric));
        }
        // Without an entry in `t` the server counts a run as never started. `m` contains the metrics.
        let client = concat!("bdh-", env!("CARGO_PKG_VERSION"));
        json!({ "t": { "12": client }, "m": metrics }).to_string()
    }

    /// Returns a metric with the numbers of its fields as keys, and its step metric by its place in the list, from 1.
    fn metric(&self, metric: &Metric) -> Json {
        let numbers = option_numbers(metric.options.unwrap_or_default());
        let mut json = json!({ "6": numbers, "7": [] });
        if metric.glob_name.is_empty() {
            json["1"] = json!(metric.name);
        } else {
            json["2"] = json!(metric.glob_name);
        }
        if let Some(number) = self.number_of(&metric.step_metric) {
            json["5"] = json!(number);
        }
        json
    }

    /// Returns the place of a metric in the list, from 1; `None` for an empty name, which metrics given by a glob have.
    fn number_of(&self, name: &str) -> Option<usize> {
        if name.is_empty() {
            return None;
        }
        let mut metrics = self.metrics.iter();
        Some(metrics.position(|metric| metric.name == name)? + 1)
    }
}

/// Returns the numbers of the options that are on.
fn option_numbers(options: MetricOptions) -> Vec<u32> {
    let mut numbers = Vec::new();
    for (is_on, number) in [
        (options.step_sync, 1),
        (options.hidden, 2),
        (options.defined, 3),
    ] {
        if is_on {
            numbers.push(number);
        }
    }
    numbers
}

fn non_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// Returns a JSON text, or `null` in place of one with NaN: the server accepts only strict JSON in a configuration.
fn strict(json: &str) -> &str {
    match serde_json::from_str::<IgnoredAny>(json) {
        Ok(_) => json,
        Err(_) => "null",
    }
}

fn name_or(json: &Json, default: &str) -> String {
    json["name"].as_str().unwrap_or(default).to_owned()
}
