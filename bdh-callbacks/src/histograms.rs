//! How weights, gradients, updates and activations are distributed.
//!
//! A distribution shows what a norm hides: weights that pile up at a bound, gradients that are nearly all
//! zero, one layer whose updates are a hundred times those of its neighbours.
//!
//! | key                         | value     | recorded                                             |
//! |-----------------------------|-----------|------------------------------------------------------|
//! | `weights/<param>`           | histogram | on every due step, after the update                  |
//! | `gradients/<param>`         | histogram | on every due step, before clipping                   |
//! | `gradients_clipped/<param>` | histogram | with `clipped_gradients`: what the optimizer gets    |
//! | `updates/<param>`           | histogram | with `updates`: new minus old                        |
//! | `activations/<tap>`         | histogram | with `activations`: those of the last micro-batch    |

use crate::ParamFilter;
use crate::param_filter::Watched;
use crate::settings::within;
use bdh::{
    AfterBackward, AfterOptimizerStep, BeforeOptimizerStep, BoxError, Cadence, Callback,
    ConfigError, Cx, FitStart, Hook, HookResult, Hooks, Outlook, Stats, StepEnd, callback, every,
    last,
};
use derive_builder::Builder;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Records distributions, in bins of one width from the least value to the greatest.
///
/// Costs no device read of its own. On a CPU it is two passes over each tensor; on a GPU the values are counted
/// there, and only the counts are read. `updates` keeps a copy of the model on due steps.
///
/// # Examples
///
/// ```
/// use bdh::{Callback, every};
/// use bdh_callbacks::{Histograms, ParamFilter};
///
/// let matrices = ParamFilter::all().min_rank(2);
/// let detailed = Histograms::builder().params(matrices).updates(true).cadence(every(500)).build()?;
/// assert_eq!(detailed.keys(), ["weights/*", "gradients/*", "updates/*"]);
/// # Ok::<(), bdh::ConfigError>(())
/// ```
#[derive(Debug, Clone, Builder, Deserialize, Serialize)]
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
    reason = "each switches one kind of tensor on or off"
)]
pub struct Histograms {
    /// Steps on which to record. Defaults to every 100 steps and the last.
    cadence: Cadence,
    /// Which parameters. Defaults to [`ParamFilter::representative`].
    params: ParamFilter,
    /// How many bins. Defaults to 64.
    #[builder(setter(into = false))]
    bins: usize,
    /// The weights, after the update. Defaults to yes.
    weights: bool,
    /// The mean gradients of the step, before clipping. Defaults to yes.
    gradients: bool,
    /// The gradients that the optimizer gets, after clipping. Defaults to no.
    clipped_gradients: bool,
    /// What the optimizer adds to the weights. Defaults to no.
    updates: bool,
    /// What the model [shows](bdh::Probe) of its last micro-batch, whatever `params` says. Defaults to no.
    activations: bool,
    #[builder(setter(skip))]
    #[serde(skip)]
    watched: Watched,
}

impl Default for Histograms {
    fn default() -> Self {
        Self {
            cadence: every(100) | last(),
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
    /// Begins with the defaults: weights and gradients of some representative matrices.
    pub fn builder() -> HistogramsBuilder {
        HistogramsBuilder::default()
    }

    fn log(&self, at: &Cx<'_>, kind: &str, stats: &Stats<'_>) {
        for param in self.watched.of(stats) {
            at.log(
                format!("{kind}/{}", param.name()),
                param.histogram(self.bins),
            );
        }
    }
}

#[callback("histograms")]
impl Callback for Histograms {
    fn cadence(&self) -> Cadence {
        self.cadence.clone()
    }

    fn hooks(&self) -> Hooks {
        let hooks = [
            (self.gradients || self.activations, Hook::AfterBackward),
            (self.clipped_gradients, Hook::BeforeOptimizerStep),
            (self.updates, Hook::AfterOptimizerStep),
            (self.weights, Hook::OnStep),
        ];
        let wanted = hooks.into_iter().filter(|(is_wanted, _)| *is_wanted);
        wanted.fold(Hooks::NONE.with(Hook::OnFitStart), |hooks, (_, hook)| {
            hooks.with(hook)
        })
    }

    fn config(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn check(&self, _: &Outlook<'_>) -> Result<(), BoxError> {
        self.params.check()?;
        within("bins", self.bins, 1..=10_000, "use 1 to 10000, such as 64")
    }

    fn keys(&self) -> Vec<String> {
        let keys = [
            (self.weights, "weights/*"),
            (self.gradients, "gradients/*"),
            (self.clipped_gradients, "gradients_clipped/*"),
            (self.updates, "updates/*"),
            (self.activations, "activations/*"),
        ];
        let keys = keys.iter().filter(|(is_wanted, _)| *is_wanted);
        keys.map(|(_, key)| (*key).to_owned()).collect()
    }

    fn listens(&self) -> bool {
        self.activations
    }

    fn on_fit_start(&mut self, at: &FitStart<'_>) -> HookResult {
        self.watched = self.params.select(at.params)?;
        Ok(())
    }

    fn after_backward(&mut self, at: &AfterBackward<'_>) -> HookResult {
        if self.gradients {
            self.log(at, "gradients", at.gradients);
        }
        if self.activations {
            for tap in at.activations {
                at.log(
                    format!("activations/{}", tap.name),
                    tap.histogram(self.bins),
                );
            }
        }
        Ok(())
    }

    fn before_optimizer_step(&mut self, at: &BeforeOptimizerStep<'_>) -> HookResult {
        self.log(at, "gradients_clipped", at.gradients);
        Ok(())
    }

    fn after_optimizer_step(&mut self, at: &AfterOptimizerStep<'_>) -> HookResult {
        self.log(at, "updates", at.updates);
        Ok(())
    }

    fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
        self.log(at, "weights", at.weights);
        Ok(())
    }
}
