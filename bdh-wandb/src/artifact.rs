//! Files and folders, such as checkpoints, as versions of W&B artifacts.

use crate::proto::{Artifact, Manifest, ManifestEntry, PolicyItem};
use crate::text::{random_name, safe};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bdh::files::hex;
use md5::{Digest, Md5};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Length of the ids that W&B's client gives to artifacts before the server knows them, in characters.
const CLIENT_ID: usize = 128;

/// Stages the file or folder at `path` in `staging`, a new folder, and returns its description as an artifact.
///
/// The staged copy still exists when it is sent, even if the original has been deleted. Checkpoints of the run in
/// `run_dir` become hard links where the file system supports them. Everything else is copied, since rewriting the
/// original would change a link too. Symbolic links are refused, as they could lead to a private file.
pub(super) fn stage(
    path: &Path,
    kind: &str,
    aliases: &[String],
    run_id: &str,
    staging: &Path,
    run_dir: Option<&Path>,
) -> io::Result<Artifact> {
    let contents = stage_files(path, staging, run_dir)?;
    Ok(Artifact {
        run_id: run_id.to_owned(),
        kind: kind.to_owned(),
        name: format!("{}-{run_id}", safe(kind)),
        digest: digest(&contents),
        aliases: with_latest(aliases),
        manifest: Some(manifest(contents)),
        finalize: true,
        client_id: random_name(CLIENT_ID),
        sequence_client_id: random_name(CLIENT_ID),
        ..Artifact::default()
    })
}

/// Returns `latest` and the other aliases.
fn with_latest(aliases: &[String]) -> Vec<String> {
    let mut all = vec!["latest".to_owned()];
    for alias in aliases {
        if alias != "latest" {
            all.push(alias.clone());
        }
    }
    all
}

/// Stages all files, and returns their entries in the order of their names.
fn stage_files(
    path: &Path,
    staging: &Path,
    run_dir: Option<&Path>,
) -> io::Result<Vec<ManifestEntry>> {
    let path = std::path::absolute(path)?;
    let source = Source::of(&path, run_dir)?;
    let mut files = Vec::new();
    collect(&source.root, &source.within, &mut files).map_err(|error| about(&path, error))?;
    let staging = std::path::absolute(staging)?;
    fs::create_dir(&staging)?; // fails if it exists: another artifact's files must not be overwritten
    let mut contents = Vec::with_capacity(files.len());
    for file in files {
        let entry = stage_file(&source, &file, &staging);
        contents.push(entry.map_err(|error| about(&source.root.join(&file), error))?);
    }
    contents.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(contents)
}

fn manifest(contents: Vec<ManifestEntry>) -> Manifest {
    let layout = PolicyItem {
        key: "storageLayout".to_owned(),
        value_json: "\"V2\"".to_owned(),
    };
    Manifest {
        version: 1,
        storage_policy: "wandb-storage-policy-v1".to_owned(),
        storage_policy_config: vec![layout],
        contents,
    }
}

/// Returns an error that names its file; an error about a link or a device names it already.
pub(super) fn about(path: &Path, error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::InvalidInput => error,
        kind => io::Error::new(kind, format!("`{}`: {error}", path.display())),
    }
}

/// Location of the file or folder to stage.
struct Source {
    /// Trusted folder, which may itself be a link; no link is followed below it.
    root: PathBuf,
    /// Path from `root` to the file or folder.
    within: PathBuf,
    /// Folder below `root` to which the names in the artifact are relative.
    top: PathBuf,
    /// Whether the files are never written again.
    is_final: bool,
}

impl Source {
    fn of(path: &Path, run_dir: Option<&Path>) -> io::Result<Self> {
        let folder = if path.is_dir() {
            path
        } else {
            path.parent().unwrap_or(path)
        };
        let mut root = folder.to_owned();
        let mut is_final = false;
        if let Some(run_dir) = run_dir {
            let run_dir = std::path::absolute(run_dir)?;
            let checkpoints = run_dir.join("checkpoints");
            is_final = path.starts_with(&checkpoints);
            root = trusted_root(folder, run_dir, checkpoints);
        }
        let within = path.strip_prefix(&root).map_err(io::Error::other)?;
        let top = folder.strip_prefix(&root).map_err(io::Error::other)?;
        Ok(Self {
            within: within.to_owned(),
            top: top.to_owned(),
            root,
            is_final,
        })
    }
}

