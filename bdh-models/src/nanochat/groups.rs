//! Parameter groups: the optimizer and the learning rate of each parameter.

use super::config::{GptConfig, NanochatVersion};
use super::muon::Muon;
use super::schedule::MuonSchedule;
use bdh::burn::optim::DynOptimizer;
use bdh::ops::AdamW;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Base learning rates, before scaling to the model's width. The default values are nanochat's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LearningRates {
    /// Learning rate of the token table and the value embeddings. Defaults to 0.3.
    pub embedding: f64,
    /// Learning rate of the head. Defaults to 0.008.
    pub unembedding: f64,
    /// Learning rate of the matrices in the blocks, which Muon trains. Defaults to 0.02.
    pub matrix: f64,
    /// Learning rate of the scalars of the residual stream. Defaults to 0.5.
    pub scalar: f64,
    /// Learning rate of the smear and the backout, which does not scale with the batch. Defaults to 0.2.
    pub smear: f64,
}

impl Default for LearningRates {
    fn default() -> Self {
        Self {
            embedding: 0.3,
            unembedding: 0.008,
            matrix: 0.02,
            scalar: 0.5,
            smear: 0.2,
        }
    }
}

impl LearningRates {
    /// Returns the rates for a batch of another size than nanochat's 524,288 tokens.
    ///
    /// `scale` is the square root of the ratio of batch sizes. It multiplies all rates except the smear's.
    #[must_use]
    pub fn scaled(self, scale: f64) -> Self {
        Self {
            smear: self.smear,
            ..self.times(scale)
        }
    }

    /// Sets the learning rate of the matrices, and scales all other rates by the same factor.
    #[must_use]
    pub fn with_matrix(self, matrix: f64) -> Self {
        Self {
            matrix, // exactly as given, without the rounding of the factor
            ..self.times(matrix / self.matrix)
        }
    }

    fn times(self, factor: f64) -> Self {
        Self {
            embedding: self.embedding * factor,
            unembedding: self.unembedding * factor,
            matrix: self.matrix * factor,
            scalar: self.scalar * factor,
            smear: self.smear * factor,
        }
    }
}

/// Optimizer of a [`GroupSpec`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// AdamW with an epsilon of 1e-10; its decay is multiplied by the learning rate.
    AdamW(AdamW),
    /// nanochat's Muon, for the weights of linear layers.
    Muon(Muon),
}

/// Parameters that share an optimizer and a learning rate.
#[derive(Debug, Clone, Copy)]
pub struct GroupSpec {
    /// Name of the group; its learning rate is recorded as `lr/<name>`.
    pub name: &'static str,
    /// Highest learning rate, before the schedule's factor.
    pub peak_lr: f64,
    /// Optimizer of the group.
    pub rule: Rule,
    owns: fn(&str) -> bool,
}

impl GroupSpec {
    /// Returns whether the parameter of this name, such as `transformer.wte.weight`, belongs to the group.
    #[must_use]
    pub fn owns(&self, param: &str) -> bool {
        (self.owns)(param)
    }

    /// Returns the optimizer, without state.
    #[must_use]
    pub fn optimizer(&self) -> Box<dyn DynOptimizer> {
        match self.rule {
            Rule::AdamW(adamw) => Box::new(adamw),
            Rule::Muon(muon) => Box::new(muon),
        }
    }

    /// Returns the trainer's group; `schedule` returns the schedule of a peak learning rate.
    pub fn scheduled(&self, schedule: impl Fn(f64) -> bdh::Schedule) -> bdh::Group {
        let owns = self.owns;
        let claims = move |param: &bdh::stats::ParamInfo| owns(&param.name);
        bdh::Group::boxed(self.name, claims, self.optimizer(), schedule(self.peak_lr))
    }
}

/// Writes one line: the name, the learning rate, the optimizer.
impl fmt::Display for GroupSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<13} lr {:<10.6} ", self.name, self.peak_lr)?;
        match self.rule {
            Rule::AdamW(AdamW {
                betas: (beta_1, beta_2),
                weight_decay,
                ..
            }) => {
                write!(
                    f,
                    "AdamW betas {beta_1} {beta_2} weight decay {weight_decay}"
                )
            }
            Rule::Muon(muon) => write!(f, "Muon weight decay {:.4}", muon.weight_decay(0)),
        }
    }
}

