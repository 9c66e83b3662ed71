//! The run as the server keeps it: who it is, its configuration, its metrics.

use super::api::{Api, Failure};
use super::files::refused;
use super::tree::Tree;
use crate::note::Counts;
use crate::proto::{Metric, Run};
use crate::text;
use serde_json::{Value as Json, json};

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

/// The largest count that is believed: larger ones are not exact in JSON.
const MAX_COUNT: u64 = 1 << 53;

/// Where a run is on the server, in the server's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) entity: String,
    pub(super) project: String,
    pub(super) run_id: String,
}

/// What the server has of a run that it knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) counts: Counts,
    /// One more than the `_step` of the last row, if it says so.
    pub(super) next_of_rows: u64,
    /// The same by the summary, which may have arrived before its row, or long after.
    pub(super) next_of_summary: u64,
}

impl Known {
    /// A `_step` that goes behind all that is there.
    pub(super) fn next(&self) -> u64 {
        self.counts
            .rows
            .max(self.next_of_rows)
            .max(self.next_of_summary)
    }
}

/// What the server has of a run, if it knows it.
pub(super) fn known(
    api: &Api,
    entity: Option<&str>,
    project: &str,
    run_id: &str,
) -> Result<Option<Known>, Failure> {
    let variables = json!({ "entity": entity, "project": project, "name": run_id });
    let data = api.graphql("RunResumeStatus", RESUME_STATUS, &variables)?;
    let model = data
        .get("model")
        .ok_or_else(|| refused("it does not say what it has of the run"))?;
    let bucket = &model["bucket"];
    if bucket.is_null() {
        return Ok(None);
    }
    let text = |key: &str| bucket[key].as_str().unwrap_or_default();
    let tail: Vec<String> = serde_json::from_str(text("historyTail")).unwrap_or_default();
    let next_of_rows = tail
        .iter()
        .map(|row| next_step(row))
        .max()
        .unwrap_or_default();
    let next_of_summary = next_step(text("summaryMetrics"));
    let counts = Counts {
        rows: count(bucket, "historyLineCount")?,
        lines: count(bucket, "logLineCount")?,
    };
    for next in [next_of_rows, next_of_summary] {
        if next > MAX_COUNT {
            return Err(refused(format!(
                "it has a `_step` of {next}, which no run can have"
            )));
        }
    }
    Ok(Some(Known {
        counts,
        next_of_rows,
        next_of_summary,
    }))
}

/// A count of the server's. One that cannot be is refused: with a wrong one, rows would be written over.
fn count(bucket: &Json, key: &str) -> Result<u64, Failure> {
    match &bucket[key] {
        Json::Null => Ok(0),
        json => json
            .as_u64()
            .filter(|count| *count <= MAX_COUNT)
            .ok_or_else(|| {
                let text: String = json.to_string().chars().take(40).collect();
                refused(format!("it has a `{key}` of {text}, which no run can have"))
            }),
    }
}

/// One more than the `_step` in an object; 0 without one. It is looked for in the text: a NaN is no JSON.
fn next_step(object: &str) -> u64 {
    let number = |rest: &str| -> Option<u64> {
        let rest = rest.trim_start();
        rest[..rest.find(|c: char| !c.is_ascii_digit())?]
            .parse()
            .ok()
    };
    object
        .split("\"_step\":")
        .skip(1)
        .filter_map(number)
        .map(|step| step.saturating_add(1))
        .max()
        .unwrap_or(0)
}

/// A run as the log describes it so far.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    run: Run,
    config: Tree,
    metrics: Vec<Metric>,
    /// Whether the server lacks something of it.
    pub(super) is_stale: bool,
    /// Whether the server has all but the configuration.
    is_known: bool,
}

impl Bucket {
    pub(super) fn run(&self) -> &Run {
        &self.run
    }

    /// Takes the entry that begins a run.
    pub(super) fn begin(&mut self, mut run: Run) {
        self.configure(&run.config.take().unwrap_or_default());
        self.run = run;
        self.is_known = false;
    }

    pub(super) fn configure(&mut self, changes: &crate::proto::Items) {
        self.config.apply(changes);
        self.is_stale = true;
    }

