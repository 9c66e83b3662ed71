//! The text form of calls of hooks, and how two of them differ.

use crate::hook::Hook;
use std::fmt;

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

/// The calls that a script describes.
pub(super) fn parse(script: &str) -> Result<Vec<Call>, String> {
    let mut calls = Vec::new();
    let mut step = None;
    for word in script.split_whitespace() {
        if let Some(number) = word.strip_suffix(':') {
            let number = number
                .parse()
                .map_err(|_| format!("`{word}` is no step, such as `1:`"))?;
            step = Some(number);
            continue;
        }
        let (hook, times) = hook_and_times(word)?;
        let step = step.ok_or_else(|| format!("`{word}` has no step; begin with `1: {word}`"))?;
        calls.extend(std::iter::repeat_n(Call { step, hook }, times));
    }
    Ok(calls)
}

/// What `on_micro_batch*2` says.
fn hook_and_times(word: &str) -> Result<(Hook, usize), String> {
    let (name, times) = word.split_once('*').unwrap_or((word, "1"));
    let names = || {
        Hook::ALL
            .iter()
            .map(|hook| hook.name())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let hook = Hook::ALL.iter().copied().find(|hook| hook.name() == name);
    let hook = hook.ok_or_else(|| format!("`{name}` is no hook; hooks are {}", names()))?;
    let times = times
        .parse()
        .ok()
        .filter(|times| (1..=1_000_000).contains(times));
    let times =
        times.ok_or_else(|| format!("`{word}` has no number of times, such as `{name}*2`"))?;
    Ok((hook, times))
}

/// The script that describes these calls, a line a step.
pub(super) fn text(calls: &[Call]) -> String {
    let line = |calls: &[Call]| {
        let words: Vec<_> = calls.chunk_by(|a, b| a == b).map(word).collect();
        format!("{}: {}", calls[0].step, words.join(" "))
    };
    calls
        .chunk_by(|a, b| a.step == b.step)
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Calls of one hook in a row.
fn word(calls: &[Call]) -> String {
    let name = calls[0].hook.name();
    if calls.len() == 1 {
        name.to_owned()
    } else {
        format!("{name}*{}", calls.len())
    }
}

/// Rows that are shown before and after the first difference.
const BEFORE: usize = 3;
const AFTER: usize = 4;

/// Both sides around the first difference, if there is one.
pub(in crate::testing) fn difference(expected: &[Call], called: &[Call]) -> Option<String> {
    let all = expected.len().max(called.len());
    let first = (0..all).find(|&index| expected.get(index) != called.get(index))?;
    let step = called
        .get(first)
        .or_else(|| expected.get(first))
        .map_or(0, |call| call.step);
    let mut text = format!(
        "the first difference is call {} of {all}, on step {step}\n",
        first + 1
    );
    let rows = first.saturating_sub(BEFORE)..all.min(first + AFTER + 1);
    let (left, right) = (cells(expected, rows.clone()), cells(called, rows.clone()));
    let width = left.iter().map(String::len).max().unwrap_or_default();
    text += &format!("\n    {:<width$}  called", "expected");
    for (index, (left, right)) in rows.clone().zip(left.iter().zip(&right)) {
        let mark = if index == first { "->" } else { "" };
        text += &format!("\n {mark:>2} {left:<width$}  {right}");
    }
    if rows.end < all {
        text += "\n    …";
    }
    Some(text)
}

/// Some calls, one a row, with a row that says so where they end.
fn cells(calls: &[Call], rows: std::ops::Range<usize>) -> Vec<String> {
    let cell = |index: usize| match calls.get(index) {
        Some(call) => call.to_string(),
        None if index == calls.len() => "(the end)".to_owned(),
        None => String::new(),
    };
    rows.map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(script: &str) -> Vec<Call> {
        parse(script).expect("a script")
    }

    #[test]
    fn a_script_reads_back_as_it_was_written_whatever_its_lines() {
        let script = "0: on_fit_start on_eval_batch*2 on_eval\n1: on_step\n3: on_step on_fit_end";
        assert_eq!(text(&calls(script)), script);
        assert_eq!(calls(&script.replace(['\n', ' '], "\n   ")), calls(script));
        assert_eq!(calls("1: on_step 1: on_step"), calls("1: on_step*2"));
        assert_eq!(calls(" \n"), []);
    }

    #[test]
    fn what_is_no_script_is_told_by_the_word() {
        let why = |script: &str| parse(script).expect_err("no script");
        assert_eq!(
            why("on_step"),
            "`on_step` has no step; begin with `1: on_step`"
        );
        assert_eq!(why("one: on_step"), "`one:` is no step, such as `1:`");
        assert!(why("1: on_stp").starts_with("`on_stp` is no hook; hooks are on_fit_start, "));
        for word in [
            "on_step*",
            "on_step*0",
            "on_step*x",
            "on_step*99999999999999",
        ] {
            let expected = format!("`{word}` has no number of times, such as `on_step*2`");
            assert_eq!(why(&format!("1: {word}")), expected);
        }
    }

    #[test]
    fn a_difference_shows_both_sides_and_points_at_the_first() {
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
    fn a_step_too_many_too_few_or_elsewhere_is_a_difference() {
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
