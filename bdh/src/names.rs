//! Names of types and of files.

/// The type's name without its path: `my_crate::Norms` gives `Norms`.
pub(crate) fn short_type_name<T: ?Sized>() -> String {
    let name = std::any::type_name::<T>();
    let end = name.find('<').unwrap_or(name.len());
    name[..end].rsplit("::").next().unwrap_or(name).to_owned()
}

/// Whether a name stays in its folder and is shown there.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':', '\0'])
}

/// A key with a prefix before the name in its group; a key without a group becomes one.
pub(crate) fn prefixed(key: &str, prefix: &str) -> String {
    match key.split_once('/') {
        Some((group, name)) => format!("{group}/{prefix}/{name}"),
        None => format!("{key}/{prefix}"),
    }
}

/// A file with a prefix as the folder that it is in, within the one it has. A checkpoint, which the trainer writes, is
/// called as it was asked for.
pub(crate) fn prefixed_file(file: &str, prefix: &str) -> String {
    match file.split_once('/') {
        Some(("checkpoints", _)) => file.to_owned(),
        Some((folder, name)) => format!("{folder}/{prefix}/{name}"),
        None => format!("{prefix}/{file}"),
    }
}
