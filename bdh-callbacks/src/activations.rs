//! Activations of the model: their size, their zeros, and dead units.
//!
//! A model exposes them through its [`Probe`](bdh::Probe), as `probe.tap("h.0.mlp", &hidden)`. A growing share of
//! zeros, or units that never fire, mean that a ReLU has stopped learning. An RMS that grows from layer to layer means
//! that the residual stream is running away.
//!
//! | key                       | unit                        | recorded on every due step                     |
//! |---------------------------|-----------------------------|------------------------------------------------|
//! | `activations/<tap>/mean`  |                             | always                                         |
//! | `activations/<tap>/std`   |                             | always; `n - 1` in the denominator             |
//! | `activations/<tap>/rms`   |                             | always; the root of the mean square            |
//! | `activations/<tap>/zeros` | share of values, 0 to 1     | always                                         |
//! | `activations/<tap>/dead`  | share of units, 0 to 1      | always; units that are zero for every token    |
//!
//! All values are of the step's last micro-batch. A unit is an index of an activation's last dimension.

use bdh::cadence::{every, last};
use bdh::hooks::AfterBackward;
use bdh::stats::Tap;
use bdh::{Cadence, Callback, Deferred, HookResult, callback};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};

/// Records mean, standard deviation, RMS, zeros and dead units of the model's activations.
///
/// Costs a few passes over the activations on a due step, and no device read of its own. On other steps a tap costs
/// one branch.
///
/// # Examples
///
/// ```
/// use bdh::Callback;
/// use bdh::cadence::every;
/// use bdh_callbacks::Activations;
///
/// let often = Activations::default().on(every(10));
/// assert!(often.wants_activations());
/// ```
#[derive(Debug, Clone, Setters, Deserialize, Serialize)]
#[setters(into)]
#[serde(default, deny_unknown_fields)]
pub struct Activations {
    /// Steps on which to measure. Defaults to every 100 steps and the last.
    on: Cadence,
}

impl Default for Activations {
    fn default() -> Self {
        Self {
            on: every(100) | last(),
        }
    }
}

#[callback("activations", on)]
impl Callback for Activations {
    fn keys(&self) -> Vec<String> {
        vec!["activations/*".to_owned()]
    }

    fn wants_activations(&self) -> bool {
        true
    }

    fn after_backward(&mut self, ctx: &AfterBackward<'_>) -> HookResult {
        for tap in ctx.activations {
            if tap.values.shape().num_elements() == 0 {
                continue; // an empty tensor has no mean
            }
            for (name, value) in measure(tap) {
                ctx.log(format!("activations/{}/{name}", tap.name), value);
            }
        }
        Ok(())
    }
}

fn measure(tap: &Tap) -> [(&'static str, Deferred); 5] {
    let values = &tap.values;
    let count = values.shape().num_elements() as f64;
    let mean = values.clone().mean();
    let squares = (values.clone() - mean.clone()).square().sum();
    let variance = Deferred::from(squares) / (count - 1.0).max(1.0);
    let mean_square = Deferred::from(values.clone().square().mean());
    let (zeros, dead) = zeros_and_dead(tap);
    [
        ("mean", mean.into()),
        ("std", variance.sqrt()),
        ("rms", mean_square.sqrt()),
        ("zeros", zeros / count),
        ("dead", dead / tap.units as f64),
    ]
}

/// Counts the values that are zero, and the units that are zero for every token. NaN is not zero.
fn zeros_and_dead(tap: &Tap) -> (Deferred, Deferred) {
    let is_zero = tap.values.clone().equal_elem(0.0).int();
    let zeros = is_zero.clone().sum().float();
    // The least entry of a unit over all tokens is 1 if the unit is zero everywhere.
    let by_unit = is_zero.reshape([-1, tap.units as i64]).min_dim(0);
    (zeros.into(), by_unit.sum().float().into())
}
