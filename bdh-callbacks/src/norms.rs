//! Norms of weights, gradients and updates.
//!
//! A gradient norm that creeps upward is often the first sign of a run about to diverge, well before the loss shows
//! it. A weight norm that does not settle means that weight decay is too weak.
//!
//! | key                         | unit | recorded on every due step                         |
//! |-----------------------------|------|----------------------------------------------------|
//! | `train/weight_norm`         | L2   | unless `no_global`; after the update               |
//! | `train/grad_norm`           | L2   | unless `no_global`; before clipping                |
//! | `train/grad_norm_clipped`   | L2   | with `clipped`, unless `no_global`; after clipping |
//! | `train/update_norm`         | L2   | with `updates`, unless `no_global`; new minus old  |
//! | `<key above>/<group>`       | L2   | for each of `groups`, also with `no_global`        |
//! | `norm/<kind>/<param>`       | L2   | with `per_parameter`, for each kind                |
//!
//! A group `attn` has keys such as `train/grad_norm/attn`. The kinds are `weight`, `grad`, with `clipped` also
//! `grad_clipped`, and with `updates` also `update`. [`Clipping`](crate::Clipping) records how often gradients are clipped.

use crate::ParamFilter;
use crate::param_filter::Watched;
use bdh::hooks::{
    AfterBackward, AfterOptimizerStep, BeforeOptimizerStep, FitStart, Hook, Hooks, StepEnd,
};
use bdh::{BoxError, Cadence, Callback, Context, HookResult, Outlook, Stats, callback};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Records L2 norms: global, of named groups, and per parameter.
///
/// Gradients are measured right after the backward pass, before clipping. Weights are measured at the end of the step,
/// as an eval or a checkpoint of that step has them. Costs no device read of its own, however many parameters the model
/// has. Norms that are not recorded are not computed. `updates` keeps a copy of the model on due steps.
///
/// # Examples
///
/// ```
/// use bdh::Callback;
/// use bdh::cadence::every;
/// use bdh_callbacks::Norms;
///
/// let every_step = Norms::default();
/// let detailed = Norms::default().on(every(100)).per_parameter(true);
/// assert_eq!(detailed.cadence().to_string(), "every 100 steps");
///
/// let grouped = Norms::default().group("attn", "*attn*").group("mlp", "*mlp*");
/// assert!(grouped.keys().contains(&"train/grad_norm/attn".to_owned()));
/// ```
#[derive(Debug, Clone, Default, Setters, Deserialize, Serialize)]
#[setters(into)]
#[serde(default, deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch in a configuration file"
)]
pub struct Norms {
    /// Steps on which to measure. Defaults to every step.
    on: Cadence,
    /// Whether to record one norm per parameter as well. Defaults to no.
    per_parameter: bool,
    /// Whether to leave out the norms over all parameters, such as when another `Norms` records them at its own
    /// cadence. Defaults to no.
    no_global: bool,
    /// Parameters to record with `per_parameter`. Defaults to all.
    params: ParamFilter,
    /// Groups of parameters that are measured together, by name. Defaults to none.
    #[setters(skip)]
    groups: BTreeMap<String, ParamFilter>,
    /// Whether to measure the gradients after clipping too. Defaults to no.
    clipped: bool,
    /// Whether to measure the updates. Defaults to no.
    updates: bool,
    /// Parameters that `params` matches in the model.
    #[setters(skip)]
    #[serde(skip)]
    watched: Watched,
    /// Parameters of each group in the model.
    #[setters(skip)]
    #[serde(skip)]
    watched_groups: Vec<(String, Watched)>,
}

impl Norms {
    /// Measures some parameters together, under a name.
    #[must_use]
    pub fn group(mut self, name: impl Into<String>, params: impl Into<ParamFilter>) -> Self {
        self.groups.insert(name.into(), params.into());
        self
    }

    /// Returns the kinds of norms that are recorded, as in keys.
    fn kinds(&self) -> Vec<&'static str> {
        let mut kinds = vec!["weight", "grad"];
        if self.clipped {
            kinds.push("grad_clipped");
        }
        if self.updates {
            kinds.push("update");
        }
        kinds
    }

    fn log(&self, ctx: &Context<'_>, kind: &str, stats: &Stats<'_>) {
        let key = global_key(kind);
        if !self.no_global {
            ctx.log(&*key, stats.l2());
        }
        for (group, watched) in &self.watched_groups {
            let norm = stats.l2_of(|param| watched.contains(&param.name));
            ctx.log(format!("{key}/{group}"), norm);
        }
        if self.per_parameter {
            for param in self.watched.of(stats) {
                ctx.log(format!("norm/{kind}/{}", param.name()), param.l2());
            }
        }
    }
}

/// Returns the key of a global norm, such as `train/grad_norm_clipped` for `grad_clipped`.
fn global_key(kind: &str) -> String {
    match kind.split_once('_') {
        Some((quantity, stage)) => format!("train/{quantity}_norm_{stage}"),
        None => format!("train/{kind}_norm"),
    }
}

#[callback("norms", on)]
impl Callback for Norms {
    fn hooks(&self) -> Hooks {
        let mut hooks = Hooks::NONE.with(Hook::AfterBackward).with(Hook::OnStep);
        if self.per_parameter || !self.groups.is_empty() {
            hooks = hooks.with(Hook::OnFitStart);
        }
        if self.clipped {
            hooks = hooks.with(Hook::BeforeOptimizerStep);
        }
        if self.updates {
            hooks = hooks.with(Hook::AfterOptimizerStep);
        }
        hooks
    }

    fn check(&self, _: &Outlook<'_>) -> Result<(), BoxError> {
        self.params.check()?;
        self.groups.values().try_for_each(ParamFilter::check)
    }

    fn keys(&self) -> Vec<String> {
        let (mut global, mut groups, mut each) = (Vec::new(), Vec::new(), Vec::new());
        for kind in self.kinds() {
            let key = global_key(kind);
            groups.extend(self.groups.keys().map(|name| format!("{key}/{name}")));
            if !self.no_global {
                global.push(key);
            }
            if self.per_parameter {
                each.push(format!("norm/{kind}/*"));
            }
        }
        [global, groups, each].concat()
    }

    fn on_fit_start(&mut self, ctx: &FitStart<'_>) -> HookResult {
        self.watched = self.params.select(ctx.params)?;
        self.watched_groups.clear();
        for (name, params) in &self.groups {
            let watched = params.select(ctx.params)?;
            self.watched_groups.push((name.clone(), watched));
        }
        Ok(())
    }

    fn after_backward(&mut self, ctx: &AfterBackward<'_>) -> HookResult {
        self.log(ctx, "grad", ctx.gradients);
        Ok(())
    }

    fn before_optimizer_step(&mut self, ctx: &BeforeOptimizerStep<'_>) -> HookResult {
        self.log(ctx, "grad_clipped", ctx.gradients);
        Ok(())
    }

    fn after_optimizer_step(&mut self, ctx: &AfterOptimizerStep<'_>) -> HookResult {
        self.log(ctx, "update", ctx.updates);
        Ok(())
    }

    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        self.log(ctx, "weight", ctx.weights);
        Ok(())
    }
}
