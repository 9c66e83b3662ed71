//! Early checkpoints are written on the chosen steps, are kept, and open in Python.

#[path = "support/judges.rs"]
mod judges;
#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::cadence::{at, every, fraction};
use bdh::checkpoint::Checkpoint;
use bdh::{Callback, CallbackExt, checkpoint, registry};
use bdh_callbacks::EarlyCheckpoints;
use judges::Judge;
use safetensors::SafeTensors;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn fit(run: tiny::Builder) {
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("checkpoints"))
        .into_iter()
        .flatten();
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names: BTreeSet<_> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.into_iter().collect()
}

#[test]
fn early_checkpoints_are_at_250_500_and_1000_by_default() {
    let _alone = tiny::alone();
    let by_name = registry::from_toml("[[callback]]\nuse = \"early_checkpoints\"");
    let by_name = by_name.expect("a valid configuration").remove(0);
    for cadence in [EarlyCheckpoints::default().cadence(), by_name.cadence()] {
        assert_eq!(cadence, at([250, 500, 1_000]));
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let run = tiny::run(510)
        .log(every(100))
        .eval(bdh::cadence::never())
        .run_dir(&dir);
    fit(run.callback(EarlyCheckpoints::default()));
    assert_eq!(names(&dir), ["ckpt_early_step_250", "ckpt_early_step_500"]);
}

#[test]
fn early_checkpoints_survive_rotation() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let early = EarlyCheckpoints::at([fraction(0.1), fraction(0.25)]);
    let run = tiny::run(20)
        .checkpoint(every(1))
        .keep_checkpoints(1)
        .run_dir(&dir);
    fit(run.callback(early));
    assert_eq!(
        names(&dir),
        ["ckpt_early_step_2", "ckpt_early_step_5", "step_00000020"]
    );
    let newest = checkpoint::latest(&dir.join("checkpoints")).expect("checkpoints");
    assert!(newest.ends_with("step_00000020"));
}

#[test]
fn early_checkpoint_is_complete_and_opens_in_python() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let seen = tiny::Seen::new();
    let note = seen.clone();
    let look = tiny::on_step(move |ctx| {
        note.push(tiny::weights(
            ctx.model::<tiny::Tiny>().expect("the model of the run"),
        ));
        Ok(())
    });
    fit(tiny::run(6)
        .run_dir(&dir)
        .config(serde_json::json!({ "depth": 2 }))
        .callback(EarlyCheckpoints::at([4]))
        .callback(look.on(at([4]))));
    let path = dir.join("checkpoints/ckpt_early_step_4");

    let bytes = std::fs::read(path.join("model.safetensors")).expect("the model");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let shapes: BTreeMap<String, Vec<usize>> = file
        .iter()
        .map(|(name, tensor)| (name.to_owned(), tensor.shape().to_vec()))
        .collect();
    let expected = [
        ("embed.weight", vec![11, 8]),
        ("head.bias", vec![11]),
        ("head.weight", vec![11, 8]), // out by in, as PyTorch has it
    ];
    assert_eq!(
        shapes,
        expected
            .map(|(name, shape)| (name.to_owned(), shape))
            .into()
    );

    let bits = |name: &str| -> Vec<u32> {
        let (floats, _) = file.tensor(name).expect("a tensor").data().as_chunks::<4>();
        floats
            .iter()
            .map(|float| u32::from_le_bytes(*float))
            .collect()
    };
    let model = &seen.all()[0];
    assert_eq!(bits("embed.weight"), model[0]);
    let transposed = (0..11).flat_map(|out| (0..8).map(move |input| model[1][input * 11 + out]));
    assert_eq!(bits("head.weight"), transposed.collect::<Vec<_>>());

    if let Some(judge) = Judge::modern() {
        let read = judge.json("safetensors_load.py", [path.join("model.safetensors")]);
        for (name, shape) in &shapes {
            assert_eq!(read[name][0], serde_json::json!(shape), "{name}");
            let values = read[name][1].as_array().expect("values").iter();
            let values = values.map(|value| (value.as_f64().expect("a number") as f32).to_bits());
            assert_eq!(values.collect::<Vec<_>>(), bits(name), "{name}");
        }
        assert_eq!(
            read.as_object().map(serde_json::Map::len),
            Some(shapes.len())
        );
    }

    let saved = Checkpoint::read(&path).expect("a whole checkpoint");
    assert!(
        saved
            .optimizer
            .contains_key("head.weight.momentum.moment_1")
    );
    assert_eq!(saved.state.clock.step, 4);
    assert_eq!(saved.state.config["user"]["depth"], 2);
    assert_eq!(saved.state.config["trainer"]["steps"], 6);
    assert_eq!(
        saved.state.config["groups"]["default"]["schedule"]["peak"],
        0.01
    );
}
