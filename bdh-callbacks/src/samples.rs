//! What the model writes: fixed prompts, continued on chosen steps, with figures on how good it is.
//!
//! | key                      | unit                     | recorded                                       |
//! |--------------------------|--------------------------|------------------------------------------------|
//! | `samples/distinct_<n>`   | share, 0 to 1            | different n-grams, n of 1 to 3                 |
//! | `samples/repetition`     | share, 0 to 1            | 4-grams that were there before                 |
//! | `samples/longest_repeat` | tokens                   | longest span that occurs twice                 |
//! | `samples/entropy`        | bits per token           | of the tokens' frequencies                     |
//! | `samples/log_prob`       | nats per token           | under the model, whatever they were drawn with |
//! | `samples/degenerate`     | 0 or 1                   | at least half of the samples are loops         |
//! | `samples/<i>`            | text                     | prompt and continuation, counted from 0        |
//! | `samples`                | table                    | prompt, text and measures, a row for each      |
//!
//! All on every due step; figures are means over the prompts. Each due step also leaves `samples/<step>.md` in
//! the run directory, if there is one. Two `Samples` in one run take a prefix: under `.prefix("cold")` the keys are
//! `samples/cold/…` and the files `samples/cold/<step>.md`.

mod quality;

use crate::settings::{self, within};
use bdh::lm::{Generated, Sampling};
use bdh::{
    BoxError, Cadence, Callback, ConfigError, Cx, FitEnd, HookResult, Outcome, Outlook, StepEnd,
    Value, callback, every, last,
};
use derive_builder::Builder;
use quality::Quality;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Continues prompts with the model as it is, and measures what comes out.
///
/// Seeds come from the run's seed, the step and the prompt, and generation draws from nothing else: training
/// is the same with and without it. A run that is stopped is sampled once more at its end; that goes to the
/// file and to `run.json`, since the sinks have had their last record. Needs a task that can generate, such as
/// [`NextToken`](bdh::NextToken) with a vocabulary.
///
/// All prompts go through the model in one batch: a due step costs `max_tokens` forward passes over the contexts,
/// and as many device reads, however many prompts there are. Bytes that are not valid UTF-8 are shown as `\xff`.
///
/// Two in one run, such as at two temperatures, need a [prefix](bdh::Attach::prefix), or `build` refuses them: they
/// would record under the same keys. With `.prefix("cold")` one of them writes `samples/cold/<step>.md`, and neither
/// overwrites the other's files.
///
/// # Examples
///
/// ```
/// use bdh::{Callback, every, last};
/// use bdh_callbacks::Samples;
///
/// let samples = Samples::builder()
///     .cadence(every(500) | last())
///     .prompts(["The capital of France is", "Once upon a time"])
///     .temperature(0.8)
///     .top_p(0.95)
///     .build()?;
/// assert_eq!(samples.files(1_000), ["samples/500.md", "samples/1000.md"]);
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
pub struct Samples {
    /// Steps on which to sample. Defaults to every 1000 steps and the last one.
    cadence: Cadence,
    /// What to continue. Defaults to "To be or not to be", "Once upon a time" and "In a galaxy far, far away".
    #[builder(setter(custom))]
    prompts: Vec<String>,
    /// Tokens to add to each prompt. Defaults to 100.
    #[builder(setter(into = false))]
    max_tokens: usize,
    /// Defaults to 1, the model's own distribution; 0 takes the likeliest token always.
    temperature: f64,
    /// Samples among this many likeliest tokens only. Defaults to all.
    #[builder(setter(strip_option, into = false))]
    top_k: Option<usize>,
    /// Samples among the fewest likeliest tokens that hold this share of the probability. Defaults to all.
    #[builder(setter(strip_option))]
    top_p: Option<f64>,
    /// Tokens of context that the model sees at most. Defaults to 256.
    #[builder(setter(into = false))]
    max_context: usize,
    /// The share of a continuation that its longest repeated span takes up in a loop. Defaults to 0.5.
    alarm: f64,
    /// The step of the last samples.
    #[builder(setter(skip))]
    #[serde(skip)]
    sampled: Option<u64>,
    /// Whether the last samples were degenerate; said once, when it begins.
    #[builder(setter(skip))]
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
            cadence: every(1_000) | last(),
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

impl SamplesBuilder {
    /// What to continue. Defaults to "To be or not to be", "Once upon a time" and "In a galaxy far, far away".
    pub fn prompts<P: Into<String>>(self, prompts: impl IntoIterator<Item = P>) -> Self {
        Self {
            prompts: Some(prompts.into_iter().map(Into::into).collect()),
            ..self
        }
    }
}

/// One continued prompt.
struct Sample {
    prompt: String,
    text: String,
    quality: Quality,
}

impl Samples {
    /// Begins with the defaults.
    pub fn builder() -> SamplesBuilder {
        SamplesBuilder::default()
    }

