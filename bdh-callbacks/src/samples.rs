//! Text samples: continuations of fixed prompts, with measures of their quality.
//!
//! | key                      | unit                     | recorded                                       |
//! |--------------------------|--------------------------|------------------------------------------------|
//! | `samples/distinct_<n>`   | share, 0 to 1            | distinct n-grams, n of 1 to 3                  |
//! | `samples/repetition`     | share, 0 to 1            | 4-grams that occurred before                   |
//! | `samples/longest_repeat` | tokens                   | longest span that occurs twice                 |
//! | `samples/entropy`        | bits per token           | of the tokens' frequencies                     |
//! | `samples/log_prob`       | nats per token           | under the model, before temperature and cuts   |
//! | `samples/degenerate`     | 0 or 1                   | whether at least half of the samples loop      |
//! | `samples/<i>`            | text                     | prompt `i`, from 0, and its continuation       |
//! | `samples`                | table                    | prompt, text and measures, one row per prompt  |
//!
//! All are recorded on every due step; numbers are means over the prompts. Each due step also writes `samples/<step>.md`
//! to the run directory, if there is one. Two `Samples` in one run need a prefix: with `.prefix("cold")` the keys are
//! `samples/cold/…` and the files `samples/cold/<step>.md`.

mod quality;

use crate::settings::{self, within};
use bdh::cadence::{every, last};
use bdh::hooks::{FitEnd, StepEnd};
use bdh::text::Sampling;
use bdh::{BoxError, Cadence, Callback, Context, HookResult, Outcome, Outlook, Value, callback};
use derive_setters::Setters;
use quality::Quality;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Continues prompts with the current model, and measures the continuations.
///
/// Needs a task with [text](bdh::Task::text), such as [`NextToken`](bdh::NextToken) with a vocabulary. Seeds come from
/// the run's seed, the step and the prompt, and generation uses no other randomness, so training is the same with and
/// without samples. A run that is stopped is sampled once more at its end. Those samples go to the file and to
/// `run.json`, since the sinks have received their last record.
///
/// All prompts go through the model in one batch. A due step costs `max_tokens` forward passes over the contexts, and
/// `max_tokens` device reads, for any number of prompts. Bytes that are not valid UTF-8 are shown as `\xff`.
///
/// Two `Samples` in one run, such as at two temperatures, would record under the same keys, so `build` refuses them
/// without a [prefix](bdh::CallbackExt::prefix). A prefix also separates their files.
///
/// # Examples
///
/// ```
/// use bdh::Callback;
/// use bdh::cadence::{every, last};
/// use bdh_callbacks::Samples;
///
/// let samples = Samples::default()
///     .on(every(500) | last())
///     .prompts(["The capital of France is", "Once upon a time"])
///     .temperature(0.8)
///     .top_p(0.95);
/// assert_eq!(samples.files(1_000), ["samples/500.md", "samples/1000.md"]);
/// ```
#[derive(Debug, Clone, Setters, Deserialize, Serialize)]
#[setters(into)]
#[serde(default, deny_unknown_fields)]
pub struct Samples {
    /// Steps on which to sample. Defaults to every 1000 steps and the last.
    on: Cadence,
    /// Prompts to continue.
    #[setters(skip)]
    prompts: Vec<String>,
    /// Tokens to add to each prompt. Defaults to 100.
    #[setters(into = false)]
    max_tokens: usize,
    /// Temperature of sampling; 0 always takes the likeliest token. Defaults to 1, the model's own distribution.
    temperature: f64,
    /// Number of likeliest tokens to sample from. Defaults to all.
    #[setters(strip_option, into = false)]
    top_k: Option<usize>,
    /// Share of the probability, 0 to 1, held by the likeliest tokens to sample from. Defaults to all tokens.
    #[setters(strip_option)]
    top_p: Option<f64>,
    /// Largest number of context tokens. Defaults to 256.
    #[setters(into = false)]
    max_context: usize,
    /// Least share of a continuation, from 0 to 1, that a repeated span takes up in a loop. Defaults to 0.5.
    alarm: f64,
    /// Step of the last samples.
    #[setters(skip)]
    #[serde(skip)]
    sampled: Option<u64>,
    /// Whether the last samples were degenerate, so that a notice is sent only when this begins.
    #[setters(skip)]
    #[serde(skip)]
    was_degenerate: bool,
}

