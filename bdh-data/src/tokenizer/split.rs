//! Splitting of text into pieces, inside which tokens are merged.

use fancy_regex::{Regex, RegexBuilder};

/// nanochat's pattern, which is GPT-4's with at most two digits for each number.
pub(super) const NANOCHAT: &str = concat!(
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}",
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
);

/// GPT-2's pattern. Source: GPT-2's `encoder.py`.
pub(super) const GPT2: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// End of both patterns: a run of spaces leaves its last one to the word after it.
const SPACES: &str = r"\s+(?!\S)|\s+";

/// Pattern that splits text.
#[derive(Debug, Clone)]
pub(super) struct Splitter {
    pattern: String,
    regex: Regex,
    spaces: Spaces,
}

/// Way in which a run of spaces leaves its last one to the word after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spaces {
    /// By the regular expression.
    ByRegex,
    /// By [`Splitter::end`], for runs with ends of lines too.
    OfAnyKind,
    /// By [`Splitter::end`], for runs after the last end of a line.
    WithinLines,
}

impl Splitter {
    /// Compiles a pattern.
    pub(super) fn new(pattern: String) -> Result<Self, String> {
        let spaces = match pattern.as_str() {
            NANOCHAT => Spaces::WithinLines,
            GPT2 => Spaces::OfAnyKind,
            _ => Spaces::ByRegex,
        };
        let regex = if spaces == Spaces::ByRegex {
            compile(&pattern)
        } else {
            compile(&plain(&pattern))
        };
        Ok(Self {
            regex: regex
                .map_err(|error| format!("its pattern is no regular expression ({error})"))?,
            pattern,
            spaces,
        })
    }

    pub(super) fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Calls `each` with the pieces of a text in order. Text that the pattern does not match is skipped, as by tiktoken.
    pub(super) fn split<'t>(&self, text: &'t str, each: impl FnMut(&'t str)) {
        if self.spaces == Spaces::ByRegex {
            self.split_by_regex(text, each);
        } else {
            self.split_quickly(text, each);
        }
    }

    fn split_by_regex<'t>(&self, text: &'t str, mut each: impl FnMut(&'t str)) {
        let mut end = 0;
        for found in self.regex.find_iter(text) {
            let Ok(found) = found else {
                // A million spaces are more than the expression's stack holds. tiktoken fails on them.
                return each(&text[end..]);
            };
            each(found.as_str());
            end = found.end();
        }
    }

    fn split_quickly<'t>(&self, text: &'t str, mut each: impl FnMut(&'t str)) {
        let mut start = 0;
        while let Ok(Some(found)) = self.regex.find_from_pos(text, start) {
            let end = self.end(text, start, found.end());
            each(&text[start..end]); // each character matches, so there is nothing between two pieces
            start = end;
        }
    }

    /// Returns the end of a piece whose match ends here.
    fn end(&self, text: &str, start: usize, end: usize) -> usize {
        let Some(last) = text[start..end].chars().next_back() else {
            return end;
        };
        let is_run = match last {
            '\r' | '\n' => self.spaces == Spaces::OfAnyKind,
            last => last.is_whitespace(),
        };
        let before = end - last.len_utf8();
        if is_run && before > start && end < text.len() {
            before
        } else {
            end
        }
    }
}

/// Returns a known pattern without its look-ahead, for [`Splitter::end`].
///
/// An expression without look-ahead and possessive repetitions becomes an automaton, which is several times faster and
/// has no limit. Nothing in the two patterns gives back a character, so possessive repetitions are not needed.
fn plain(pattern: &str) -> String {
    let words = pattern.strip_suffix(SPACES).unwrap_or(pattern);
    words.replace("?+", "?").replace("++", "+") + r"\s+"
}

fn compile(pattern: &str) -> Result<Regex, Box<fancy_regex::Error>> {
    let pattern = RegexBuilder::new(pattern)
        .backtrack_limit(usize::MAX) // a text must not be refused for its length
        .build()?;
    Ok(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pieces(splitter: &Splitter, text: &str) -> Vec<String> {
        let mut pieces = Vec::new();
        splitter.split(text, |piece| pieces.push(piece.to_owned()));
        pieces
    }

    /// Returns the pieces of the expression as it is, with look-ahead.
    fn slow(pattern: &str, text: &str) -> Vec<String> {
        let splitter = Splitter {
            regex: compile(pattern).expect("a regular expression"),
            pattern: pattern.to_owned(),
            spaces: Spaces::ByRegex,
        };
        pieces(&splitter, text)
    }

    fn splitter(pattern: &str) -> Splitter {
        Splitter::new(pattern.to_owned()).expect("a regular expression")
    }

    #[test]
    fn spaces_leave_their_last_one_to_a_word() {
        let text = "a  b \n\n  c\t\t1 !?\r\n \u{a0}.";
        let nanochat = [
            "a", " ", " b", " \n\n", " ", " c", "\t", "\t", "1", " !?\r\n", " ", "\u{a0}", ".",
        ];
        assert_eq!(pieces(&splitter(NANOCHAT), text), nanochat);
        assert_eq!(
            pieces(&splitter(GPT2), "\n\nx  y \n"),
            ["\n", "\n", "x", " ", " y", " \n"]
        );
    }

    #[test]
    fn long_runs_are_pieces() {
        let text = " ".repeat(2_000_000); // more than a stack of fancy-regex holds
        for pattern in [NANOCHAT, GPT2] {
            assert_eq!(pieces(&splitter(pattern), &text), [text.as_str()]);
        }
    }

    #[test]
    fn unmatched_text_is_skipped() {
        assert_eq!(pieces(&splitter("[a-z]+"), "ab 1 c"), ["ab", "c"]);
        assert_eq!(pieces(&splitter("[0-9]*"), "a12b"), ["", "12", ""]); // an empty match ends
    }

    proptest! {
        #[test]
        fn plain_patterns_give_the_pieces_of_the_originals(
            any in any::<String>(),
            words in r"([a-zA-Zé'ſ0-9½٣ \t\r\n\u{b}\u{85}\u{a0}\u{2028}\u{3000}!?你\u{301}🌍-]|'ll|'S){0,60}",
        ) {
            for text in [any, words] {
                for pattern in [NANOCHAT, GPT2] {
                    prop_assert_eq!(pieces(&splitter(pattern), &text), slow(pattern, &text), "{:?}", text);
                }
            }
        }
    }
}
