//! Files of the run: an address for each from the server, then the file itself to that address.

use super::api::{Api, Failure, Upload};
use super::bucket::Place;
use super::bulk::Done;
use super::link::{GaveUp, Link};
use serde_json::{Value as Json, json};
use std::io::ErrorKind;
use std::path::Path;

const CREATE: &str = "mutation CreateRunFiles($entity: String!, $project: String!, $run: String!, \
    $files: [String!]!) { createRunFiles(input: {entityName: $entity, projectName: $project, runName: $run, \
    files: $files}) { runID uploadHeaders files { name uploadUrl } } }";

/// An address that takes a file, and the headers that it wants.
pub(super) struct Address {
    pub(super) url: String,
    pub(super) headers: Vec<String>,
}

/// Sends the file of a name among the files in `run`, the run's folder. One that is not there any more, or that a
/// crafted log names outside of it, is told and left out.
pub(super) fn send(link: &Link, place: &Place, run: &Path, name: &str) -> Result<Done, GaveUp> {
    let within = Path::new("files").join(name);
    let file = match bdh::files::open(run, &within) {
        Ok(file) => file,
        Err(error) => {
            let text = match error.kind() {
                ErrorKind::NotFound => {
                    format!(
                        "`{}` is not there any more and is not sent",
                        run.join(within).display()
                    )
                }
                _ => format!("{error}: it is not sent"),
            };
            link.remark("file", text);
            return Ok(Done::Gone);
        }
    };
    let address = || link.insist(&[], |api| address(api, place, name));
    put(link, address, Upload::File(&file))?;
    Ok(Done::Sent(Some(name.to_owned())))
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
    let Place {
        entity,
        project,
        run_id,
    } = place;
    let variables = json!({ "entity": entity, "project": project, "run": run_id, "files": [name] });
    let data = api.graphql("CreateRunFiles", CREATE, &variables)?;
    let created = &data["createRunFiles"];
    let url = created["files"][0]["uploadUrl"].as_str();
    let url = url.ok_or_else(|| refused(format!("no address came back for `{name}`")))?;
    Ok(Address {
        url: url.to_owned(),
        headers: headers(&created["uploadHeaders"]),
    })
}

/// A list of `Name:value`.
pub(super) fn headers(json: &Json) -> Vec<String> {
    let all = json.as_array().into_iter().flatten();
    all.filter_map(|header| header.as_str().map(str::to_owned))
        .collect()
}

/// An answer without what was asked for.
pub(super) fn refused(text: impl Into<String>) -> Failure {
    Failure::Refused {
        status: 200,
        text: text.into(),
    }
}
