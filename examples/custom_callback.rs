//! A callback of your own, in a minute.
//!
//! ```text
//! cargo run --example custom_callback
//! ```
//!
//! Two of them, on a network that learns to add: one records how much of each gradient is signal, the other
//! stops the run when the validation loss is good enough. The first is also built by its name, as a
//! configuration file would.

use bdh::burn::nn::{Linear, LinearConfig};
use bdh::burn::optim::AdamWConfig;
use bdh::burn::tensor::{Distribution, Tensor};
use bdh::{
    AfterBackward, BatchSize, BoxError, Cadence, Callback, EvalEnd, HookResult, MemorySink, Probe,
    Task, Trainer, callback, callbacks_from_toml, every,
};
use serde::Deserialize;

/// Records, for each parameter, the mean of the gradient over its spread.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SignalToNoise {
    when: Cadence,
}

#[callback("signal_to_noise")] // registered: a configuration file can now name it
impl Callback for SignalToNoise {
    fn cadence(&self) -> Cadence {
        self.when.clone()
    }

    fn after_backward(&mut self, at: &AfterBackward<'_>) -> HookResult {
        for param in at.gradients.iter() {
            // Still on the device: everything that a step logs is read at once, later.
            at.log(format!("snr/{}", param.name()), param.mean() / param.std());
        }
        Ok(())
    }
}

/// Stops when the validation loss is low enough.
struct GoodEnough {
    loss: f64,
}

#[callback]
impl Callback for GoodEnough {
    fn on_eval(&mut self, at: &EvalEnd<'_>) -> HookResult {
        if at.report.get("loss").is_some_and(|loss| loss < self.loss) {
            at.stop(format!("the validation loss is below {}", self.loss));
        }
        Ok(())
    }
}

/// Learns to add two numbers.
struct Addition {
    val: Vec<Tensor<2>>,
    device: bdh::burn::tensor::Device,
}

impl Task for Addition {
    type Model = Linear;
    type Batch = Tensor<2>;

    fn next_batch(&mut self) -> Result<Tensor<2>, BoxError> {
        Ok(Tensor::random([64, 2], Distribution::Default, &self.device))
    }

    fn size(&self, batch: &Tensor<2>) -> BatchSize {
        BatchSize { samples: batch.dims()[0], tokens: batch.dims()[0] }
    }

    fn loss(&self, model: &Linear, batch: &Tensor<2>, _: &Probe<'_>) -> Tensor<1> {
        (model.forward(batch.clone()) - batch.clone().sum_dim(1)).square().mean()
    }

    fn val_batches(&self) -> &[Tensor<2>] {
        &self.val
    }
}

fn main() -> Result<(), BoxError> {
    let device = bdh::device("cpu")?;
    let val = vec![Tensor::random([256, 2], Distribution::Default, &device)];
    let task = Addition { val, device: device.clone() };
    let memory = MemorySink::default();
    let from_a_file = callbacks_from_toml(
        r#"
        [[callback]]
        use = "signal_to_noise"
        every = "every 50 steps"
        "#,
    )?;

    let trainer = Trainer::builder(task, LinearConfig::new(2, 1).init(&device))
        .optimizer(AdamWConfig::new().build(), 0.05)
        .steps(1_000)
        .eval(every(20))
        .callbacks(from_a_file)
        .callback(GoodEnough { loss: 1e-4 })
        .sink(memory.clone())
        .build()?;
    eprintln!("{}", trainer.plan());

    let fitted = trainer.fit()?;
    eprintln!("{}; signal to noise of the weight:", fitted.outcome);
    for (step, ratio) in memory.series("snr/weight") {
        eprintln!("  step {step:>4}  {ratio:+.3}");
    }
    Ok(())
}
