//! Data parallel training: a replica of the model on each device, fed with its part of every step's micro-batches.
//!
//! The trainer's own model is the first replica and stays on the trainer's thread; each other one has a thread. All
//! replicas compute gradients at once, get the same sum of them all, and take the same step, so that their weights stay
//! equal to the bit. What decides (data, schedules, interventions, stopping) is done once, by the trainer.

mod reduce;
mod replica;
mod worker;

pub(crate) use reduce::Reduction;
pub(crate) use replica::Update;

use crate::device;
use crate::optim::Optimizers;
use crate::params::{self, ParamTable};
use crate::pass::{Pass, Sums};
use crate::task::{Task, Totals};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use reduce::{Exchanged, Present};
use replica::Replica;
use std::sync::{Arc, Mutex};
use worker::{Pending, Worker};

/// All replicas but the first.
pub(crate) struct Replicas<T: Task> {
    workers: Vec<Worker<Replica<T::Model>>>,
    table: Arc<ParamTable>,
    reduction: Reduction,
    /// See [`Pass`].
    draws: Option<Arc<Mutex<()>>>,
}

/// A replica that failed: its number, from 1, and what it said.
pub(crate) struct Lost {
    pub(crate) replica: usize,
    pub(crate) text: String,
}

/// What the replicas are at.
pub(crate) struct Answers<R>(Vec<Pending<R>>);

impl<T: Task> Replicas<T> {
    /// None: a run on one device.
    pub(crate) fn none(table: &Arc<ParamTable>) -> Self {
        let table = Arc::clone(table);
        Self { workers: Vec::new(), table, reduction: Reduction::Host, draws: None }
    }

    /// A replica on every device but the first, which has the trainer's own.
    pub(crate) fn start(
        (devices, reduction): (&[Device], Reduction),
        (model, optimizers): (&T::Model, &Optimizers),
        table: &Arc<ParamTable>,
    ) -> Result<Self, String> {
        let shared = devices.iter().enumerate().any(|(at, device)| devices[..at].contains(device));
        let mut replicas =
            Self { reduction, draws: shared.then(Arc::default), ..Self::none(table) };
        for (number, device) in devices.iter().enumerate().skip(1) {
            let replica = Replica::of(model, optimizers, device, table)?;
            let worker = Worker::start(format!("replica {number}"), replica);
            replicas.workers.push(worker.map_err(|error| error.to_string())?);
        }
        Ok(replicas)
    }

    /// How many replicas there are, the trainer's own included.
    pub(crate) fn count(&self) -> usize {
        self.workers.len() + 1
    }

