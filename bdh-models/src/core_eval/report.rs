//! What a model scored, and how sure that is.

use super::tasks::{CoreTask, TASKS};
use serde::Serialize;
use serde_json::{Value, json};
use std::fmt;

/// What a model scored on one task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskScore {
    /// The task.
    pub task: &'static CoreTask,
    /// Whether each item was right, in the order of evaluation.
    pub correct: Vec<bool>,
    /// Items of which the model saw too little: part of what was judged did not fit its context.
    pub cut: usize,
}

impl TaskScore {
    pub(super) fn new(task: &'static CoreTask, correct: Vec<bool>, cut: usize) -> Self {
        Self { task, correct, cut }
    }

    /// The share of items that were right.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        let right = self
            .correct
            .iter()
            .filter(|is_correct| **is_correct)
            .count();
        right as f64 / self.correct.len() as f64
    }

    /// The accuracy on a scale where 0 is a guess and 1 is perfect.
    #[must_use]
    pub fn centered(&self) -> f64 {
        let baseline = 0.01 * self.task.baseline;
        (self.accuracy() - baseline) / (1.0 - baseline)
    }

    /// The standard error of [`centered`](Self::centered) that comes from the choice of items; 0 if none or all were
    /// right.
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

    /// The heads of the columns that a score is printed in.
    pub const COLUMNS: &str =
        "task                              shots  items  accuracy  baseline  centered  std. error";
}

/// A line of the table under [`COLUMNS`](Self::COLUMNS).
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

/// A model's CORE: the mean over the tasks there were.
///
/// Its `Display` is the headline, and what is missing; it serializes with every task.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    tasks: Vec<TaskScore>,
    missing: Vec<&'static str>,
}

impl Report {
    /// The report on one task at least; `missing` are those that the bundle did not have.
    #[must_use]
    pub fn new(tasks: Vec<TaskScore>, missing: &[&'static str]) -> Self {
        Self {
            tasks,
            missing: missing.to_vec(),
        }
    }

    /// `CORE`, or where tasks are missing `CORE-18` for 18: another score, which other CORE-18 of the same tasks may be
    /// compared with and no CORE.
    #[must_use]
    pub fn name(&self) -> String {
        name(self.tasks.len())
    }

    /// The mean of the centered accuracies.
    #[must_use]
    pub fn score(&self) -> f64 {
        self.tasks.iter().map(TaskScore::centered).sum::<f64>() / self.tasks.len() as f64
    }

    /// The standard error of [`score`](Self::score) that comes from the choice of items.
    ///
    /// Another seed of the same training moves a CORE of 0.24 by as much again: by 0.006, in 20 runs of nanochat.
    #[must_use]
    pub fn standard_error(&self) -> f64 {
        let variance: f64 = self
            .tasks
            .iter()
            .map(|task| task.standard_error().powi(2))
            .sum();
        variance.sqrt() / self.tasks.len() as f64
    }

    /// Whether guessing does as well: the score is within two standard errors of 0, or below.
    ///
    /// A model that has learned nothing may be far below 0, because it prefers some answers whatever is asked: `no` to
    /// each question of `boolq` is -0.64 there, and -0.03 of CORE.
    #[must_use]
    pub fn is_chance(&self) -> bool {
        self.score() <= 2.0 * self.standard_error()
    }

    /// The score of each task.
    #[must_use]
    pub fn tasks(&self) -> &[TaskScore] {
        &self.tasks
    }

    /// The score with its error, and whether it is chance, in one line.
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

/// The score's name, of so many tasks.
fn name(tasks: usize) -> String {
    if tasks == TASKS.len() {
        "CORE".to_owned()
    } else {
        format!("CORE-{tasks}")
    }
}

/// The score's key in a record, of so many tasks: nanochat's `core_metric`, or `core_metric_18` for 18.
pub(super) fn key(tasks: usize) -> String {
    match tasks {
        all if all == TASKS.len() => "core_metric".to_owned(),
        some => format!("core_metric_{some}"),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.headline())?;
        if !self.missing.is_empty() {
            write!(f, "\nmissing: {}", self.missing.join(", "))?;
        }
        let sum = |of: fn(&TaskScore) -> usize| self.tasks.iter().map(of).sum::<usize>();
        match (sum(|task| task.cut), sum(|task| task.correct.len())) {
            (0, _) => Ok(()),
            (cut, items) => {
                write!(
                    f,
                    "\npart of the answer did not fit the context: {cut} of {items} items"
                )
            }
        }
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
    fn chance_is_0_and_perfection_1() {
        for (right, centered) in [(25, 0.0), (100, 1.0), (40, 0.2), (10, -0.2)] {
            assert!((scored(0, right, 100).centered() - centered).abs() < 1e-12);
        }
        assert_eq!(
            scored(1, 0, 100).centered(),
            0.0,
            "jeopardy cannot be guessed"
        );
    }

    /// The spread of scores over many draws of items, against the formula that is given one draw.
    #[test]
    fn the_standard_error_is_the_spread_over_draws_of_items() {
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
        let told: f64 = (0..100).map(|_| draw(50).standard_error()).sum::<f64>() / 100.0;
        assert!((told / spread - 1.0).abs() < 0.05, "{told} {spread}");
    }

    #[test]
    fn a_score_of_fewer_tasks_has_another_name_and_lists_what_is_missing() {
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
             part of the answer did not fit the context: 7 of 200 items"
        );
        let json = serde_json::to_value(&report).expect("JSON");
        assert_eq!(json["tasks"][0]["task"], "hellaswag_zeroshot");
        assert_eq!(
            (&json["is_chance"], &json["missing"][1]),
            (&true.into(), &"coqa".into())
        );
    }

    #[test]
    fn a_score_below_0_is_told_to_be_no_better_than_guessing() {
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
    fn a_score_well_above_chance_is_told_without_a_word() {
        let report = Report::new(vec![scored(0, 60, 100), scored(1, 30, 100)], &[]);
        assert!(!report.is_chance());
        assert_eq!(
            report.to_string(),
            "CORE-2 0.3833 ± 0.0399 (standard error of item sampling)"
        );
    }
}
