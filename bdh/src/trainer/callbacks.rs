//! Calls of hooks: only hooks that were written, only when due, each isolated from the failures of others.

mod owners;

use crate::cadence::Cadence;
use crate::callback::{Callback, ErrorPolicy, Event};
use crate::checkpoint::{self, Checkpoint};
use crate::clock::{Clock, RunLength};
use crate::config_change;
use crate::device_read::DeviceError;
use crate::error::{ConfigError, TrainError};
use crate::failure::{BoxError, panic_text, with_causes};
use crate::hook::{Hook, Hooks};
use crate::outcome::Warning;
use crate::overhead::OverheadRow;
use crate::params::{self, Mismatch, ParamTable, Tensors};
use crate::plan::{Metrics, Outlook, Plan};
use burn::tensor::Device;
use owners::Owners;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// The callbacks of a run, in order of registration.
#[derive(Default)]
pub(crate) struct Callbacks {
    slots: Vec<Slot>,
    /// Hooks of the callbacks that are due on this step, and those that are always called.
    wanted: Hooks,
    /// Whether a callback that is due on this step wants activations.
    pub(crate) listening: bool,
    owners: Owners,
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
    /// Keeps the callbacks that have a hook; refuses two of one name.
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
            slots.push(Slot::new(name, hooks, callback));
        }
        let mut owners = Owners::default();
        for (index, slot) in slots.iter().enumerate() {
            owners.add_announced(index, slot.callback.keys());
        }
        Ok(Self {
            slots,
            owners,
            ..Self::default()
        })
    }

    /// Checks that each callback can work in the planned run, and adds the callbacks' notes to the plan.
    pub(crate) fn check(
        &self,
        plan: &mut Plan,
        has_run_dir: bool,
        metrics: &Metrics<'_>,
    ) -> Result<(), ConfigError> {
        let mut notes = Vec::new();
        let first = plan.rows.len() - self.slots.len(); // before them are the trainer's own rows
        for (index, slot) in self.slots.iter().enumerate() {
            let row = first + index;
            let run = Outlook {
                plan,
                row,
                has_run_dir,
                metrics,
                notes: RefCell::default(),
            };
            slot.callback
                .check(&run)
                .map_err(|source| ConfigError::Callback {
                    name: slot.cost.name.clone(),
                    source,
                })?;
            for note in run.notes.take() {
                notes.push(format!("`{}` {note}", slot.cost.name));
            }
        }
        plan.notes.extend(notes);
        Ok(())
    }

    /// Reserves keys for the trainer.
    pub(crate) fn keep_for_trainer(&mut self, keys: impl IntoIterator<Item = String>) {
        self.owners.add_trainers(keys);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &dyn Callback> {
        self.slots.iter().map(|slot| &*slot.callback)
    }

    /// Returns the settings of each callback that has any, by name, for the run's configuration.
    pub(crate) fn configs(&self) -> Map<String, Value> {
        let configs = self
            .iter()
            .map(|callback| (callback.name(), callback.config()));
        configs
            .filter(|(_, settings)| !settings.is_null())
            .collect()
    }

    pub(crate) fn costs(&self) -> Vec<OverheadRow> {
        self.slots.iter().map(|slot| slot.cost.clone()).collect()
    }

    /// Decides which callbacks are due on the step that ends at `now`.
    pub(crate) fn select_due(&mut self, previous: Option<&Clock>, now: &Clock, length: RunLength) {
        self.select(previous.is_some(), |cadence| {
            cadence.is_due(previous, now, length)
        });
    }

    /// Makes all callbacks due, whatever their cadence.
    pub(crate) fn select_all(&mut self) {
        self.select(true, |_| true);
    }

    fn select(&mut self, in_training: bool, is_due: impl Fn(&Cadence) -> bool) {
        self.wanted = Hooks::NONE;
        self.listening = false;
        for slot in self.slots.iter_mut().filter(|slot| !slot.is_off) {
            slot.is_due = is_due(&slot.cadence);
            slot.cost.due += u64::from(slot.is_due && in_training);
            let wanted = if slot.is_due {
                slot.hooks
            } else {
                slot.hooks.always_called()
            };
            self.wanted = self.wanted.union(wanted);
            self.listening |= slot.is_due && slot.callback.wants_activations();
        }
    }

    /// Whether any callback will be called for a hook on this step. If not, the event need not be built.
    pub(crate) fn want(&self, hook: Hook) -> bool {
        self.wanted.contains(hook)
    }

    /// Calls the hook of an event on every callback that is due, and applies the error policies to failures and panics.
    ///
    /// # Errors
    ///
    /// [`TrainError::Callback`] of the first callback whose policy is to abort, after all of them have been called.
    pub(crate) fn fire<E: Event>(&mut self, event: &E) -> Result<(), TrainError> {
        let mut aborted = Ok(());
        let mut clashes = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if !slot.is_called_for(E::HOOK) {
                continue;
            }
            let log = event.ctx().step_log;
            let first = log.len();
            let called = slot.call(event);
            let clash = log.with_logged(|logged| self.owners.take_out(index, logged, first));
            if let Some((key, owner)) = clash {
                clashes.push(Clash { index, key, owner });
            }
            if let Err(error) = called
                && let Err(abort) = slot.fail(event, error)
            {
                aborted = aborted.and(Err(abort));
            }
        }
        self.warn_of_clashes(&clashes, event);
        aborted
    }

    fn warn_of_clashes<E: Event>(&self, clashes: &[Clash], event: &E) {
        for clash in clashes {
            let warning = self.clash_warning(clash, E::HOOK, event.ctx().step());
            event.ctx().step_log.warnings.borrow_mut().push(warning);
        }
    }

    fn clash_warning(&self, clash: &Clash, hook: Hook, step: u64) -> Warning {
        let name = |index: usize| &self.slots[index].cost.name;
        let owner = match clash.owner {
            Some(owner) => format!("`{}`", name(owner)),
            None => "the trainer".to_owned(),
        };
        owners::warning(name(clash.index), &owner, &clash.key, hook.name(), step)
    }

    /// Returns the state of every callback that has one, by name.
    pub(crate) fn states(&self) -> BTreeMap<String, Value> {
        let states = self
            .slots
            .iter()
            .map(|slot| (slot.cost.name.clone(), slot.callback.state()));
        states.filter(|(_, state)| !state.is_null()).collect()
    }

    /// Returns the copy of the parameters of every callback that keeps one, by name.
    pub(crate) fn copies(
        &self,
        table: &ParamTable,
    ) -> Result<BTreeMap<String, Tensors>, DeviceError> {
        let slots = self.slots.iter();
        let copies = slots.filter_map(|slot| Some((&slot.cost.name, slot.callback.weights()?)));
        copies
            .map(|(name, copy)| Ok((name.clone(), params::capture_copy(copy, table)?)))
            .collect()
    }

    /// Restores the copies of the parameters. A copy that no callback keeps is refused, unless that callback may be gone.
    pub(crate) fn load_copies(
        &mut self,
        saved: &mut Checkpoint,
        (table, device): (&ParamTable, &Device),
        allowed: &[String],
    ) -> Result<(), Mismatch> {
        for slot in &mut self.slots {
            if let Some(copy) = saved.take_copy(&slot.cost.name) {
                slot.load_copy(copy, table, device)?;
            }
        }
        for name in saved.copies.keys() {
            if !may_be_gone(name, allowed) {
                let what = format!("this run has no callback `{name}`, which keeps weights");
                return Err(Mismatch::new(what));
            }
        }
        Ok(())
    }

    /// Restores the states. A state that is missing, or that no callback knows, is refused, unless that callback may
    /// differ; then a note is returned.
    pub(crate) fn load_states(
        &mut self,
        mut states: BTreeMap<String, Value>,
        allowed: &[String],
    ) -> Result<Vec<String>, Mismatch> {
        let kind = Stateful {
            kind: "callback",
            group: "callbacks",
            allowed,
        };
        let mut notes = Vec::new();
        for Slot { callback, cost, .. } in &mut self.slots {
            let name = &cost.name;
            match states.remove(name) {
                Some(state) => {
                    callback
                        .load_state(state)
                        .map_err(|error| kind.unfit(name, &*error))?;
                }
                None if callback.state().is_null() => {}
                None => notes.push(kind.is_new(name)?),
            }
        }
        notes.extend(kind.are_gone(states)?);
        Ok(notes)
    }
}

