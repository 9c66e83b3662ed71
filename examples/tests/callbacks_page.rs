//! docs/callbacks.md contains the files of examples/smooth_loss, and this program uses that crate only by name.

use bdh::registry;
use bdh_smooth_loss as _;
use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn page_contains_the_files_of_the_crate() {
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
fn used_crate_registers_its_callbacks() {
    let page = read("../docs/callbacks.md");
    let file = page
        .split("```toml\n")
        .find(|block| block.contains("use = \"smooth_loss\""));
    let file = file
        .and_then(|block| block.split("```").next())
        .expect("a file on the page");
    let callbacks = registry::from_toml(file).expect("the crate is linked");
    assert_eq!(callbacks[0].config()["decay"], 0.9);
}
