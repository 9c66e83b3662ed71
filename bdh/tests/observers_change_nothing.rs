//! Weights, optimizer state and losses are bit-identical with and without observers.

#[path = "support/tiny.rs"]
mod tiny;

use bdh::burn::tensor::{Distribution, Tensor};
use bdh::cadence::{every, last};
use bdh::hooks::{
    AfterBackward, AfterOptimizerStep, BeforeOptimizerStep, Checkpointed, EvalBatch, EvalEnd,
    FitEnd, FitStart, MicroBatch, StepEnd, StepStart,
};
use bdh::lm::Sampling;
use bdh::{
    BoxError, Callback, Context, HookResult, Intervention, InterventionContext, MemorySink, Stats,
    UpdateDecision, callback,
};
use serde_json::{Value, json};
use std::path::Path;

/// An observer that does in every hook all it may do, and some things that it should not do.
#[derive(Default)]
struct Nasty {
    kept: Vec<Tensor<1>>,
}

impl Nasty {
    fn meddle(&mut self, hook: &str, ctx: &Context<'_>) -> HookResult {
        let how = Sampling {
            max_tokens: 3,
            temperature: 1.0,
            ..Sampling::default()
        };
        let language = ctx.text().expect("the task has text");
        let text = language.generate("abc", &how)?;
        assert_eq!(text.len(), 3);
        let scores = language.score(&[&[1, 2, 3]])?;
        assert_eq!(scores[0].len(), 2);

        let draw = Tensor::<1>::random([5], Distribution::Default, &ctx.device().clone().inner());
        ctx.log(format!("nasty/{hook}/drawn"), draw.clone().sum());
        self.kept.push(draw);
        ctx.device().seed(ctx.step());
        Ok(())
    }

    fn log_and_keep(&mut self, what: &str, stats: &Stats<'_>, ctx: &Context<'_>) -> HookResult {
        ctx.log(format!("nasty/{what}/l2"), stats.l2());
        for param in stats.iter() {
            let name = param.name();
            ctx.log(format!("nasty/{what}/mean/{name}"), param.mean());
            ctx.log(format!("nasty/{what}/std/{name}"), param.std());
            ctx.log(format!("nasty/{what}/abs_max/{name}"), param.abs_max());
            ctx.log(
                format!("nasty/{what}/non_finite/{name}"),
                param.non_finite(),
            );
            ctx.read(&param.l2())?;
            self.kept.push(param.values());
        }
        Ok(())
    }
}

#[callback]
impl Callback for Nasty {
    fn wants_activations(&self) -> bool {
        true
    }

    fn on_fit_start(&mut self, ctx: &FitStart<'_>) -> HookResult {
        self.meddle("on_fit_start", ctx)
    }

    fn on_step_start(&mut self, ctx: &StepStart<'_>) -> HookResult {
        self.meddle("on_step_start", ctx)
    }

    fn on_micro_batch(&mut self, ctx: &MicroBatch<'_>) -> HookResult {
        ctx.read(ctx.loss)?;
        self.meddle("on_micro_batch", ctx)
    }

    fn after_backward(&mut self, ctx: &AfterBackward<'_>) -> HookResult {
        assert_eq!(ctx.activations[0].name, "embed");
        self.kept
            .extend(ctx.activations.iter().map(|tap| tap.values.clone()));
        self.log_and_keep("weights", ctx.weights, ctx)?;
        self.log_and_keep("raw", ctx.gradients, ctx)?;
        self.meddle("after_backward", ctx)
    }

    fn before_optimizer_step(&mut self, ctx: &BeforeOptimizerStep<'_>) -> HookResult {
        self.log_and_keep("clipped", ctx.gradients, ctx)?;
        self.meddle("before_optimizer_step", ctx)
    }

    fn after_optimizer_step(&mut self, ctx: &AfterOptimizerStep<'_>) -> HookResult {
        self.log_and_keep("updates", ctx.updates, ctx)?;
        self.meddle("after_optimizer_step", ctx)
    }

    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        ctx.evaluate();
        self.meddle("on_step", ctx)
    }

    fn on_eval_batch(&mut self, ctx: &EvalBatch<'_>) -> HookResult {
        self.meddle("on_eval_batch", ctx)
    }

    fn on_eval(&mut self, ctx: &EvalEnd<'_>) -> HookResult {
        self.meddle("on_eval", ctx)
    }

    fn on_checkpoint(&mut self, ctx: &Checkpointed<'_>) -> HookResult {
        self.meddle("on_checkpoint", ctx)
    }

    fn on_fit_end(&mut self, ctx: &FitEnd<'_>) -> HookResult {
        self.meddle("on_fit_end", ctx)
    }
}

/// An intervention that adds noise to the gradients, from the device's generator.
struct Noise;

impl Intervention for Noise {
    fn name(&self) -> String {
        "noise".to_owned()
    }

    fn config(&self) -> Value {
        json!({ "scale": 0.01 })
    }

    fn intervene(&mut self, ctx: &mut InterventionContext<'_>) -> Result<UpdateDecision, BoxError> {
        ctx.replace_gradients(|_, gradient| {
            let noise = gradient.random_like(Distribution::Normal(0.0, 0.01));
            gradient + noise
        });
        Ok(UpdateDecision::Apply)
    }
}

/// Result of a run with dropout, accumulation and clipping: weights, losses, the last checkpoint.
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
    assert_eq!(fitted.warnings, []);

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
fn results_are_bit_identical_with_a_nasty_observer() {
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
fn an_observer_does_not_change_an_interventions_randomness() {
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