/// Returns the trusted folder above a folder: the checkpoints, the run directory, or else the folder itself.
fn trusted_root(folder: &Path, run_dir: PathBuf, checkpoints: PathBuf) -> PathBuf {
    if folder.starts_with(&checkpoints) {
        checkpoints
    } else if folder.starts_with(&run_dir) {
        run_dir
    } else {
        folder.to_owned()
    }
}

/// Collects all files at and below a path; anything that is neither a file nor a folder is refused when it is opened.
fn collect(root: &Path, within: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let path = root.join(within);
    let is_root = within.as_os_str().is_empty(); // which may be a link
    if !is_root && !fs::symlink_metadata(&path)?.is_dir() {
        files.push(within.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        collect(root, &within.join(entry?.file_name()), files)?;
    }
    Ok(())
}

fn stage_file(source: &Source, file: &Path, staging: &Path) -> io::Result<ManifestEntry> {
    let name = file.strip_prefix(&source.top).map_err(io::Error::other)?;
    let Some(text) = name.to_str() else {
        return Err(io::Error::other("the name of the file is not Unicode"));
    };
    let mut opened = bdh::files::open(&source.root, file)?; // first, as a refused file must leave no folder
    let staged = staging.join(name);
    fs::create_dir_all(staged.parent().unwrap_or(staging))?;
    let (digest, size) = link_or_copy(source, file, &mut opened, &staged)?;
    Ok(ManifestEntry {
        path: with_slashes(text),
        digest: STANDARD.encode(digest),
        size: size as i64,
        local_path: staged.to_str().unwrap_or_default().to_owned(),
    })
}

/// Returns a path in W&B's form, which has slashes on every system.
fn with_slashes(path: &str) -> String {
    if cfg!(windows) {
        path.replace('\\', "/")
    } else {
        path.to_owned()
    }
}

/// Links an open file if it is final, or copies it, and returns its MD5 and size.
fn link_or_copy(
    source: &Source,
    file: &Path,
    opened: &mut File,
    staged: &Path,
) -> io::Result<([u8; 16], u64)> {
    let mut copy = None;
    if !source.is_final || !link(&source.root.join(file), opened, staged) {
        copy = Some(File::create_new(staged)?);
    }
    md5_of(opened, copy)
}

/// Creates a hard link to an open file; `false` if the file system cannot, or if `path` now names another file.
fn link(path: &Path, opened: &File, staged: &Path) -> bool {
    if fs::hard_link(path, staged).is_err() {
        return false;
    }
    let is_same = is_file_at(opened, staged).unwrap_or(false);
    if !is_same {
        let _ = fs::remove_file(staged); // if it stays, the copy made instead fails
    }
    is_same
}

#[cfg(unix)]
fn is_file_at(opened: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (opened, there) = (opened.metadata()?, fs::symlink_metadata(path)?);
    Ok((opened.dev(), opened.ino()) == (there.dev(), there.ino()))
}

/// Checks less than on Unix: the standard library has no file ids here.
#[cfg(not(unix))]
fn is_file_at(_: &File, path: &Path) -> io::Result<bool> {
    Ok(fs::symlink_metadata(path)?.is_file())
}

/// Returns the MD5 and the size of a file, which is read once and written to `copy` at the same time.
fn md5_of(file: &mut File, mut copy: Option<File>) -> io::Result<([u8; 16], u64)> {
    let mut hash = Md5::new();
    let mut piece = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let len = file.read(&mut piece)?;
        if len == 0 {
            return Ok((hash.finalize().into(), size));
        }
        hash.update(&piece[..len]);
        if let Some(copy) = &mut copy {
            copy.write_all(&piece[..len])?;
        }
        size += len as u64;
    }
}

