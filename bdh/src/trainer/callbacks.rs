//! Calls hooks: only those that were written, only when due, and without letting one harm another.

mod owners;

use crate::cadence::Cadence;
use crate::callback::{Callback, Event, OnError};
use crate::checkpoint::{self, Checkpoint};
use crate::clock::Clock;
use crate::config_change;
use crate::error::{ConfigError, TrainError};
use crate::failure::{BoxError, panic_text, with_causes};
use crate::hook::{Hook, Hooks};
use crate::outcome::Problem;
use crate::overhead::OverheadRow;
use crate::params::{self, ParamTable, Tensors};
use crate::plan::{Metrics, Outlook, Plan};
use burn::tensor::Device;
use owners::Owners;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// The callbacks of a run, in order of registration.
#[derive(Default)]
pub(crate) struct Callbacks {
    slots: Vec<Slot>,
    /// Hooks of the callbacks that are due on this step, and those that are always called.
    wanted: Hooks,
    /// Whether somebody due on this step wants activations.
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
            let cost = OverheadRow {
                name,
                ..OverheadRow::default()
            };
            slots.push(Slot {
                callback,
                hooks,
                cadence,
                is_due: false,
                is_off: false,
                cost,
            });
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

    /// Asks each whether it can do its work in the planned run, and adds what they note to the plan.
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
            let name = &slot.cost.name;
            notes.extend(
                run.notes
                    .take()
                    .into_iter()
                    .map(|note| format!("`{name}` {note}")),
            );
        }
        plan.notes.extend(notes);
        Ok(())
    }

    /// Keeps keys that the trainer records from the callbacks.
    pub(crate) fn keep_for_trainer(&mut self, keys: impl IntoIterator<Item = String>) {
        self.owners.add_trainers(keys);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &dyn Callback> {
        self.slots.iter().map(|slot| &*slot.callback)
    }

    /// The settings of each that tells any, by name, for the run's configuration.
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
    pub(crate) fn select_due(&mut self, previous: Option<&Clock>, now: &Clock, steps: u64) {
        self.select(previous.is_some(), |cadence| {
            cadence.is_due(previous, now, steps)
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
    pub(crate) fn fire<E: Event>(&mut self, event: &E) -> Result<(), TrainError> {
        let (hook, log, step) = (E::HOOK, event.cx().step_log, event.cx().step());
        let always = hook.is_always_called();
        let mut aborted = Ok(());
        let mut clashes = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.is_off || !slot.hooks.contains(hook) || !(slot.is_due || always) {
                continue;
            }
            log.caller.borrow_mut().clone_from(&slot.cost.name);
            let reads = log.reads.get();
            let from = log.len();
            let began = Instant::now();
            let result = catch_unwind(AssertUnwindSafe(|| event.call(&mut *slot.callback)));
            let took = began.elapsed();
            slot.cost.host += took;
            slot.cost.host_when_due += if always { Duration::ZERO } else { took };
            slot.cost.reads += log.reads.get() - reads;
            slot.cost.calls += 1;
            let clash = log.with_logged(|logged| self.owners.take_out(index, logged, from));
            clashes.extend(clash.map(|clash| (index, clash)));
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
                let abort = TrainError::Callback {
                    callback,
                    hook,
                    step,
                    source: error,
                };
                aborted = aborted.and(Err(abort));
                continue;
            }
            log.problems.borrow_mut().push(Problem {
                who: callback,
                during: hook.name().to_owned(),
                step,
                error: with_causes(&*error),
                consequence: "it is switched off, and the run goes on without it".to_owned(),
            });
        }
        for (who, (key, owner)) in clashes {
            let owner = owner.map_or("the trainer".to_owned(), |owner| {
                format!("`{}`", self.slots[owner].cost.name)
            });
            let who = &self.slots[who].cost.name;
            log.problems
                .borrow_mut()
                .push(owners::problem(who, &owner, &key, hook.name(), step));
        }
        aborted
    }

    /// The state of every callback that has one, by name.
    pub(crate) fn states(&self) -> BTreeMap<String, Value> {
        let states = self
            .slots
            .iter()
            .map(|slot| (slot.cost.name.clone(), slot.callback.state()));
        states.filter(|(_, state)| !state.is_null()).collect()
    }

    /// The copy of the parameters of every callback that keeps one, by name.
    pub(crate) fn copies(&self, table: &ParamTable) -> Result<BTreeMap<String, Tensors>, String> {
        let slots = self.slots.iter();
        let copies = slots.filter_map(|slot| Some((&slot.cost.name, slot.callback.weights()?)));
        copies
            .map(|(name, copy)| Ok((name.clone(), params::capture_copy(copy, table)?)))
            .collect()
    }

    /// Gives the copies back; strict about one that no callback keeps, unless that callback may be gone.
    pub(crate) fn load_copies(
        &mut self,
        saved: &mut Checkpoint,
        (table, device): (&ParamTable, &Device),
        allowed: &[String],
    ) -> Result<(), String> {
        for slot in &mut self.slots {
            let name = &slot.cost.name;
            let Some(copy) = saved.take_copy(name) else {
                continue;
            };
            let copy = params::restore_copy(copy, table, device)
                .map_err(|what| format!("the weights of callback `{name}`: {what}"))?;
            slot.callback
                .load_weights(copy)
                .map_err(|error| format!("the weights of callback `{name}`: {error}"))?;
        }
        // A checkpoint has the names of files, which are plainer than those of callbacks.
        let is_allowed = |gone: &str| {
            let mut names = allowed
                .iter()
                .filter_map(|key| key.strip_prefix("callbacks."));
            config_change::is_allowed(allowed, &format!("callbacks.{gone}"))
                || names.any(|name| checkpoint::name_in_file(name) == gone)
        };
        match saved.copies.keys().find(|name| !is_allowed(name)) {
            Some(name) => Err(format!(
                "this run has no callback `{name}`, which keeps weights"
            )),
            None => Ok(()),
        }
    }

    /// Gives the states back. One that is missing, or that no callback knows, is refused, unless that callback is
    /// allowed to differ; then a note is returned.
    pub(crate) fn load_states(
        &mut self,
        mut states: BTreeMap<String, Value>,
        allowed: &[String],
    ) -> Result<Vec<String>, String> {
        let slots = self.slots.iter_mut().map(|slot| {
            let Slot { callback, cost, .. } = slot;
            (cost.name.clone(), callback)
        });
        let kind = Stateful {
            kind: "callback",
            group: "callbacks",
            allowed,
        };
        let mut notes = Vec::new();
        for (name, callback) in slots {
            match states.remove(&name) {
                Some(state) => {
                    callback
                        .load_state(state)
                        .map_err(|error| kind.unfit(&name, &*error))?;
                }
                None if callback.state().is_null() => {}
                None => notes.push(kind.is_new(&name)?),
            }
        }
        for name in states.into_keys() {
            notes.push(kind.is_gone(&name)?);
        }
        Ok(notes)
    }
}

/// A kind of thing whose states a checkpoint holds by name: callbacks, or interventions.
pub(super) struct Stateful<'a> {
    pub(super) kind: &'static str,
    /// Where the configuration has them.
    pub(super) group: &'static str,
    pub(super) allowed: &'a [String],
}

