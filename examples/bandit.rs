//! Reinforcement learning by a loop of one's own: a contextual bandit, whose batches depend on the model.
//!
//! A machine shows a point of a square, and has an arm for each of its quadrants. The arm of the point's quadrant pays a
//! coin in 9 of 10 pulls, the other arms in 1 of 10. The policy learns which arm to pull: from 0.3 coins a pull to almost
//! 0.9.
//!
//! ```text
//! cargo run --example bandit -- runs/bandit
//! ```
//!
//! With a directory, the run can be killed at any time: the same command continues it, with the same numbers.

use bdh::burn::tensor::{Device, Int, Tensor, activation::log_softmax, activation::relu};
use bdh::burn::{self, module::Module, nn, optim::AdamConfig};
use bdh::cadence::{every, last};
use bdh::data::TrainData;
use bdh::{BatchSize, BoxError, LossContext, MemorySink, Task, Trainer};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::PathBuf;

const STEPS: u64 = 1_000;

/// Updates of the policy on the pulls of one rollout.
const UPDATES: u64 = 4;

const PULLS: usize = 128;
const ARMS: usize = 4;

#[derive(Module, Debug)]
struct Policy {
    hidden: nn::Linear,
    arms: nn::Linear,
}

impl Policy {
    fn new(device: &Device) -> Self {
        Self {
            hidden: nn::LinearConfig::new(2, 16).init(device),
            arms: nn::LinearConfig::new(16, ARMS).init(device),
        }
    }