    /// Takes the definition of a metric; a later one of the same name replaces it.
    pub(super) fn define(&mut self, metric: Metric) {
        let step_metric = metric.step_metric.clone();
        let same =
            |known: &Metric| (&known.name, &known.glob_name) == (&metric.name, &metric.glob_name);
        match self.metrics.iter_mut().find(|known| same(known)) {
            Some(known) => *known = metric,
            None => self.metrics.push(metric),
        }
        if !step_metric.is_empty() && !self.metrics.iter().any(|known| known.name == step_metric) {
            self.metrics.push(Metric {
                name: step_metric,
                ..Metric::default()
            });
        }
        self.is_stale = true;
    }

    /// Tells the server. A first time it hears everything, later the configuration alone, as W&B's client does.
    pub(super) fn upsert(&self, api: &Api, entity: Option<&str>) -> Result<Place, Failure> {
        let run = &self.run;
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let entity = text(&run.entity).or_else(|| entity.map(str::to_owned));
        let mut variables = json!({
            "name": run.run_id, "project": run.project, "entity": entity, "config": self.config(),
        });
        if !self.is_known {
            let git = run.git.as_ref();
            let more = json!({
                "groupName": text(&run.group), "jobType": text(&run.job_type),
                "displayName": text(&run.display_name), "notes": text(&run.notes),
                "tags": (!run.tags.is_empty()).then_some(&run.tags),
                "sweep": text(&run.sweep_id), "host": text(&run.host),
                "program": concat!("bdh ", env!("CARGO_PKG_VERSION")),
                "commit": git.and_then(|git| text(&git.commit)),
                "repo": git.and_then(|git| text(&git.remote_url)),
            });
            if let (Some(variables), Json::Object(more)) = (variables.as_object_mut(), more) {
                variables.extend(more);
            }
        }
        let data = api.graphql("UpsertBucket", UPSERT, &variables)?;
        let bucket = &data["upsertBucket"]["bucket"];
        if bucket.is_null() {
            return Err(refused("no run came back"));
        }
        let named =
            |json: &Json, otherwise: &str| json["name"].as_str().unwrap_or(otherwise).to_owned();
        let project = &bucket["project"];
        Ok(Place {
            entity: named(&project["entity"], entity.as_deref().unwrap_or_default()),
            project: named(project, &run.project),
            run_id: named(bucket, &run.run_id),
        })
    }

    pub(super) fn is_told(&mut self) {
        (self.is_known, self.is_stale) = (true, false);
    }

    /// `{"key": {"value": …}}`. Without `_wandb.t` the server counts a run as never started, and `m` holds the
    /// metrics.
    fn config(&self) -> String {
        let client = concat!("bdh-", env!("CARGO_PKG_VERSION")); // it must say something
        let metrics: Vec<_> = self
            .metrics
            .iter()
            .map(|metric| self.metric(metric))
            .collect();
        let own = json!({ "t": { "12": client }, "m": metrics }).to_string();
        let mut fields: Vec<_> = self
            .config
            .fields()
            .filter(|(key, _)| *key != "_wandb")
            .collect();
        fields.push(("_wandb", own));
        for (_, value) in &mut fields {
            let is_json = serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok();
            let strict = if is_json { value.as_str() } else { "null" };
            *value = format!("{{\"value\":{strict}}}");
        }
        text::object(fields.iter().map(|(key, value)| (*key, value.as_str())))
    }

    /// A metric by the numbers of its fields, its step metric by its place in the list, from 1.
    fn metric(&self, metric: &Metric) -> Json {
        let mut json = json!({ "6": [], "7": [] });
        let (field, name) = match metric.glob_name.as_str() {
            "" => ("1", &metric.name),
            _ => ("2", &metric.glob_name),
        };
        json[field] = json!(name);
        if let Some(index) = self
            .metrics
            .iter()
            .position(|step| step.name == metric.step_metric)
            && !metric.step_metric.is_empty()
        {
            json["5"] = json!(index + 1);
        }
        let options = metric.options.unwrap_or_default();
        let options = [
            (options.step_sync, 1),
            (options.hidden, 2),
            (options.defined, 3),
        ];
        json["6"] = options
            .into_iter()
            .filter(|(on, _)| *on)
            .map(|(_, number)| number)
            .collect();
        json
    }
}
