//! Data-parallel training: a replica of the model on each device, which gets its share of each step's micro-batches.
//!
//! The trainer's own model is replica 0 and stays on the trainer's thread; each further replica has its own thread. All
//! replicas compute gradients in parallel. The trainer gets their sum, takes the step, and broadcasts its weights.
//!
//! This costs one exchange more than an update on each replica. But each GPU chooses the fastest variant of a kernel by
//! trial, and variants differ in the last bit: replicas that update by themselves would diverge.

mod exchange;
mod replica;
mod worker;

pub(crate) use exchange::{Present, Transport};
pub(crate) use replica::Passed;

use crate::device_read::{self, DeviceError};
use crate::error::TrainError;
use crate::metrics::HostMetric;
use crate::params::{self, ParamTable};
use crate::pass::{GradSums, MicroBatchPass};
use crate::task::Task;
use crate::turn;
use burn::tensor::{Device, Tensor, TensorData};
use replica::Replica;
use std::sync::{Arc, Mutex};
use worker::{JobError, Pending, Worker};

/// The replicas of a run except the trainer's own model.
pub(crate) struct Replicas<T: Task> {
    workers: Vec<Worker<Replica<T::Model>>>,
    table: Arc<ParamTable>,
    transport: Transport,
    /// Lock on the random generator of a shared device; see [`MicroBatchPass`].
    draws: Option<Arc<Mutex<()>>>,
    /// Number of warm-up steps completed; see [`warm_up_check`](Self::warm_up_check).
    warm_up_steps: u8,
    /// Device reads of the trainer since the last call of [`take_reads`](Self::take_reads).
    reads: u64,
}

/// Number of warm-up steps during which allocations are verified. Later backward passes need no more memory.
const WARM_UP_STEPS: u8 = 3;

/// A replica that failed: its number, and the text of the panic or device error.
pub(crate) struct ReplicaError {
    pub(crate) replica: usize,
    pub(crate) text: String,
}

impl ReplicaError {
    /// Returns the error of the trainer's own device.
    fn own(error: DeviceError) -> Self {
        Self {
            replica: 0,
            text: error.reason,
        }
    }

    /// Returns the error of the worker at this index; replica 0 is the trainer's.
    fn worker(index: usize, text: String) -> Self {
        Self {
            replica: index + 1,
            text,
        }
    }

    /// Converts to the error of the run at this step.
    pub(crate) fn at_step(self, step: u64) -> TrainError {
        let Self { replica, text } = self;
        match replica {
            0 => TrainError::Device { step, reason: text },
            replica => TrainError::Replica {
                replica,
                step,
                text,
            },
        }
    }
}

/// A replica that differs from the trainer's model.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Divergence {
    pub(crate) replica: usize,
    /// Name of the first parameter or buffer that differs.
    pub(crate) param: String,
}

/// Pending results from the workers, in their order.
pub(crate) struct Answers<R>(Vec<Pending<R>>);

impl<T: Task> Replicas<T> {
    /// Creates the empty set, for a run on one device.
    pub(crate) fn none(table: &Arc<ParamTable>) -> Self {
        Self {
            workers: Vec::new(),
            table: Arc::clone(table),
            transport: Transport::Host,
            draws: None,
            warm_up_steps: 0,
            reads: 0,
        }
    }

    /// Starts a replica without a model on every device except the first, which has the trainer's.
    pub(crate) fn start(
        devices: &[Device],
        transport: Transport,
        table: &Arc<ParamTable>,
    ) -> std::io::Result<Self> {
        let mut replicas = Self {
            transport,
            ..Self::none(table)
        };
        for (number, device) in devices.iter().enumerate().skip(1) {
            if devices[..number].contains(device) {
                replicas.draws = Some(Arc::default());
            }
            let replica = Replica::new(device, table);
            let worker = Worker::start(format!("replica {number}"), replica)?;
            replicas.workers.push(worker);
        }
        Ok(replicas)
    }