impl Default for Samples {
    fn default() -> Self {
        let prompts = [
            "To be or not to be",
            "Once upon a time",
            "In a galaxy far, far away",
        ];
        Self {
            on: every(1_000) | last(),
            prompts: prompts.map(str::to_owned).into(),
            max_tokens: 100,
            temperature: 1.0,
            top_k: None,
            top_p: None,
            max_context: 256,
            alarm: 0.5,
            sampled: None,
            was_degenerate: false,
        }
    }
}

impl Samples {
    /// Prompts to continue. Defaults to "To be or not to be", "Once upon a time" and "In a galaxy far, far away".
    #[must_use]
    pub fn prompts<P: Into<String>>(self, prompts: impl IntoIterator<Item = P>) -> Self {
        Self {
            prompts: prompts.into_iter().map(Into::into).collect(),
            ..self
        }
    }

    fn sample(&mut self, ctx: &Context<'_>) -> HookResult {
        let step = ctx.step();
        self.sampled = Some(step);
        let samples = self.generate(ctx)?;
        let loops = self.count_loops(&samples);
        let is_degenerate = loops > 0 && 2 * loops >= samples.len();
        log(ctx, &samples, is_degenerate);
        if is_degenerate && !self.was_degenerate {
            let all = samples.len();
            ctx.notice(format!(
                "{loops} of {all} samples repeat themselves at step {step}"
            ));
        }
        self.was_degenerate = is_degenerate;
        if let Some(path) = ctx.file(&format!("samples/{step}.md"))? {
            write(&path, step, &samples)?;
        }
        Ok(())
    }

    fn count_loops(&self, samples: &[Sample]) -> usize {
        let mut loops = 0;
        for sample in samples {
            loops += usize::from(sample.quality.is_degenerate(self.alarm));
        }
        loops
    }

    /// Continues all prompts in one batch.
    fn generate(&self, ctx: &Context<'_>) -> Result<Vec<Sample>, BoxError> {
        let text = ctx
            .text()
            .ok_or("the task has no text; `samples` needs a language model")?;
        let mut prompts = Vec::new();
        for prompt in &self.prompts {
            prompts.push((prompt.as_str(), self.sampling(ctx.seed_for(prompt))));
        }
        let mut samples = Vec::new();
        for (prompt, generated) in self.prompts.iter().zip(text.sample_all(&prompts)?) {
            samples.push(Sample {
                prompt: prompt.clone(),
                quality: Quality::of(&generated.tokens, &generated.log_probs),
                text: generated.text,
            });
        }
        Ok(samples)
    }

    fn sampling(&self, seed: u64) -> Sampling {
        Sampling {
            max_tokens: self.max_tokens,
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            seed,
            max_context: self.max_context,
        }
    }
}

/// Prompt and its continuation.
struct Sample {
    prompt: String,
    text: String,
    quality: Quality,
}

impl Sample {
    fn whole_text(&self) -> String {
        format!("{}{}", self.prompt, self.text)
    }
}

type Measure = fn(&Quality) -> f64;

/// Name and value of each measure, in the order of the table.
const MEASURES: [(&str, Measure); 7] = [
    ("distinct_1", |quality| quality.distinct[0]),
    ("distinct_2", |quality| quality.distinct[1]),
    ("distinct_3", |quality| quality.distinct[2]),
    ("repetition", |quality| quality.repetition),
    ("longest_repeat", |quality| quality.longest_repeat as f64),
    ("entropy", |quality| quality.entropy),
    ("log_prob", |quality| quality.log_prob),
];

fn log(ctx: &Context<'_>, samples: &[Sample], is_degenerate: bool) {
    for (name, measure) in MEASURES {
        let sum: f64 = samples.iter().map(|sample| measure(&sample.quality)).sum();
        ctx.log(format!("samples/{name}"), sum / samples.len() as f64);
    }
    ctx.log("samples/degenerate", f64::from(u8::from(is_degenerate)));
    for (index, sample) in samples.iter().enumerate() {
        let text = Value::Text(sample.whole_text());
        ctx.log(format!("samples/{index}"), text);
    }
    ctx.log("samples", table(samples));
}

fn table(samples: &[Sample]) -> Value {
    let mut columns = vec!["prompt".to_owned(), "text".to_owned()];
    columns.extend(MEASURES.map(|(name, _)| name.to_owned()));
    let mut rows = Vec::new();
    for sample in samples {
        let mut row = vec![sample.prompt.clone(), sample.text.clone()];
        row.extend(figures(&sample.quality));
        rows.push(row);
    }
    Value::Table { columns, rows }
}

/// Formats the measures: whole numbers as they are, all others with three decimals.
fn figures(quality: &Quality) -> [String; 7] {
    MEASURES.map(|(_, measure)| {
        let figure = measure(quality);
        if figure.fract() == 0.0 {
            format!("{figure}")
        } else {
            format!("{figure:.3}")
        }
    })
}