/// Whether a callback whose copy a checkpoint holds may be missing from this run.
fn may_be_gone(name: &str, allowed: &[String]) -> bool {
    if config_change::is_allowed(allowed, &format!("callbacks.{name}")) {
        return true;
    }
    // A checkpoint has the names of files, which are plainer than those of callbacks.
    allowed
        .iter()
        .filter_map(|key| key.strip_prefix("callbacks."))
        .any(|callback| checkpoint::name_in_file(callback) == name)
}

fn unfit_weights(name: &str, error: &dyn std::error::Error) -> Mismatch {
    Mismatch::new(format!("the weights of callback `{name}`: {error}"))
}

impl Slot {
    fn new(name: String, hooks: Hooks, callback: Box<dyn Callback>) -> Self {
        let cadence = callback.cadence();
        let cost = OverheadRow {
            name,
            ..OverheadRow::default()
        };
        Self {
            callback,
            hooks,
            cadence,
            is_due: false,
            is_off: false,
            cost,
        }
    }

    fn is_called_for(&self, hook: Hook) -> bool {
        let is_due = self.is_due || hook.is_always_called();
        is_due && !self.is_off && self.hooks.contains(hook)
    }

    /// Restores the callback's copy of the parameters.
    fn load_copy(
        &mut self,
        copy: Tensors,
        table: &ParamTable,
        device: &Device,
    ) -> Result<(), Mismatch> {
        let name = &self.cost.name;
        let weights = params::restore_copy(copy, table, device)
            .map_err(|error| unfit_weights(name, &error))?;
        self.callback
            .load_weights(weights)
            .map_err(|error| unfit_weights(name, &*error))
    }

