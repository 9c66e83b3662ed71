//! Data parallel training: a replica of the model on each device, fed with its part of every step's micro-batches.
//!
//! The trainer's own model is the first replica and stays on the trainer's thread; each other one has a thread. All
//! replicas compute gradients at once. The trainer gets their sum, takes the step, and gives its weights to the others.
//! That is one exchange more than if each took the same step by itself. But a kernel's fastest variant is chosen by trying
//! them out, on each GPU by itself, and variants differ in the last bit: replicas that step by themselves drift apart.

mod exchange;
mod replica;
mod worker;

pub(crate) use exchange::{Present, Transport};
pub(crate) use replica::HostTotals;

use crate::error::TrainError;
use crate::failure::panic_text;
use crate::params::{self, ParamTable};
use crate::pass::{Pass, Sums};
use crate::read;
use crate::task::{Task, Totals};
use burn::tensor::{Device, Tensor};
use replica::Replica;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use worker::{Pending, Worker};

/// All replicas but the first.
pub(crate) struct Replicas<T: Task> {
    workers: Vec<Worker<Replica<T::Model>>>,
    table: Arc<ParamTable>,
    transport: Transport,
    /// See [`Pass`].
    draws: Option<Arc<Mutex<()>>>,
    /// Steps whose gradients were waited for; see [`prove`](Self::prove).
    proven: u8,
    /// Device reads of the trainer since they were last asked for.
    reads: u64,
}

/// Steps after which a backward pass takes no more memory than it took before.
const PROVING: u8 = 3;

/// A replica that failed: its number, and what it said.
pub(crate) struct Lost {
    pub(crate) replica: usize,
    pub(crate) text: String,
}

impl Lost {
    /// The trainer's own device failed.
    fn first(text: String) -> Self {
        Self { replica: 0, text }
    }

    /// The error of the run, which is at this step.
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

/// What the replicas are at.
pub(crate) struct Answers<R>(Vec<Pending<R>>);

impl<T: Task> Replicas<T> {
    /// None: a run on one device.
    pub(crate) fn none(table: &Arc<ParamTable>) -> Self {
        Self {
            workers: Vec::new(),
            table: Arc::clone(table),
            transport: Transport::Host,
            draws: None,
            proven: 0,
            reads: 0,
        }
    }

    /// A replica, without a model yet, on every device but the first, which has the trainer's own.
    pub(crate) fn start(
        devices: &[Device],
        transport: Transport,
        table: &Arc<ParamTable>,
    ) -> std::io::Result<Self> {
        let shared = devices
            .iter()
            .enumerate()
            .any(|(at, device)| devices[..at].contains(device));
        let draws = shared.then(Arc::default);
        let mut replicas = Self {
            transport,
            draws,
            ..Self::none(table)
        };
        for (number, device) in devices.iter().enumerate().skip(1) {
            let replica = Replica::on(device, table);
            replicas
                .workers
                .push(Worker::start(format!("replica {number}"), replica)?);
        }
        Ok(replicas)
    }

    /// Copies the trainer's model to all of them, one by one: burn's copies from card to card have nothing that tells
    /// which is which.
    pub(crate) fn load(&mut self, model: &T::Model) -> Result<(), Lost> {
        for (index, worker) in self.workers.iter().enumerate() {
            let model = model.clone();
            let loaded = worker
                .ask(|replica: &mut Replica<_>| replica.load(model))
                .wait();
            loaded.map_err(|text| Lost {
                replica: index + 1,
                text,
            })?;
        }
        Ok(())
    }

    /// Tries an exchange, so that a machine whose GPUs cannot have one is told before anything runs.
    pub(crate) fn try_exchange(&mut self, device: &Device) -> Result<(), String> {
        let Transport::Nccl(devices) = self.transport.clone() else {
            return Ok(());
        };
        let one = |device: &Device| vec![Tensor::<1>::ones([1], &device.clone().inner())];
        let theirs = self.ask(|| {
            let devices = devices.clone();
            move |replica| drop(exchange::sum_over(&devices, one(replica.device())))
        });
        let own = || read::vectors(exchange::sum_over(&devices, one(device)));
        let own =
            catch_unwind(AssertUnwindSafe(own)).unwrap_or_else(|panic| Err(panic_text(&*panic)));
        self.wait(theirs).map_err(|lost| lost.text)?;
        let found = own?.first().and_then(|sum| sum.iter::<f32>().next());
        if found == Some(devices.len() as f32) {
            Ok(())
        } else {
            Err(format!("a sum is {found:?}"))
        }
    }