/// Writes the page of one step atomically: readers see all of it or none.
fn write(path: &Path, step: u64, samples: &[Sample]) -> io::Result<()> {
    let scratch = path.with_file_name(format!(".{step}.md.tmp"));
    let _ = fs::remove_file(&scratch); // it may be a link, and writing through a link changes another file
    File::create_new(&scratch)?.write_all(page(step, samples).as_bytes())?;
    fs::rename(&scratch, path)
}

fn page(step: u64, samples: &[Sample]) -> String {
    let mut page = format!("# Samples of step {step}\n");
    for (index, sample) in samples.iter().enumerate() {
        let text = sample.whole_text();
        let fence = fence(&text);
        let figures = named_figures(&sample.quality);
        page += &format!("\n## {index}\n\n{fence}text\n{text}\n{fence}\n\n{figures}\n");
    }
    page
}

fn named_figures(quality: &Quality) -> String {
    let mut parts = Vec::new();
    for ((name, _), figure) in MEASURES.iter().zip(figures(quality)) {
        parts.push(format!("{name} {figure}"));
    }
    parts.join(", ")
}

/// Returns a fence longer than any row of backticks in the text, so that the text cannot end its own code block.
fn fence(text: &str) -> String {
    let rows = text.split(|letter| letter != '`');
    let longest = rows.map(str::len).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}

#[callback("samples", on)]
impl Callback for Samples {
    fn check(&self, _: &Outlook<'_>) -> Result<(), BoxError> {
        if self.prompts.is_empty() {
            return Err("`prompts` is empty; give at least one".into());
        }
        let (share, finite) = (0.0..=1.0, 0.0..=f64::MAX);
        let (top_k, top_p) = (self.top_k.unwrap_or(1), self.top_p.unwrap_or(1.0));
        let number = "use 1 to 100000";
        within("max_tokens", self.max_tokens, 1..=100_000, number)?;
        within("max_context", self.max_context, 1.., "use 1 or more")?;
        let number = "use a finite number, 0 or more";
        within("temperature", self.temperature, finite, number)?;
        within("top_k", top_k, 1.., "use 1 or more")?;
        within("top_p", top_p, share, "use a share from 0 to 1")?;
        within("alarm", self.alarm, 0.0.., "use a share from 0 to 1")
    }

    fn keys(&self) -> Vec<String> {
        let mut keys = MEASURES.map(|(name, _)| format!("samples/{name}")).to_vec();
        keys.extend((0..self.prompts.len()).map(|index| format!("samples/{index}")));
        keys.extend(["samples/degenerate", "samples"].map(str::to_owned));
        keys
    }

    fn files(&self, steps: u64) -> Vec<String> {
        settings::files(&self.on, steps, |step| format!("samples/{step}.md"))
    }

    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        self.sample(ctx)
    }

    fn on_fit_end(&mut self, ctx: &FitEnd<'_>) -> HookResult {
        let was_stopped = matches!(ctx.outcome, Outcome::Stopped(_));
        let is_new = ctx.step() > 0 && self.sampled != Some(ctx.step());
        if was_stopped && is_new {
            self.sample(ctx)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn page_is_not_written_through_a_link() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let outside = dir.path().join("mine");
        fs::write(&outside, "mine").expect("a file");
        fs::create_dir(dir.path().join("samples")).expect("a folder");
        let scratch = dir.path().join("samples/.7.md.tmp");
        std::os::unix::fs::symlink(&outside, scratch).expect("a link");
        let page = dir.path().join("samples/7.md");
        write(&page, 7, &[]).expect("a page");
        assert_eq!(fs::read_to_string(&outside).expect("the file"), "mine");
        let page = fs::symlink_metadata(page).expect("the page");
        assert!(page.is_file());
    }

    #[test]
    fn page_quotes_a_text_with_backticks() {
        let quality = Quality::of(&[1, 2, 1], &[-1.0; 3]);
        let text = "say ```so```\nor not".to_owned();
        let page = page(
            7,
            &[Sample {
                prompt: "They ".to_owned(),
                text,
                quality,
            }],
        );
        let expected = "# Samples of step 7\n\n## 0\n\n````text\nThey say ```so```\nor not\n````\n\n\
            distinct_1 0.667, distinct_2 1, distinct_3 1, repetition 0, longest_repeat 1, entropy 0.918, \
            log_prob -1\n";
        assert_eq!(page, expected);
    }
}
