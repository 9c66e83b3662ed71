//! Requests for text from a model, and the answers.

/// How text is sampled: logits over the temperature, then the `top_k`, then of those the `top_p`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Tokens to add to the prompt.
    pub max_tokens: usize,
    /// 0 takes the likeliest token always; 1 samples from the model's own distribution.
    pub temperature: f64,
    /// Samples among this many likeliest tokens only.
    pub top_k: Option<usize>,
    /// Samples among the fewest likeliest tokens that hold this share of the probability, 0 to 1.
    ///
    /// Source: Holtzman et al., 2020, *The Curious Case of Neural Text Degeneration* (arXiv:1904.09751).
    pub top_p: Option<f64>,
    /// The same seed gives the same text.
    pub seed: u64,
    /// Tokens of context that the model sees at most.
    pub max_context: usize,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            max_tokens: 64,
            temperature: 0.0,
            top_k: None,
            top_p: None,
            seed: 0,
            max_context: 256,
        }
    }
}

/// A continuation of a prompt, and how likely the model found each token of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Generated {
    /// What was added to the prompt; bytes that are not valid UTF-8 as `\\xff`.
    pub text: String,
    /// The same as ids.
    pub tokens: Vec<i32>,
    /// The logarithm of each token's probability in nats, whatever temperature and cuts it was sampled with.
    pub log_probs: Vec<f64>,
}

/// How a model found one token of a text, given those before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenScore {
    /// The token's loss, in nats.
    pub nats: f32,
    /// Whether it is the model's own prediction, the likeliest of all tokens.
    pub is_likeliest: bool,
}
