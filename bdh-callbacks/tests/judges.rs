//! Whether the judges can be had: `.ci/run` asks this first, and then insists on them.

#[path = "support/judges.rs"]
mod judges;

use judges::Judge;

#[test]
fn the_modern_judge_is_there() {
    let Some(judge) = Judge::modern() else { return };
    assert!(judge.bin("tensorboard").exists() && judge.bin("wandb").exists());
}

#[test]
fn the_judge_with_wandb_0_19_is_there() {
    let Some(judge) = Judge::wandb_0_19() else {
        return;
    };
    assert!(judge.bin("wandb").exists());
}
