//! Scores of a model, with standard errors.

use super::tasks::{CoreTask, TASKS};
use serde::Serialize;
use serde_json::{Value, json};
use std::fmt;

/// Score of a model on one task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskScore {
    /// The task.
    pub task: &'static CoreTask,
    /// Whether each answer was correct, in the order of evaluation.
    pub correct: Vec<bool>,
    /// Number of items with an answer that did not fit the context.
    pub cut: usize,
}

impl TaskScore {
    pub(super) fn new(task: &'static CoreTask, correct: Vec<bool>, cut: usize) -> Self {
        Self { task, correct, cut }
    }

    /// Returns the share of correct answers.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        let correct = self.correct.iter().filter(|correct| **correct).count();
        correct as f64 / self.correct.len() as f64
    }

    /// Returns the accuracy on a scale where 0 is chance and 1 is perfect.
    #[must_use]
    pub fn centered(&self) -> f64 {
        let baseline = 0.01 * self.task.baseline;
        (self.accuracy() - baseline) / (1.0 - baseline)
    }

    /// Returns the standard error of [`centered`](Self::centered) from the choice of items.
    ///
    /// The standard error is 0 if all answers were correct, or none.
    #[must_use]
    pub fn standard_error(&self) -> f64 {
        let accuracy = self.accuracy();
        let error = (accuracy * (1.0 - accuracy) / self.correct.len() as f64).sqrt();
        error / (1.0 - 0.01 * self.task.baseline)
    }

    fn to_json(&self) -> Value {
        json!({
            "task": self.task.label,
            "shots": self.task.shots,
            "items": self.correct.len(),
            "accuracy": self.accuracy(),
            "baseline": 0.01 * self.task.baseline,
            "centered": self.centered(),
            "standard_error": self.standard_error(),
            "cut": self.cut,
        })
    }

    /// Header of the table of scores.
    pub const COLUMNS: &str =
        "task                              shots  items  accuracy  baseline  centered  std. error";
}

/// Writes a line of the table under [`COLUMNS`](Self::COLUMNS).
impl fmt::Display for TaskScore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<33} {:>5}  {:>5}  {:>8.4}  {:>8.4}  {:>8.4}  {:>10.4}",
            self.task.label,
            self.task.shots,
            self.correct.len(),
            self.accuracy(),
            0.01 * self.task.baseline,
            self.centered(),
            self.standard_error(),
        )
    }
}

/// CORE of a model: the mean over the evaluated tasks.
///
/// `Display` writes the headline and the missing tasks; serialization includes every task.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    tasks: Vec<TaskScore>,
    missing: Vec<&'static str>,
}

impl Report {
    /// Creates a report on at least one task; `missing` are the tasks that the bundle lacks.
    #[must_use]
    pub fn new(tasks: Vec<TaskScore>, missing: &[&'static str]) -> Self {
        Self {
            tasks,
            missing: missing.to_vec(),
        }
    }

    /// Returns `CORE`, or a name such as `CORE-18` if only 18 tasks were evaluated.
    ///
    /// A CORE-18 can only be compared with another CORE-18 of the same tasks.
    #[must_use]
    pub fn name(&self) -> String {
        name(self.tasks.len())
    }

    /// Returns the mean of the centered accuracies.
    #[must_use]
    pub fn score(&self) -> f64 {
        self.tasks.iter().map(TaskScore::centered).sum::<f64>() / self.tasks.len() as f64
    }

    /// Returns the standard error of [`score`](Self::score) from the choice of items.
    ///
    /// The seed of the training has an effect of the same size: 0.006 at a CORE of 0.24, over 20 runs of nanochat.
    #[must_use]
    pub fn standard_error(&self) -> f64 {
        let mut variance = 0.0;
        for task in &self.tasks {
            variance += task.standard_error().powi(2);
        }
        variance.sqrt() / self.tasks.len() as f64
    }

    /// Returns whether the model is no better than chance: the score is at most two standard errors above 0.
    ///
    /// An untrained model may be far below 0, because it may always prefer one answer: `no` to each question of `boolq`
    /// scores -0.64, which is -0.03 of CORE.
    #[must_use]
    pub fn is_chance(&self) -> bool {
        self.score() <= 2.0 * self.standard_error()
    }

    /// Returns the score of each task.
    #[must_use]
    pub fn tasks(&self) -> &[TaskScore] {
        &self.tasks
    }

    /// Returns one line with the score, the standard error, and whether the score is chance.
    #[must_use]
    pub fn headline(&self) -> String {
        let (name, score, error) = (self.name(), self.score(), self.standard_error());
        let chance = match (self.is_chance(), score < -2.0 * error) {
            (false, _) => "",
            (true, false) => ", within 2 standard errors of 0: no better than guessing",
            (true, true) => ", below 0: no better than guessing",
        };
        format!("{name} {score:.4} ± {error:.4} (standard error of item sampling){chance}")
    }
}

/// Returns the name of the score of `tasks` tasks.
fn name(tasks: usize) -> String {
    if tasks == TASKS.len() {
        "CORE".to_owned()
    } else {
        format!("CORE-{tasks}")
    }
}

/// Returns the key of the score of `tasks` tasks: nanochat's `core_metric`, or `core_metric_18` for 18.
pub(super) fn key(tasks: usize) -> String {
    if tasks == TASKS.len() {
        "core_metric".to_owned()
    } else {
        format!("core_metric_{tasks}")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.headline())?;
        if !self.missing.is_empty() {
            write!(f, "\nmissing: {}", self.missing.join(", "))?;
        }
        let (mut cut, mut items) = (0, 0);
        for task in &self.tasks {
            cut += task.cut;
            items += task.correct.len();
        }
        if cut > 0 {
            let problem = "the answer did not fully fit the context";
            write!(f, "\n{problem}: {cut} of {items} items")?;
        }
        Ok(())
    }
}