/// Returns the digest of an artifact, over the paths and digests of its files in order.
fn digest(contents: &[ManifestEntry]) -> String {
    let mut hash = Md5::new();
    hash.update(b"wandb-artifact-manifest-v1\n");
    for entry in contents {
        hash.update(format!("{}:{}\n", entry.path, entry.digest));
    }
    hex(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_equal_those_of_the_python_package() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let checkpoint = dir.path().join("checkpoints/a folder ü");
        fs::create_dir_all(&checkpoint).expect("a folder");
        fs::write(checkpoint.join("model.bin"), "hello").expect("a file");
        fs::write(checkpoint.join("state.json"), "{}").expect("a file");
        let aliases = ["early-250".to_owned()];
        let staging = dir.path().join("staging");
        let artifact = stage(
            &checkpoint,
            "model",
            &aliases,
            "abc",
            &staging,
            Some(dir.path()),
        );
        let artifact = artifact.expect("an artifact");
        // From `wandb.Artifact(..).add_dir(..)` of wandb 0.31.0, over the same two files.
        assert_eq!(artifact.digest, "078680b3916e0fbd403233b118fa9da5");
        let contents = artifact.manifest.expect("a manifest").contents;
        let digests: Vec<_> = contents
            .iter()
            .map(|entry| (&*entry.path, &*entry.digest))
            .collect();
        let expected = [
            ("model.bin", "XUFAKrxLKna5cZ2REBfFkg=="),
            ("state.json", "mZFLkyvTelC5g8XnyQrpOw=="),
        ];
        assert_eq!(digests, expected);
        assert_eq!(artifact.aliases, ["latest", "early-250"]);

        fs::remove_dir_all(&checkpoint).expect("a rotated checkpoint");
        assert_eq!(
            fs::read_to_string(&contents[0].local_path).expect("the staged file"),
            "hello"
        );
    }

    #[test]
    fn staged_files_are_not_overwritten_or_linked() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(dir.path().join("checkpoints")).expect("a folder");
        let file = dir.path().join("checkpoints/samples.txt");
        fs::write(&file, "first").expect("a file");
        let staging = dir.path().join("staging");
        let staged = |run_dir| stage(&file, "text", &[], "abc", &staging, run_dir);
        let artifact = staged(None).expect("an artifact");
        fs::write(&file, "second").expect("a file that is written again");
        let contents = artifact.manifest.expect("a manifest").contents;
        assert_eq!(
            fs::read_to_string(&contents[0].local_path).expect("the staged file"),
            "first"
        );
        assert!(
            staged(Some(dir.path())).is_err(),
            "the folder exists already"
        );
        assert_eq!(fs::read_to_string(&file).expect("the file"), "second");
    }

    #[test]
    fn error_names_a_missing_file() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let error = stage(
            &dir.path().join("gone"),
            "model",
            &[],
            "abc",
            dir.path(),
            None,
        )
        .expect_err("no file");
        assert!(error.to_string().contains("gone`: "), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn links_and_special_files_are_refused() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (run, outside) = (dir.path().join("run"), dir.path().join("outside"));
        let step = run.join("checkpoints/step_00000001");
        fs::create_dir_all(&step).expect("a folder");
        fs::create_dir(&outside).expect("a folder");
        fs::write(outside.join("key"), "secret").expect("a file");
        fs::write(step.join("state.json"), "{}").expect("a file");
        symlink(&outside, run.join("checkpoints/step_00000002")).expect("a link");
        symlink(&outside, run.join("notes")).expect("a link");
        let made = std::process::Command::new("mkfifo")
            .arg(run.join("fifo"))
            .status();
        assert!(made.expect("mkfifo").success());
        symlink("/dev/zero", run.join("zero")).expect("a link");

        let mut count = 0;
        let mut staged = |within: &str| {
            count += 1;
            let staging = dir.path().join(format!("staging-{count}"));
            let staged = stage(&run.join(within), "model", &[], "abc", &staging, Some(&run));
            staged.map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(staged("checkpoints/step_00000001"), Ok(()));
        let through = [
            "checkpoints/step_00000002",
            "checkpoints/step_00000002/key",
            "notes/key",
            "zero",
        ];
        for within in through {
            let error = staged(within).expect_err("a link");
            assert!(
                error.ends_with("is, or leads through, a link"),
                "{within}: {error}"
            );
        }
        assert!(
            staged("fifo")
                .expect_err("a FIFO")
                .ends_with("is not a regular file")
        );
        symlink(outside.join("key"), step.join("model.bin")).expect("a link");
        let error = staged("checkpoints/step_00000001").expect_err("a link");
        assert!(
            error.ends_with("model.bin` is, or leads through, a link"),
            "{error}"
        );
    }
}
