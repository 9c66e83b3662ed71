//! The 22 tasks of CORE.

/// How a task asks, and when an answer is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One query and several answers: right if the true one has the lowest mean loss.
    MultipleChoice,
    /// Several contexts and one continuation: right if it has its lowest mean loss after the true one.
    Schema,
    /// A context and a continuation: right if the model would have written each token of it.
    LanguageModeling,
}

/// A task of CORE.
#[derive(Debug, Clone, PartialEq)]
pub struct CoreTask {
    /// Its name.
    pub label: &'static str,
    /// Its items, one of JSON a line, in a bundle.
    pub file: &'static str,
    /// How it asks.
    pub kind: Kind,
    /// How many other items are shown, with their answers, before the one that is asked.
    pub shots: usize,
    /// The accuracy of a guess, in percent.
    pub baseline: f64,
    /// What stands between a query and its answer.
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

/// The tasks, in nanochat's order, with the baselines of DCLM's first version, as nanochat has them.
///
/// Those of its second version (40.3, 25 and 25 for `commonsense_qa`, `agi_eval_lsat_ar` and
/// `bigbench_language_identification`) give other scores.
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
