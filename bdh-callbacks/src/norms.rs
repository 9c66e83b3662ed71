//! How large the weights, the gradients and the updates are.
//!
//! A gradient norm that creeps upward is often the first sign of a run about to diverge, well before the
//! loss shows it; a weight norm that does not settle says that weight decay is too weak.
//!
//! | key                         | unit | recorded on every due step                         |
//! |-----------------------------|------|----------------------------------------------------|
//! | `train/weight_norm`         | L2   | unless `no_global`; after the update               |
//! | `train/grad_norm`           | L2   | unless `no_global`; before clipping                |
//! | `train/grad_norm_clipped`   | L2   | with `clipped`: what the optimizer gets            |
//! | `train/update_norm`         | L2   | with `updates`: new weights minus old              |
//! | `train/<kind>_norm/<group>` | L2   | for each of `groups`, and each kind above          |
//! | `norm/<kind>/<param>`       | L2   | with `per_parameter`, for each kind above          |
//!
//! Kinds are `weight`, `grad`, `grad_clipped` and `update` in keys of parameters. How often gradients are clipped
//! is told by [`Clipping`](crate::Clipping).

use crate::ParamFilter;
use crate::param_filter::Watched;
use bdh::{
    AfterBackward, AfterOptimizerStep, BeforeOptimizerStep, BoxError, Cadence, Callback,
    ConfigError, Cx, FitStart, Hook, HookResult, Hooks, Outlook, Stats, StepEnd, callback,
};
use derive_builder::Builder;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Records L2 norms: global, of named groups, and per parameter.
///
/// Gradients are taken right after the backward pass, before clipping; weights at the end of the step, as an eval or
/// a checkpoint of that step has them. Costs no device read of its own, however many parameters the model has. What
/// is not asked for is not computed; `updates` keeps a copy of the model on due steps.
///
/// # Examples
///
/// ```
/// use bdh::{Callback, every};
/// use bdh_callbacks::Norms;
///
/// let every_step = Norms::default();
/// let detailed = Norms::builder().cadence(every(100)).per_parameter(true).build()?;
/// assert_eq!(detailed.cadence().to_string(), "every 100 steps");
///
/// let grouped = Norms::builder().group("attn", "*attn*").group("mlp", "*mlp*").build()?;
/// assert!(grouped.keys().contains(&"train/grad_norm/attn".to_owned()));
/// # Ok::<(), bdh::ConfigError>(())
/// ```
#[derive(Debug, Clone, Default, Builder, Deserialize, Serialize)]
#[builder(
    pattern = "owned",
    default,
    setter(into),
    build_fn(error = "ConfigError")
)]
#[builder_struct_attr(must_use = "a builder does nothing until `build` is called")]
#[serde(default, deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch in a configuration file"
)]
pub struct Norms {
    /// Steps on which to measure. Defaults to every step.
    cadence: Cadence,
    /// Whether to record one norm per parameter as well. Defaults to no.
    per_parameter: bool,
    /// Whether to leave out the norms of all parameters together, which another `Norms` records at its own cadence.
    /// Defaults to no.
    no_global: bool,
    /// Of which parameters, with `per_parameter`. Defaults to all.
    params: ParamFilter,
    /// Names for groups of parameters that are measured together. Defaults to none.
    #[builder(setter(custom))]
    groups: BTreeMap<String, ParamFilter>,
    /// Whether to measure the gradients after clipping too. Defaults to no.
    clipped: bool,
    /// Whether to measure the updates. Defaults to no.
    updates: bool,
    /// The parameters of `params`, and of each group.
    #[builder(setter(skip))]
    #[serde(skip)]
    watched: (Watched, Vec<(String, Watched)>),
}

impl Norms {
    /// Begins with the defaults: every step, global norms only.
    pub fn builder() -> NormsBuilder {
        NormsBuilder::default()
    }

    /// Global and per-parameter norms.
    #[must_use]
    pub fn per_parameter() -> Self {
        Self {
            per_parameter: true,
            ..Self::default()
        }
    }

