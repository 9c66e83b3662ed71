//! Changed manifests of checkpoints, with a valid checksum.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

pub(crate) fn sha256(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        text += &format!("{byte:02x}");
    }
    text
}

/// Sets the checksum of a manifest to the one of its content.
pub(crate) fn seal(manifest: &mut Value) {
    // Sorted, as the checkpoint's writer sorts them, whatever the order of a JSON object.
    let mut files: BTreeMap<&String, &Value> = BTreeMap::new();
    if let Some(object) = manifest["files"].as_object() {
        files.extend(object);
    }
    let content = json!([
        manifest["format"],
        manifest["step"],
        manifest["pinned"],
        files
    ]);
    manifest["sha256"] = sha256(content.to_string().as_bytes()).into();
}
