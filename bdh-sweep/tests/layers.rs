//! The modules of `bdh-sweep` form layers: none imports one that stands above it, and none imports through the crate's root.

#[path = "../../bdh/tests/support/layers.rs"]
mod layers;

#[test]
fn no_module_imports_one_above_it() {
    layers::check_circles(15);
}

#[test]
fn no_module_imports_through_the_root() {
    layers::check_roots();
}
