//! A generative adversarial network: two networks in one task, each with an optimizer and a loss of its own.
//!
//! The generator learns to draw numbers like the data's, and the discriminator to tell which of the two drew a number.
//!
//! ```text
//! cargo run --example gan
//! ```

use bdh::burn::tensor::activation::{leaky_relu, softplus};
use bdh::burn::tensor::{Device, Distribution, Tensor};
use bdh::burn::{self, module::Module, nn, optim::AdamConfig};
use bdh::cadence::{every, start};
use bdh::data::epochs;
use bdh::metrics::{Metric, Metrics};
use bdh::schedule::warmup_cosine;
use bdh::{BatchSize, BoxError, Group, LossContext, Task, Trainer, Value};
use bdh_callbacks::Console;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Mean and standard deviation of the data.
const DATA: (f32, f32) = (4.0, 1.5);

/// Random numbers from which the generator makes one.
const NOISE: usize = 2;

#[derive(Module, Debug)]
struct Network {
    first: nn::Linear,
    second: nn::Linear,
    last: nn::Linear,
}

impl Network {
    fn new(inputs: usize, device: &Device) -> Self {
        Self {
            first: nn::LinearConfig::new(inputs, 16).init(device),
            second: nn::LinearConfig::new(16, 16).init(device),
            last: nn::LinearConfig::new(16, 1).init(device),
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = leaky_relu(self.first.forward(x), 0.01);
        let x = leaky_relu(self.second.forward(x), 0.01);
        self.last.forward(x)
    }
}

#[derive(Module, Debug)]
struct Gan {
    generator: Network,
    discriminator: Network,
}

impl Gan {
    fn new(device: &Device) -> Self {
        Self {
            generator: Network::new(NOISE, device),
            discriminator: Network::new(1, device),
        }
    }

    /// Generates `count` numbers, `[count, 1]`.
    fn generate(&self, count: usize) -> Tensor<2> {
        let device = self.generator.first.weight.device();
        let noise = Tensor::random([count, NOISE], Distribution::Normal(0.0, 1.0), &device);
        self.generator.forward(noise)
    }

    /// Returns the discriminator's loss, whose gradient stops before the generator.
    fn discriminator_loss(&self, real: Tensor<2>, fake: Tensor<2>) -> Tensor<1> {
        let real = self.discriminator.forward(real);
        let fake = self.discriminator.forward(fake.detach());
        softplus(real.neg(), 1.0).mean() + softplus(fake, 1.0).mean()
    }

    /// Returns the generator's loss, whose gradient passes through the discriminator and leaves its parameters alone.
    fn generator_loss(&self, fake: Tensor<2>) -> Tensor<1> {
        let judge = self.discriminator.clone().no_grad();
        softplus(judge.forward(fake).neg(), 1.0).mean()
    }
}

/// The losses of Goodfellow et al., 2014, *Generative adversarial nets*; the generator's is the non-saturating one.
struct Adversarial;

impl Task for Adversarial {
    type Model = Gan;
    type Batch = Vec<f32>;

    fn size(&self, real: &Vec<f32>) -> BatchSize {
        BatchSize::samples(real.len())
    }

    fn loss(&self, gan: &Gan, real: &Vec<f32>, step: &LossContext<'_>) -> Tensor<1> {
        let fake = gan.generate(real.len());
        let real = Tensor::<1>::from_floats(real.as_slice(), &fake.device()).reshape([-1, 1]);
        let discriminator = gan.discriminator_loss(real, fake.clone());
        let generator = gan.generator_loss(fake);
        step.log("loss/discriminator", discriminator.clone());
        step.log("loss/generator", generator.clone());
        discriminator + generator // one backward pass: each loss has gradients for its own network only
    }

    /// Measures the generated numbers: the losses of two opponents do not show progress.
    fn eval(&self, gan: &Gan, real: &Vec<f32>, metrics: &mut Metrics) {
        let fake = gan.generate(real.len());
        let sums = vec![fake.clone().sum(), fake.square().sum()];
        metrics.add(Spread, Tensor::cat(sums, 0), real.len() as f64);
    }
}

/// Mean and standard deviation, from sums of numbers and of their squares.
struct Spread;

impl Metric for Spread {
    fn name(&self) -> String {
        "spread".to_owned()
    }

    fn compute(&self, sums: &[f64], weight: f64) -> Result<Vec<(String, Value)>, BoxError> {
        let (mean, square) = (sums[0] / weight, sums[1] / weight);
        let std = (square - mean * mean).sqrt();
        Ok(vec![
            ("mean".to_owned(), Value::Scalar(mean)),
            ("std".to_owned(), Value::Scalar(std)),
        ])
    }
}

/// Returns the batches of an epoch.
fn batches(epoch: u64) -> impl Iterator<Item = Vec<f32>> {
    let mut random = ChaCha8Rng::seed_from_u64(epoch);
    (0..100).map(move |_| (0..64).map(|_| draw(&mut random)).collect())
}

/// Draws a number from the data's distribution, a bell made of three uniform numbers, whose variance is 3 / 12.
fn draw(random: &mut ChaCha8Rng) -> f32 {
    let (mean, std) = DATA;
    let sum: f32 = (0..3).map(|_| random.random::<f32>() - 0.5).sum();
    mean + 2.0 * std * sum
}

/// Creates the group of one network: a learning rate of its own, and Adam with the short memory that suits a moving goal.
fn group(network: &'static str, lr: f64) -> Group {
    let adam = AdamConfig::new().with_beta_1(0.0).with_beta_2(0.9).build();
    let is_in = move |name: &str| name.split('.').next() == Some(network);
    Group::new(
        network,
        move |param| is_in(&param.name),
        adam,
        warmup_cosine(lr, 0),
    )
}

fn main() -> bdh::Result {
    let device = bdh::device("cpu")?;
    let trainer = Trainer::builder_with(Adversarial, &device, Gan::new)
        .train_data(epochs(batches))
        .eval_data("val", batches(u64::MAX).collect::<Vec<_>>())
        .group(group("generator", 2e-3))
        .group(group("discriminator", 4e-3))
        .steps(2_000)
        .eval(start() | every(250))
        .sink(Console::default().line_every(250))
        .run_dir(std::env::temp_dir().join(format!("gan-{}", std::process::id())))
        .build()?;
    let result = trainer.fit()?;
    if let Some(last) = &result.last
        && let (Some(mean), Some(std)) = (last.scalar("val/mean"), last.scalar("val/std"))
    {
        eprintln!("generated: mean {mean:.2}, standard deviation {std:.2}");
        eprintln!(
            "data:      mean {:.2}, standard deviation {:.2}",
            DATA.0, DATA.1
        );
    }
    Ok(())
}

#[test]
fn each_loss_has_gradients_for_its_own_network_only() {
    let gan = Gan::new(&bdh::device("cpu").expect("the CPU"));
    let fake = gan.generate(8);
    let losses = [
        gan.discriminator_loss(fake.clone().detach() + 1.0, fake.clone()),
        gan.generator_loss(fake),
    ];
    let has_gradients = losses.map(|loss| {
        let grads = loss.backward();
        [&gan.discriminator, &gan.generator]
            .map(|network| network.first.weight.val().grad(&grads).is_some())
    });
    assert_eq!(has_gradients, [[true, false], [false, true]]);
}
