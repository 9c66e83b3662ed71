//! Finds the unquoted words of a YAML file.
//!
//! The reader does not report whether a word was quoted, and only an unquoted word means something else in YAML 1.1.
//! The result for a text that is not YAML is meaningless; the reader rejects such a text.

/// An unquoted word or text.
#[derive(Debug, PartialEq)]
pub(super) struct Plain<'a> {
    pub(super) text: &'a str,
    /// Line, from 1.
    pub(super) line: usize,
}

/// A scan of a file in one pass.
#[derive(Debug, Default)]
pub(super) struct Scan<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    line_start: usize,
    /// Number of open brackets and braces.
    open: usize,
    /// First line at each depth of brackets and braces.
    depths: Vec<usize>,
    /// Column of the last key or dash; text further to the right belongs to it.
    parent: Option<usize>,
    /// Whether a tag, such as `!!str`, gives the type of the next scalar.
    is_tagged: bool,
    /// Whether a quoted text or a bracket has just ended: a colon after it needs no space.
    after_json: bool,
    pub(super) plain: Vec<Plain<'a>>,
}

impl<'a> Scan<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let mut scan = Self {
            text,
            line: 1,
            ..Self::default()
        };
        while let Some(byte) = scan.peek(0) {
            scan.token(byte);
        }
        scan
    }

    /// Returns the first line with more than `depth` nested collections.
    pub(super) fn first_deeper_than(&self, depth: usize) -> Option<usize> {
        self.depths.get(depth).copied()
    }

    /// Returns the byte this far ahead. Bytes are enough, because all syntax is ASCII.
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    fn column(&self) -> usize {
        self.at - self.line_start
    }

    fn bump(&mut self) {
        match self.peek(0) {
            None => return,
            Some(b'\n') => (self.line, self.line_start) = (self.line + 1, self.at + 1),
            Some(_) => {}
        }
        self.at += 1;
    }

    fn bump_while(&mut self, is_part: impl Fn(u8) -> bool) {
        while let Some(byte) = self.peek(0) {
            if !is_part(byte) {
                break;
            }
            self.bump();
        }
    }

    fn bump_line(&mut self) {
        self.bump_while(|byte| byte != b'\n');
    }

    fn token(&mut self, byte: u8) {
        let after_json = std::mem::take(&mut self.after_json);
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {
                self.after_json = after_json;
                self.bump();
            }
            b'#' => self.bump_line(),
            b'%' if self.column() == 0 => self.bump_line(),
            b'-' | b'.' if self.is_marker() => self.at += 3,
            b'"' | b'\'' => self.quoted(byte),
            b'[' | b'{' => self.opening(),
            b']' | b'}' => self.closing(),
            b',' => self.bump(),
            b'&' | b'*' => self.name(),
            b'!' => {
                self.name();
                self.is_tagged = true;
            }
            b'|' | b'>' if self.open == 0 => self.block(),
            b'-' | b'?' | b':' if self.ends_word(1) || (byte == b':' && after_json) => {
                if self.open == 0 && byte != b':' {
                    self.parent = Some(self.column());
                }
                self.bump();
            }
            _ => self.plain(),
        }
    }

    /// Whether the next bytes are `---` or `...` between documents.
    fn is_marker(&self) -> bool {
        let rest = &self.text.as_bytes()[self.at..];
        let is_here = self.column() == 0 && (rest.starts_with(b"---") || rest.starts_with(b"..."));
        is_here && self.peek(3).is_none_or(|byte| byte.is_ascii_whitespace())
    }

    fn opening(&mut self) {
        self.is_tagged = false;
        self.open += 1;
        if self.depths.len() < self.open {
            self.depths.push(self.line);
        }
        self.bump();
    }

    fn closing(&mut self) {
        self.open = self.open.saturating_sub(1);
        self.after_json = true;
        self.bump();
    }

    /// Whether a word can end before the byte this far ahead.
    fn ends_word(&self, ahead: usize) -> bool {
        let Some(byte) = self.peek(ahead) else {
            return true;
        };
        byte.is_ascii_whitespace() || self.is_delimiter(byte)
    }

    /// Whether a byte separates the items of an open collection.
    fn is_delimiter(&self, byte: u8) -> bool {
        self.open > 0 && b",[]{}".contains(&byte)
    }

    /// Skips an anchor, an alias or a tag.
    fn name(&mut self) {
        self.bump();
        while !self.ends_word(0) {
            self.bump();
        }
    }

    /// Skips a quoted text.
    fn quoted(&mut self, quote: u8) {
        let column = self.column();
        self.bump();
        while let Some(byte) = self.peek(0) {
            self.bump();
            match byte {
                b'\\' if quote == b'"' => self.bump(),
                byte if byte != quote => {}
                b'\'' if self.peek(0) == Some(b'\'') => self.bump(), // an escaped quote
                _ => break,
            }
        }
        (self.is_tagged, self.after_json) = (false, true);
        self.becomes_parent(column);
    }

    /// Makes the scalar that ends here the parent of its value if a colon follows, which makes it a key.
    fn becomes_parent(&mut self, column: usize) {
        let mut rest = self.text.as_bytes()[self.at..].iter();
        let next = rest.find(|byte| **byte != b' ');
        if self.open == 0 && next == Some(&b':') {
            self.parent = Some(column);
        }
    }

    /// Skips a block of lines, which ends where its indentation ends.
    fn block(&mut self) {
        self.is_tagged = false;
        self.bump_line();
        let outside = self.parent.map_or(0, |column| column + 1);
        let mut inside = None;
        while self.peek(0).is_some() {
            self.bump(); // the line's end
            match self.indentation() {
                Some(indent) if indent < inside.unwrap_or(outside) => break,
                Some(indent) => inside = inside.or(Some(indent)),
                None => {} // an empty line belongs to the block
            }
            self.bump_line();
        }
    }

    /// Returns the number of spaces at the beginning of this line; `None` if the line is empty.
    fn indentation(&self) -> Option<usize> {
        let line = self.text[self.at..].split('\n').next()?;
        let text = line.trim_start_matches(' ');
        (!text.trim().is_empty()).then(|| line.len() - text.len())
    }

    /// Takes a plain scalar, with its further lines.
    fn plain(&mut self) {
        let (column, line) = (self.column(), self.line);
        let is_tagged = std::mem::take(&mut self.is_tagged);
        let text = self.plain_line();
        let mut is_one_line = true;
        while self.continues_below() {
            self.bump_while(|byte| byte.is_ascii_whitespace());
            let before = self.at;
            self.plain_line();
            // A further line makes the scalar a text, even if its first line looks like a number.
            is_one_line &= self.at == before;
            if self.at == before {
                break;
            }
        }
        if is_one_line && !is_tagged {
            self.plain.push(Plain { text, line });
        }
        self.becomes_parent(column);
    }

    /// Takes the part of a plain scalar on this line.
    fn plain_line(&mut self) -> &'a str {
        let start = self.at;
        while let Some(byte) = self.peek(0) {
            let is_comment = byte == b'#' && self.text.as_bytes()[..self.at].ends_with(b" ");
            let is_value = byte == b':' && self.ends_word(1);
            if byte == b'\n' || is_comment || is_value || self.is_delimiter(byte) {
                break;
            }
            self.bump();
        }
        // Taking at least one byte makes the loop over all tokens end.
        if self.at == start {
            self.bump();
        }
        self.text.get(start..self.at).unwrap_or_default().trim_end()
    }

    /// Whether the plain scalar that ends with this line continues on the next one.
    fn continues_below(&self) -> bool {
        if self.peek(0) != Some(b'\n') {
            return false;
        }
        let rest = &self.text[self.at..];
        let next = rest.trim_start();
        let Some(first) = next.bytes().next() else {
            return false;
        };
        if self.open > 0 {
            return !b",[]{}#:".contains(&first);
        }
        let skipped = &rest[..rest.len() - next.len()];
        let indent = skipped.len() - skipped.rfind('\n').map_or(0, |at| at + 1);
        first != b'#' && self.parent.is_some_and(|parent| indent > parent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<(&str, usize)> {
        Scan::of(text)
            .plain
            .into_iter()
            .map(|plain| (plain.text, plain.line))
            .collect()
    }

    #[test]
    fn all_plain_words_are_found_with_their_lines() {
        for (text, expected) in [
            (
                "a: off # no: 1\nb: 'off'\nc: \"o\\\"ff\"\n",
                &[("a", 1), ("off", 1), ("b", 2), ("c", 3)][..],
            ),
            (
                "{\"a\":off, 'b':[on,\n no], c: x:y}",
                &[("off", 1), ("on", 1), ("no", 2), ("c", 2), ("x:y", 2)],
            ),
            (
                "- off\n- - on\n-\n  no\n",
                &[("off", 1), ("on", 2), ("no", 4)],
            ),
            (
                "a: |\n  off\n\n  on: no\nb: >-\n  yes\nc: on\n",
                &[("a", 1), ("b", 5), ("c", 7), ("on", 7)],
            ),
            ("- |\n  off\n- on\n", &[("on", 3)]),
            (
                "- a: |\n    off\n  b: on\n",
                &[("a", 1), ("b", 3), ("on", 3)],
            ),
            (
                "a: x\n  off\nb:\n  y\n  on\n\n  no\nc: z\n",
                &[("a", 1), ("b", 3), ("c", 8), ("z", 8)],
            ),
            ("[x\n off, on]", &[("on", 2)]),
            (
                "a: !!str off\nb: &n no\nc: *n\n",
                &[("a", 1), ("b", 2), ("no", 2), ("c", 3)],
            ),
            (
                "%YAML 1.1\n---\na: http://x # y\n...\n",
                &[("a", 3), ("http://x", 3)],
            ),
            (
                "a: it's\nb: 'it''s: off'\n",
                &[("a", 1), ("it's", 1), ("b", 2)],
            ),
            (
                "- -1\n- --x=on\n- ?x\n",
                &[("-1", 1), ("--x=on", 2), ("?x", 3)],
            ),
            ("\"a\" : off\n", &[("off", 1)]),
            (
                "a: off\r\nb: on\r\n",
                &[("a", 1), ("off", 1), ("b", 2), ("on", 2)],
            ),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
    }

    #[test]
    fn depth_counts_brackets_and_has_a_line() {
        let scan = Scan::of("a: [1, [2]]\nb: [[\n[3]]]\n");
        assert_eq!(
            [0, 1, 2, 3].map(|depth| scan.first_deeper_than(depth)),
            [Some(1), Some(1), Some(3), None]
        );
    }

    proptest::proptest! {
        #[test]
        fn scan_never_panics(text in "[-a:,#'\"|>&*! \\[\\]{}\\\\ü\n%.?]{0,60}") {
            words(&text);
        }
    }
}
