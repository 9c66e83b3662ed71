//! A checkpoint that was changed after it was written is never loaded.

#[path = "support/manifest.rs"]
mod manifest;
#[path = "support/tiny.rs"]
mod tiny;

use bdh::burn::tensor::{DType, TensorData};
use bdh::cadence::every;
use bdh::checkpoint::Checkpoint;
use bdh::{checkpoint, ops};
use manifest::seal;
use std::fs;
use std::path::{Path, PathBuf};

/// Twelve steps with a checkpoint at each third, all kept.
fn run(dir: &Path) -> tiny::Builder {
    tiny::run_with(0.2, 12)
        .run_dir(dir)
        .checkpoint(every(3))
        .keep_checkpoints(9)
}

fn fit(run: tiny::Builder) -> bdh::TrainResult<tiny::Tiny> {
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes")
}

/// Returns the next number below `below` of a fixed pseudo-random sequence.
fn random(state: &mut u64, below: usize) -> usize {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize % below
}

fn files(checkpoint: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(checkpoint).expect("a directory");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files
}

/// The exact content of a checkpoint.
fn contents(checkpoint: &Checkpoint) -> (Vec<Vec<u8>>, String) {
    let tensors = checkpoint
        .model
        .values()
        .chain(checkpoint.optimizer.values());
    let state = serde_json::to_string(&checkpoint.state).expect("JSON");
    (
        tensors.map(|data| data.as_bytes().to_vec()).collect(),
        state,
    )
}

#[test]
fn damage_at_1000_places_is_detected_or_changes_nothing() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    fit(run(dir.path()));
    let newest = checkpoint::list(&dir.path().join("checkpoints")).remove(0);
    let whole = contents(&Checkpoint::read(&newest).expect("whole"));
    let (files, mut seed, mut noticed) = (files(&newest), 11, 0);
    for attempt in 0..1_000 {
        let file = &files[random(&mut seed, files.len())];
        let bytes = fs::read(file).expect("a file");
        let place = random(&mut seed, bytes.len());
        let mut damaged = bytes.clone();
        if attempt % 4 == 0 {
            damaged.truncate(place);
        } else {
            damaged[place] ^= 1 << random(&mut seed, 8);
        }
        fs::write(file, damaged).expect("a file");
        match Checkpoint::read(&newest) {
            // A space of the manifest may become a tab.
            Ok(read) => assert!(contents(&read) == whole, "{} at {place}", file.display()),
            Err(_) => noticed += 1,
        }
        fs::write(file, bytes).expect("a file");
    }
    assert!(noticed > 900, "{noticed}");
}

#[test]
fn the_newest_intact_checkpoint_is_used_with_warnings() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let undisturbed = tiny::weights(&fit(run(dir.path())).model);
    let found = checkpoint::list(&dir.path().join("checkpoints"));
    fs::write(found[0].join("model.safetensors"), "not a model").expect("a file");
    fs::remove_file(found[1].join("state.json")).expect("a file");
    let manifest = found[2].join("manifest.json");
    let text = fs::read_to_string(&manifest).expect("a manifest");
    fs::write(&manifest, text.replace("\"step\": 6", "\"step\": 60")).expect("a file");
    let fitted = fit(run(dir.path()).resume("auto"));
    assert_eq!(tiny::weights(&fitted.model), undisturbed);
    let reported: Vec<_> = fitted
        .warnings
        .iter()
        .map(|p| (p.source.as_str(), p.cause.clone()))
        .collect();
    let names: Vec<_> = reported.iter().map(|(who, _)| *who).collect();
    assert_eq!(names, ["step_00000006", "step_00000012", "step_00000009"]);
    assert!(
        reported[0]
            .1
            .contains("its content does not match its own checksum"),
        "{reported:?}"
    );
    assert!(
        reported[1]
            .1
            .contains("model.safetensors` is damaged: it has 11 bytes"),
        "{reported:?}"
    );
    assert!(reported[2].1.contains("state.json"), "{reported:?}");
}

#[test]
fn a_run_with_only_damaged_checkpoints_does_not_start_again() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    fit(run(dir.path()));
    for path in checkpoint::list(&dir.path().join("checkpoints")) {
        fs::write(path.join("manifest.json"), "{").expect("a file");
    }
    let error = run(dir.path())
        .resume("auto")
        .build()
        .expect_err("no checkpoint to resume from");
    let text = format!(
        "{error}: {}",
        std::error::Error::source(&error).expect("a cause")
    );
    assert!(
        text.starts_with("cannot resume: ") && text.contains("step_00000012"),
        "{text}"
    );
}

#[test]
fn a_manifest_with_files_elsewhere_is_refused() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    fit(run(dir.path()));
    let newest = checkpoint::list(&dir.path().join("checkpoints")).remove(0);
    let secret = dir.path().join("secret");
    fs::copy(newest.join("state.json"), &secret).expect("a file");
    let manifest = fs::read_to_string(newest.join("manifest.json")).expect("a manifest");
    let absolute = secret.to_str().expect("a path of letters");
    for name in ["../../secret", absolute, "", ".hidden"] {
        let mut crafted: serde_json::Value = serde_json::from_str(&manifest).expect("JSON");
        crafted["files"][name] = crafted["files"]["state.json"].clone();
        seal(&mut crafted);
        fs::write(newest.join("manifest.json"), crafted.to_string()).expect("a file");
        let error = Checkpoint::read(&newest)
            .expect_err("a file elsewhere")
            .to_string();
        assert!(
            error.contains("is not a regular file in the checkpoint"),
            "{name}: {error}"
        );
    }
    #[cfg(unix)]
    {
        fs::write(newest.join("manifest.json"), &manifest).expect("a file");
        fs::remove_file(newest.join("state.json")).expect("a file");
        std::os::unix::fs::symlink(&secret, newest.join("state.json")).expect("a link");
        let error = Checkpoint::read(&newest)
            .expect_err("a link to elsewhere")
            .to_string();
        assert!(
            error.contains("`state.json` is not a regular file in the checkpoint"),
            "{error}"
        );
    }
}

