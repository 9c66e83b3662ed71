//! Uploads of artifact versions: create the version, send its files and their list, commit it.

use super::api::{Api, Failure, Upload};
use super::bucket::Place;
use super::bulk::Done;
use super::files::{Address, headers, put, refused};
use super::link::{GaveUp, Link};
use crate::proto::{Artifact, Manifest, ManifestEntry};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest, Md5};
use serde_json::{Map, Value as Json, json};
use std::path::{Path, PathBuf};

const CREATE: &str = "mutation CreateArtifact($input: CreateArtifactInput!) { createArtifact(input: $input) { \
    artifact { id state artifactSequence { latestArtifact { id } } } } }";

const MANIFEST: &str = "mutation CreateArtifactManifest($artifactID: ID!, $baseArtifactID: ID, $name: String!, \
    $digest: String!, $entityName: String!, $projectName: String!, $runName: String!, \
    $manifestType: ArtifactManifestType!, $includeUpload: Boolean!) { createArtifactManifest(input: { \
    artifactID: $artifactID, baseArtifactID: $baseArtifactID, name: $name, digest: $digest, \
    entityName: $entityName, projectName: $projectName, runName: $runName, type: $manifestType}) { \
    artifactManifest { id file { id uploadUrl @include(if: $includeUpload) \
    uploadHeaders @include(if: $includeUpload) } } } }";

const FILES: &str = "mutation CreateArtifactFiles($input: CreateArtifactFilesInput!) { \
    createArtifactFiles(input: $input) { files { edges { node { storagePath uploadUrl uploadHeaders \
    artifact { id } } } } } }";

const COMMIT: &str = "mutation CommitArtifact($artifactID: ID!) { commitArtifact(input: { \
    artifactID: $artifactID}) { artifact { id digest } } }";

/// Version of an artifact on the server.
struct Created {
    id: String,
    /// Id of the version before it.
    base: Option<String>,
    /// Whether the server has the whole version, because the same files were sent before.
    is_complete: bool,
}

/// List of a version's files on the server.
struct FileList {
    id: String,
    /// Address for its content, if it was requested.
    address: Option<Address>,
}

/// Sends an artifact with all its files, which are in `run`, the run's folder.
pub(super) fn send(
    link: &Link,
    place: &Place,
    run: &Path,
    artifact: &Artifact,
) -> Result<Done, GaveUp> {
    let Some(manifest) = &artifact.manifest else {
        return Err(GaveUp::Refused("its list of files is missing".to_owned()));
    };
    let files = staged_files(run, manifest)?;
    // A conflict (409) is with another request about the same artifact, and passes.
    let created = link.insist(&[409], |api| create(api, place, artifact))?;
    if created.is_complete {
        return Ok(Done::Sent(None));
    }
    send_files(link, place, run, &created, &files)?;
    send_list(link, place, &created, manifest)?;
    if artifact.finalize {
        commit(link, &created)?;
    }
    Ok(Done::Sent(None))
}

/// File of an artifact on this machine.
struct StagedFile<'a> {
    entry: &'a ManifestEntry,
    /// Path within the run's folder.
    path: PathBuf,
}

fn send_files(
    link: &Link,
    place: &Place,
    run: &Path,
    created: &Created,
    files: &[StagedFile<'_>],
) -> Result<(), GaveUp> {
    let list = link.insist(&[], |api| create_list(api, place, created, "", false))?;
    for StagedFile { entry, path } in files {
        let opened =
            bdh::files::open(run, path).map_err(|error| GaveUp::Refused(error.to_string()))?;
        let address = || link.insist(&[], |api| file_address(api, &created.id, &list.id, entry));
        put(link, address, Upload::File(&opened))?;
    }
    Ok(())
}

fn send_list(
    link: &Link,
    place: &Place,
    created: &Created,
    manifest: &Manifest,
) -> Result<(), GaveUp> {
    let text = list_text(manifest, &created.id);
    let digest = BASE64_STANDARD.encode(Md5::digest(&text));
    let address = || {
        let list = link.insist(&[], |api| create_list(api, place, created, &digest, true))?;
        list.address.ok_or_else(|| {
            GaveUp::Refused("the answer has no address for the list of files".to_owned())
        })
    };
    put(link, address, Upload::Bytes(text.as_bytes()))
}

fn commit(link: &Link, created: &Created) -> Result<(), GaveUp> {
    let variables = json!({ "artifactID": created.id });
    let data = link.insist(&[], |api| api.graphql("CommitArtifact", COMMIT, &variables))?;
    if data["commitArtifact"]["artifact"].is_null() {
        let why = "the server does not confirm that the artifact is complete";
        return Err(GaveUp::Refused(why.to_owned()));
    }
    Ok(())
}

/// Finds all files of an artifact in the run's folder.
fn staged_files<'a>(run: &Path, manifest: &'a Manifest) -> Result<Vec<StagedFile<'a>>, GaveUp> {
    let mut files = Vec::with_capacity(manifest.contents.len());
    for entry in &manifest.contents {
        let Some(path) = staged_path(run, Path::new(&entry.local_path)) else {
            let path = &entry.local_path;
            let why = format!("`{path}` is no longer in the run's folder");
            return Err(GaveUp::Refused(why));
        };
        files.push(StagedFile { entry, path });
    }
    Ok(files)
}