    /// How many replicas there are, the trainer's own included.
    pub(crate) fn count(&self) -> usize {
        self.workers.len() + 1
    }

    /// The passes of a step of `count` micro-batches.
    pub(crate) fn pass(&self, seed: u64, step: u64, count: usize) -> Pass {
        Pass {
            seed,
            step,
            count,
            draws: self.draws.clone(),
        }
    }

    /// Deals out what each replica gets: the first one, the trainer's own, the first thing, the next one the next.
    pub(crate) fn deal<I>(&self, things: impl IntoIterator<Item = I>) -> Vec<Vec<(usize, I)>> {
        let mut shares: Vec<_> = (0..self.count()).map(|_| Vec::new()).collect();
        for (index, thing) in things.into_iter().enumerate() {
            shares[index % self.count()].push((index, thing));
        }
        shares
    }

    /// Has the replicas take their micro-batches forward and backward.
    pub(crate) fn backward(
        &self,
        task: &Arc<T>,
        pass: &Pass,
        shares: impl IntoIterator<Item = Vec<(usize, T::Batch)>>,
    ) -> Answers<Present> {
        let ask = |(worker, share): (&Worker<_>, Vec<_>)| {
            let (task, pass) = (Arc::clone(task), pass.clone());
            worker.ask(move |replica: &mut Replica<_>| replica.backward(&*task, &pass, &share))
        };
        Answers(self.workers.iter().zip(shares).map(ask).collect())
    }

    /// The sums of all replicas; `own` are the trainer's.
    ///
    /// Through the host that is one device read for each replica; by NCCL one in each of the first steps, then none.
    pub(crate) fn reduce(
        &mut self,
        theirs: Answers<Present>,
        own: Sums,
        (model, device): (&T::Model, &Device),
    ) -> Result<Sums, Lost> {
        if self.workers.is_empty() {
            return Ok(own);
        }
        // Nobody comes to an exchange before all have answered: the others would wait there for who does not come.
        let mut wanted = exchange::present(&own, model);
        for present in self.wait(theirs)? {
            wanted
                .iter_mut()
                .zip(present)
                .for_each(|(wanted, present)| *wanted |= present);
        }
        self.prove(&own, model)?;
        let wanted = Arc::new(wanted);
        let flat = exchange::flat(&own, model, &self.table, &wanted);
        drop(own);
        let sums = match self.transport.clone() {
            Transport::Host => {
                let theirs = self.ask(|| {
                    let wanted = Arc::clone(&wanted);
                    move |replica| replica.read(&wanted)
                });
                self.reads += 1;
                let own = read::vectors(flat).map_err(Lost::first)?;
                let all = std::iter::once(own).chain(self.wait_for(theirs)?);
                exchange::put(&exchange::sum(all), device)
            }
            Transport::Nccl(devices) => {
                let theirs = self.ask(|| {
                    let (wanted, devices) = (Arc::clone(&wanted), devices.clone());
                    move |replica| replica.bring(&wanted, &devices)
                });
                let sums = exchange::sum_over(&devices, flat);
                self.wait(theirs)?;
                sums
            }
        };
        Ok(exchange::shaped(model, &wanted, sums))
    }

    /// Waits, in the first steps by NCCL, until every replica has its gradients. A device that has no memory for them says
    /// so only when it is read; and a replica that then misses an exchange leaves the others there for ever. What is asked
    /// for between here and the end of the step (moments, weights that arrive) is not waited for.
    fn prove(&mut self, own: &Sums, model: &T::Model) -> Result<(), Lost> {
        if self.proven == PROVING || matches!(self.transport, Transport::Host) {
            return Ok(());
        }
        self.proven += 1;
        self.reads += 1;
        let theirs = self.ask(|| |replica| replica.prove());
        if let Err(text) = exchange::prove(own, model) {
            self.abandon(); // they may be at the exchange of the step before, to which this device did not come
            return Err(Lost::first(text));
        }
        self.wait_for(theirs).map(drop)
    }