    /// Copies the trainer's model to all replicas, one after another: burn cannot tell concurrent copies between GPUs
    /// apart.
    pub(crate) fn load(&mut self, model: &T::Model) -> Result<(), ReplicaError> {
        for (index, worker) in self.workers.iter().enumerate() {
            let model = model.clone();
            let loaded = worker.ask(|replica| replica.load(model)).wait();
            loaded.map_err(|error| ReplicaError::worker(index, error.0))?;
        }
        Ok(())
    }

    /// Tries an exchange, so that GPUs without a working NCCL are reported before the run begins.
    pub(crate) fn try_exchange(&mut self, device: &Device) -> Result<(), ReplicaError> {
        let Transport::Nccl(devices) = self.transport.clone() else {
            return Ok(());
        };
        let sums = self.sum_ones(&devices, device)?;
        let found = sums.first().and_then(|sum| sum.iter::<f32>().next());
        if found == Some(devices.len() as f32) {
            Ok(())
        } else {
            let reason = format!("a trial sum of {} ones gave {found:?}", devices.len());
            Err(ReplicaError::own(DeviceError::new(reason)))
        }
    }

    /// Sums a one from each device with NCCL. Costs one device read.
    fn sum_ones(
        &mut self,
        devices: &[Device],
        device: &Device,
    ) -> Result<Vec<TensorData>, ReplicaError> {
        let theirs = self.ask(|| {
            let devices = devices.to_vec();
            move |replica| drop(exchange::sum_over(&devices, one(replica.device())))
        });
        let tried =
            device_read::caught(|| device_read::vectors(exchange::sum_over(devices, one(device))));
        self.wait(theirs)?;
        tried.flatten().map_err(ReplicaError::own)
    }

    /// Returns the number of replicas, the trainer's included.
    pub(crate) fn count(&self) -> usize {
        self.workers.len() + 1
    }

    /// Returns the pass over the `count` micro-batches of a step.
    pub(crate) fn pass(&self, seed: u64, step: u64, count: usize, share: f64) -> MicroBatchPass {
        MicroBatchPass {
            seed,
            step,
            count,
            share,
            draws: self.draws.clone(),
            is_traced: turn::is_here(),
        }
    }

    /// Distributes items over the replicas in turn, each with its index. The trainer's replica gets the first share.
    pub(crate) fn shard<I>(&self, items: impl IntoIterator<Item = I>) -> Vec<Vec<(usize, I)>> {
        let mut shares = Vec::new();
        shares.resize_with(self.count(), Vec::new);
        for (index, item) in items.into_iter().enumerate() {
            shares[index % self.count()].push((index, item));
        }
        shares
    }

    /// Starts forward and backward passes of the shares on the workers.
    pub(crate) fn backward(
        &self,
        task: &Arc<T>,
        pass: &MicroBatchPass,
        shares: impl IntoIterator<Item = Vec<(usize, T::Batch)>>,
    ) -> Answers<Passed> {
        let mut answers = Vec::new();
        for (worker, share) in self.workers.iter().zip(shares) {
            let (task, pass) = (Arc::clone(task), pass.clone());
            let answer = worker.ask(move |replica| replica.backward(&*task, &pass, &share));
            answers.push(answer);
        }
        Answers(answers)
    }

    /// Sums the losses and gradients of all replicas; `own` are the trainer's.
    ///
    /// Through the host this costs one device read on each replica. With NCCL it costs one in each of the warm-up
    /// steps, then none.
    pub(crate) fn reduce(
        &mut self,
        theirs: Answers<Passed>,
        mut own: GradSums,
        model: &T::Model,
        device: &Device,
    ) -> Result<GradSums, ReplicaError> {
        if self.workers.is_empty() {
            return Ok(own);
        }
        // Every worker answers before the exchange begins: a collective blocks until all replicas have joined it.
        let theirs = self.wait(theirs)?;
        let has_logged = theirs.iter().any(|passed| passed.has_logged);
        let wanted = Arc::new(present_on_any(exchange::present(&own, model), theirs));
        let mut logged = std::mem::take(&mut own.logged);
        self.warm_up_check(&own, model)?;
        let flat = exchange::flat(&own, model, &self.table, &wanted);
        drop(own); // frees the gradients before their sums arrive
        let sums = match self.transport.clone() {
            Transport::Host => self.reduce_on_host(flat, &wanted, device)?,
            Transport::Nccl(devices) => self.reduce_by_nccl(flat, &wanted, &devices)?,
        };
        if has_logged {
            let theirs = self.ask(|| |replica| replica.read_logged());
            for more in self.wait_ok(theirs)? {
                logged.merge_read(more, device);
            }
        }
        Ok(GradSums {
            logged,
            ..exchange::unflatten(model, &wanted, sums)
        })
    }