impl Serialize for Report {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let report = json!({
            "name": self.name(),
            "score": self.score(),
            "standard_error": self.standard_error(),
            "is_chance": self.is_chance(),
            "missing": self.missing,
            "tasks": self.tasks.iter().map(TaskScore::to_json).collect::<Vec<_>>(),
        });
        report.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(index: usize, right: usize, items: usize) -> TaskScore {
        let correct = (0..items).map(|item| item < right).collect();
        TaskScore::new(&TASKS[index], correct, 0)
    }

    #[test]
    fn chance_scores_0_and_a_perfect_model_1() {
        for (right, centered) in [(25, 0.0), (100, 1.0), (40, 0.2), (10, -0.2)] {
            assert!((scored(0, right, 100).centered() - centered).abs() < 1e-12);
        }
        assert_eq!(
            scored(1, 0, 100).centered(),
            0.0,
            "jeopardy cannot be guessed"
        );
    }

    /// Compares the formula for one draw with the spread of scores over many draws of items.
    #[test]
    fn standard_error_equals_the_spread_over_draws_of_items() {
        let chances = [(0, 0.4), (2, 0.1), (5, 0.7)]; // a task and the model's true accuracy there
        let mut random = super::super::PythonRandom::new(1);
        let mut draw = |items: usize| {
            let tasks = chances.map(|(index, chance)| {
                let correct = (0..items).map(|_| random.random() < chance).collect();
                TaskScore::new(&TASKS[index], correct, 0)
            });
            Report::new(tasks.into(), &[])
        };
        let scores: Vec<f64> = (0..4000).map(|_| draw(50).score()).collect();
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        let spread = scores
            .iter()
            .map(|score| (score - mean).powi(2))
            .sum::<f64>();
        let spread = (spread / scores.len() as f64).sqrt();
        let error: f64 = (0..100).map(|_| draw(50).standard_error()).sum::<f64>() / 100.0;
        assert!((error / spread - 1.0).abs() < 0.05, "{error} {spread}");
    }

    #[test]
    fn score_of_some_tasks_has_its_own_name_and_lists_missing_tasks() {
        let all: Vec<_> = (0..22).map(|index| scored(index, 50, 100)).collect();
        assert_eq!(
            (Report::new(all, &[]).name(), key(22)),
            ("CORE".into(), "core_metric".into())
        );
        let guesses = TaskScore {
            cut: 7,
            ..scored(0, 26, 100)
        };
        let report = Report::new(vec![guesses, scored(1, 0, 100)], &["squad", "coqa"]);
        assert_eq!(
            (report.name(), key(2)),
            ("CORE-2".to_owned(), "core_metric_2".to_owned())
        );
        assert_eq!(
            report.to_string(),
            "CORE-2 0.0067 ± 0.0292 (standard error of item sampling), within 2 standard errors of 0: \
             no better than guessing\nmissing: squad, coqa\n\
             the answer did not fully fit the context: 7 of 200 items"
        );
        let json = serde_json::to_value(&report).expect("JSON");
        assert_eq!(json["tasks"][0]["task"], "hellaswag_zeroshot");
        assert_eq!(
            (&json["is_chance"], &json["missing"][1]),
            (&true.into(), &"coqa".into())
        );
    }

    #[test]
    fn score_below_0_is_reported_as_no_better_than_guessing() {
        let report = Report::new(vec![scored(5, 10, 100)], &[]);
        assert!(report.is_chance());
        assert!(
            report
                .headline()
                .ends_with("), below 0: no better than guessing"),
            "{report}"
        );
    }

    #[test]
    fn score_above_chance_has_no_comment() {
        let report = Report::new(vec![scored(0, 60, 100), scored(1, 30, 100)], &[]);
        assert!(!report.is_chance());
        assert_eq!(
            report.to_string(),
            "CORE-2 0.3833 ± 0.0399 (standard error of item sampling)"
        );
    }
}
