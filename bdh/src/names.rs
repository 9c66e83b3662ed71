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

/// Returns whether a name matches a pattern, in which `*` matches any text, also none.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    // The earliest match of a part leaves the most text for the parts after it, so no backtracking is needed.
    for part in middle.split('*') {
        match name.split_once(part) {
            Some((_, after)) => name = after,
            None => return false,
        }
    }
    name.ends_with(last)
}

/// Returns the `count` names with a beginning that is most like a pattern, the most similar first; equally similar names
/// keep their order.
pub(crate) fn nearest<'a>(
    pattern: &str,
    names: impl IntoIterator<Item = &'a str>,
    count: usize,
) -> Vec<&'a str> {
    let pattern = format!("{pattern}*");
    let mut ranked = Vec::new();
    for name in names {
        ranked.push((distance(&pattern, name), name));
    }
    ranked.sort_by_key(|(distance, _)| *distance);
    ranked.truncate(count);
    ranked.into_iter().map(|(_, name)| name).collect()
}

/// Returns the least number of letters to insert, delete or replace so that a name matches a pattern.
///
/// Source: Wagner and Fischer, 1974, *The string-to-string correction problem*; a `*` takes any letters at no cost.
fn distance(pattern: &str, name: &str) -> usize {
    let name: Vec<char> = name.chars().collect();
    // Distance of the part of the pattern so far from each beginning of the name.
    let mut row: Vec<usize> = (0..=name.len()).collect();
    for letter in pattern.chars() {
        row = next_row(&row, letter, &name);
    }
    row[name.len()]
}

/// Returns the distances after one more letter of the pattern.
fn next_row(row: &[usize], letter: char, name: &[char]) -> Vec<usize> {
    let is_star = letter == '*';
    let cost = usize::from(!is_star);
    let mut next = vec![row[0] + cost];
    for (at, other) in name.iter().enumerate() {
        let without = row[at + 1] + cost;
        let with_more = next[at] + cost;
        let replaced = row[at] + usize::from(!is_star && letter != *other);
        next.push(without.min(with_more).min(replaced));
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_any_text() {
        for (pattern, name) in [
            ("a.b", "a.b"),
            ("*", ""),
            ("a*", "a.b"),
            ("*b", "a.b"),
            ("a*b*c", "aXbYbc"),
            ("*.*.*", "h.0.w"),
        ] {
            assert!(matches(pattern, name), "{pattern}");
            assert_eq!(distance(pattern, name), 0, "{pattern}");
        }
        for (pattern, name) in [
            ("a.b", "a.bc"),
            ("a*", "ba"),
            ("a*a", "a"),
            ("a*b*c", "acb"),
        ] {
            assert!(!matches(pattern, name), "{pattern}");
            assert_eq!(distance(pattern, name), 1, "{pattern}");
        }
    }

    #[test]
    fn the_nearest_names_begin_like_the_pattern() {
        let names = ["head.bias", "backbone.0.weight", "backbone.1.weight"];
        assert_eq!(nearest("backbone", names, 2), names[1..]);
        assert_eq!(nearest("bacbkone.1.*", names, 1), names[2..]);
        assert_eq!(nearest("haed.*", names, 1), names[..1]);
        assert_eq!(nearest("", names, 9), names);
    }
}
