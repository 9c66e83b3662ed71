//! Trainer of a run, from its arguments, data and recipe.

use crate::callbacks::{self, ValBpb, and_last};
use crate::data::{Batches, BoxTrain, RunData, Shape};
use crate::run_dir::RunDir;
use crate::sinks;
use crate::weights::Weights;
use bdh::cadence::{every, start};
use bdh::{BoxError, CallbackExt, NextToken, Resume, Trainer, TrainerBuilder};
use bdh_callbacks::{Artifacts, EarlyCheckpoints, Norms};
use bdh_examples::args::{Args, Hardware};
use bdh_examples::nanochat_log::{DataPlace, tracked};
use bdh_models::nanochat::{Gpt, GptConfig};
use bdh_models::scaling::Recipe;
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) type Task = NextToken<Gpt>;

/// Everything that decides a run.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'a> {
    pub(crate) args: &'a Args,
    pub(crate) data: &'a RunData,
    pub(crate) recipe: &'a Recipe,
    pub(crate) dir: &'a RunDir,
    pub(crate) weights: &'a Weights,
}

impl Plan<'_> {
    /// Builds the run, without a console.
    pub(crate) fn compose(&self) -> Result<TrainerBuilder<Task>, BoxError> {
        let Batches { train, val } = self.data.batches(&self.shape())?;
        let (train, place) = self.tracked(train);
        let task = NextToken::new().vocabulary(Arc::clone(&self.data.tokenizer));
        let builder = Trainer::builder(task, self.model()?)
            .train_data(train)
            .seed(self.args.seed)
            .run_dir(self.dir.path.clone())
            .callback(callbacks::nanochat_train(self, place))
            .sinks(sinks::sinks(self.args)?)
            .eval_data("val", val)
            .config(self.config());
        self.begin(self.watch(self.schedule(builder))?)
    }

    /// Returns training data that reports its position, if nanochat's lines or names need it.
    fn tracked(&self, train: BoxTrain) -> (BoxTrain, DataPlace) {
        if !callbacks::is_like_nanochat(self.args) {
            return (train, DataPlace::default());
        }
        let (train, place) = tracked(train);
        (Box::new(train), place)
    }

    fn shape(&self) -> Shape {
        let Self { args, recipe, .. } = self;
        Shape {
            rows: recipe.micro_batch,
            seq_len: recipe.config.sequence_len,
            devices: args.hardware.count(),
            eval_tokens: args.eval_tokens(),
            seed: args.seed,
            is_plan: args.dry_run,
            is_quiet: args.quiet,
        }
    }

    /// Returns the part of the configuration that every checkpoint keeps for this program.
    fn config(&self) -> Value {
        json!({
            "args": self.args,
            "recipe": self.recipe,
            "text": { "name": self.data.source.name(), "levels": self.data.baselines },
        })
    }

    /// Sets the length, the groups and the cadences of the run.
    fn schedule(&self, builder: TrainerBuilder<Task>) -> TrainerBuilder<Task> {
        let Self { args, recipe, .. } = self;
        let mut builder = builder
            .duration(args.length(recipe.num_iterations))
            .grad_accum_steps(recipe.grad_accum_steps())
            .log(every(args.log_every))
            .eval(and_last(args.eval_every) | start())
            .checkpoint(and_last(args.save_every));
        for group in recipe.scheduled_groups(args.lr_schedule()) {
            builder = builder.group(group);
        }
        builder
    }

    /// Adds the callbacks that do not depend on the batches.
    fn watch(&self, builder: TrainerBuilder<Task>) -> Result<TrainerBuilder<Task>, BoxError> {
        let Self { args, recipe, .. } = self;
        let early = args
            .early_save()
            .cadence(args.length(recipe.num_iterations));
        Ok(builder
            .callback(Norms::default().on(every(args.log_every)))
            .callback(callbacks::throughput(args))
            .callback(early.map(|on| EarlyCheckpoints::default().on(on)))
            .callback(Artifacts::best_by("bpb"))
            .callback(ValBpb.named("val_bpb"))
            .callback(callbacks::core_metric(self)?)
            .callback(callbacks::samples(args, &recipe.config))
            .callbacks(callbacks::from_file(args)?))
    }

    /// Sets the devices, and the place at which the run begins.
    fn begin(&self, mut builder: TrainerBuilder<Task>) -> Result<TrainerBuilder<Task>, BoxError> {
        let Self { args, dir, .. } = self;
        if args.dry_run {
            return Ok(self.resume(builder));
        }
        builder = args.hardware.share(builder)?;
        if dir.checkpoint.is_none()
            && let Some(mut place) = self.weights.start()?
        {
            if !self.data.is_streamed() {
                place.data = Value::Null; // nanochat's position means nothing in other data
            }
            builder = builder.start_from(place);
        }
        Ok(self.resume(builder))
    }

    fn resume(&self, builder: TrainerBuilder<Task>) -> TrainerBuilder<Task> {
        let Self { args, dir, .. } = self;
        if !dir.resumes {
            return builder;
        }
        let from = match (&dir.checkpoint, args.resume_from_step) {
            (Some(checkpoint), Some(_)) => Resume::From(checkpoint.clone()),
            _ => Resume::Auto,
        };
        builder.resume(from).allow_changed(args.may_change())
    }

    /// Returns the model. For a dry run it is a small one, so that a laptop can plan a run that does not fit its memory.
    fn model(&self) -> Result<Gpt, BoxError> {
        let Self { args, recipe, .. } = self;
        if !args.dry_run {
            let device = &args.hardware.open()?[0];
            return self.weights.load(&recipe.config, args.seed, device);
        }
        let config = GptConfig {
            n_layer: 2,
            n_head: 1,
            n_kv_head: 1,
            n_embd: 64,
            vocab_size: recipe.config.vocab_size, // the trainer checks the text's tokens against it
            sequence_len: 64,
            ..GptConfig::default()
        };
        // A build without the CPU backend has another device.
        let device = match bdh::device("cpu") {
            Ok(device) => device,
            Err(_) => Hardware::default().open()?.remove(0),
        };
        Ok(config.init(args.seed, &device)?)
    }
}
