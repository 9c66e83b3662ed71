//! Files of the run: an address for each from the server, then the file itself to that address.

use super::api::{Api, Failure, Upload};
use super::bucket::Place;
use super::bulk::Done;
use super::link::{GaveUp, Link};
use serde_json::{Value as Json, json};
use std::path::{Component, Path, PathBuf};

const CREATE: &str = "mutation CreateRunFiles($entity: String!, $project: String!, $run: String!, \
    $files: [String!]!) { createRunFiles(input: {entityName: $entity, projectName: $project, runName: $run, \
    files: $files}) { runID uploadHeaders files { name uploadUrl } } }";

/// An address that takes a file, and the headers that it wants.
pub(super) struct Address {
    pub(super) url: String,
    pub(super) headers: Vec<String>,
}

/// Sends the file of a name in the folder `dir`. One that is not there any more is told and left out.
pub(super) fn send(link: &Link, place: &Place, dir: &Path, name: &str) -> Result<Done, GaveUp> {
    let is_within = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    let path = dir.join(name);
    let found = dir.canonicalize().ok().and_then(|dir| within(&dir, &path));
    let Some(found) = found.filter(|_| is_within) else {
        link.remark(format!("`{}` is not there any more and is not sent", path.display()));
        return Ok(Done::Gone);
    };
    let address = || link.insist(&[], |api| address(api, place, name));
    put(link, address, Upload::File(&found))?;
    Ok(Done::Sent(Some(name.to_owned())))
}

/// A file with no link left in its path, if it is there and lies within a folder of which that is true too.
pub(super) fn within(dir: &Path, path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok().filter(|path| path.starts_with(dir) && path.is_file())
}

/// Sends something to an address, and to a new one if that has run out: it is good for a limited time.
pub(super) fn put(
    link: &Link,
    address: impl Fn() -> Result<Address, GaveUp>,
    body: Upload<'_>,
) -> Result<(), GaveUp> {
    let send = || {
        let Address { url, headers } = address()?;
        link.insist(&[], |api| api.put(&url, &headers, body, &link.signal))
    };
    match send() {
        Err(GaveUp::Refused(_)) => send(),
        answered => answered,
    }
}

fn address(api: &Api, place: &Place, name: &str) -> Result<Address, Failure> {
    let Place { entity, project, run_id } = place;
    let variables = json!({ "entity": entity, "project": project, "run": run_id, "files": [name] });
    let data = api.graphql("CreateRunFiles", CREATE, &variables)?;
    let created = &data["createRunFiles"];
    let url = created["files"][0]["uploadUrl"].as_str();
    let url = url.ok_or_else(|| refused(format!("no address came back for `{name}`")))?;
    Ok(Address { url: url.to_owned(), headers: headers(&created["uploadHeaders"]) })
}

/// A list of `Name:value`.
pub(super) fn headers(json: &Json) -> Vec<String> {
    let all = json.as_array().into_iter().flatten();
    all.filter_map(|header| header.as_str().map(str::to_owned)).collect()
}

/// An answer without what was asked for.
pub(super) fn refused(text: impl Into<String>) -> Failure {
    Failure::Refused { status: 200, text: text.into() }
}