impl Stateful<'_> {
    /// The error for a state that is not taken.
    pub(super) fn unfit(&self, name: &str, error: &(dyn std::error::Error + 'static)) -> String {
        format!(
            "the state of {} `{name}`: {}",
            self.kind,
            with_causes(error)
        )
    }

    /// The note on one that the checkpoint does not know, if that is allowed.
    pub(super) fn is_new(&self, name: &str) -> Result<String, String> {
        let kind = self.kind;
        self.allow(name, &format!("it has no state for {kind} `{name}`"))?;
        Ok(format!(
            "{kind} `{name}` starts anew: the checkpoint has no state of it"
        ))
    }

    /// The note on one that this run does not have, if that is allowed.
    pub(super) fn is_gone(&self, name: &str) -> Result<String, String> {
        let kind = self.kind;
        self.allow(name, &format!("this run has no {kind} `{name}`"))?;
        Ok(format!(
            "the checkpoint's state of {kind} `{name}` is dropped: this run has none of that name"
        ))
    }

    fn allow(&self, name: &str, what: &str) -> Result<(), String> {
        let key = format!("{}.{name}", self.group);
        if config_change::is_allowed(self.allowed, &key) {
            return Ok(());
        }
        Err(format!(
            "{what}; `.allow_changed([{key:?}])` resumes without it"
        ))
    }
}
