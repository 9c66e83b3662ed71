//! Distributions of weights, gradients, updates and activations.
//!
//! A distribution shows what a norm hides, such as weights that pile up at a bound, gradients that are nearly all
//! zero, or a layer whose updates are a hundred times those of its neighbours.
//!
//! | key                         | value     | recorded                                             |
//! |-----------------------------|-----------|------------------------------------------------------|
//! | `weights/<param>`           | histogram | on every due step, after the update                  |
//! | `gradients/<param>`         | histogram | on every due step, before clipping                   |
//! | `gradients_clipped/<param>` | histogram | with `clipped_gradients`: after clipping             |
//! | `updates/<param>`           | histogram | with `updates`: new minus old                        |
//! | `activations/<tap>`         | histogram | with `activations`: of the last micro-batch          |

use crate::ParamFilter;
use crate::param_filter::Watched;
use crate::settings::within;
use bdh::cadence::{every, last};
use bdh::hooks::{
    AfterBackward, AfterOptimizerStep, BeforeOptimizerStep, FitStart, Hook, Hooks, StepEnd,
};
use bdh::{BoxError, Cadence, Callback, Context, HookResult, Outlook, Stats, callback};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};

/// Records distributions, in bins of equal width from the least value to the greatest.
///
/// Costs no device read of its own. A CPU makes two passes over each tensor; a GPU counts the values itself, and only
/// the counts are read. `updates` keeps a copy of the model on due steps.
///
/// # Examples
///
/// ```
/// use bdh::Callback;
/// use bdh::cadence::every;
/// use bdh_callbacks::{Histograms, ParamFilter};
///
/// let matrices = ParamFilter::all().min_rank(2);
/// let detailed = Histograms::default().params(matrices).updates(true).on(every(500));
/// assert_eq!(detailed.keys(), ["weights/*", "gradients/*", "updates/*"]);
/// ```
#[derive(Debug, Clone, Setters, Deserialize, Serialize)]
#[setters(into)]
#[serde(default, deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each switches one kind of tensor on or off"
)]
pub struct Histograms {
    /// Steps on which to record. Defaults to every 100 steps and the last.
    on: Cadence,
    /// Parameters to record. Defaults to [`ParamFilter::representative`].
    params: ParamFilter,
    /// Number of bins. Defaults to 64.
    #[setters(into = false)]
    bins: usize,
    /// Whether to record the weights after the update. Defaults to yes.
    weights: bool,
    /// Whether to record the mean gradients of the step, before clipping. Defaults to yes.
    gradients: bool,
    /// Whether to record the gradients after clipping. Defaults to no.
    clipped_gradients: bool,
    /// Whether to record the updates, new weights minus old. Defaults to no.
    updates: bool,
    /// Whether to record all activations that the model [exposes](bdh::Probe), of the last micro-batch. Defaults to no.
    activations: bool,
    #[setters(skip)]
    #[serde(skip)]
    watched: Watched,
}

impl Default for Histograms {
    fn default() -> Self {
        Self {
            on: every(100) | last(),
            params: ParamFilter::representative(),
            bins: 64,
            weights: true,
            gradients: true,
            clipped_gradients: false,
            updates: false,
            activations: false,
            watched: Watched::default(),
        }
    }
}

impl Histograms {
    fn log(&self, ctx: &Context<'_>, kind: &str, stats: &Stats<'_>) {
        for param in self.watched.of(stats) {
            let histogram = param.histogram(self.bins);
            ctx.log(format!("{kind}/{}", param.name()), histogram);
        }
    }
}

#[callback("histograms", on)]
impl Callback for Histograms {
    fn hooks(&self) -> Hooks {
        let mut hooks = Hooks::NONE.with(Hook::OnFitStart);
        for (is_wanted, hook) in [
            (self.gradients || self.activations, Hook::AfterBackward),
            (self.clipped_gradients, Hook::BeforeOptimizerStep),
            (self.updates, Hook::AfterOptimizerStep),
            (self.weights, Hook::OnStep),
        ] {
            if is_wanted {
                hooks = hooks.with(hook);
            }
        }
        hooks
    }

    fn check(&self, _: &Outlook<'_>) -> Result<(), BoxError> {
        self.params.check()?;
        within("bins", self.bins, 1..=10_000, "use 1 to 10000, such as 64")
    }

    fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        for (is_wanted, key) in [
            (self.weights, "weights/*"),
            (self.gradients, "gradients/*"),
            (self.clipped_gradients, "gradients_clipped/*"),
            (self.updates, "updates/*"),
            (self.activations, "activations/*"),
        ] {
            if is_wanted {
                keys.push(key.to_owned());
            }
        }
        keys
    }

    fn wants_activations(&self) -> bool {
        self.activations
    }

    fn on_fit_start(&mut self, ctx: &FitStart<'_>) -> HookResult {
        self.watched = self.params.select(ctx.params)?;
        Ok(())
    }

    fn after_backward(&mut self, ctx: &AfterBackward<'_>) -> HookResult {
        if self.gradients {
            self.log(ctx, "gradients", ctx.gradients);
        }
        if self.activations {
            for tap in ctx.activations {
                let histogram = tap.histogram(self.bins);
                ctx.log(format!("activations/{}", tap.name), histogram);
            }
        }
        Ok(())
    }

    fn before_optimizer_step(&mut self, ctx: &BeforeOptimizerStep<'_>) -> HookResult {
        self.log(ctx, "gradients_clipped", ctx.gradients);
        Ok(())
    }

    fn after_optimizer_step(&mut self, ctx: &AfterOptimizerStep<'_>) -> HookResult {
        self.log(ctx, "updates", ctx.updates);
        Ok(())
    }

    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        self.log(ctx, "weights", ctx.weights);
        Ok(())
    }
}
