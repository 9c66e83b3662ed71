//! Modules of `bdh-sweep` form layers: no module imports one above it, or through the crate's root.

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