    fn sample(&mut self, at: &Cx<'_>) -> HookResult {
        self.sampled = Some(at.step());
        let samples = self.continued(at)?;
        let loops = samples
            .iter()
            .filter(|sample| sample.quality.is_degenerate(self.alarm))
            .count();
        let is_degenerate = loops > 0 && 2 * loops >= samples.len();
        log(at, &samples, is_degenerate);
        if is_degenerate && !self.was_degenerate {
            let (step, all) = (at.step(), samples.len());
            at.remark(format!(
                "samples of step {step} go round in circles: {loops} of {all}"
            ));
        }
        self.was_degenerate = is_degenerate;
        let path = at.file(&format!("samples/{}.md", at.step()))?;
        path.map_or(Ok(()), |path| Ok(write(&path, at.step(), &samples)?))
    }

    /// All prompts, continued in one batch.
    fn continued(&self, at: &Cx<'_>) -> Result<Vec<Sample>, BoxError> {
        let how = |prompt: &str| Sampling {
            max_tokens: self.max_tokens,
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            seed: at.seed_for(prompt),
            max_context: self.max_context,
        };
        let prompts: Vec<_> = self
            .prompts
            .iter()
            .map(|prompt| (prompt.as_str(), how(prompt)))
            .collect();
        let samples = at.sample_all(&prompts);
        let samples = samples.ok_or("the task cannot generate text; does it have a vocabulary?")?;
        let sample = |(
            prompt,
            Generated {
                text,
                tokens,
                log_probs,
            },
        ): (&String, _)| {
            let quality = Quality::of(&tokens, &log_probs);
            Sample {
                prompt: prompt.clone(),
                text,
                quality,
            }
        };
        Ok(self.prompts.iter().zip(samples?).map(sample).collect())
    }
}

type Measure = fn(&Quality) -> f64;

/// Names of the measures and how to get them, as they are recorded.
const MEASURES: [(&str, Measure); 7] = [
    ("distinct_1", |quality| quality.distinct[0]),
    ("distinct_2", |quality| quality.distinct[1]),
    ("distinct_3", |quality| quality.distinct[2]),
    ("repetition", |quality| quality.repetition),
    ("longest_repeat", |quality| quality.longest_repeat as f64),
    ("entropy", |quality| quality.entropy),
    ("log_prob", |quality| quality.log_prob),
];

fn log(at: &Cx<'_>, samples: &[Sample], is_degenerate: bool) {
    for (name, measure) in MEASURES {
        let sum: f64 = samples.iter().map(|sample| measure(&sample.quality)).sum();
        at.log(format!("samples/{name}"), sum / samples.len() as f64);
    }
    at.log("samples/degenerate", f64::from(u8::from(is_degenerate)));
    for (index, Sample { prompt, text, .. }) in samples.iter().enumerate() {
        at.log(
            format!("samples/{index}"),
            Value::Text(format!("{prompt}{text}")),
        );
    }
    let columns = ["prompt", "text"]
        .into_iter()
        .chain(MEASURES.map(|(name, _)| name));
    let rows = samples.iter().map(|sample| {
        let texts = [sample.prompt.clone(), sample.text.clone()];
        texts.into_iter().chain(figures(&sample.quality)).collect()
    });
    let columns = columns.map(str::to_owned).collect();
    at.log(
        "samples",
        Value::Table {
            columns,
            rows: rows.collect(),
        },
    );
}

/// The measures as a person reads them.
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

/// Writes the page of one step; whoever looks sees it whole or not at all.
fn write(path: &Path, step: u64, samples: &[Sample]) -> io::Result<()> {
    let scratch = path.with_file_name(format!(".{step}.md.tmp"));
    let _ = fs::remove_file(&scratch); // a link, maybe: writing through it would change a file elsewhere
    File::create_new(&scratch)?.write_all(page(step, samples).as_bytes())?;
    fs::rename(&scratch, path)
}

fn page(step: u64, samples: &[Sample]) -> String {
    let mut page = format!("# Samples of step {step}\n");
    for (
        index,
        Sample {
            prompt,
            text,
            quality,
        },
    ) in samples.iter().enumerate()
    {
        let whole = format!("{prompt}{text}");
        let fence = fence(&whole);
        let figures: Vec<_> = MEASURES
            .iter()
            .zip(figures(quality))
            .map(|((name, _), figure)| format!("{name} {figure}"))
            .collect();
        let figures = figures.join(", ");
        page += &format!("\n## {index}\n\n{fence}text\n{whole}\n{fence}\n\n{figures}\n");
    }
    page
}

/// Longer than any row of backticks in the text, which could otherwise end its own quotation.
fn fence(text: &str) -> String {
    let longest = text
        .split(|letter| letter != '`')
        .map(str::len)
        .max()
        .unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}

#[callback("samples")]
impl Callback for Samples {
    fn config(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn cadence(&self) -> Cadence {
        self.cadence.clone()
    }

    fn check(&self, _: &Outlook<'_>) -> Result<(), BoxError> {
        if self.prompts.is_empty() {
            return Err(
                "`prompts` is empty, and there is nothing to continue; give one or more".into(),
            );
        }
        let most = "use 1 to 100000";
        within("max_tokens", self.max_tokens, 1..=100_000, most)?;
        within("max_context", self.max_context, 1.., "use 1 or more")?;
        within(
            "temperature",
            self.temperature,
            0.0..=f64::MAX,
            "use a finite number, 0 or more",
        )?;
        within("top_k", self.top_k.unwrap_or(1), 1.., "use 1 or more")?;
        within(
            "top_p",
            self.top_p.unwrap_or(1.0),
            0.0..=1.0,
            "use a share from 0 to 1",
        )?;
        within("alarm", self.alarm, 0.0.., "use a share from 0 to 1")?;
        Ok(())
    }

    fn keys(&self) -> Vec<String> {
        let measures = MEASURES.iter().map(|(name, _)| format!("samples/{name}"));
        let texts = (0..self.prompts.len()).map(|index| format!("samples/{index}"));
        let others = ["samples/degenerate", "samples"].map(str::to_owned);
        measures.chain(texts).chain(others).collect()
    }

    fn files(&self, steps: u64) -> Vec<String> {
        settings::files(&self.cadence, steps, |step| format!("samples/{step}.md"))
    }

    fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
        self.sample(at)
    }

    fn on_fit_end(&mut self, at: &FitEnd<'_>) -> HookResult {
        let was_stopped = matches!(at.outcome, Outcome::Stopped(_));
        let is_new = at.step() > 0 && self.sampled != Some(at.step());
        if was_stopped && is_new {
            self.sample(at)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn a_page_is_not_written_through_a_link() {
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
    fn a_page_quotes_a_text_that_quotes() {
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
