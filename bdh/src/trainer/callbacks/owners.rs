//! Ownership of keys: each key of a record has one callback, or the trainer.

use crate::outcome::Warning;
use crate::record::Logged;
use std::collections::{HashMap, HashSet};

/// The owner of each key: the trainer, else the callback that announces the key, else the first to record it.
#[derive(Default)]
pub(super) struct Owners {
    /// Each key's owner, as a place among the callbacks; `None` is the trainer.
    of: HashMap<String, Option<usize>>,
    /// Clashes that have been reported: the callback, and the owner of the key.
    reported: HashSet<(usize, Option<usize>)>,
}

impl Owners {
    /// Gives keys to the trainer, even if a callback has recorded them before.
    pub(super) fn add_trainers(&mut self, keys: impl IntoIterator<Item = String>) {
        self.of.extend(keys.into_iter().map(|key| (key, None)));
    }

    /// Gives the callback at `who` the keys that it announces, so that the order of recording does not matter.
    ///
    /// Patterns are skipped: they name no key.
    pub(super) fn add_announced(&mut self, who: usize, keys: Vec<String>) {
        for key in keys.into_iter().filter(|key| !key.contains('*')) {
            self.of.entry(key).or_insert(Some(who));
        }
    }

    /// Drops values that the callback at `who` logged, after the first `from`, under keys of other owners. Returns the
    /// first such key and its owner, unless that clash has been reported.
    pub(super) fn take_out(
        &mut self,
        who: usize,
        logged: &mut Vec<(String, Logged)>,
        from: usize,
    ) -> Option<(String, Option<usize>)> {
        let mut unreported = None;
        let mut is_clean = true;
        for (key, _) in &logged[from..] {
            match self.of.get(key) {
                Some(owner) if *owner == Some(who) => {}
                Some(owner) => {
                    is_clean = false;
                    if self.reported.insert((who, *owner)) {
                        unreported.get_or_insert((key.clone(), *owner));
                    }
                }
                None => drop(self.of.insert(key.clone(), Some(who))),
            }
        }
        if !is_clean {
            self.keep_own(who, logged, from);
        }
        unreported
    }

    /// Drops the values after the first `from` whose keys are not the callback's own.
    fn keep_own(&self, who: usize, logged: &mut Vec<(String, Logged)>, from: usize) {
        let mut index = 0;
        logged.retain(|(key, _)| {
            index += 1;
            index <= from || self.of.get(key) == Some(&Some(who))
        });
    }
}

/// The warning for a callback that records a key of another owner.
pub(super) fn warning(who: &str, owner: &str, key: &str, during: &str, step: u64) -> Warning {
    Warning {
        source: who.to_owned(),
        phase: during.to_owned(),
        step,
        cause: format!("it records `{key}`, which {owner} records too"),
        consequence: format!(
            "such values of `{who}` are left out; give it keys of its own, as with `.prefix(\"…\")`"
        ),
    }
}