/// Returns nanochat's groups, starting with that of the matrices.
///
/// Each parameter of a [`Gpt`](super::Gpt) belongs to exactly one group. The rates of the tables and the head fall with
/// the square root of the width, relative to 768 channels; in the next version that of the head falls with the width, and
/// those of the tables do not change. `weight_decay` is Muon's. With a `schedule`, Muon's momentum
/// and weight decay follow it.
///
/// Source: `GPT.setup_optimizer` of karpathy/nanochat at 92d63d4.
#[must_use]
pub fn groups(
    config: &GptConfig,
    rates: LearningRates,
    weight_decay: f64,
    schedule: Option<MuonSchedule>,
) -> Vec<GroupSpec> {
    let width = config.n_embd as f64 / 768.0;
    let (by_width, head_by_width) = match config.version {
        NanochatVersion::Master => (width.powf(-0.5), width.powf(-0.5)),
        NanochatVersion::Next => (1.0, 1.0 / width),
    };
    let LearningRates {
        embedding,
        unembedding,
        matrix,
        scalar,
        smear,
    } = rates;
    let muon = schedule.map_or(Muon::new(weight_decay), |schedule| {
        Muon::new(weight_decay).with_schedule(schedule)
    });
    vec![
        GroupSpec {
            name: "matrix",
            peak_lr: matrix,
            rule: Rule::Muon(muon),
            owns: |name| name.starts_with("transformer.h."),
        },
        GroupSpec {
            name: "lm_head",
            peak_lr: unembedding * head_by_width,
            rule: adamw((0.8, 0.96), 0.01),
            owns: |name| name.starts_with("lm_head."),
        },
        GroupSpec {
            name: "wte",
            peak_lr: embedding * by_width,
            rule: adamw((0.8, 0.995), 0.001),
            owns: |name| name.starts_with("transformer.wte."),
        },
        GroupSpec {
            name: "value_embeds",
            peak_lr: embedding * by_width * 0.5,
            rule: adamw((0.8, 0.995), 0.01),
            owns: |name| name.starts_with("value_embeds."),
        },
        GroupSpec {
            name: "resid_lambdas",
            peak_lr: scalar * 0.01,
            rule: adamw((0.8, 0.95), 0.05),
            owns: |name| name == "resid_lambdas",
        },
        GroupSpec {
            name: "x0_lambdas",
            peak_lr: scalar,
            rule: adamw((0.96, 0.95), 0.0),
            owns: |name| name == "x0_lambdas",
        },
        GroupSpec {
            name: "smear",
            peak_lr: smear,
            rule: adamw((0.8, 0.95), 0.0),
            owns: |name| {
                matches!(
                    name,
                    "smear_gate.weight" | "smear_lambda" | "backout_lambda"
                )
            },
        },
    ]
}

fn adamw(betas: (f64, f64), weight_decay: f64) -> Rule {
    Rule::AdamW(AdamW {
        betas,
        epsilon: 1e-10,
        weight_decay,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a / b - 1.0).abs() < 1e-12
    }

    #[test]
    fn rates_scale_with_width_and_print_on_one_line() {
        let config = GptConfig {
            n_embd: 192,
            ..GptConfig::default()
        };
        let groups = groups(&config, LearningRates::default(), 0.28, None);
        let lines: Vec<_> = groups.iter().map(ToString::to_string).collect();
        let expected = [
            "matrix        lr 0.020000   Muon weight decay 0.2800",
            "lm_head       lr 0.016000   AdamW betas 0.8 0.96 weight decay 0.01",
            "wte           lr 0.600000   AdamW betas 0.8 0.995 weight decay 0.001",
            "value_embeds  lr 0.300000   AdamW betas 0.8 0.995 weight decay 0.01",
            "resid_lambdas lr 0.005000   AdamW betas 0.8 0.95 weight decay 0.05",
            "x0_lambdas    lr 0.500000   AdamW betas 0.96 0.95 weight decay 0",
            "smear         lr 0.200000   AdamW betas 0.8 0.95 weight decay 0",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn batch_scales_all_rates_except_the_smear() {
        let rates = LearningRates::default().scaled(0.5);
        assert!(
            close(rates.embedding, 0.15) && close(rates.matrix, 0.01) && close(rates.scalar, 0.25)
        );
        assert!(close(rates.smear, 0.2));
    }

    #[test]
    fn given_matrix_rate_scales_all_others() {
        let rates = LearningRates::default().with_matrix(0.001);
        assert!(
            close(rates.matrix, 0.001) && close(rates.embedding, 0.015) && close(rates.smear, 0.01)
        );
    }
}
