//! Availability of the judges. `.ci/run` runs this first, and then requires them.

#[path = "support/judges.rs"]
mod judges;

use judges::Judge;

#[test]
fn modern_judge_is_available() {
    let Some(judge) = Judge::modern() else { return };
    assert!(judge.bin("tensorboard").exists() && judge.bin("wandb").exists());
}

#[test]
fn wandb_0_19_judge_is_available() {
    let Some(judge) = Judge::wandb_0_19() else {
        return;
    };
    assert!(judge.bin("wandb").exists());
}

#[test]
fn scikit_learn_judge_is_available() {
    let Some(judge) = Judge::scikit_learn() else {
        return;
    };
    assert!(judge.bin("python").exists());
}

#[test]
fn tiktoken_judge_is_available() {
    let Some(judge) = Judge::tiktoken() else {
        return;
    };
    assert!(judge.bin("python").exists());
}
