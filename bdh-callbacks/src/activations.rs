//! What goes through the model: how large activations are, how many are zero, which units are dead.
//!
//! A model offers them through its [`Probe`](bdh::Probe), as `probe.tap("h.0.mlp", &hidden)`. A share of zeros that
//! grows, or units that never fire, tell that a ReLU has stopped learning; an RMS that grows from layer to layer
//! that the residual stream is running away.
//!
//! | key                       | unit                        | recorded on every due step                     |
//! |---------------------------|-----------------------------|------------------------------------------------|
//! | `activations/<tap>/mean`  |                             | always                                         |
//! | `activations/<tap>/std`   |                             | always; `n - 1` in the denominator             |
//! | `activations/<tap>/rms`   |                             | always; the root of the mean square            |
//! | `activations/<tap>/zeros` | share of values, 0 to 1     | always                                         |
//! | `activations/<tap>/dead`  | share of units, 0 to 1      | always; all zero for every token               |
//!
//! All are of the step's last micro-batch. A unit is a place in an activation's last dimension.

use bdh::burn::tensor::Tensor;
use bdh::{
    AfterBackward, Cadence, Callback, ConfigError, Deferred, HookResult, Tap, callback, every, last,
};
use derive_builder::Builder;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Records mean, spread, RMS, zeros and dead units of what the model shows of itself.
///
/// Costs some passes over the activations on a due step, and no device read of its own. On any other step a tap is
/// one branch.
///
/// # Examples
///
/// ```
/// use bdh::{Callback, every};
/// use bdh_callbacks::Activations;
///
/// let often = Activations::builder().cadence(every(10)).build()?;
/// assert!(often.listens());
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
pub struct Activations {
    /// Steps on which to measure. Defaults to every 100 steps and the last.
    cadence: Cadence,
}

impl Default for Activations {
    fn default() -> Self {
        Self {
            cadence: every(100) | last(),
        }
    }
}

impl Activations {
    /// Begins with the defaults.
    pub fn builder() -> ActivationsBuilder {
        ActivationsBuilder::default()
    }
}

#[callback("activations")]
impl Callback for Activations {
    fn cadence(&self) -> Cadence {
        self.cadence.clone()
    }

    fn config(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn keys(&self) -> Vec<String> {
        vec!["activations/*".to_owned()]
    }

    fn listens(&self) -> bool {
        true
    }

    fn after_backward(&mut self, at: &AfterBackward<'_>) -> HookResult {
        // What has no values has no mean either.
        for tap in at
            .activations
            .iter()
            .filter(|tap| tap.values.shape().num_elements() > 0)
        {
            for (what, value) in measure(tap) {
                at.log(format!("activations/{}/{what}", tap.name), value);
            }
        }
        Ok(())
    }
}

fn measure(tap: &Tap) -> [(&'static str, Deferred); 5] {
    let values = || tap.values.clone();
    let count = values().shape().num_elements() as f64;
    let mean = values().mean();
    let spread = (values() - mean.clone()).square().sum();
    // Per unit, whether any token has a value there; a value that is not a number is one.
    let zeros = values().equal_elem(0.0).int();
    let by_unit = zeros.clone().reshape([-1, tap.units as i64]).min_dim(0);
    let share = |count: Tensor<1>, of: f64| Deferred::from(count) / of;
    [
        ("mean", mean.into()),
        (
            "std",
            (Deferred::from(spread) / (count - 1.0).max(1.0)).sqrt(),
        ),
        ("rms", Deferred::from(values().square().mean()).sqrt()),
        ("zeros", share(zeros.sum().float(), count)),
        ("dead", share(by_unit.sum().float(), tap.units as f64)),
    ]
}