    /// Returns the logarithm of the probability of each arm, `[points, arms]`.
    fn log_chances(&self, points: &[[f32; 2]]) -> Tensor<2> {
        let device = self.hidden.weight.device();
        let points = Tensor::<1>::from_floats(points.as_flattened(), &device).reshape([-1, 2]);
        log_softmax(self.arms.forward(relu(self.hidden.forward(points))), 1)
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Pull {
    point: [f32; 2],
    arm: usize,
    /// Logarithm of the probability with which the policy chose the arm.
    log_chance: f32,
    coins: f32,
}

/// Training data that is made by the model: the machine, and the rollout under way.
#[derive(Serialize, Deserialize)]
struct Machine {
    /// Rollouts so far. Each has this number as its seed, so that a resumed run draws what the first one would have.
    rollouts: u64,
    pulls: Vec<Pull>,
}

impl Machine {
    /// Pulls arms with the probabilities of the policy. Costs one device read.
    fn roll_out(&mut self, policy: &Policy) -> Result<(), BoxError> {
        let mut random = ChaCha8Rng::seed_from_u64(self.rollouts);
        self.rollouts += 1;
        let mut coordinate = || random.random_range(-1.0..1.0);
        let points: Vec<[f32; 2]> = (0..PULLS).map(|_| [coordinate(), coordinate()]).collect();
        let log_chances: Vec<f32> = policy.log_chances(&points).try_into_vec_as()?;
        self.pulls.clear();
        for (point, log_chances) in points.into_iter().zip(log_chances.chunks(ARMS)) {
            self.pulls.push(pull(point, log_chances, &mut random));
        }
        Ok(())
    }

    /// Returns the coins of a pull, on average over the rollout.
    fn reward(&self) -> f64 {
        let coins: f32 = self.pulls.iter().map(|pull| pull.coins).sum();
        f64::from(coins) / PULLS as f64
    }
}

/// Pulls an arm, chosen with the given probabilities.
fn pull(point: [f32; 2], log_chances: &[f32], random: &mut ChaCha8Rng) -> Pull {
    let mut left: f32 = random.random();
    let mut arm = 0;
    while arm + 1 < ARMS && left >= log_chances[arm].exp() {
        left -= log_chances[arm].exp();
        arm += 1;
    }
    let quadrant = usize::from(point[0] > 0.0) + 2 * usize::from(point[1] > 0.0);
    let odds = if arm == quadrant { 0.9 } else { 0.1 };
    Pull {
        point,
        arm,
        log_chance: log_chances[arm],
        coins: f32::from(random.random::<f32>() < odds),
    }
}

impl TrainData for Machine {
    type Batch = Vec<Pull>;

    fn next_batch(&mut self) -> Result<Vec<Pull>, BoxError> {
        Err("the machine needs a policy: `main` passes its pulls to `step_on`".into())
    }

    /// Returns the counter and the rollout: the policy that made it is gone when a run resumes between two updates.
    fn state(&self) -> Value {
        json!(self)
    }

    fn load_state(&mut self, state: &Value) -> Result<(), BoxError> {
        *self = Self::deserialize(state)?;
        Ok(())
    }
}

/// Policy gradients for several updates on one rollout.
///
/// Source: Schulman et al., 2017, *Proximal policy optimization algorithms* (arXiv:1707.06347), equation 7.
struct ClippedGain;

impl Task for ClippedGain {
    type Model = Policy;
    type Batch = Vec<Pull>;

    fn size(&self, pulls: &Vec<Pull>) -> BatchSize {
        BatchSize::samples(pulls.len())
    }

    fn loss(&self, policy: &Policy, pulls: &Vec<Pull>, _: &LossContext<'_>) -> Tensor<1> {
        let device = policy.hidden.weight.device();
        let column = |value: fn(&Pull) -> f32| -> Tensor<2> {
            let values: Vec<f32> = pulls.iter().map(value).collect();
            Tensor::<1>::from_floats(values.as_slice(), &device).reshape([-1, 1])
        };
        let arms: Vec<i32> = pulls.iter().map(|pull| pull.arm as i32).collect();
        let arms = Tensor::<1, Int>::from_ints(arms.as_slice(), &device).reshape([-1, 1]);
        let points: Vec<[f32; 2]> = pulls.iter().map(|pull| pull.point).collect();

        let log_chances = policy.log_chances(&points).gather(1, arms); // [pulls, 1]
        let ratio = (log_chances - column(|pull| pull.log_chance)).exp();
        let coins = column(|pull| pull.coins);
        let gain = coins.clone() - coins.mean_dim(0);
        let clipped = ratio.clone().clamp(0.8, 1.2) * gain.clone();
        (ratio * gain).min_pair(clipped).mean().neg()
    }
}

fn main() -> bdh::Result {
    let dir = match std::env::args_os().nth(1) {
        Some(dir) => PathBuf::from(dir),
        None => std::env::temp_dir().join(format!("bandit-{}", std::process::id())),
    };
    let machine = Machine {
        rollouts: 0,
        pulls: Vec::new(),
    };
    let memory = MemorySink::default();
    let device = bdh::device("cpu")?;
    let trainer = Trainer::builder_with(ClippedGain, &device, Policy::new)
        .train_data(machine)
        .optimizer(AdamConfig::new().build(), 0.01)
        .steps(STEPS)
        .checkpoint(every(50) | last())
        .sink(memory.clone())
        .run_dir(dir)
        .resume("auto")
        .build()?;

    let mut run = trainer.start()?;
    while run.clock().step < STEPS {
        let needs_rollout = run.clock().step.is_multiple_of(UPDATES);
        let (policy, machine) = run
            .model_and_data::<Machine>()
            .expect("the training data is a machine");
        if needs_rollout {
            machine.roll_out(&policy.valid())?;
        }
        let (pulls, reward) = (machine.pulls.clone(), machine.reward());
        run.log("rollout/reward", reward); // recorded with the step
        if run.step_on(vec![pulls])?.is_none() {
            break; // Ctrl-C
        }
    }
    run.finish()?;

    for (step, reward) in memory.series("rollout/reward").into_iter().step_by(100) {
        eprintln!("step {step:>4}: {reward:.2} coins a pull");
    }
    Ok(())
}
