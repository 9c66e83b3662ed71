//! The 22 tasks of CORE.

/// Kind of a task, which decides when an answer is correct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One query and several answers: correct if the right answer has the lowest mean loss.
    MultipleChoice,
    /// Several contexts and one continuation: correct if its mean loss is lowest after the right context.
    Schema,
    /// One context and one continuation: correct if each token of the continuation is the model's likeliest.
    LanguageModeling,
}

/// Task of CORE.
#[derive(Debug, Clone, PartialEq)]
pub struct CoreTask {
    /// Name of the task.
    pub label: &'static str,
    /// Path of the file in a bundle, with one JSON item per line.
    pub file: &'static str,
    /// Kind of the task.
    pub kind: Kind,
    /// Number of few-shot examples before the question.
    pub shots: usize,
    /// Accuracy of a guess, in percent.
    pub baseline: f64,
    /// Text between a query and its answer.
    pub delimiter: &'static str,
}

use Kind::{LanguageModeling, MultipleChoice, Schema};

const ANSWER: &str = "\nAnswer: ";

macro_rules! tasks {
    ($($label:ident $file:literal $kind:ident $shots:literal $baseline:literal $delimiter:expr;)+) => {
        [$(CoreTask {
            label: stringify!($label),
            file: concat!($file, ".jsonl"),
            kind: $kind,
            shots: $shots,
            baseline: $baseline,
            delimiter: $delimiter,
        }),+]
    };
}

/// All tasks in nanochat's order, with nanochat's baselines, which are those of DCLM's first version.
///
/// DCLM's second version has other baselines for `commonsense_qa` (40.3), `agi_eval_lsat_ar` (25) and
/// `bigbench_language_identification` (25), and so other scores.
#[rustfmt::skip]
pub const TASKS: [CoreTask; 22] = tasks! {
    hellaswag_zeroshot "language_understanding/hellaswag" MultipleChoice 0 25.0 " ";
    jeopardy "world_knowledge/jeopardy_all" LanguageModeling 10 0.0 ANSWER;
    bigbench_qa_wikidata "world_knowledge/bigbench_qa_wikidata" LanguageModeling 10 0.0 " ";
    arc_easy "world_knowledge/arc_easy" MultipleChoice 10 25.0 ANSWER;
    arc_challenge "world_knowledge/arc_challenge" MultipleChoice 10 25.0 ANSWER;
    copa "commonsense_reasoning/copa" MultipleChoice 0 50.0 " ";
    commonsense_qa "commonsense_reasoning/commonsense_qa" MultipleChoice 10 20.0 " ";
    piqa "commonsense_reasoning/piqa" MultipleChoice 10 50.0 ANSWER;
    openbook_qa "commonsense_reasoning/openbook_qa" MultipleChoice 0 25.0 " ";
    lambada_openai "language_understanding/lambada_openai" LanguageModeling 0 0.0 " ";
    hellaswag "language_understanding/hellaswag" MultipleChoice 10 25.0 " ";
    winograd "language_understanding/winograd_wsc" Schema 0 50.0 " ";
    winogrande "language_understanding/winogrande" Schema 0 50.0 " ";
    bigbench_dyck_languages "symbolic_problem_solving/bigbench_dyck_languages" LanguageModeling 10 0.0 " ";
    agi_eval_lsat_ar "symbolic_problem_solving/agi_eval_lsat_ar" MultipleChoice 3 20.0 " ";
    bigbench_cs_algorithms "symbolic_problem_solving/bigbench_cs_algorithms" LanguageModeling 10 0.0 " ";
    bigbench_operators "symbolic_problem_solving/bigbench_operators" LanguageModeling 10 0.0 " ";
    bigbench_repeat_copy_logic "symbolic_problem_solving/bigbench_repeat_copy_logic" LanguageModeling 10 0.0 " ";
    squad "reading_comprehension/squad" LanguageModeling 10 0.0 " ";
    coqa "reading_comprehension/coqa" LanguageModeling 0 0.0 " ";
    boolq "reading_comprehension/boolq" MultipleChoice 10 62.0 ANSWER;
    bigbench_language_identification "language_understanding/bigbench_language_identification" MultipleChoice 10 9.1 " ";
};