    /// The passes of a step of `count` micro-batches.
    pub(crate) fn pass(&self, seed: u64, step: u64, count: usize) -> Pass {
        Pass { seed, step, count, draws: self.draws.clone() }
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

    /// The sums of all replicas, which each of them has from now on; `own` are the trainer's.
    ///
    /// On the host that is one device read for each replica; with NCCL none.
    pub(crate) fn reduce(
        &mut self,
        theirs: Answers<Present>,
        own: Sums,
        (model, device): (&T::Model, &Device),
    ) -> Result<Sums, Lost> {
        if self.workers.is_empty() {
            return Ok(own);
        }
        let mut wanted = reduce::present(&own.grads, model);
        for present in self.wait(theirs)? {
            wanted.iter_mut().zip(present).for_each(|(wanted, present)| *wanted |= present);
        }
        let wanted = Arc::new(wanted);
        match self.reduction.clone() {
            Reduction::Host => self.reduce_on_host(&wanted, &own, (model, device)),
            Reduction::Nccl(devices) => {
                let answers = self.ask(|| {
                    let (wanted, devices) = (Arc::clone(&wanted), devices.clone());
                    move |replica| replica.exchange(&wanted, &devices)
                });
                let sums = self.exchanged(model, &wanted).exchange(&own, &devices);
                self.wait(answers).map(|_| sums)
            }
        }
    }

    fn reduce_on_host(
        &mut self,
        wanted: &Arc<Present>,
        own: &Sums,
        (model, device): (&T::Model, &Device),
    ) -> Result<Sums, Lost> {
        let answers = self.ask(|| {
            let wanted = Arc::clone(wanted);
            move |replica| replica.read(&wanted)
        });
        let own =
            self.exchanged(model, wanted).read(own).map_err(|text| Lost { replica: 0, text })?;
        let all = std::iter::once(own).chain(self.wait_for(answers)?);
        let sums = Arc::new(reduce::sum(all));
        let answers = self.ask(|| {
            let (wanted, sums) = (Arc::clone(wanted), Arc::clone(&sums));
            move |replica| replica.put(&wanted, &sums)
        });
        let own = self.exchanged(model, wanted).put(&sums, device);
        self.wait(answers).map(|_| own)
    }

    fn exchanged<'a>(
        &'a self,
        model: &'a T::Model,
        wanted: &'a Present,
    ) -> Exchanged<'a, T::Model> {
        Exchanged { model, table: &self.table, wanted }
    }

    /// Gradients that interventions have replaced, for the others; one device read.
    pub(crate) fn replaced(
        &self,
        grads: &GradientsParams,
        model: &T::Model,
    ) -> Result<replica::Replaced, Lost> {
        let wanted = reduce::present(grads, model);
        let values = self.exchanged(model, &wanted).read_gradients(grads, &device::of(model));
        values.map(|values| (wanted, values)).map_err(|text| Lost { replica: 0, text })
    }

    /// Has the replicas take the step.
    pub(crate) fn update(&self, update: Update) -> Answers<()> {
        let update = Arc::new(update);
        self.ask(|| {
            let update = Arc::clone(&update);
            move |replica| replica.update(&update)
        })
    }

    /// Has the replicas evaluate their part of the validation batches.
    pub(crate) fn eval(&self, task: &Arc<T>) -> Answers<Result<replica::HostTotals, String>> {
        let indices = self.deal(0..task.val_batches().len()).into_iter().skip(1);
        let ask = |(worker, share): (&Worker<_>, Vec<(usize, usize)>)| {
            let task = Arc::clone(task);
            worker.ask(move |replica: &mut Replica<_>| replica.eval(&*task, &share))
        };
        Answers(self.workers.iter().zip(indices).map(ask).collect())
    }

    /// Adds what the replicas have found to the trainer's own totals.
    pub(crate) fn add_up(
        &mut self,
        theirs: Answers<Result<replica::HostTotals, String>>,
        totals: &mut Totals,
        device: &Device,
    ) -> Result<(), Lost> {
        for (name, sum, weight) in self.wait_for(theirs)?.into_iter().flatten() {
            totals.add(name, Tensor::from_floats([sum], &device.clone().inner()), weight);
        }
        Ok(())
    }

    /// The first replica whose weights differ from the trainer's, if there is one, and the parameter.
    ///
    /// All weights are read, by every replica from its own device.
    pub(crate) fn apart(&mut self, model: &T::Model) -> Result<Option<(usize, String)>, Lost> {
        let answers = self.ask(|| |replica| replica.digests());
        let own = params::digests(model).map_err(|text| Lost { replica: 0, text })?;
        let theirs = self.wait_for(answers)?;
        let mut all = theirs.iter().enumerate();
        Ok(all.find_map(|(index, digests)| {
            let parameter = own.iter().zip(digests).position(|(own, digest)| own != digest)?;
            Some((index + 1, self.table[parameter].name.clone()))
        }))
    }

    fn ask<R: Send + 'static, J>(&self, job: impl Fn() -> J) -> Answers<R>
    where
        J: FnOnce(&mut Replica<T::Model>) -> R + Send + 'static,
    {
        Answers(self.workers.iter().map(|worker| worker.ask(job())).collect())
    }

    /// Waits for the replicas.
    pub(crate) fn wait<R>(&mut self, answers: Answers<R>) -> Result<Vec<R>, Lost> {
        let answers = answers.0.into_iter().enumerate();
        let answers = answers
            .map(|(index, answer)| answer.wait().map_err(|text| Lost { replica: index + 1, text }));
        let answers: Result<Vec<R>, Lost> = answers.collect();
        if answers.is_err() {
            // The others may wait for the one that is lost, on a device, forever.
            self.workers.iter_mut().for_each(Worker::abandon);
        }
        answers
    }

    /// The same where a device may have refused to be read.
    fn wait_for<R>(&mut self, answers: Answers<Result<R, String>>) -> Result<Vec<R>, Lost> {
        let answers = self.wait(answers)?.into_iter().enumerate();
        answers
            .map(|(index, answer)| answer.map_err(|text| Lost { replica: index + 1, text }))
            .collect()
    }
}