    fn reduce_on_host(
        &mut self,
        own: Vec<Tensor<1>>,
        wanted: &Arc<Present>,
        device: &Device,
    ) -> Result<Vec<Tensor<1>>, ReplicaError> {
        let theirs = self.ask(|| {
            let wanted = Arc::clone(wanted);
            move |replica| replica.read(&wanted)
        });
        self.reads += 1;
        let mut all = vec![device_read::vectors(own).map_err(ReplicaError::own)?];
        all.extend(self.wait_ok(theirs)?);
        Ok(exchange::put(&exchange::sum(all), device))
    }

    fn reduce_by_nccl(
        &mut self,
        own: Vec<Tensor<1>>,
        wanted: &Arc<Present>,
        devices: &[Device],
    ) -> Result<Vec<Tensor<1>>, ReplicaError> {
        let theirs = self.ask(|| {
            let (wanted, devices) = (Arc::clone(wanted), devices.to_vec());
            move |replica| replica.contribute(&wanted, &devices)
        });
        let sums = exchange::sum_over(devices, own);
        self.wait(theirs)?;
        Ok(sums)
    }

    /// Waits, in the first steps with NCCL, until every replica has its gradients.
    ///
    /// A device that runs out of memory reports it only when it is read, and a replica that then misses an exchange
    /// blocks the others forever. Allocations later in the step (optimizer moments, received weights) are not checked.
    fn warm_up_check(&mut self, own: &GradSums, model: &T::Model) -> Result<(), ReplicaError> {
        if self.warm_up_steps == WARM_UP_STEPS || matches!(self.transport, Transport::Host) {
            return Ok(());
        }
        self.warm_up_steps += 1;
        self.reads += 1;
        let theirs = self.ask(|| |replica| replica.wait_for_gradients());
        if let Err(error) = exchange::wait_for_gradients(own, model) {
            self.abandon(); // they may be blocked in the exchange of the previous step, which this device missed
            return Err(ReplicaError::own(error));
        }
        self.wait_ok(theirs)?;
        Ok(())
    }

    /// Sends the weights of the trainer's model to the other replicas, after a step. Returns the model in any case.
    ///
    /// Through the host this costs one device read, with NCCL none.
    pub(crate) fn broadcast_weights(
        &mut self,
        model: T::Model,
    ) -> (T::Model, Result<(), ReplicaError>) {
        if self.workers.is_empty() {
            return (model, Ok(()));
        }
        match self.transport.clone() {
            Transport::Host => {
                let sent = self.broadcast_on_host(&model);
                (model, sent)
            }
            Transport::Nccl(devices) => self.broadcast_by_nccl(model, &devices),
        }
    }

    fn broadcast_on_host(&mut self, model: &T::Model) -> Result<(), ReplicaError> {
        self.reads += 1;
        let weights = device_read::vectors(exchange::weights(model)).map_err(ReplicaError::own)?;
        let weights = Arc::new(weights);
        let theirs = self.ask(|| {
            let weights = Arc::clone(&weights);
            move |replica| replica.load_weights(&weights)
        });
        self.wait(theirs)?;
        Ok(())
    }

    fn broadcast_by_nccl(
        &mut self,
        model: T::Model,
        devices: &[Device],
    ) -> (T::Model, Result<(), ReplicaError>) {
        let theirs = self.ask(|| {
            let devices = devices.to_vec();
            move |replica| replica.receive(&devices)
        });
        // The trainer's model loads the result as well: a sum turns a negative zero into a positive one.
        let weights = exchange::sum_over(devices, exchange::weights(&model));
        let model = params::with_weights(model, weights);
        (model, self.wait(theirs).map(drop))
    }

