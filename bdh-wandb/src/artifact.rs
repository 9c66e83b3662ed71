//! Files and folders, such as checkpoints, as versions of W&B artifacts.

use crate::proto::{Artifact, Manifest, ManifestEntry, PolicyItem};
use crate::text::{random_name, safe};
use bdh::files::hex;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Digits of the names by which W&B's programs tell artifacts apart before the server knows them.
const CLIENT_ID: usize = 128;

/// Takes what lies at `path` into `staging`, a folder that is not there yet, so that it is still there when it is
/// sent, and describes it.
///
/// Checkpoints of the run in `run_dir` are linked where the file system can; everything else is copied, since whoever
/// rewrites it would rewrite the link. Nothing is taken through a link, which could lead to a private file.
pub(super) fn stage(
    path: &Path,
    kind: &str,
    aliases: &[String],
    run_id: &str,
    staging: &Path,
    run_dir: Option<&Path>,
) -> io::Result<Artifact> {
    let path = std::path::absolute(path)?;
    let source = Source::of(&path, run_dir)?;
    let mut files = Vec::new();
    collect(&source.root, &source.within, &mut files).map_err(|error| about(&path, error))?;
    let staging = std::path::absolute(staging)?;
    fs::create_dir(&staging)?; // another artifact's files must never be written over
    let mut contents = Vec::with_capacity(files.len());
    for file in files {
        let entry = stage_file(&source, &file, &staging);
        contents.push(entry.map_err(|error| about(&source.root.join(&file), error))?);
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

/// An error that says which file it is about; one about a link or a device says so itself.
pub(super) fn about(path: &Path, error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::InvalidInput => error,
        kind => io::Error::new(kind, format!("`{}`: {error}", path.display())),
    }
}

/// Parts of an artifact.
struct Source {
    /// A folder that the user has chosen, which may be a link; no path below it contains one.
    root: PathBuf,
    /// From there to the file or the folder.
    within: PathBuf,
    /// The folder in `within` that names of files are relative to.
    top: PathBuf,
    /// Whether nothing is ever written there again.
    is_final: bool,
}

impl Source {
    fn of(path: &Path, run_dir: Option<&Path>) -> io::Result<Self> {
        let run_dir = run_dir.map(std::path::absolute).transpose()?;
        let checkpoints = run_dir.as_ref().map(|dir| dir.join("checkpoints"));
        let is_final = checkpoints
            .as_ref()
            .is_some_and(|dir| path.starts_with(dir));
        let folder = if path.is_dir() {
            path
        } else {
            path.parent().unwrap_or(path)
        };
        let roots = checkpoints.into_iter().chain(run_dir);
        let root = roots.into_iter().find(|root| folder.starts_with(root));
        let root = root.unwrap_or_else(|| folder.to_owned());
        let below = |path: &Path| path.strip_prefix(&root).map(Path::to_owned);
        let within = below(path).map_err(io::Error::other)?;
        let top = below(folder).map_err(io::Error::other)?;
        Ok(Self {
            root,
            within,
            top,
            is_final,
        })
    }
}

/// All files at and below a path. What is neither a file nor a folder is refused where it is opened.
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
    let named = file.strip_prefix(&source.top).map_err(io::Error::other)?;
    let name = named
        .to_str()
        .ok_or_else(|| io::Error::other("its name is not Unicode"))?;
    let mut opened = bdh::files::open(&source.root, file)?;
    let staged = staging.join(named);
    fs::create_dir_all(staged.parent().unwrap_or(staging))?;
    let is_linked = source.is_final && link(&source.root.join(file), &opened, &staged);
    let copy = if is_linked {
        None
    } else {
        Some(File::create_new(&staged)?)
    };
    let (digest, size) = md5_of(&mut opened, copy)?;
    Ok(ManifestEntry {
        path: if cfg!(windows) {
            name.replace('\\', "/")
        } else {
            name.to_owned()
        },
        digest: STANDARD.encode(digest),
        size: size as i64,
        local_path: staged.to_str().map(str::to_owned).unwrap_or_default(),
    })
}

/// Gives an open file a second name, if the file system can, and if `path` is still the name of that very file.
fn link(path: &Path, opened: &File, staged: &Path) -> bool {
    if fs::hard_link(path, staged).is_err() {
        return false;
    }
    let is_same = is_file_at(opened, staged).unwrap_or(false);
    if !is_same {
        let _ = fs::remove_file(staged); // the copy that is made instead fails if it is there still
    }
    is_same
}

#[cfg(unix)]
fn is_file_at(opened: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (opened, there) = (opened.metadata()?, fs::symlink_metadata(path)?);
    Ok((opened.dev(), opened.ino()) == (there.dev(), there.ino()))
}

/// The standard library does not tell one file from another here.
#[cfg(not(unix))]
fn is_file_at(_: &File, path: &Path) -> io::Result<bool> {
    Ok(fs::symlink_metadata(path)?.is_file())
}

/// The MD5 and the size of a file, read piece by piece, each of which goes into the copy as well.
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

/// The digest of an artifact: of the paths and digests of its files, in order.
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
    fn digests_are_those_that_the_python_package_computes() {
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
        // Of `wandb.Artifact(..).add_dir(..)`, wandb 0.31.0, over the same two files.
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
    fn no_staged_file_is_written_over_and_none_that_may_change_is_linked() {
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
            "the folder is there already"
        );
        assert_eq!(fs::read_to_string(&file).expect("the file"), "second");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
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
    fn no_link_and_no_odd_file_gets_into_an_artifact() {
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
