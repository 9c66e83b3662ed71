//! Versions of artifacts: announced, their files sent, the list of them sent, committed.

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

/// An artifact that the server knows of.
struct Created {
    id: String,
    /// The version before it.
    base: Option<String>,
    /// Whether the server has all of it: the same files were sent before.
    is_there: bool,
}

/// Sends an artifact with all its files, which lie in `run`, the run's folder.
pub(super) fn send(
    link: &Link,
    place: &Place,
    run: &Path,
    artifact: &Artifact,
) -> Result<Done, GaveUp> {
    let refused = |why: &str| GaveUp::Refused(why.to_owned());
    let manifest = artifact
        .manifest
        .as_ref()
        .ok_or_else(|| refused("it has no list of files"))?;
    let paths = staged(run, manifest)?;
    let created = link.insist(&[409], |api| create(api, place, artifact))?;
    if created.is_there {
        return Ok(Done::Sent(None));
    }
    let list = |digest: &str, upload| {
        link.insist(&[], |api| {
            announce_list(api, place, &created, digest, upload)
        })
    };
    let list_id = list("", false)?.0;
    for (file, path) in manifest.contents.iter().zip(&paths) {
        let address = || link.insist(&[], |api| file_address(api, &created.id, &list_id, file));
        let opened =
            bdh::files::open(run, path).map_err(|error| GaveUp::Refused(error.to_string()))?;
        put(link, address, Upload::File(&opened))?;
    }
    let text = list_text(manifest, &created.id);
    let digest = BASE64_STANDARD.encode(Md5::digest(&text));
    let address = || {
        let (_, address) = list(&digest, true)?;
        address.ok_or_else(|| GaveUp::Refused("no address came back for the manifest".to_owned()))
    };
    put(link, address, Upload::Bytes(text.as_bytes()))?;
    if artifact.finalize {
        let variables = json!({ "artifactID": created.id });
        let data = link.insist(&[], |api| api.graphql("CommitArtifact", COMMIT, &variables))?;
        if data["commitArtifact"]["artifact"].is_null() {
            return Err(refused("the server does not say that it has committed it"));
        }
    }
    Ok(Done::Sent(None))
}

/// Where the files of an artifact lie now, from the run's folder.
fn staged(run: &Path, manifest: &Manifest) -> Result<Vec<PathBuf>, GaveUp> {
    let find = |file: &ManifestEntry| {
        let gone = || format!("`{}` is not in the run's folder any more", file.local_path);
        staged_file(run, Path::new(&file.local_path)).ok_or_else(|| GaveUp::Refused(gone()))
    };
    manifest.contents.iter().map(find).collect()
}

/// A staged file, in the run's folder as it is now: the run may have been moved. Nothing else is ever read: a log from
/// somebody else may name any file of this machine.
fn staged_file(run: &Path, path: &Path) -> Option<PathBuf> {
    let parts: Vec<_> = path.components().collect();
    let tails = (0..parts.len()).filter(|&part| parts[part].as_os_str() == "artifacts");
    let mut tails = tails.map(|part| parts[part..].iter().collect::<PathBuf>());
    tails.find(|within| bdh::files::open(run, within).is_ok())
}

fn create(api: &Api, place: &Place, artifact: &Artifact) -> Result<Created, Failure> {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let alias = |alias: &String| json!({ "alias": alias, "artifactCollectionName": artifact.name });
    let variables = json!({ "input": {
        "entityName": place.entity, "projectName": place.project, "runName": place.run_id,
        "artifactTypeName": artifact.kind, "artifactCollectionName": artifact.name,
        "digest": artifact.digest, "digestAlgorithm": "MANIFEST_MD5",
        "description": text(&artifact.description), "metadata": text(&artifact.metadata),
        "aliases": artifact.aliases.iter().map(alias).collect::<Vec<_>>(),
        "clientID": text(&artifact.client_id), "sequenceClientID": text(&artifact.sequence_client_id),
        "enableDigestDeduplication": true,
    }});
    let data = api.graphql("CreateArtifact", CREATE, &variables)?;
    let created = &data["createArtifact"]["artifact"];
    let id = created["id"]
        .as_str()
        .ok_or_else(|| refused("no artifact came back"))?;
    let base = created["artifactSequence"]["latestArtifact"]["id"].as_str();
    Ok(Created {
        id: id.to_owned(),
        base: base.map(str::to_owned),
        is_there: created["state"] == "COMMITTED",
    })
}

/// Announces the list of files; with `upload` its address comes back beside its id.
fn announce_list(
    api: &Api,
    place: &Place,
    created: &Created,
    digest: &str,
    upload: bool,
) -> Result<(String, Option<Address>), Failure> {
    let variables = json!({
        "artifactID": created.id, "baseArtifactID": created.base, "name": "wandb_manifest.json",
        "digest": digest, "entityName": place.entity, "projectName": place.project,
        "runName": place.run_id, "manifestType": "FULL", "includeUpload": upload,
    });
    let data = api.graphql("CreateArtifactManifest", MANIFEST, &variables)?;
    let list = &data["createArtifactManifest"]["artifactManifest"];
    let id = list["id"]
        .as_str()
        .ok_or_else(|| refused("no manifest came back"))?;
    let url = list["file"]["uploadUrl"].as_str().map(str::to_owned);
    let address = url.map(|url| Address {
        url,
        headers: headers(&list["file"]["uploadHeaders"]),
    });
    Ok((id.to_owned(), address))
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
    let url = node["uploadUrl"].as_str();
    let url = url.ok_or_else(|| refused(format!("no address came back for `{}`", file.path)))?;
    Ok(Address {
        url: url.to_owned(),
        headers: headers(&node["uploadHeaders"]),
    })
}

/// The list of files as W&B's programs write it, without where they lay on this machine.
fn list_text(manifest: &Manifest, artifact: &str) -> String {
    let policy = manifest.storage_policy_config.iter().map(|item| {
        let value: Json = serde_json::from_str(&item.value_json).unwrap_or_default();
        (item.key.clone(), value)
    });
    let entry = |file: &ManifestEntry| {
        let entry =
            json!({ "digest": file.digest, "size": file.size, "birthArtifactID": artifact });
        (file.path.clone(), entry)
    };
    json!({
        "version": manifest.version,
        "storagePolicy": manifest.storage_policy,
        "storagePolicyConfig": policy.collect::<Map<_, _>>(),
        "contents": manifest.contents.iter().map(entry).collect::<Map<_, _>>(),
    })
    .to_string()
}