    /// Returns the number of the trainer's device reads since the last call.
    pub(crate) fn take_reads(&mut self) -> u64 {
        std::mem::take(&mut self.reads)
    }

    /// Starts the evaluation of one batch on each worker, as far as there are batches.
    pub(crate) fn eval(
        &self,
        task: &Arc<T>,
        batches: impl IntoIterator<Item = T::Batch>,
    ) -> Answers<()> {
        let mut answers = Vec::new();
        for (worker, batch) in self.workers.iter().zip(batches) {
            let task = Arc::clone(task);
            answers.push(worker.ask(move |replica| replica.eval(&*task, &batch)));
        }
        Answers(answers)
    }

    /// Starts to read the metrics of the batches that the workers have evaluated.
    pub(crate) fn ask_for_metrics(&self) -> Answers<Result<Vec<HostMetric>, DeviceError>> {
        self.ask(|| |replica| replica.take_metrics())
    }

    /// Waits for the metrics of all workers.
    pub(crate) fn wait_for_metrics(
        &mut self,
        theirs: Answers<Result<Vec<HostMetric>, DeviceError>>,
    ) -> Result<Vec<Vec<HostMetric>>, ReplicaError> {
        self.wait_ok(theirs)
    }

    /// Finds the first replica that differs from the trainer's model, and the parameter or buffer that differs.
    ///
    /// Every replica reads its whole model from its own device, 100 MB at a time; larger tensors are read whole.
    pub(crate) fn first_divergence(
        &mut self,
        model: &T::Model,
    ) -> Result<Option<Divergence>, ReplicaError> {
        let theirs = self.ask(|| |replica| replica.digests());
        let (own, reads) = params::digests(model).map_err(ReplicaError::own)?;
        self.reads += reads;
        let theirs = self.wait_ok(theirs)?;
        for (index, digests) in theirs.iter().enumerate() {
            let mut pairs = own.iter().zip(digests);
            if let Some(param) = pairs.position(|(own, digest)| own != digest) {
                return Ok(Some(Divergence {
                    replica: index + 1,
                    param: ParamTable::with_frozen(model)[param].to_string(),
                }));
            }
        }
        Ok(None)
    }

    /// Sends a job to each worker; `job` is called once for each.
    fn ask<R: Send + 'static, J>(&self, job: impl Fn() -> J) -> Answers<R>
    where
        J: FnOnce(&mut Replica<T::Model>) -> R + Send + 'static,
    {
        let mut answers = Vec::new();
        for worker in &self.workers {
            answers.push(worker.ask(job()));
        }
        Answers(answers)
    }

    /// Waits for all workers.
    ///
    /// # Errors
    ///
    /// The first worker that panicked. The others are not waited for.
    fn wait<R>(&mut self, answers: Answers<R>) -> Result<Vec<R>, ReplicaError> {
        let mut results = Vec::new();
        for (index, answer) in answers.0.into_iter().enumerate() {
            match answer.wait() {
                Ok(result) => results.push(result),
                Err(JobError(text)) => {
                    if matches!(self.transport, Transport::Nccl(_)) {
                        self.abandon();
                    }
                    return Err(ReplicaError::worker(index, text));
                }
            }
        }
        Ok(results)
    }

    /// Waits for all workers, whose jobs read from a device, which may fail.
    fn wait_ok<R>(
        &mut self,
        answers: Answers<Result<R, DeviceError>>,
    ) -> Result<Vec<R>, ReplicaError> {
        let mut results = Vec::new();
        for (index, answer) in self.wait(answers)?.into_iter().enumerate() {
            results.push(answer.map_err(|error| ReplicaError::worker(index, error.reason))?);
        }
        Ok(results)
    }

    /// Detaches all workers: after a failure they may be blocked forever in a collective.
    fn abandon(&mut self) {
        for worker in &mut self.workers {
            worker.abandon();
        }
    }
}

impl Answers<()> {
    /// Waits for jobs that take part in no exchange, so that no other worker can be blocked by one that fails.
    pub(crate) fn finish(self) -> Result<(), ReplicaError> {
        for (index, answer) in self.0.into_iter().enumerate() {
            answer
                .wait()
                .map_err(|error| ReplicaError::worker(index, error.0))?;
        }
        Ok(())
    }
}