/// Returns the path of a staged file within the run's folder, which may have been moved since the file was staged.
///
/// A file outside of the folder is never read: a log from another machine may name any file of this one.
fn staged_path(run: &Path, path: &Path) -> Option<PathBuf> {
    let parts: Vec<_> = path.components().collect();
    for (index, part) in parts.iter().enumerate() {
        if part.as_os_str() == "artifacts" {
            let within: PathBuf = parts[index..].iter().collect();
            if bdh::files::open(run, &within).is_ok() {
                return Some(within);
            }
        }
    }
    None
}

fn create(api: &Api, place: &Place, artifact: &Artifact) -> Result<Created, Failure> {
    let variables = create_variables(place, artifact);
    let data = api.graphql("CreateArtifact", CREATE, &variables)?;
    created(&data["createArtifact"]["artifact"])
        .ok_or_else(|| refused("the answer has no artifact"))
}

/// Reads the artifact in the server's answer.
fn created(json: &Json) -> Option<Created> {
    let base = json["artifactSequence"]["latestArtifact"]["id"].as_str();
    Some(Created {
        id: json["id"].as_str()?.to_owned(),
        base: base.map(str::to_owned),
        is_complete: json["state"] == "COMMITTED",
    })
}

fn create_variables(place: &Place, artifact: &Artifact) -> Json {
    let mut aliases = Vec::new();
    for alias in &artifact.aliases {
        aliases.push(json!({ "alias": alias, "artifactCollectionName": artifact.name }));
    }
    json!({ "input": {
        "entityName": place.entity, "projectName": place.project, "runName": place.run_id,
        "artifactTypeName": artifact.kind, "artifactCollectionName": artifact.name,
        "digest": artifact.digest, "digestAlgorithm": "MANIFEST_MD5",
        "description": non_empty(&artifact.description), "metadata": non_empty(&artifact.metadata),
        "aliases": aliases, "clientID": non_empty(&artifact.client_id),
        "sequenceClientID": non_empty(&artifact.sequence_client_id), "enableDigestDeduplication": true,
    }})
}

fn non_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// Creates the list of files, and with `upload` returns the address for its content.
fn create_list(
    api: &Api,
    place: &Place,
    created: &Created,
    digest: &str,
    upload: bool,
) -> Result<FileList, Failure> {
    let variables = json!({
        "artifactID": created.id, "baseArtifactID": created.base, "name": "wandb_manifest.json",
        "digest": digest, "entityName": place.entity, "projectName": place.project,
        "runName": place.run_id, "manifestType": "FULL", "includeUpload": upload,
    });
    let data = api.graphql("CreateArtifactManifest", MANIFEST, &variables)?;
    let list = &data["createArtifactManifest"]["artifactManifest"];
    let Some(id) = list["id"].as_str() else {
        return Err(refused("the answer has no list of files"));
    };
    Ok(FileList {
        id: id.to_owned(),
        address: address(&list["file"]),
    })
}

/// Returns the upload address in a part of an answer.
fn address(json: &Json) -> Option<Address> {
    Some(Address {
        url: json["uploadUrl"].as_str()?.to_owned(),
        headers: headers(&json["uploadHeaders"]),
    })
}

fn file_address(
    api: &Api,
    artifact: &str,
    list: &str,
    file: &ManifestEntry,
) -> Result<Address, Failure> {
    let spec = json!({
        "artifactID": artifact, "artifactManifestID": list, "name": file.path, "md5": file.digest,
    });
    let variables = json!({ "input": { "artifactFiles": [spec], "storageLayout": "V2" } });
    let data = api.graphql("CreateArtifactFiles", FILES, &variables)?;
    let node = &data["createArtifactFiles"]["files"]["edges"][0]["node"];
    let path = &file.path;
    address(node).ok_or_else(|| refused(format!("the answer has no address for `{path}`")))
}

/// Returns the list of files in the form of W&B's client, without their paths on this machine.
fn list_text(manifest: &Manifest, artifact: &str) -> String {
    let mut policy = Map::new();
    for item in &manifest.storage_policy_config {
        let value = serde_json::from_str(&item.value_json).unwrap_or_default();
        policy.insert(item.key.clone(), value);
    }
    let mut contents = Map::new();
    for file in &manifest.contents {
        let entry =
            json!({ "digest": file.digest, "size": file.size, "birthArtifactID": artifact });
        contents.insert(file.path.clone(), entry);
    }
    json!({
        "version": manifest.version,
        "storagePolicy": manifest.storage_policy,
        "storagePolicyConfig": policy,
        "contents": contents,
    })
    .to_string()
}
