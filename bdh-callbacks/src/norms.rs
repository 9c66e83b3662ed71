//! How large the weights and the gradients are.
//!
//! A gradient norm that creeps upward is often the first sign of a run about to diverge, well before the
//! loss shows it; a weight norm that does not settle says that weight decay is too weak.
//!
//! | key                   | unit | recorded                                |
//! |-----------------------|------|-----------------------------------------|
//! | `train/weight_norm`   | L2   | on every due step, before the update    |
//! | `train/grad_norm`     | L2   | on every due step, before clipping      |
//! | `norm/weight/<param>` | L2   | on every due step, with `per_parameter` |
//! | `norm/grad/<param>`   | L2   | on every due step, with `per_parameter` |

use bdh::{AfterBackward, Cadence, Callback, ConfigError, HookResult, Stats, callback};
use derive_builder::Builder;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Records the L2 norms of weights and gradients, global and per parameter.
///
/// Both are taken right after the backward pass, before clipping and before the optimizer moves the
/// weights. Costs no device read of its own, however many parameters the model has.
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
/// # Ok::<(), bdh::ConfigError>(())
/// ```
#[derive(Debug, Clone, Default, Builder, Deserialize, Serialize)]
#[builder(pattern = "owned", default, setter(into), build_fn(error = "ConfigError"))]
#[builder_struct_attr(must_use = "a builder does nothing until `build` is called")]
#[serde(default, deny_unknown_fields)]
pub struct Norms {
    /// Steps on which to measure. Defaults to every step.
    cadence: Cadence,
    /// Whether to record one norm per parameter as well. Defaults to no.
    per_parameter: bool,
}

impl Norms {
    /// Begins with the defaults: every step, global norms only.
    pub fn builder() -> NormsBuilder {
        NormsBuilder::default()
    }

    /// Global and per-parameter norms.
    #[must_use]
    pub fn per_parameter() -> Self {
        Self { per_parameter: true, ..Self::default() }
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

    fn keys(&self) -> Vec<String> {
        let global = ["train/weight_norm", "train/grad_norm"];
        let each = ["norm/weight/*", "norm/grad/*"].iter().filter(|_| self.per_parameter);
        global.iter().chain(each).map(ToString::to_string).collect()
    }

    fn after_backward(&mut self, at: &AfterBackward<'_>) -> HookResult {
        at.log("train/weight_norm", at.weights.l2());
        at.log("train/grad_norm", at.gradients.l2());
        if self.per_parameter {
            log_each(at, "weight", at.weights);
            log_each(at, "grad", at.gradients);
        }
        Ok(())
    }
}

fn log_each(at: &AfterBackward<'_>, what: &str, stats: &Stats<'_>) {
    for param in stats.iter() {
        at.log(format!("norm/{what}/{}", param.name()), param.l2());
    }
}