/// Returns the flags of the parameters that have a gradient on any device.
fn present_on_any(own: Present, theirs: Vec<Passed>) -> Present {
    let mut on_any = own;
    for theirs in theirs {
        for (on_any, present) in on_any.iter_mut().zip(theirs.present) {
            *on_any |= present;
        }
    }
    on_any
}

fn one(device: &Device) -> Vec<Tensor<1>> {
    vec![Tensor::ones([1], &device.clone().inner())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss_context::LossContext;
    use crate::task::BatchSize;
    use burn::module::Module;
    use burn::nn::{Linear, LinearConfig};

    struct Nothing;

    impl Task for Nothing {
        type Model = Linear;
        type Batch = ();

        fn size(&self, (): &()) -> BatchSize {
            BatchSize::samples(1)
        }

        fn loss(&self, model: &Linear, (): &(), _: &LossContext<'_>) -> Tensor<1> {
            model.weight.val().mean()
        }
    }

    fn two_replicas() -> (Replicas<Nothing>, Linear) {
        let devices = crate::device::devices("cpu:0-1").expect("the CPU");
        let model = LinearConfig::new(3, 2).init(&devices[0]);
        let table = Arc::new(ParamTable::of(&model));
        let mut replicas = Replicas::start(&devices, Transport::Host, &table).expect("a thread");
        assert!(replicas.load(&model).is_ok());
        (replicas, model)
    }

    /// Returns the model with another bias, off by one bit.
    fn flipped(model: &Linear) -> Linear {
        let mut weights = device_read::vectors(exchange::weights(model)).expect("the CPU reads");
        let mut bias = weights[1].try_to_vec::<f32>().expect("f32");
        bias[1] = f32::from_bits(bias[1].to_bits() ^ 1);
        weights[1] = bias.as_slice().into();
        params::with_weights(
            model.clone(),
            exchange::put(&weights, &model.weight.device()),
        )
    }

    #[test]
    fn one_different_bit_is_found_and_its_parameter_named() {
        let (mut replicas, model) = two_replicas();
        assert_eq!(replicas.first_divergence(&model).ok(), Some(None));
        let found = replicas.first_divergence(&flipped(&model)).ok().flatten();
        let expected = Divergence {
            replica: 1,
            param: "bias".to_owned(),
        };
        assert_eq!(found, Some(expected));
    }

    #[test]
    fn a_different_frozen_parameter_is_found() {
        let devices = crate::device::devices("cpu:0-1").expect("the CPU");
        let model = LinearConfig::new(3, 2).init(&devices[0]).no_grad();
        let table = Arc::new(ParamTable::of(&model));
        let mut replicas = Replicas::<Nothing>::start(&devices, Transport::Host, &table);
        let replicas = replicas.as_mut().expect("a thread");
        assert!(replicas.load(&model).is_ok());
        assert_eq!(replicas.first_divergence(&model).ok(), Some(None));
        let other = LinearConfig::new(3, 2).init(&devices[0]).no_grad();
        let expected = Divergence {
            replica: 1,
            param: "weight".to_owned(),
        };
        let found = replicas.first_divergence(&other).ok().flatten();
        assert_eq!(found, Some(expected));
    }

    #[test]
    fn replicas_get_the_exact_weights_and_keep_autodiff() {
        let (mut replicas, model) = two_replicas();
        let (moved, sent) = replicas.broadcast_weights(flipped(&model));
        assert!(sent.is_ok());
        assert_eq!(replicas.first_divergence(&moved).ok(), Some(None));
        assert!(moved.weight.is_require_grad());
        let pass = replicas.pass(0, 1, 2, 0.0);
        let theirs = replicas.backward(&Arc::new(Nothing), &pass, [vec![(1, ())]]);
        // The loss does not depend on the bias.
        let passed = replicas.wait(theirs).ok().expect("no worker panics");
        assert_eq!(passed[0].present, [true, false]);
        let checked = replicas.ask(|| |replica| replica.wait_for_gradients());
        assert_eq!(replicas.wait_ok(checked).ok(), Some(vec![()]));
    }
}
