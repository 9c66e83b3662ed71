//! Names of types, keys and files.

/// Returns a type's name without its path and generics: `my_crate::Norms<T>` gives `Norms`.
pub(crate) fn short_type_name<T: ?Sized>() -> String {
    let name = std::any::type_name::<T>();
    let end = name.find('<').unwrap_or(name.len());
    name[..end].rsplit("::").next().unwrap_or(name).to_owned()
}

/// Returns whether a file name is not hidden and cannot lead to another folder.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':', '\0'])
}

/// Adds a prefix to a key within its group: `val/loss` gives `val/ema/loss`. A key without a group becomes one.
pub(crate) fn prefixed(key: &str, prefix: &str) -> String {
    match key.split_once('/') {
        Some((group, name)) => format!("{group}/{prefix}/{name}"),
        None => format!("{key}/{prefix}"),
    }
}

/// Adds a prefix to a file name as a folder: `plots/a.png` gives `plots/ema/a.png`.
///
/// Names of checkpoints do not change, because the trainer writes them.
pub(crate) fn prefixed_file(file: &str, prefix: &str) -> String {
    match file.split_once('/') {
        Some(("checkpoints", _)) => file.to_owned(),
        Some((folder, name)) => format!("{folder}/{prefix}/{name}"),
        None => format!("{prefix}/{file}"),
    }
}
