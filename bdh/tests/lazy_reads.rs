//! A checkpoint holds the state of its step, even if a device returns its own memory instead of a copy.
//!
//! On a GPU the bytes of burn's `Tensor::to_data` are copied when they are first used. Here a file takes the place of
//! the device: burn also reads it late.

#[path = "support/tiny.rs"]
mod tiny;

use bdh::burn::optim::{Optimizer, RecordState, StateSink, StateSource};
use bdh::burn::tensor::{Bytes, DType, Device, Tensor, TensorData};
use bdh::cadence::every;
use bdh::checkpoint::Checkpoint;
use bdh::schedule::constant;
use bdh::{BoxError, Outcome, Record, RunInfo, Sink};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An optimizer that changes no parameter and counts its steps, in memory that every step overwrites.
#[derive(Clone)]
struct Counting {
    memory: PathBuf,
}

#[derive(Clone)]
struct Count<const D: usize> {
    steps: u32,
    memory: PathBuf,
}

impl<const D: usize> RecordState for Count<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        let lazy = Bytes::from_file(&self.memory, size_of::<f32>() as u64, 0);
        out.push_tensor(
            prefix,
            "steps",
            TensorData::from_bytes(lazy, [1], DType::F32),
        );
    }

    fn state_unflatten(_: &str, _: &mut StateSource, _: &Device) -> Option<Self> {
        None
    }
}

impl Optimizer for Counting {
    type State<const D: usize> = Count<D>;

    fn step<const D: usize>(
        &self,
        _lr: f64,
        tensor: Tensor<D>,
        _grad: Tensor<D>,
        state: Option<Count<D>>,
    ) -> (Tensor<D>, Option<Count<D>>) {
        let steps = state.map_or(0, |state| state.steps) + 1;
        std::fs::write(&self.memory, (steps as f32).to_ne_bytes()).expect("a file");
        (
            tensor,
            Some(Count {
                steps,
                memory: self.memory.clone(),
            }),
        )
    }

    fn to_device<const D: usize>(state: Count<D>, _: &Device) -> Count<D> {
        state
    }
}

/// A sink whose flush blocks until the next step has begun, and with it the checkpoint, which waits for the flush.
struct Slow;

impl Sink for Slow {
    fn name(&self) -> String {
        "slow".to_owned()
    }

    fn open(&mut self, _: &RunInfo) -> Result<(), BoxError> {
        Ok(())
    }

    fn write(&mut self, _: &Record) -> Result<(), BoxError> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BoxError> {
        std::thread::sleep(Duration::from_millis(300));
        Ok(())
    }
}

fn saved(dir: &Path, step: u64) -> Vec<f32> {
    let path = dir.join(format!("checkpoints/step_{step:08}"));
    let checkpoint = Checkpoint::read(&path).expect("a checkpoint");
    checkpoint
        .optimizer
        .values()
        .flat_map(|data| data.iter::<f32>().collect::<Vec<_>>())
        .collect()
}

#[test]
fn optimizer_state_is_saved_as_of_the_checkpoint() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let optimizer = Counting {
        memory: dir.path().join("device_memory"),
    };
    let run = tiny::compose(tiny::ROWS, tiny::Tiny::new(0.0), 4)
        .optimizer(optimizer, constant(0.1))
        .checkpoint(every(2))
        .run_dir(dir.path().join("run"))
        .sink(Slow);
    let fitted = run
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    assert_eq!(fitted.outcome, Outcome::Completed);
    for step in [2, 4] {
        assert_eq!(saved(&dir.path().join("run"), step), [step as f32; 3]);
    }
}
