//! The learning rate, betas and weight decay of each parameter group.
//!
//! nanochat has no single learning rate: matrices inside the blocks go to Muon, everything else to AdamW with
//! rates that span a factor of 60.

use serde::Serialize;

use super::Request;

/// Width at which the AdamW rates of the tables were tuned.
const REFERENCE_WIDTH: f64 = 768.0;
/// Rate of the smear and backout scalars; no flag of nanochat scales it.
const SMEAR_RATE: f64 = 0.2;
/// Added to the square root in AdamW's update; far below its usual value, as nanochat has it.
const EPSILON: f64 = 1e-10;

/// Learning rates before they are scaled by batch or width.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BaseRates {
    /// Token and value embeddings.
    pub embedding: f64,
    /// Output head.
    pub unembedding: f64,
    /// Matrices inside the blocks.
    pub matrix: f64,
    /// Scalars of the residual stream.
    pub scalar: f64,
}

impl Default for BaseRates {
    fn default() -> Self {
        Self { embedding: 0.3, unembedding: 0.008, matrix: 0.02, scalar: 0.5 }
    }
}

/// Settings of a group that AdamW updates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AdamWGroup {
    /// Peak learning rate.
    pub lr: f64,
    /// Decay of the mean of the gradients.
    pub beta_1: f64,
    /// Decay of the mean of their squares.
    pub beta_2: f64,
    /// Added to the root of that mean.
    pub epsilon: f64,
    /// Decoupled weight decay, constant over the run.
    pub weight_decay: f64,
}

/// Settings of the matrices that Muon updates; its momentum is scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MuonGroup {
    /// Peak learning rate, before the factor for tall matrices.
    pub lr: f64,
    /// Decay of the mean of the squares of rows or columns.
    pub beta_2: f64,
    /// Cautious weight decay at the first step; a cosine takes it to zero.
    pub weight_decay: f64,
}

/// Every parameter group of the model, with final settings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Groups {
    /// Output head.
    pub lm_head: AdamWGroup,
    /// Token embedding.
    pub wte: AdamWGroup,
    /// Value embeddings.
    pub value_embeds: AdamWGroup,
    /// One factor per layer on the residual stream.
    pub resid_lambdas: AdamWGroup,
    /// One factor per layer on the embedding, added to the residual stream.
    pub x0_lambdas: AdamWGroup,
    /// `smear_gate`, `smear_lambda` and `backout_lambda`.
    pub smear: AdamWGroup,
    /// Every tensor inside the blocks, gates included.
    pub muon: MuonGroup,
}

/// One line of the table of groups.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupRow {
    /// Name of the group.
    pub name: &'static str,
    /// Which optimizer updates it.
    pub rule: &'static str,
    /// Peak learning rate.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
}

impl Groups {
    /// Scales the base rates of a request for a width and a batch.
    pub(super) fn resolve(
        request: &Request,
        width: usize,
        multiplier: f64,
        weight_decay: f64,
    ) -> Self {
        let rates = request.rates;
        // Adam's step per parameter does not shrink with width, its effect on the output does (tuned at 768).
        let by_width = (width as f64 / REFERENCE_WIDTH).powf(-0.5) * multiplier;
        // One override moves everything; without it, this group keeps its rate at every batch size.
        let smear = if request.lr.is_some() { SMEAR_RATE * multiplier } else { SMEAR_RATE };
        Self {
            lm_head: adamw(rates.unembedding * by_width, (0.8, 0.96), 0.01),
            wte: adamw(rates.embedding * by_width, (0.8, 0.995), 0.001),
            value_embeds: adamw(rates.embedding * by_width * 0.5, (0.8, 0.995), 0.01),
            resid_lambdas: adamw(rates.scalar * multiplier * 0.01, (0.8, 0.95), 0.05),
            x0_lambdas: adamw(rates.scalar * multiplier, (0.96, 0.95), 0.0),
            smear: adamw(smear, (0.8, 0.95), 0.0),
            muon: MuonGroup {
                // Not `matrix * multiplier`: an override arrives to the last bit.
                lr: request.lr.unwrap_or(rates.matrix * multiplier),
                beta_2: 0.9,
                weight_decay,
            },
        }
    }

    /// The groups as a table, in the order in which nanochat sets them up.
    #[must_use]
    pub fn rows(&self) -> [GroupRow; 7] {
        let adamw = |name, group: AdamWGroup| GroupRow {
            name,
            rule: "AdamW",
            lr: group.lr,
            weight_decay: group.weight_decay,
        };
        let MuonGroup { lr, weight_decay, .. } = self.muon;
        [
            adamw("lm_head", self.lm_head),
            adamw("wte", self.wte),
            adamw("value_embeds", self.value_embeds),
            adamw("resid_lambdas", self.resid_lambdas),
            adamw("x0_lambdas", self.x0_lambdas),
            adamw("smear", self.smear),
            GroupRow { name: "blocks", rule: "Muon", lr, weight_decay },
        ]
    }
}

fn adamw(lr: f64, (beta_1, beta_2): (f64, f64), weight_decay: f64) -> AdamWGroup {
    AdamWGroup { lr, beta_1, beta_2, epsilon: EPSILON, weight_decay }
}
