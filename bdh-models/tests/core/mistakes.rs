//! Errors of a bundle name the file, the line and the field.

use crate::core_bundle;
use bdh::error::with_causes;
use bdh_models::core_eval::{Bundle, CoreError, Kind, TASKS};
use std::fs;
use std::path::Path;

fn error(dir: &Path, max_per_task: usize) -> String {
    let error: CoreError = Bundle::open(dir, max_per_task).expect_err("a mistake");
    with_causes(&error)
}

#[test]
fn directory_without_tasks_is_an_error_with_the_expected_files() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for path in [dir.path(), &dir.path().join("none")] {
        let error = error(path, 500);
        assert!(
            error.contains("`eval_bundle`") && error.contains("arc_easy.jsonl"),
            "{error}"
        );
    }
}

#[test]
fn both_layouts_are_read_and_missing_tasks_are_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let schemas = |data: &Path| core_bundle::write(data, |task| task.kind == Kind::Schema);
    schemas(&dir.path().join("bundle/eval_data"));
    schemas(&dir.path().join("bare"));
    for name in ["bundle", "bare"] {
        let bundle = Bundle::open(&dir.path().join(name), 500).expect("two tasks");
        let labels: Vec<_> = bundle
            .tasks()
            .iter()
            .map(|task| task.task().label)
            .collect();
        assert_eq!(labels, ["winograd", "winogrande"]);
        assert_eq!(bundle.missing().len(), 20);
        assert_eq!(bundle.tasks()[0].items().len(), core_bundle::ITEMS);
    }
}

#[test]
fn wrong_item_is_an_error_with_file_line_and_field() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let copa = TASKS
        .iter()
        .find(|task| task.label == "copa")
        .expect("a task");
    let good = r#"{"query": "q", "choices": ["a", "b"], "gold": 0}"#;
    for (line, part) in [
        (
            r#"{"query": "q", "choices": ["a", "b"], "gold": 4}"#,
            "`gold` is 4",
        ),
        (r#"{"query": "q", "gold": 0}"#, "`choices` is missing"),
        ("", "not JSON"),
        (r#"{"query": "#, "not JSON"),
    ] {
        core_bundle::write_task(dir.path(), copa, &format!("{good}\n{line}\n{good}\n"));
        let error = error(dir.path(), 500);
        assert!(error.contains("copa.jsonl`, line 2: "), "{error}");
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn files_other_than_text_are_errors() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let copa = TASKS
        .iter()
        .find(|task| task.label == "copa")
        .expect("a task");
    core_bundle::write_task(dir.path(), copa, "");
    let path = dir.path().join(copa.file);
    fs::write(&path, [0xff, 0xfe]).expect("a file");
    assert!(error(dir.path(), 500).contains("copa.jsonl` cannot be read: "));
    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("a directory");
    assert!(error(dir.path(), 500).ends_with("copa.jsonl` cannot be read: it is not a file"));
}

#[test]
fn too_few_items_for_the_examples_are_an_error() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    core_bundle::write(dir.path(), |_| true);
    assert_eq!(
        error(dir.path(), 10),
        "task jeopardy has 10 items and 10 few-shot examples: it needs 11 items or more"
    );
    assert!(Bundle::open(dir.path(), 11).is_ok());
}
