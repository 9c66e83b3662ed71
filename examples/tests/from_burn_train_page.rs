//! docs/from-burn-train.md contains the code for burn-train of `benches/burn_train`, which compiles there. The page's own code
//! is compiled as a doctest.

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn page_contains_the_code_for_burn_train() {
    let code = read("../benches/burn_train/src/learner.rs");
    let (_, code) = code
        .split_once("\nimpl Cnn {")
        .expect("the code after the imports");
    let page = read("../docs/from-burn-train.md");
    assert!(
        page.contains(&format!("```rs\nimpl Cnn {{{code}```")),
        "the page differs from the file"
    );
}
