//! Messages of a `.wandb` log, with the fields that a training run writes.
//!
//! Names and numbers are those of the format. Fields that are not listed here are skipped when a log is read.

#![expect(clippy::struct_field_names, reason = "the names are the format's")]

use prost::{Message, Oneof};

/// Entry of the log.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Record {
    /// Number of the entry, from 1.
    #[prost(int64, tag = "1")]
    pub(crate) num: i64,
    #[prost(oneof = "Kind", tags = "2, 3, 5, 6, 8, 12, 13, 17, 18, 21")]
    pub(crate) kind: Option<Kind>,
    #[prost(message, optional, tag = "200")]
    pub(crate) info: Option<Info>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Kind {
    #[prost(message, tag = "2")]
    History(History),
    #[prost(message, tag = "3")]
    Summary(Items),
    #[prost(message, tag = "5")]
    Config(Items),
    #[prost(message, tag = "6")]
    Files(Files),
    #[prost(message, tag = "8")]
    Artifact(Artifact),
    #[prost(message, tag = "12")]
    Metric(Metric),
    #[prost(message, tag = "13")]
    Output(Output),
    #[prost(message, tag = "17")]
    Run(Run),
    #[prost(message, tag = "18")]
    Exit(Exit),
    #[prost(message, tag = "21")]
    Header(Header),
}

/// Run to which an entry belongs.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Info {
    #[prost(string, tag = "1")]
    pub(crate) stream_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Header {
    #[prost(message, optional, tag = "1")]
    pub(crate) version: Option<Version>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Version {
    #[prost(string, tag = "1")]
    pub(crate) producer: String,
    #[prost(string, tag = "2")]
    pub(crate) min_consumer: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Run {
    #[prost(string, tag = "1")]
    pub(crate) run_id: String,
    #[prost(string, tag = "2")]
    pub(crate) entity: String,
    #[prost(string, tag = "3")]
    pub(crate) project: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) config: Option<Items>,
    #[prost(string, tag = "6")]
    pub(crate) group: String,
    #[prost(string, tag = "7")]
    pub(crate) job_type: String,
    #[prost(string, tag = "8")]
    pub(crate) display_name: String,
    #[prost(string, tag = "9")]
    pub(crate) notes: String,
    #[prost(string, repeated, tag = "10")]
    pub(crate) tags: Vec<String>,
    #[prost(string, tag = "12")]
    pub(crate) sweep_id: String,
    #[prost(string, tag = "13")]
    pub(crate) host: String,
    #[prost(message, optional, tag = "17")]
    pub(crate) start_time: Option<Time>,
    #[prost(message, optional, tag = "21")]
    pub(crate) git: Option<Git>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Git {
    #[prost(string, tag = "1")]
    pub(crate) remote_url: String,
    #[prost(string, tag = "2")]
    pub(crate) commit: String,
}

/// Time since 1970.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Time {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

/// Changes of the configuration or of the summary.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Items {
    #[prost(message, repeated, tag = "1")]
    pub(crate) update: Vec<Item>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) remove: Vec<Item>,
}

/// Key, or path of keys, and its value as JSON.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Item {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) nested_key: Vec<String>,
    #[prost(string, tag = "16")]
    pub(crate) value_json: String,
}

/// Row of history.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct History {
    #[prost(message, repeated, tag = "1")]
    pub(crate) item: Vec<Item>,
    #[prost(message, optional, tag = "2")]
    pub(crate) step: Option<Step>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Step {
    #[prost(int64, tag = "1")]
    pub(crate) num: i64,
}

/// Definition of how a key is shown and summarized.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Metric {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) glob_name: String,
    #[prost(string, tag = "4")]
    pub(crate) step_metric: String,
    #[prost(message, optional, tag = "6")]
    pub(crate) options: Option<MetricOptions>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct MetricOptions {
    #[prost(bool, tag = "1")]
    pub(crate) step_sync: bool,
    #[prost(bool, tag = "2")]
    pub(crate) hidden: bool,
    #[prost(bool, tag = "3")]
    pub(crate) defined: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Files {
    #[prost(message, repeated, tag = "1")]
    pub(crate) files: Vec<FileItem>,
}

/// File under `files/` of the run's folder.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FileItem {
    #[prost(string, tag = "1")]
    pub(crate) path: String,
    /// 0: upload now; 1: at the end.
    #[prost(int32, tag = "2")]
    pub(crate) policy: i32,
    /// 0: the user's; 1: W&B's own; 2: media.
    #[prost(int32, tag = "3")]
    pub(crate) kind: i32,
}

/// Line of the run's output, with its line feed.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Output {
    /// 1: standard output; 0: standard error.
    #[prost(int32, tag = "1")]
    pub(crate) stream: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) timestamp: Option<Time>,
    #[prost(string, tag = "3")]
    pub(crate) line: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Exit {
    #[prost(int32, tag = "1")]
    pub(crate) exit_code: i32,
    /// Duration in seconds.
    #[prost(int32, tag = "2")]
    pub(crate) runtime: i32,
}

/// Version of an artifact: its names and its files.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Artifact {
    #[prost(string, tag = "1")]
    pub(crate) run_id: String,
    #[prost(string, tag = "2")]
    pub(crate) project: String,
    #[prost(string, tag = "3")]
    pub(crate) entity: String,
    #[prost(string, tag = "4")]
    pub(crate) kind: String,
    #[prost(string, tag = "5")]
    pub(crate) name: String,
    #[prost(string, tag = "6")]
    pub(crate) digest: String,
    #[prost(string, tag = "7")]
    pub(crate) description: String,
    #[prost(string, tag = "8")]
    pub(crate) metadata: String,
    #[prost(bool, tag = "9")]
    pub(crate) user_created: bool,
    #[prost(bool, tag = "10")]
    pub(crate) use_after_commit: bool,
    #[prost(string, repeated, tag = "11")]
    pub(crate) aliases: Vec<String>,
    #[prost(message, optional, tag = "12")]
    pub(crate) manifest: Option<Manifest>,
    #[prost(bool, tag = "14")]
    pub(crate) finalize: bool,
    #[prost(string, tag = "15")]
    pub(crate) client_id: String,
    #[prost(string, tag = "16")]
    pub(crate) sequence_client_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Manifest {
    #[prost(int32, tag = "1")]
    pub(crate) version: i32,
    #[prost(string, tag = "2")]
    pub(crate) storage_policy: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) storage_policy_config: Vec<PolicyItem>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) contents: Vec<ManifestEntry>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PolicyItem {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, tag = "2")]
    pub(crate) value_json: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ManifestEntry {
    /// Path in the artifact.
    #[prost(string, tag = "1")]
    pub(crate) path: String,
    /// MD5 of the content, in base 64.
    #[prost(string, tag = "2")]
    pub(crate) digest: String,
    /// Size in bytes.
    #[prost(int64, tag = "4")]
    pub(crate) size: i64,
    /// Path on this machine.
    #[prost(string, tag = "6")]
    pub(crate) local_path: String,
}
