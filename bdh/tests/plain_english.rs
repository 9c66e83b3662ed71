//! Summaries of doc comments are plain English: they name their subject, and use the words of the project.
//!
//! A summary is read alone, in search results and tooltips, so it may not lean on its neighbours. The rules are those
//! of CONTRIBUTING.md; this test reads every `///` and `//!` summary of the workspace's crates.

use std::fs;
use std::path::{Path, PathBuf};

/// First words of fragments, which have no subject of their own.
const OPENERS: &[&str] = &[
    "What",
    "Those",
    "Who",
    "Whoever",
    "It",
    "Its",
    "The same",
    "The other",
    "Of",
    "So many",
    "As",
    "Where",
    "Which",
    "Whose",
    "Such",
    "Both",
    "That",
    "None",
];

/// Words that hide their subject, or that the project has another word for.
const WORDS: &[&str] = &[
    "nobody",
    "somebody",
    "anybody",
    "everybody",
    "whoever",
    "told",
    "heard",
    "foretell",
    "foretells",
    "foretold",
    "goes on",
    "went on",
    "passes over",
    "passed over",
    "is through",
    "are through",
    "as many",
    "so many",
    "but for",
    "of which",
    "for which",
    "the truth",
];

/// Summaries that keep a banned word, each with its reason.
const EXCEPTIONS: &[(&str, &str)] = &[(
    "Returns a command for a child with the user nobody, if root can change the user here and that user can run the program.",
    "nobody is the name of a Unix user",
)];

/// A summary and its place.
struct Summary {
    place: String,
    text: String,
}

#[test]
fn summaries_name_their_subject() {
    let mut faults = Vec::new();
    for summary in summaries() {
        for opener in OPENERS {
            if starts_with_word(&summary.text, opener) {
                faults.push(format!("{}: {}", summary.place, summary.text));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "summaries that begin with {}:\n{}",
        OPENERS.join(", "),
        faults.join("\n")
    );
}

#[test]
fn summaries_use_plain_words() {
    let mut faults = Vec::new();
    for summary in summaries() {
        let text = summary.text.to_lowercase();
        let is_exception = EXCEPTIONS.iter().any(|(kept, _)| *kept == summary.text);
        for word in WORDS {
            if contains_word(&text, word) && !is_exception {
                faults.push(format!("`{word}` in {}: {}", summary.place, summary.text));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn fragments_and_banned_words_are_found() {
    let source =
        "/// What came of it.\nfn a() {}\n\n/// Returns\n/// the truth. More.\nfn b() {}\n";
    let found = summaries_of("a.rs", source);
    let texts: Vec<_> = found.iter().map(|found| found.text.as_str()).collect();
    assert_eq!(texts, ["What came of it.", "Returns the truth."]);
    assert_eq!(found[1].place, "a.rs:4");
    assert!(starts_with_word("Its cost.", "Its") && !starts_with_word("Items.", "It"));
    assert!(contains_word("is it told?", "told") && !contains_word("a threshold", "told"));
}

/// Every summary of the crates' sources; none where this crate was unpacked alone.
fn summaries() -> Vec<Summary> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("bdh") || name == "examples" {
            collect(&entry.path(), &mut files);
        }
    }
    if !root.join("CONTRIBUTING.md").is_file() {
        eprintln!("skipped: the sources of the workspace are not here");
        return Vec::new();
    }
    assert!(files.len() > 100, "only {} sources found", files.len());
    let mut all = Vec::new();
    for file in files {
        let source = fs::read_to_string(&file).expect("a source file");
        let name = file.strip_prefix(&root).unwrap_or(&file);
        all.extend(summaries_of(&name.display().to_string(), &source));
    }
    all
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The first sentence of each doc comment.
fn summaries_of(file: &str, source: &str) -> Vec<Summary> {
    let mut found = Vec::new();
    let mut lines = source.lines().enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let Some(first) = doc_line(line) else {
            continue;
        };
        let mut paragraph = first.to_owned();
        let mut is_summary = true;
        while let Some(next) = lines.peek().and_then(|(_, line)| doc_line(line)) {
            is_summary &= !next.is_empty();
            if is_summary {
                paragraph.push(' ');
                paragraph.push_str(next);
            }
            lines.next();
        }
        let end = paragraph.find(". ").map_or(paragraph.len(), |end| end + 1);
        found.push(Summary {
            place: format!("{file}:{}", index + 1),
            text: paragraph[..end].to_owned(),
        });
    }
    found
}

/// The text of a line of a doc comment.
fn doc_line(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let text = line.strip_prefix("///").or(line.strip_prefix("//!"))?;
    Some(text.trim())
}

fn starts_with_word(text: &str, word: &str) -> bool {
    text.strip_prefix(word)
        .is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
}

fn contains_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let after = text[start + word.len()..].chars().next();
        ![before, after]
            .into_iter()
            .flatten()
            .any(char::is_alphanumeric)
    })
}
