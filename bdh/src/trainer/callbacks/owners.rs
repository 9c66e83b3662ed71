//! Who records which key: a record has room for one.

use crate::outcome::Problem;
use crate::record::Logged;
use std::collections::{HashMap, HashSet};

/// The owner of each key: the trainer, else the callback that announces it, else the first to record it.
#[derive(Default)]
pub(super) struct Owners {
    /// Places among the callbacks; `None` is the trainer.
    of: HashMap<String, Option<usize>>,
    /// Pairs that have been reported: the callback, and the owner of the key.
    reported: HashSet<(usize, Option<usize>)>,
}

impl Owners {
    /// Notes keys that the trainer records, whichever callback has recorded them before.
    pub(super) fn add_trainers(&mut self, keys: impl IntoIterator<Item = String>) {
        self.of.extend(keys.into_iter().map(|key| (key, None)));
    }

    /// Notes the keys that the callback at `who` announces, so that it does not matter which one records first. A pattern
    /// says nothing of which keys.
    pub(super) fn add_announced(&mut self, who: usize, keys: Vec<String>) {
        for key in keys.into_iter().filter(|key| !key.contains('*')) {
            self.of.entry(key).or_insert(Some(who));
        }
    }

    /// Drops what the callback at `who` logged after the first `from` under keys that are not its own. Gives the first
    /// such key and its owner, unless that has been reported.
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
            let mut index = 0;
            logged.retain(|(key, _)| {
                index += 1;
                index <= from || self.of.get(key) == Some(&Some(who))
            });
        }
        unreported
    }
}

/// The problem of a callback that records another's key.
pub(super) fn problem(who: &str, owner: &str, key: &str, during: &str, step: u64) -> Problem {
    Problem {
        who: who.to_owned(),
        during: during.to_owned(),
        step,
        error: format!("it records `{key}`, which {owner} records too"),
        consequence: format!(
            "such values of `{who}` are left out; give it keys of its own, as with `.prefix(\"…\")`"
        ),
    }
}