    /// Gives the weights of the trainer's model, which has taken a step, to the others. The model comes back in any case.
    ///
    /// Through the host that is one device read; by NCCL none.
    pub(crate) fn follow(&mut self, model: T::Model) -> (T::Model, Result<(), Lost>) {
        if self.workers.is_empty() {
            return (model, Ok(()));
        }
        match self.transport.clone() {
            Transport::Host => {
                let followed = self.take(&model);
                (model, followed)
            }
            Transport::Nccl(devices) => {
                let theirs = self.ask(|| {
                    let devices = devices.clone();
                    move |replica| replica.receive(&devices)
                });
                // The trainer's model takes what arrives, too: of a negative zero a sum makes a positive one.
                let weights = exchange::sum_over(&devices, exchange::weights(&model));
                (
                    params::with_weights(model, weights),
                    self.wait(theirs).map(drop),
                )
            }
        }
    }

    /// Has the others take weights through the host.
    fn take(&mut self, model: &T::Model) -> Result<(), Lost> {
        self.reads += 1;
        let weights = read::vectors(exchange::weights(model)).map_err(Lost::first)?;
        let weights = Arc::new(weights);
        let theirs = self.ask(|| {
            let weights = Arc::clone(&weights);
            move |replica| replica.take(&weights)
        });
        self.wait(theirs).map(drop)
    }

    /// Device reads of the trainer's since this was last asked.
    pub(crate) fn take_reads(&mut self) -> u64 {
        std::mem::take(&mut self.reads)
    }

    /// Has the replicas evaluate their part of the validation batches.
    pub(crate) fn eval(&self, task: &Arc<T>) -> Answers<Result<HostTotals, String>> {
        let shares = self.deal(0..task.val_batches().len()).into_iter().skip(1);
        let ask = |(worker, share): (&Worker<_>, Vec<(usize, usize)>)| {
            let task = Arc::clone(task);
            worker.ask(move |replica: &mut Replica<_>| replica.eval(&*task, &share))
        };
        Answers(self.workers.iter().zip(shares).map(ask).collect())
    }

    /// Adds what the replicas have found to the trainer's own totals.
    pub(crate) fn add_up(
        &mut self,
        theirs: Answers<Result<HostTotals, String>>,
        totals: &mut Totals,
        device: &Device,
    ) -> Result<(), Lost> {
        for (name, sum, weight) in self.wait_for(theirs)?.into_iter().flatten() {
            totals.add(
                name,
                Tensor::from_floats([sum], &device.clone().inner()),
                weight,
            );
        }
        Ok(())
    }

    /// The first replica that differs from the trainer's model, if there is one, and the parameter or buffer.
    ///
    /// All of each is read, by every replica from its own device, 100 MB at a time or a larger tensor whole.
    pub(crate) fn apart(&mut self, model: &T::Model) -> Result<Option<(usize, String)>, Lost> {
        let theirs = self.ask(|| |replica| replica.digests());
        let (own, reads) = params::digests(model).map_err(Lost::first)?;
        self.reads += reads;
        let theirs = self.wait_for(theirs)?;
        let mut all = theirs.iter().enumerate();
        Ok(all.find_map(|(index, digests)| {
            let parameter = own
                .iter()
                .zip(digests)
                .position(|(own, digest)| own != digest)?;
            Some((
                index + 1,
                ParamTable::with_frozen(model)[parameter].name.clone(),
            ))
        }))
    }

    fn ask<R: Send + 'static, J>(&self, job: impl Fn() -> J) -> Answers<R>
    where
        J: FnOnce(&mut Replica<T::Model>) -> R + Send + 'static,
    {
        Answers(
            self.workers
                .iter()
                .map(|worker| worker.ask(job()))
                .collect(),
        )
    }

