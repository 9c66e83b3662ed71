//! Where the unquoted words of a YAML file are.
//!
//! The reader does not say whether a word was quoted, and only an unquoted one means something else in YAML 1.1. Of a file
//! that is no YAML this finds anything; the reader refuses that.

/// A word or text without quotes.
#[derive(Debug, PartialEq)]
pub(super) struct Plain<'a> {
    pub(super) text: &'a str,
    /// Its line, from 1.
    pub(super) line: usize,
}

/// A file in one pass.
#[derive(Debug, Default)]
pub(super) struct Scan<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    line_start: usize,
    /// How many brackets and braces are open.
    open: usize,
    /// For each depth, the line that was the first to have it.
    depths: Vec<usize>,
    /// The column of the last key or dash, to which what follows belongs if it stands further right.
    parent: Option<usize>,
    /// Whether a tag, such as `!!str`, says what the next scalar is.
    is_tagged: bool,
    /// Whether a quoted text or a bracket has just ended: after it, a colon needs no space.
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

    /// The first line in which so many collections and one more are inside one another.
    pub(super) fn first_deeper_than(&self, depth: usize) -> Option<usize> {
        self.depths.get(depth).copied()
    }

    /// Bytes are enough: all that has a meaning is ASCII.
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

    fn bump_while(&mut self, goes_on: impl Fn(u8) -> bool) {
        while self.peek(0).is_some_and(&goes_on) {
            self.bump();
        }
    }

    fn token(&mut self, byte: u8) {
        let after_json = std::mem::take(&mut self.after_json);
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {
                self.after_json = after_json;
                self.bump();
            }
            b'#' => self.bump_while(|byte| byte != b'\n'),
            b'%' if self.column() == 0 => self.bump_while(|byte| byte != b'\n'),
            b'-' | b'.' if self.is_marker() => self.at += 3,
            b'"' | b'\'' => self.quoted(byte),
            b'[' | b'{' => self.opens(),
            b']' | b'}' => {
                self.open = self.open.saturating_sub(1);
                self.after_json = true;
                self.bump();
            }
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

    /// Whether this is `---` or `...`, between documents.
    fn is_marker(&self) -> bool {
        let rest = &self.text.as_bytes()[self.at..];
        let is_here = self.column() == 0 && (rest.starts_with(b"---") || rest.starts_with(b"..."));
        is_here && self.peek(3).is_none_or(|byte| byte.is_ascii_whitespace())
    }

    fn opens(&mut self) {
        self.is_tagged = false;
        self.open += 1;
        if self.depths.len() < self.open {
            self.depths.push(self.line);
        }
        self.bump();
    }

    /// Whether a word can end before the byte that is so far ahead.
    fn ends_word(&self, ahead: usize) -> bool {
        let ends =
            |byte: u8| byte.is_ascii_whitespace() || (self.open > 0 && b",[]{}".contains(&byte));
        self.peek(ahead).is_none_or(ends)
    }

    /// An anchor, an alias or a tag.
    fn name(&mut self) {
        self.bump();
        while !self.ends_word(0) {
            self.bump();
        }
    }

    fn quoted(&mut self, quote: u8) {
        let column = self.column();
        self.bump();
        while let Some(byte) = self.peek(0) {
            self.bump();
            match byte {
                b'\\' if quote == b'"' => self.bump(),
                byte if byte != quote => {}
                b'\'' if self.peek(0) == Some(b'\'') => self.bump(), // a quote in the text
                _ => break,
            }
        }
        (self.is_tagged, self.after_json) = (false, true);
        self.becomes_parent(column);
    }

    /// What ends here is a key if a colon follows, and then the parent of its value.
    fn becomes_parent(&mut self, column: usize) {
        let rest = self.text.as_bytes()[self.at..].iter();
        let next = rest.copied().find(|byte| *byte != b' ');
        if self.open == 0 && next == Some(b':') {
            self.parent = Some(column);
        }
    }

    /// A text of lines, which ends where the indentation does.
    fn block(&mut self) {
        self.is_tagged = false;
        self.bump_while(|byte| byte != b'\n');
        let outside = self.parent.map_or(0, |column| column + 1);
        let mut inside = None;
        while self.peek(0).is_some() {
            self.bump(); // the line's end
            match self.indentation() {
                Some(indent) if indent < inside.unwrap_or(outside) => break,
                Some(indent) => inside = inside.or(Some(indent)),
                None => {} // empty
            }
            self.bump_while(|byte| byte != b'\n');
        }
    }

    /// The spaces at the beginning of this line; `None` if there is nothing else.
    fn indentation(&self) -> Option<usize> {
        let line = self.text[self.at..].split('\n').next()?;
        let text = line.trim_start_matches(' ');
        (!text.trim().is_empty()).then(|| line.len() - text.len())
    }

    fn plain(&mut self) {
        let (column, line, is_tagged) = (
            self.column(),
            self.line,
            std::mem::take(&mut self.is_tagged),
        );
        let text = self.plain_line();
        let mut is_one_line = true;
        while self.goes_on_below() {
            self.bump_while(|byte| byte.is_ascii_whitespace());
            let before = self.at;
            self.plain_line();
            is_one_line &= self.at == before; // else its first line is not the whole of it
            if self.at == before {
                break;
            }
        }
        if is_one_line && !is_tagged {
            self.plain.push(Plain { text, line });
        }
        self.becomes_parent(column);
    }

    /// The part of a plain scalar that is on this line.
    fn plain_line(&mut self) -> &'a str {
        let start = self.at;
        while let Some(byte) = self.peek(0) {
            let is_comment = byte == b'#' && self.text.as_bytes()[..self.at].ends_with(b" ");
            let is_value = byte == b':' && self.ends_word(1);
            let is_outside = self.open > 0 && b",[]{}".contains(&byte);
            if byte == b'\n' || is_comment || is_value || is_outside {
                break;
            }
            self.bump();
        }
        // A byte that was taken in any case makes the loop over all tokens end.
        if self.at == start {
            self.bump();
        }
        self.text.get(start..self.at).unwrap_or_default().trim_end()
    }

    /// Whether the plain scalar that ends at this line's end has more on the next one.
    fn goes_on_below(&self) -> bool {
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
    fn every_plain_word_is_found_with_its_line_and_no_other() {
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
    fn depth_is_that_of_brackets_and_has_its_line() {
        let scan = Scan::of("a: [1, [2]]\nb: [[\n[3]]]\n");
        assert_eq!(
            [0, 1, 2, 3].map(|depth| scan.first_deeper_than(depth)),
            [Some(1), Some(1), Some(3), None]
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[-a:,#'\"|>&*! \\[\\]{}\\\\ü\n%.?]{0,60}") {
            words(&text);
        }
    }
}
