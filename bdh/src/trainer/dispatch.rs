//! Calls hooks: only those that were written, only when due, and without letting one harm another.

use crate::callback::{Callback, Hook, Hooks, OnError};
use crate::checkpoint::{Checkpoint, CheckpointError, Tensors};
use crate::event::{ALWAYS, Bus};
use crate::outcome::{Problem, chain};
use crate::overhead::OverheadRow;
use crate::params::{self, ParamTable};
use crate::sink::panic_text;
use crate::{BoxError, Cadence, Clock, ConfigError, HookResult, TrainError};
use burn::tensor::Device;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// The callbacks of a run, in order of registration.
#[derive(Default)]
pub(crate) struct Callbacks {
    slots: Vec<Slot>,
    /// The hooks that somebody due on this step has written, and those that are always called.
    wanted: Hooks,
    /// Whether somebody due on this step wants activations.
    pub(crate) listening: bool,
    /// Failures that nobody has been told of yet.
    pub(crate) untold: Vec<Problem>,
}

struct Slot {
    callback: Box<dyn Callback>,
    hooks: Hooks,
    cadence: Cadence,
    is_due: bool,
    is_off: bool,
    cost: OverheadRow,
}

impl Callbacks {
    /// Takes the callbacks that have a hook at all; refuses two of one name.
    pub(crate) fn new(callbacks: Vec<Box<dyn Callback>>) -> Result<Self, ConfigError> {
        let mut slots: Vec<Slot> = Vec::new();
        for callback in callbacks {
            let (name, hooks) = (callback.name(), callback.hooks());
            if hooks == Hooks::NONE {
                continue;
            }
            if slots.iter().any(|known| known.cost.name == name) {
                return Err(ConfigError::DuplicateCallback { name });
            }
            let cadence = callback.cadence();
            let cost = OverheadRow { name, ..OverheadRow::default() };
            slots.push(Slot { callback, hooks, cadence, is_due: false, is_off: false, cost });
        }
        Ok(Self { slots, ..Self::default() })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &dyn Callback> {
        self.slots.iter().map(|slot| &*slot.callback)
    }

    /// The settings of each that tells any, by name, for the run's configuration.
    pub(crate) fn configs(&self) -> Map<String, Value> {
        let configs = self.iter().map(|callback| (callback.name(), callback.config()));
        configs.filter(|(_, settings)| !settings.is_null()).collect()
    }

    pub(crate) fn costs(&self) -> Vec<OverheadRow> {
        self.slots.iter().map(|slot| slot.cost.clone()).collect()
    }

    /// Decides who is due on the step that ends at `now`.
    pub(crate) fn look_at(&mut self, previous: Option<&Clock>, now: &Clock, steps: u64) {
        self.call_up(|cadence| cadence.is_due(previous, now, steps));
        for slot in self.slots.iter_mut().filter(|slot| slot.is_due && !slot.is_off) {
            slot.cost.due += u64::from(previous.is_some()); // the untrained model is no step
        }
    }

    /// Has everybody act on what comes next, whatever the cadence.
    pub(crate) fn look_at_all(&mut self) {
        self.call_up(|_| true);
    }

    fn call_up(&mut self, is_due: impl Fn(&Cadence) -> bool) {
        self.wanted = Hooks::NONE;
        self.listening = false;
        for slot in self.slots.iter_mut().filter(|slot| !slot.is_off) {
            slot.is_due = is_due(&slot.cadence);
            let always = ALWAYS.iter().filter(|hook| slot.hooks.contains(**hook));
            let wanted = if slot.is_due {
                slot.hooks
            } else {
                always.fold(Hooks::NONE, |hooks, hook| hooks.with(*hook))
            };
            self.wanted = self.wanted.union(wanted);
            self.listening |= slot.is_due && slot.callback.listens();
        }
    }

    /// Whether anybody will be called for a hook on this step; if not, its inputs need not be made.
    pub(crate) fn want(&self, hook: Hook) -> bool {
        self.wanted.contains(hook)
    }

    /// Calls a hook of everybody who is due, times it, and treats failures and panics by policy.
    ///
    /// One that aborts the run does so when everybody has been called.
    pub(crate) fn fire(
        &mut self,
        hook: Hook,
        bus: &Bus,
        step: u64,
        mut call: impl FnMut(&mut dyn Callback) -> HookResult,
    ) -> Result<(), TrainError> {
        let always = ALWAYS.contains(&hook);
        let mut aborted = Ok(());
        for slot in &mut self.slots {
            if slot.is_off || !slot.hooks.contains(hook) || !(slot.is_due || always) {
                continue;
            }
            bus.speaker.borrow_mut().clone_from(&slot.cost.name);
            let reads = bus.reads.get();
            let began = Instant::now();
            let result = catch_unwind(AssertUnwindSafe(|| call(&mut *slot.callback)));
            let took = began.elapsed();
            slot.cost.host += took;
            slot.cost.host_when_due += if always { Duration::ZERO } else { took };
            slot.cost.reads += bus.reads.get() - reads;
            slot.cost.calls += 1;
            let error: BoxError = match result {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error,
                Err(panic) => format!("it panicked: {}", panic_text(&*panic)).into(),
            };
            slot.cost.errors += 1;
            slot.is_off = true;
            let callback = slot.cost.name.clone();
            if slot.callback.on_error() == OnError::Abort {
                let hook = hook.name();
                let abort = TrainError::Callback { callback, hook, step, source: error };
                aborted = aborted.and(Err(abort));
                continue;
            }
            self.untold.push(Problem {
                who: callback,
                during: hook.name().to_owned(),
                step,
                error: chain(&*error),
                consequence: "it is switched off, and the run goes on without it".to_owned(),
            });
        }
        aborted
    }

    /// The state of every callback that has one, by name.
    pub(crate) fn states(&self) -> BTreeMap<String, Value> {
        let states = self.slots.iter().map(|slot| (slot.cost.name.clone(), slot.callback.state()));
        states.filter(|(_, state)| !state.is_null()).collect()
    }

    /// The copy of the parameters of every callback that keeps one, by name.
    pub(crate) fn copies(&self, table: &ParamTable) -> Result<BTreeMap<String, Tensors>, String> {
        let slots = self.slots.iter();
        let copies = slots.filter_map(|slot| Some((&slot.cost.name, slot.callback.weights()?)));
        copies.map(|(name, copy)| Ok((name.clone(), params::capture_copy(copy, table)?))).collect()
    }

    /// Gives the copies back; strict about one that nobody keeps.
    pub(crate) fn load_copies(
        &mut self,
        saved: &mut Checkpoint,
        table: &ParamTable,
        device: &Device,
    ) -> Result<(), String> {
        for slot in &mut self.slots {
            let name = &slot.cost.name;
            let Some(copy) = saved.take_copy(name) else { continue };
            let copy = params::restore_copy(copy, table, device)
                .map_err(|what| format!("the weights of callback `{name}`: {what}"))?;
            slot.callback
                .load_weights(copy)
                .map_err(|error| format!("the weights of callback `{name}`: {error}"))?;
        }
        match saved.copies.keys().next() {
            Some(name) => Err(format!("this run has no callback `{name}`, which keeps weights")),
            None => Ok(()),
        }
    }

    /// Gives the states back; strict about one that is missing or that nobody knows.
    pub(crate) fn load_states(
        &mut self,
        path: &Path,
        mut states: BTreeMap<String, Value>,
    ) -> Result<(), CheckpointError> {
        let mismatch = |what| CheckpointError::Mismatch { path: path.to_owned(), what };
        for slot in &mut self.slots {
            let name = &slot.cost.name;
            match states.remove(name) {
                Some(state) => slot
                    .callback
                    .load_state(state)
                    .map_err(|e| mismatch(format!("the state of callback `{name}`: {e}")))?,
                None if slot.callback.state().is_null() => {}
                None => return Err(mismatch(format!("it has no state for callback `{name}`"))),
            }
        }
        match states.into_keys().next() {
            Some(name) => Err(mismatch(format!("this run has no callback `{name}`"))),
            None => Ok(()),
        }
    }
}
