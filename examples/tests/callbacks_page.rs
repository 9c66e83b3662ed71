//! docs/callbacks.md shows a crate as it is in examples/smooth_loss; this program uses it by name alone.

use bdh::callbacks_from_toml;
use bdh_smooth_loss as _;
use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_page_shows_the_files_of_the_crate() {
    let page = read("../docs/callbacks.md");
    for file in ["Cargo.toml", "src/lib.rs", "tests/smooth_loss.rs"] {
        let text = read(&format!("smooth_loss/{file}")).replace("../../bdh", "../bdh/bdh");
        assert!(
            page.contains(&format!("\n{text}```")),
            "{file} is another on the page"
        );
    }
}

#[test]
fn a_crate_that_is_named_has_its_names_registered() {
    let page = read("../docs/callbacks.md");
    let file = page
        .split("```toml\n")
        .find(|block| block.contains("use = \"smooth_loss\""));
    let file = file
        .and_then(|block| block.split("```").next())
        .expect("a file on the page");
    let callbacks = callbacks_from_toml(file).expect("the crate is linked");
    assert_eq!(callbacks[0].config()["decay"], 0.9);
}
