//! What is wrong with a bundle is told with its file, line and field.

use crate::core_bundle;
use bdh::with_causes;
use bdh_models::core_eval::{Bundle, CoreError, Kind, TASKS};
use std::fs;
use std::path::Path;

fn error(dir: &Path, max_per_task: usize) -> String {
    let error: CoreError = Bundle::open(dir, max_per_task).expect_err("a mistake");
    with_causes(&error)
}

#[test]
fn a_directory_without_any_task_says_what_is_looked_for() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for path in [dir.path(), &dir.path().join("none")] {
        let told = error(path, 500);
        assert!(
            told.contains("`eval_bundle`") && told.contains("arc_easy.jsonl"),
            "{told}"
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
fn an_item_that_is_wrong_is_told_with_file_line_and_field() {
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
        ("", "no JSON"),
        (r#"{"query": "#, "no JSON"),
    ] {
        core_bundle::write_task(dir.path(), copa, &format!("{good}\n{line}\n{good}\n"));
        let told = error(dir.path(), 500);
        assert!(told.contains("copa.jsonl`, line 2: "), "{told}");
        assert!(told.contains(part), "{told}");
    }
}

#[test]
fn files_that_are_no_text_are_refused() {
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
fn too_few_items_to_show_some_are_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    core_bundle::write(dir.path(), |_| true);
    let told = error(dir.path(), 10);
    assert_eq!(
        told,
        "task jeopardy has 10 items, and shows 10 others with each: it needs 11 or more"
    );
    assert!(Bundle::open(dir.path(), 11).is_ok());
}
