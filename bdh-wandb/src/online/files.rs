//! Files of the run: the server gives an address for each, to which the file is sent.

use super::api::{Api, Failure, Upload};
use super::bucket::Place;
use super::bulk::Done;
use super::link::{GaveUp, Link};
use serde_json::{Value as Json, json};
use std::io::{self, ErrorKind};
use std::path::Path;

const CREATE: &str = "mutation CreateRunFiles($entity: String!, $project: String!, $run: String!, \
    $files: [String!]!) { createRunFiles(input: {entityName: $entity, projectName: $project, runName: $run, \
    files: $files}) { runID uploadHeaders files { name uploadUrl } } }";

/// Address for the upload of a file, and the headers that it requires.
pub(super) struct Address {
    pub(super) url: String,
    pub(super) headers: Vec<String>,
}

/// Sends a file of the run; `run` is the run's folder.
///
/// A file that no longer exists, or that a crafted log names outside of the folder, is left out with a notice.
pub(super) fn send(link: &Link, place: &Place, run: &Path, name: &str) -> Result<Done, GaveUp> {
    let within = Path::new("files").join(name);
    let file = match bdh::files::open(run, &within) {
        Ok(file) => file,
        Err(error) => {
            link.notice("file", not_sent(&error, &run.join(within)));
            return Ok(Done::Gone);
        }
    };
    let address = || link.insist(&[], |api| address(api, place, name));
    put(link, address, Upload::File(&file))?;
    Ok(Done::Sent(Some(name.to_owned())))
}

/// Returns the notice of a file that cannot be opened.
fn not_sent(error: &io::Error, path: &Path) -> String {
    if error.kind() == ErrorKind::NotFound {
        format!("`{}` no longer exists and is not sent", path.display())
    } else {
        format!("{error}, so it is not sent")
    }
}

/// Sends a body to an address, and a second time to a new address, as the first may have expired.
pub(super) fn put(
    link: &Link,
    address: impl Fn() -> Result<Address, GaveUp>,
    body: Upload<'_>,
) -> Result<(), GaveUp> {
    match put_once(link, address()?, body) {
        Err(GaveUp::Refused(_)) => put_once(link, address()?, body),
        answer => answer,
    }
}

fn put_once(link: &Link, address: Address, body: Upload<'_>) -> Result<(), GaveUp> {
    let Address { url, headers } = address;
    link.insist(&[], |api| api.put(&url, &headers, body, &link.signal))
}

fn address(api: &Api, place: &Place, name: &str) -> Result<Address, Failure> {
    let variables = json!({
        "entity": place.entity, "project": place.project, "run": place.run_id, "files": [name],
    });
    let data = api.graphql("CreateRunFiles", CREATE, &variables)?;
    let created = &data["createRunFiles"];
    let Some(url) = created["files"][0]["uploadUrl"].as_str() else {
        return Err(refused(format!("the answer has no address for `{name}`")));
    };
    Ok(Address {
        url: url.to_owned(),
        headers: headers(&created["uploadHeaders"]),
    })
}

/// Returns a list of headers as `Name:value`.
pub(super) fn headers(json: &Json) -> Vec<String> {
    let mut headers = Vec::new();
    for header in json.as_array().into_iter().flatten() {
        headers.extend(header.as_str().map(str::to_owned));
    }
    headers
}

/// Returns the error of an answer that lacks the requested data.
pub(super) fn refused(text: impl Into<String>) -> Failure {
    Failure::Refused {
        status: 200,
        text: text.into(),
    }
}