    /// Calls the hook of an event, measures its cost, and turns a panic into an error.
    fn call<E: Event>(&mut self, event: &E) -> Result<(), BoxError> {
        let log = event.ctx().step_log;
        log.caller.borrow_mut().clone_from(&self.cost.name);
        let reads = log.reads.get();
        let began = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| event.call(&mut *self.callback)));
        let took = began.elapsed();
        self.cost.host += took;
        if !E::HOOK.is_always_called() {
            self.cost.host_when_due += took;
        }
        self.cost.reads += log.reads.get() - reads;
        self.cost.calls += 1;
        result.unwrap_or_else(|panic| Err(format!("it panicked: {}", panic_text(&*panic)).into()))
    }

    /// Switches the callback off after a failure, which becomes a warning, or the error of the run.
    fn fail<E: Event>(&mut self, event: &E, error: BoxError) -> Result<(), TrainError> {
        self.cost.errors += 1;
        self.is_off = true;
        let (callback, hook) = (self.cost.name.clone(), E::HOOK.name());
        let step = event.ctx().step();
        if self.callback.error_policy() == ErrorPolicy::Abort {
            return Err(TrainError::Callback {
                callback,
                hook,
                step,
                source: error,
            });
        }
        let warning = Warning {
            source: callback,
            phase: hook.to_owned(),
            step,
            cause: with_causes(&*error),
            consequence: "it is switched off, and the run continues without it".to_owned(),
        };
        event.ctx().step_log.warnings.borrow_mut().push(warning);
        Ok(())
    }
}

/// A value that a callback logged under a key of another owner.
struct Clash {
    /// The place of the callback.
    index: usize,
    key: String,
    /// The place of the owner; `None` is the trainer.
    owner: Option<usize>,
}

/// A kind of thing whose states a checkpoint holds by name: callbacks, or interventions.
pub(super) struct Stateful<'a> {
    pub(super) kind: &'static str,
    /// Their group in the configuration.
    pub(super) group: &'static str,
    pub(super) allowed: &'a [String],
}

impl Stateful<'_> {
    /// Returns the error for a state that was refused.
    pub(super) fn unfit(&self, name: &str, error: &(dyn std::error::Error + 'static)) -> Mismatch {
        Mismatch::new(format!(
            "the state of {} `{name}`: {}",
            self.kind,
            with_causes(error)
        ))
    }

    /// Returns the note on a callback that the checkpoint does not know, if that is allowed.
    pub(super) fn is_new(&self, name: &str) -> Result<String, Mismatch> {
        let kind = self.kind;
        self.allow(name, &format!("it has no state for {kind} `{name}`"))?;
        Ok(format!(
            "{kind} `{name}` starts anew: the checkpoint has no state of it"
        ))
    }

    /// Returns the notes on the states that this run has no use for, if they are allowed.
    pub(super) fn are_gone(
        &self,
        states: BTreeMap<String, Value>,
    ) -> Result<Vec<String>, Mismatch> {
        let mut notes = Vec::new();
        for name in states.into_keys() {
            notes.push(self.is_gone(&name)?);
        }
        Ok(notes)
    }

    fn is_gone(&self, name: &str) -> Result<String, Mismatch> {
        let kind = self.kind;
        self.allow(name, &format!("this run has no {kind} `{name}`"))?;
        Ok(format!(
            "the checkpoint's state of {kind} `{name}` is dropped: this run has none of that name"
        ))
    }

    fn allow(&self, name: &str, what: &str) -> Result<(), Mismatch> {
        let key = format!("{}.{name}", self.group);
        if config_change::is_allowed(self.allowed, &key) {
            return Ok(());
        }
        Err(Mismatch::new(format!(
            "{what}; `.allow_changed([{key:?}])` resumes without it"
        )))
    }
}
