//! Weights, optimizer state and losses are the same to the bit, whoever watches.

#[path = "support/tiny.rs"]
mod tiny;

use bdh::burn::tensor::{Distribution, Tensor};
use bdh::lm::Sampling;
use bdh::{
    AfterBackward, AfterOptimizerStep, BeforeOptimizerStep, BoxError, Callback, Checkpointed, Cx,
    EvalBatch, EvalEnd, FitEnd, FitStart, HookResult, Intervene, Intervention, MemorySink,
    MicroBatch, Stats, StepEnd, StepStart, Verdict, callback, every, last,
};
use serde_json::{Value, json};
use std::path::Path;

/// Does in every hook whatever an observer may do, and some things that it had better not.
#[derive(Default)]
struct Nasty {
    kept: Vec<Tensor<1>>,
}

impl Nasty {
    fn meddle(&mut self, hook: &str, at: &Cx<'_>) -> HookResult {
        let how = Sampling {
            max_tokens: 3,
            temperature: 1.0,
            ..Sampling::default()
        };
        let text = at.generate("abc", &how).expect("the task generates")?;
        assert_eq!(text.len(), 3);
        let scores = at.score(&[&[1, 2, 3]]).expect("the task scores")?;
        assert_eq!(scores[0].len(), 2);

        let draw = Tensor::<1>::random([5], Distribution::Default, &at.device().clone().inner());
        at.log(format!("nasty/{hook}/drawn"), draw.clone().sum());
        self.kept.push(draw);
        at.device().seed(at.step());
        Ok(())
    }

    fn log_and_keep(&mut self, what: &str, stats: &Stats<'_>, at: &Cx<'_>) -> HookResult {
        at.log(format!("nasty/{what}/l2"), stats.l2());
        for param in stats.iter() {
            let name = param.name();
            at.log(format!("nasty/{what}/mean/{name}"), param.mean());
            at.log(format!("nasty/{what}/std/{name}"), param.std());
            at.log(format!("nasty/{what}/abs_max/{name}"), param.abs_max());
            at.log(
                format!("nasty/{what}/non_finite/{name}"),
                param.non_finite(),
            );
            at.read(&param.l2())?;
            self.kept.push(param.values());
        }
        Ok(())
    }
}

#[callback]
impl Callback for Nasty {
    fn listens(&self) -> bool {
        true
    }

    fn on_fit_start(&mut self, at: &FitStart<'_>) -> HookResult {
        self.meddle("on_fit_start", at)
    }

    fn on_step_start(&mut self, at: &StepStart<'_>) -> HookResult {
        self.meddle("on_step_start", at)
    }

    fn on_micro_batch(&mut self, at: &MicroBatch<'_>) -> HookResult {
        at.read(at.loss)?;
        self.meddle("on_micro_batch", at)
    }

    fn after_backward(&mut self, at: &AfterBackward<'_>) -> HookResult {
        assert_eq!(at.activations[0].name, "embed");
        self.kept
            .extend(at.activations.iter().map(|tap| tap.values.clone()));
        self.log_and_keep("weights", at.weights, at)?;
        self.log_and_keep("raw", at.gradients, at)?;
        self.meddle("after_backward", at)
    }

    fn before_optimizer_step(&mut self, at: &BeforeOptimizerStep<'_>) -> HookResult {
        self.log_and_keep("clipped", at.gradients, at)?;
        self.meddle("before_optimizer_step", at)
    }

    fn after_optimizer_step(&mut self, at: &AfterOptimizerStep<'_>) -> HookResult {
        self.log_and_keep("updates", at.updates, at)?;
        self.meddle("after_optimizer_step", at)
    }

    fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
        at.evaluate();
        self.meddle("on_step", at)
    }

    fn on_eval_batch(&mut self, at: &EvalBatch<'_>) -> HookResult {
        self.meddle("on_eval_batch", at)
    }

    fn on_eval(&mut self, at: &EvalEnd<'_>) -> HookResult {
        self.meddle("on_eval", at)
    }

    fn on_checkpoint(&mut self, at: &Checkpointed<'_>) -> HookResult {
        self.meddle("on_checkpoint", at)
    }

    fn on_fit_end(&mut self, at: &FitEnd<'_>) -> HookResult {
        self.meddle("on_fit_end", at)
    }
}

/// Adds noise to the gradients, from the device's generator.
struct Noise;

impl Intervention for Noise {
    fn name(&self) -> String {
        "noise".to_owned()
    }

    fn config(&self) -> Value {
        json!({ "scale": 0.01 })
    }

    fn intervene(&mut self, at: &mut Intervene<'_>) -> Result<Verdict, BoxError> {
        at.replace_gradients(|_, gradient| {
            let noise = gradient.random_like(Distribution::Normal(0.0, 0.01));
            gradient + noise
        });
        Ok(Verdict::Apply)
    }
}

/// What a run with dropout, accumulation and clipping leaves: weights, losses, the last checkpoint.
fn outcome(dir: &Path, compose: impl FnOnce(tiny::Builder) -> tiny::Builder) -> Outcome {
    let memory = MemorySink::default();
    let run = tiny::run_with(0.3, 12)
        .grad_accum_steps(2)
        .clip_grad_norm(0.5)
        .seed(7)
        .checkpoint(every(5) | last())
        .run_dir(dir)
        .sink(memory.clone());
    let fitted = compose(run)
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    assert_eq!(fitted.problems, []);

    let losses = memory.series("train/loss");
    let losses = losses.into_iter().map(|(_, loss)| loss.to_bits()).collect();
    let checkpoint = dir.join("checkpoints/step_00000012");
    let files = ["model.safetensors", "optimizer.safetensors"];
    let files = files
        .map(|name| std::fs::read(checkpoint.join(name)).expect("a file"))
        .into();
    Outcome {
        weights: tiny::weights(&fitted.model),
        losses,
        files,
    }
}

#[derive(Debug, PartialEq)]
struct Outcome {
    weights: Vec<Vec<u32>>,
    losses: Vec<u64>,
    files: Vec<Vec<u8>>,
}

#[test]
fn weights_optimizer_state_and_losses_are_bit_identical_with_a_nasty_observer() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let alone = outcome(&dir.path().join("alone"), |run| run);
    let watched = outcome(&dir.path().join("watched"), |run| {
        run.callback(Nasty::default())
    });
    assert_eq!(alone.losses.len(), 12);
    assert!(alone == watched);
}

#[test]
fn the_randomness_of_an_intervention_is_not_shifted_by_an_observer() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let alone = outcome(&dir.path().join("alone"), |run| run.intervention(Noise));
    let watched = outcome(&dir.path().join("watched"), |run| {
        run.intervention(Noise).callback(Nasty::default())
    });
    assert!(alone == watched);
}

#[test]
fn another_seed_gives_another_run() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let seven = outcome(&dir.path().join("seven"), |run| run);
    let eight = outcome(&dir.path().join("eight"), |run| run.seed(8));
    assert!(
        seven.weights != eight.weights,
        "dropout is on, and does not depend on the seed"
    );
}