    /// What is measured, as keys say it.
    fn kinds(&self) -> impl Iterator<Item = &'static str> {
        let kinds = [
            (true, "weight"),
            (true, "grad"),
            (self.clipped, "grad_clipped"),
            (self.updates, "update"),
        ];
        kinds
            .into_iter()
            .filter_map(|(is_wanted, kind)| is_wanted.then_some(kind))
    }

    fn log(&self, at: &Cx<'_>, kind: &str, stats: &Stats<'_>) {
        let (each, groups) = &self.watched;
        let key = global_key(kind);
        if !self.no_global {
            at.log(&*key, stats.l2());
        }
        for (group, watched) in groups {
            let norm = stats.l2_of(|param| watched.contains(&param.name));
            at.log(format!("{key}/{group}"), norm);
        }
        if self.per_parameter {
            for param in each.of(stats) {
                at.log(format!("norm/{kind}/{}", param.name()), param.l2());
            }
        }
    }
}

impl NormsBuilder {
    /// Measures some parameters together, under a name.
    pub fn group(mut self, name: impl Into<String>, params: impl Into<ParamFilter>) -> Self {
        self.groups
            .get_or_insert_default()
            .insert(name.into(), params.into());
        self
    }
}

/// `train/grad_norm_clipped` of `grad_clipped`: what is measured first, how last.
fn global_key(kind: &str) -> String {
    match kind.split_once('_') {
        Some((what, how)) => format!("train/{what}_norm_{how}"),
        None => format!("train/{kind}_norm"),
    }
}

#[callback("norms")]
impl Callback for Norms {
    fn cadence(&self) -> Cadence {
        self.cadence.clone()
    }

    fn config(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn hooks(&self) -> Hooks {
        let hooks = [
            (
                self.per_parameter || !self.groups.is_empty(),
                Hook::OnFitStart,
            ),
            (self.clipped, Hook::BeforeOptimizerStep),
            (self.updates, Hook::AfterOptimizerStep),
        ];
        let wanted = hooks.into_iter().filter(|(is_wanted, _)| *is_wanted);
        let always = Hooks::NONE.with(Hook::AfterBackward).with(Hook::OnStep);
        wanted.fold(always, |hooks, (_, hook)| hooks.with(hook))
    }

    fn check(&self, _: &Outlook<'_>) -> Result<(), BoxError> {
        self.params.check()?;
        self.groups.values().try_for_each(ParamFilter::check)
    }

    fn keys(&self) -> Vec<String> {
        let global = self.kinds().filter(|_| !self.no_global).map(global_key);
        let of_groups = |key: String| self.groups.keys().map(move |name| format!("{key}/{name}"));
        let groups = self.kinds().flat_map(|kind| of_groups(global_key(kind)));
        let each = self
            .kinds()
            .filter(|_| self.per_parameter)
            .map(|kind| format!("norm/{kind}/*"));
        global.chain(groups).chain(each).collect()
    }

    fn on_fit_start(&mut self, at: &FitStart<'_>) -> HookResult {
        let group =
            |(name, params): (&String, &ParamFilter)| Ok((name.clone(), params.select(at.params)?));
        let groups: Result<_, bdh::BoxError> = self.groups.iter().map(group).collect();
        self.watched = (self.params.select(at.params)?, groups?);
        Ok(())
    }

    fn after_backward(&mut self, at: &AfterBackward<'_>) -> HookResult {
        self.log(at, "grad", at.gradients);
        Ok(())
    }

    fn before_optimizer_step(&mut self, at: &BeforeOptimizerStep<'_>) -> HookResult {
        self.log(at, "grad_clipped", at.gradients);
        Ok(())
    }

    fn after_optimizer_step(&mut self, at: &AfterOptimizerStep<'_>) -> HookResult {
        self.log(at, "update", at.updates);
        Ok(())
    }

    fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
        self.log(at, "weight", at.weights);
        Ok(())
    }
}