    /// Waits for the replicas.
    fn wait<R>(&mut self, answers: Answers<R>) -> Result<Vec<R>, Lost> {
        let answers = answers.0.into_iter().enumerate();
        let answers = answers.map(|(index, answer)| {
            answer.wait().map_err(|text| Lost {
                replica: index + 1,
                text,
            })
        });
        let answers: Result<Vec<R>, Lost> = answers.collect();
        if answers.is_err() && matches!(self.transport, Transport::Nccl(_)) {
            self.abandon();
        }
        answers
    }

    /// Waits for nobody any more: the others may wait, on a device and for ever, for the one that is lost.
    fn abandon(&mut self) {
        self.workers.iter_mut().for_each(Worker::abandon);
    }

    /// The same where a device may have refused to be read.
    fn wait_for<R>(&mut self, answers: Answers<Result<R, String>>) -> Result<Vec<R>, Lost> {
        let answers = self.wait(answers)?.into_iter().enumerate();
        answers
            .map(|(index, answer)| {
                answer.map_err(|text| Lost {
                    replica: index + 1,
                    text,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::BoxError;
    use crate::probe::Probe;
    use crate::task::BatchSize;
    use burn::module::Module;
    use burn::nn::{Linear, LinearConfig};

    struct Nothing;

    impl Task for Nothing {
        type Model = Linear;
        type Batch = ();

        fn next_batch(&mut self) -> Result<(), BoxError> {
            Ok(())
        }

        fn size(&self, (): &()) -> BatchSize {
            BatchSize {
                samples: 1,
                tokens: 1,
            }
        }

        fn loss(&self, model: &Linear, (): &(), _: &Probe<'_>) -> Tensor<1> {
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

    /// The model with another bias, off by one bit.
    fn flipped(model: &Linear) -> Linear {
        let mut weights = read::vectors(exchange::weights(model)).expect("the CPU reads");
        let mut bias = weights[1].try_to_vec::<f32>().expect("f32");
        bias[1] = f32::from_bits(bias[1].to_bits() ^ 1);
        weights[1] = bias.as_slice().into();
        params::with_weights(
            model.clone(),
            exchange::put(&weights, &model.weight.device()),
        )
    }

    #[test]
    fn one_bit_sets_replicas_apart_and_the_parameter_is_named() {
        let (mut replicas, model) = two_replicas();
        let apart = |replicas: &mut Replicas<_>, model: &Linear| replicas.apart(model).ok();
        assert_eq!(apart(&mut replicas, &model), Some(None));
        let flipped = flipped(&model);
        assert_eq!(
            apart(&mut replicas, &flipped),
            Some(Some((1, "bias".to_owned())))
        );
    }

    #[test]
    fn a_frozen_parameter_sets_replicas_apart_too() {
        let devices = crate::device::devices("cpu:0-1").expect("the CPU");
        let model = LinearConfig::new(3, 2).init(&devices[0]).no_grad();
        let table = Arc::new(ParamTable::of(&model));
        let mut replicas = Replicas::<Nothing>::start(&devices, Transport::Host, &table);
        let replicas = replicas.as_mut().expect("a thread");
        assert!(replicas.load(&model).is_ok());
        assert_eq!(replicas.apart(&model).ok(), Some(None));
        let other = LinearConfig::new(3, 2).init(&devices[0]).no_grad();
        assert_eq!(
            replicas.apart(&other).ok(),
            Some(Some((1, "weight".to_owned())))
        );
    }

    #[test]
    fn replicas_follow_the_trainers_model_to_the_bit_and_stay_on_the_tape() {
        let (mut replicas, model) = two_replicas();
        let (moved, followed) = replicas.follow(flipped(&model));
        assert!(followed.is_ok());
        assert_eq!(replicas.apart(&moved).ok(), Some(None));
        assert!(moved.weight.is_require_grad());
        let pass = replicas.pass(0, 1, 2);
        let theirs = replicas.backward(&Arc::new(Nothing), &pass, [vec![(1, ())]]);
        // The bias takes no part in the loss.
        assert_eq!(replicas.wait(theirs).ok(), Some(vec![vec![true, false]]));
        let proven = replicas.ask(|| |replica| replica.prove());
        assert_eq!(replicas.wait_for(proven).ok(), Some(vec![()]));
    }
}
