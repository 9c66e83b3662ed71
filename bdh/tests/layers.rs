//! The modules of `bdh` form layers: no module imports one above it, and none imports through the crate's root.

#[path = "support/layers.rs"]
mod layers;

use layers::{circle, imports_of};

#[test]
fn no_module_imports_one_above_it() {
    layers::check_circles(30);
}

#[test]
fn no_module_imports_through_the_root() {
    layers::check_roots();
}

#[test]
fn cycles_and_imports_through_the_root_are_found() {
    let text = |module: &str, text: &str| (module.to_owned(), text.to_owned());
    let sources = [
        text(
            "a",
            "use crate::{b::B, Public}; /// See [`crate::d`].\nstruct A;",
        ),
        text("b", "fn f() -> crate::c::C { loop {} }"),
        text(
            "c",
            "mod deep { use crate::a::A; } #[cfg(test)] mod tests { use crate::d::D; }",
        ),
        text("d", ""),
    ];
    let imports = imports_of(&sources);
    assert_eq!(Vec::from_iter(&imports["a"]), ["Public", "b"]);
    assert_eq!(Vec::from_iter(&imports["c"]), ["a"]);
    assert_eq!(circle(&imports).expect("a circle"), ["a", "b", "c", "a"]);
}
