//! Imports between the modules of a crate, for tests of layers.
//!
//! Reads the sources, without their unit tests, and follows each path that begins with `crate::`.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Names that each module imports from the crate's root: other modules, or public items.
pub(crate) type Imports = BTreeMap<String, BTreeSet<String>>;

/// Checks that no modules of the crate import each other in a circle.
pub(crate) fn check_circles(least: usize) {
    let imports = imports_of(&sources());
    let modules: BTreeSet<_> = imports.keys().cloned().collect();
    assert!(modules.len() > least, "only {modules:?} were read");
    if let Some(circle) = circle(&imports) {
        panic!(
            "these modules import each other in a circle: {}",
            circle.join(" -> ")
        );
    }
}

/// Checks that no module imports a public item through the crate's root.
pub(crate) fn check_roots() {
    let imports = imports_of(&sources());
    for (module, names) in &imports {
        for name in names {
            assert!(
                imports.contains_key(name),
                "`{module}` imports `{name}` from the root of the crate: import it from the module that defines it"
            );
        }
    }
}

/// Returns the top-level module and the text of each source file of the crate.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("a file").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && let Some(module) = module_of(&root, &path)
            {
                sources.push((module, fs::read_to_string(path).expect("a source file")));
            }
        }
    }
    sources
}

/// Returns the top-level module of a file; `None` for `lib.rs` and for files of unit tests.
fn module_of(root: &Path, path: &Path) -> Option<String> {
    let name: PathBuf = path.strip_prefix(root).ok()?.with_extension("");
    let mut parts = name.iter().map(|part| part.to_string_lossy().into_owned());
    let module = parts.next()?;
    let is_test = parts.any(|part| part == "tests");
    (module != "lib" && !is_test).then_some(module)
}

pub(crate) fn imports_of(sources: &[(String, String)]) -> Imports {
    let mut imports = Imports::new();
    for (module, text) in sources {
        let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{module}: {error}"));
        let names = imports.entry(module.clone()).or_default();
        for item in file.items.iter().filter(|item| !is_unit_test(item)) {
            collect(without_tests(item).to_token_stream(), names);
        }
        names.remove(module);
    }
    imports
}

fn is_unit_test(item: &syn::Item) -> bool {
    let syn::Item::Mod(module) = item else {
        return false;
    };
    module.attrs.iter().any(|attr| {
        attr.path().is_ident("cfg") && attr.to_token_stream().to_string().contains("test")
    })
}

/// Returns a copy of an item, without the unit tests of an inline module.
fn without_tests(item: &syn::Item) -> syn::Item {
    let mut item = item.clone();
    if let syn::Item::Mod(syn::ItemMod {
        content: Some((_, items)),
        ..
    }) = &mut item
    {
        items.retain(|item| !is_unit_test(item));
    }
    item
}

/// Adds the first name of each path `crate::name` and of each member of `crate::{…}`.
fn collect(tokens: TokenStream, names: &mut BTreeSet<String>) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    for (index, token) in tokens.iter().enumerate() {
        if let TokenTree::Group(group) = token {
            collect(group.stream(), names);
        }
        // A path with `$crate` belongs to the caller of the macro.
        let is_macro = index > 0 && tokens[index - 1].to_string() == "$";
        if token.to_string() != "crate" || is_macro {
            continue;
        }
        match tokens.get(index + 3) {
            Some(TokenTree::Ident(name)) => _ = names.insert(name.to_string()),
            Some(TokenTree::Group(members)) => first_names(members.stream(), names),
            _ => {} // `pub(crate)`
        }
    }
}

/// Adds the first name of each member of a list `{a, b::c}`.
fn first_names(members: TokenStream, names: &mut BTreeSet<String>) {
    let mut is_first = true;
    for token in members {
        if let TokenTree::Ident(name) = &token
            && is_first
        {
            names.insert(name.to_string());
        }
        is_first = matches!(&token, TokenTree::Punct(mark) if mark.as_char() == ',');
    }
}

/// Returns a path of imports from a module back to itself, if there is one.
pub(crate) fn circle(imports: &Imports) -> Option<Vec<String>> {
    fn visit(
        module: &String,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
        imports: &Imports,
    ) -> bool {
        if let Some(start) = way.iter().position(|known| known == module) {
            way.drain(..start);
            way.push(module.clone());
            return true;
        }
        if !done.insert(module.clone()) {
            return false;
        }
        way.push(module.clone());
        for next in imports.get(module).into_iter().flatten() {
            if visit(next, way, done, imports) {
                return true;
            }
        }
        way.pop();
        false
    }

    let mut done = BTreeSet::new();
    imports.keys().find_map(|module| {
        let mut way = Vec::new();
        visit(module, &mut way, &mut done, imports).then_some(way)
    })
}
