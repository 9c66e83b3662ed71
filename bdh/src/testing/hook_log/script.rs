//! Scripts: text form of the calls of hooks, and comparison of two of them.

use crate::hook::Hook;
use std::fmt;
use std::ops::Range;

/// One call of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::testing) struct Call {
    pub(in crate::testing) step: u64,
    pub(in crate::testing) hook: Hook,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.hook.name())
    }
}

/// Error for a script that cannot be parsed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct ScriptError(String);

/// Parses a script.
pub(super) fn parse(script: &str) -> Result<Vec<Call>, ScriptError> {
    let mut calls = Vec::new();
    let mut step = None;
    for word in script.split_whitespace() {
        if let Some(number) = word.strip_suffix(':') {
            step = Some(parse_step(number)?);
            continue;
        }
        let (hook, times) = hook_and_times(word)?;
        let Some(step) = step else {
            let text = format!("`{word}` has no step: begin with `1: {word}`");
            return Err(ScriptError(text));
        };
        calls.extend(std::iter::repeat_n(Call { step, hook }, times));
    }
    Ok(calls)
}

/// Parses the number before the colon of a step.
fn parse_step(number: &str) -> Result<u64, ScriptError> {
    let Ok(step) = number.parse() else {
        let text = format!("`{number}:` is not a step, such as `1:`");
        return Err(ScriptError(text));
    };
    Ok(step)
}

/// Parses a word such as `on_micro_batch*2`.
fn hook_and_times(word: &str) -> Result<(Hook, usize), ScriptError> {
    let (name, times) = word.split_once('*').unwrap_or((word, "1"));
    let hook = parse_hook(name)?;
    match times.parse() {
        Ok(times @ 1..=1_000_000) => Ok((hook, times)),
        _ => Err(ScriptError(format!(
            "`{word}` needs a count of 1 to 1000000, such as `{name}*2`"
        ))),
    }
}

fn parse_hook(name: &str) -> Result<Hook, ScriptError> {
    let mut names = Vec::new();
    for &hook in Hook::ALL {
        if hook.name() == name {
            return Ok(hook);
        }
        names.push(hook.name());
    }
    let names = names.join(", ");
    let text = format!("unknown hook `{name}`: hooks are {names}");
    Err(ScriptError(text))
}

/// Writes calls as a script, one line per step.
pub(super) fn text(calls: &[Call]) -> String {
    let mut lines = Vec::new();
    for of_step in calls.chunk_by(|a, b| a.step == b.step) {
        let words: Vec<_> = of_step.chunk_by(|a, b| a == b).map(word).collect();
        lines.push(format!("{}: {}", of_step[0].step, words.join(" ")));
    }
    lines.join("\n")
}

/// Writes consecutive calls of one hook as a word.
fn word(calls: &[Call]) -> String {
    let name = calls[0].hook.name();
    if calls.len() == 1 {
        name.to_owned()
    } else {
        format!("{name}*{}", calls.len())
    }
}

/// Number of rows shown before the first difference.
const BEFORE: usize = 3;
/// Number of rows shown after the first difference.
const AFTER: usize = 4;

/// Describes the first difference of two lists of calls with the rows around it; `None` if they are equal.
pub(in crate::testing) fn difference(expected: &[Call], called: &[Call]) -> Option<String> {
    let all = expected.len().max(called.len());
    let first = (0..all).find(|&index| expected.get(index) != called.get(index))?;
    let step = called.get(first).or(expected.get(first))?.step;
    let number = first + 1;
    let title = format!("the first difference is call {number} of {all}, on step {step}");
    Some(format!(
        "{title}\n{}",
        side_by_side(expected, called, first)
    ))
}

/// Writes the calls around one of them in two columns, and marks it.
fn side_by_side(expected: &[Call], called: &[Call], marked: usize) -> String {
    let all = expected.len().max(called.len());
    let rows = marked.saturating_sub(BEFORE)..all.min(marked + AFTER + 1);
    let width = column_width(expected, rows.clone());
    let mut text = format!("\n    {:<width$}  called", "expected");
    for row in rows.clone() {
        let mark = if row == marked { "->" } else { "" };
        let (left, right) = (cell(expected, row), cell(called, row));
        text += &format!("\n {mark:>2} {left:<width$}  {right}");
    }
    if rows.end < all {
        text += "\n    …";
    }
    text
}

fn column_width(calls: &[Call], rows: Range<usize>) -> usize {
    let mut width = 0;
    for row in rows {
        width = width.max(cell(calls, row).len());
    }
    width
}

/// Writes one call, or a mark after the last call.
fn cell(calls: &[Call], index: usize) -> String {
    match calls.get(index) {
        Some(call) => call.to_string(),
        None if index == calls.len() => "(the end)".to_owned(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(script: &str) -> Vec<Call> {
        parse(script).expect("a script")
    }

    #[test]
    fn script_reads_back_as_it_was_written() {
        let script = "0: on_fit_start on_eval_batch*2 on_eval\n1: on_step\n3: on_step on_fit_end";
        assert_eq!(text(&calls(script)), script);
        assert_eq!(calls(&script.replace(['\n', ' '], "\n   ")), calls(script));
        assert_eq!(calls("1: on_step 1: on_step"), calls("1: on_step*2"));
        assert_eq!(calls(" \n"), []);
    }

    #[test]
    fn invalid_script_is_refused_with_the_word() {
        let error = |script: &str| {
            let error = parse(script).expect_err("the script is not valid");
            error.to_string()
        };
        assert_eq!(
            error("on_step"),
            "`on_step` has no step: begin with `1: on_step`"
        );
        assert_eq!(error("one: on_step"), "`one:` is not a step, such as `1:`");
        assert!(error("1: on_stp").starts_with("unknown hook `on_stp`: hooks are on_fit_start, "));
        for word in [
            "on_step*",
            "on_step*0",
            "on_step*x",
            "on_step*99999999999999",
        ] {
            let expected = format!("`{word}` needs a count of 1 to 1000000, such as `on_step*2`");
            assert_eq!(error(&format!("1: {word}")), expected);
        }
    }

    #[test]
    fn difference_shows_both_sides_and_marks_the_first() {
        let expected =
            calls("0: on_fit_start 1: on_step_start on_micro_batch*2 after_backward on_step");
        let called = calls("0: on_fit_start 1: on_step_start on_micro_batch*2 on_step");
        assert_eq!(
            difference(&expected, &called).expect("they differ"),
            "the first difference is call 5 of 6, on step 1\n\
             \n    expected           called\
             \n    1: on_step_start   1: on_step_start\
             \n    1: on_micro_batch  1: on_micro_batch\
             \n    1: on_micro_batch  1: on_micro_batch\
             \n -> 1: after_backward  1: on_step\
             \n    1: on_step         (the end)"
        );
        assert_eq!(difference(&expected, &expected), None);
    }

    #[test]
    fn missing_extra_and_other_calls_are_differences() {
        let script = calls("1: on_step 2: on_step");
        for other in [
            "1: on_step",
            "1: on_step 2: on_step*2",
            "1: on_step 3: on_step",
            "",
        ] {
            let text = difference(&script, &calls(other)).expect("a difference");
            assert!(text.contains("->"), "{text}");
        }
        let text = difference(&script, &calls("1: on_step 2: on_step*9")).expect("a difference");
        assert!(
            text.contains("call 3 of 10, on step 2") && text.ends_with('…'),
            "{text}"
        );
    }
}
