//! Files and folders, such as checkpoints, as versions of W&B artifacts.

use super::proto::{Artifact, Manifest, ManifestEntry, PolicyItem};
use super::text::{random_name, safe};
use super::values::hex;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Digits of the names by which W&B's programs tell artifacts apart before the server knows them.
const CLIENT_ID: usize = 128;

/// Takes what lies at `path` into `staging`, a folder that is not there yet, so that it is still there when it is
/// sent, and describes it.
///
/// What `is_final`, as a checkpoint is, is linked where the file system can; everything else is copied, since whoever
/// rewrites it would rewrite the link.
pub(super) fn stage(
    path: &Path,
    kind: &str,
    aliases: &[String],
    run_id: &str,
    staging: &Path,
    is_final: bool,
) -> io::Result<Artifact> {
    let path = std::path::absolute(path)?;
    let mut files = Vec::new();
    collect(&path, &mut files).map_err(|error| about(&path, &error))?;
    let root = if path.is_dir() { &path } else { path.parent().unwrap_or(&path) };
    let staging = std::path::absolute(staging)?;
    fs::create_dir_all(staging.parent().unwrap_or(&staging))?;
    fs::create_dir(&staging)?; // another artifact's files must never be written over
    let mut contents = Vec::with_capacity(files.len());
    for file in files {
        let entry =
            stage_file(&file, root, &staging, is_final).map_err(|error| about(&file, &error))?;
        contents.push(entry);
    }
    contents.sort_by(|a, b| a.path.cmp(&b.path));
    let mut all = vec!["latest".to_owned()];
    all.extend(aliases.iter().filter(|alias| *alias != "latest").cloned());
    Ok(Artifact {
        run_id: run_id.to_owned(),
        kind: kind.to_owned(),
        name: format!("{}-{run_id}", safe(kind)),
        digest: digest(&contents),
        aliases: all,
        manifest: Some(Manifest {
            version: 1,
            storage_policy: "wandb-storage-policy-v1".to_owned(),
            storage_policy_config: vec![PolicyItem {
                key: "storageLayout".to_owned(),
                value_json: "\"V2\"".to_owned(),
            }],
            contents,
        }),
        finalize: true,
        client_id: random_name(CLIENT_ID),
        sequence_client_id: random_name(CLIENT_ID),
        ..Artifact::default()
    })
}

/// An error that says which file it is about.
pub(super) fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("`{}`: {error}", path.display()))
}

/// All files at and below a path.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let kind = fs::metadata(path)?;
    if kind.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    if !kind.is_dir() {
        return Err(io::Error::other("it is neither a file nor a folder"));
    }
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        // A link to a folder may lead back to this one.
        if !(path.is_symlink() && path.is_dir()) {
            collect(&path, files)?;
        }
    }
    Ok(())
}

fn stage_file(
    file: &Path,
    root: &Path,
    staging: &Path,
    is_final: bool,
) -> io::Result<ManifestEntry> {
    let within = file.strip_prefix(root).map_err(io::Error::other)?;
    let name = within.to_str().ok_or_else(|| io::Error::other("its name is not Unicode"))?;
    let staged = staging.join(within);
    fs::create_dir_all(staged.parent().unwrap_or(staging))?;
    if !is_final || fs::hard_link(file, &staged).is_err() {
        fs::copy(file, &staged)?;
    }
    let (digest, size) = md5_of(&staged)?;
    Ok(ManifestEntry {
        path: if cfg!(windows) { name.replace('\\', "/") } else { name.to_owned() },
        digest: STANDARD.encode(digest),
        size: size as i64,
        local_path: staged.to_str().map(str::to_owned).unwrap_or_default(),
    })
}

/// The MD5 and the size of a file, read piece by piece.
fn md5_of(path: &Path) -> io::Result<([u8; 16], u64)> {
    let mut file = File::open(path)?;
    let mut hash = Md5::new();
    let mut piece = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let len = file.read(&mut piece)?;
        if len == 0 {
            return Ok((hash.finalize().into(), size));
        }
        hash.update(&piece[..len]);
        size += len as u64;
    }
}

/// The digest of an artifact: of the paths and digests of its files, in order.
fn digest(contents: &[ManifestEntry]) -> String {
    let mut hash = Md5::new();
    hash.update(b"wandb-artifact-manifest-v1\n");
    for entry in contents {
        hash.update(format!("{}:{}\n", entry.path, entry.digest));
    }
    hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_that_the_python_package_computes() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let checkpoint = dir.path().join("a folder ü");
        fs::create_dir(&checkpoint).expect("a folder");
        fs::write(checkpoint.join("model.bin"), "hello").expect("a file");
        fs::write(checkpoint.join("state.json"), "{}").expect("a file");
        let aliases = ["early-250".to_owned()];
        let staging = dir.path().join("staging");
        let artifact =
            stage(&checkpoint, "model", &aliases, "abc", &staging, true).expect("an artifact");
        // Of `wandb.Artifact(..).add_dir(..)`, wandb 0.31.0, over the same two files.
        assert_eq!(artifact.digest, "078680b3916e0fbd403233b118fa9da5");
        let contents = artifact.manifest.expect("a manifest").contents;
        let digests: Vec<_> = contents.iter().map(|entry| (&*entry.path, &*entry.digest)).collect();
        let expected =
            [("model.bin", "XUFAKrxLKna5cZ2REBfFkg=="), ("state.json", "mZFLkyvTelC5g8XnyQrpOw==")];
        assert_eq!(digests, expected);
        assert_eq!(artifact.aliases, ["latest", "early-250"]);

        fs::remove_dir_all(&checkpoint).expect("a rotated checkpoint");
        assert_eq!(fs::read_to_string(&contents[0].local_path).expect("the staged file"), "hello");
    }

    #[test]
    fn no_staged_file_is_written_over_and_none_that_may_change_is_linked() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("samples.txt");
        fs::write(&file, "first").expect("a file");
        let staging = dir.path().join("staging");
        let staged = |is_final| stage(&file, "text", &[], "abc", &staging, is_final);
        let artifact = staged(false).expect("an artifact");
        fs::write(&file, "second").expect("a file that is written again");
        let contents = artifact.manifest.expect("a manifest").contents;
        assert_eq!(fs::read_to_string(&contents[0].local_path).expect("the staged file"), "first");
        assert!(staged(true).is_err(), "the folder is there already");
        assert_eq!(fs::read_to_string(&file).expect("the file"), "second");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let error = stage(&dir.path().join("gone"), "model", &[], "abc", dir.path(), true)
            .expect_err("no file");
        assert!(error.to_string().contains("gone`: "), "{error}");
    }
}