#[test]
fn leftovers_are_cleared_and_a_replaced_checkpoint_returns() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    fit(run(dir.path()));
    let folder = dir.path().join("checkpoints");
    // Killed between the two renames that replace a checkpoint, and while it wrote another one.
    fs::rename(
        folder.join("step_00000012"),
        folder.join(".step_00000012.old"),
    )
    .expect("renamed");
    fs::create_dir(folder.join(".step_00000015.tmp")).expect("a directory");
    fs::create_dir(folder.join(".step_00000001.gone")).expect("a directory"); // and while it deleted a third
    assert_eq!(fit(run(dir.path()).resume("auto")).warnings, []);
    let mut names: Vec<_> = fs::read_dir(&folder)
        .expect("a directory")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("letters")
        })
        .collect();
    names.sort();
    assert_eq!(names, [3, 6, 9, 12].map(|step| format!("step_{step:08}")));
}

/// Swaps the dimensions of a matrix without moving its numbers: another shape of the same size.
fn turned(data: &TensorData) -> TensorData {
    let mut shape = data.shape().to_vec();
    shape.reverse();
    TensorData::from_bytes_vec(data.as_bytes().to_vec(), shape, data.dtype())
}

#[test]
fn wrong_shapes_and_types_are_refused_despite_right_checksums() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = || {
        let run = tiny::compose(2, tiny::Tiny::new(0.0), 6);
        run.optimizer(ops::AdamW::default(), 0.01)
            .run_dir(dir.path())
            .checkpoint(every(3))
    };
    fit(run());
    let newest = checkpoint::list(&dir.path().join("checkpoints")).remove(0);
    let whole = Checkpoint::read(&newest).expect("whole");
    let refused = |change: &dyn Fn(&mut Checkpoint)| {
        let mut changed = whole.clone();
        change(&mut changed);
        changed.write(&newest, false).expect("written");
        let error = run()
            .resume(newest.as_path())
            .build()
            .expect_err("other tensors");
        std::error::Error::source(&error)
            .expect("a cause")
            .to_string()
    };
    let text = refused(&|saved| {
        let average = turned(&saved.optimizer["head.weight.average"]);
        saved
            .optimizer
            .insert("head.weight.average".to_owned(), average);
    });
    let expected =
        "the optimizer's `head.weight.average` is [11, 8] in the file and [8, 11] in this run";
    assert!(text.ends_with(expected), "{text}");
    let text = refused(&|saved| {
        let row = TensorData::new(vec![0.0_f32; 11], [1, 11]);
        saved.optimizer.insert("head.weight.square".to_owned(), row);
    });
    let expected =
        "the optimizer's `head.weight.square` is [1, 11] in the file and [8, 11] in this run";
    assert!(text.ends_with(expected), "{text}");
    let text = refused(&|saved| {
        let square = saved.optimizer["embed.weight.square"].clone();
        saved.optimizer.insert(
            "embed.weight.square".to_owned(),
            square.convert_dtype(DType::I32),
        );
    });
    let expected = "the optimizer's `embed.weight.square` is I32 in the file and F32 in this run";
    assert!(text.ends_with(expected), "{text}");
    for dtype in [DType::I32, DType::F16] {
        let text = refused(&|saved| {
            let bias = saved.model["head.bias"].clone().convert_dtype(dtype);
            saved.model.insert("head.bias".to_owned(), bias);
        });
        let expected = format!("`head.bias` is {dtype:?} in the file and F32 in this run");
        assert!(text.ends_with(&expected), "{text}");
    }
    whole.write(&newest, false).expect("written");
    run()
        .resume(newest.as_path())
        .build()
        .expect("the tensors are those of the run");
}

#[test]
fn a_manifest_of_another_step_is_refused() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    fit(run(dir.path()));
    let newest = checkpoint::list(&dir.path().join("checkpoints")).remove(0);
    let path = newest.join("manifest.json");
    let manifest = fs::read_to_string(&path).expect("a manifest");
    let mut crafted: serde_json::Value = serde_json::from_str(&manifest).expect("JSON");
    crafted["step"] = 999.into();
    seal(&mut crafted);
    fs::write(&path, crafted.to_string()).expect("a file");
    let error = run(dir.path())
        .resume(newest.as_path())
        .build()
        .expect_err("two steps");
    let text = std::error::Error::source(&error)
        .expect("a cause")
        .to_string();
    assert!(
        text.ends_with("is damaged: its step is 12, the manifest's is 999"),
        "{text}"
    );
    assert!(newest.join("model.safetensors").exists());
}

#[test]
fn a_step_count_at_its_maximum_does_not_panic() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = |steps| {
        let run = tiny::compose(2, tiny::Tiny::new(0.0), steps);
        let run = run
            .optimizer(ops::AdamW::default(), 0.01)
            .run_dir(dir.path());
        run.checkpoint(every(3)).allow_changed(["trainer.steps"])
    };
    fit(run(3));
    let newest = checkpoint::list(&dir.path().join("checkpoints")).remove(0);
    let mut saved = Checkpoint::read(&newest).expect("whole");
    saved
        .state
        .optimizer
        .values_mut()
        .for_each(|steps| *steps = u64::MAX.into());
    saved.write(&newest, false).expect("written");
    fit(run(6).resume(newest.as_path()));
}
