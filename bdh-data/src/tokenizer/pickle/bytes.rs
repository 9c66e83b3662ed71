//! Bytes of a pickle, read from the start.

/// Bytes that remain to be read.
pub(super) struct Bytes<'a> {
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// Takes the next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(ended)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Skips the next `count` bytes.
    pub(super) fn skip(&mut self, count: usize) -> Result<(), String> {
        self.take(count).map(|_| ())
    }

    /// Reads a little-endian number of at most 8 bytes.
    pub(super) fn number(&mut self, size: usize) -> Result<u64, String> {
        let mut number = 0;
        for byte in self.take(size)?.iter().rev() {
            number = number << 8 | u64::from(*byte);
        }
        Ok(number)
    }

    /// Reads the length of an integer, and the integer in two's complement.
    pub(super) fn long(&mut self) -> Result<i64, String> {
        let size = self.number(1)? as usize;
        let bytes = self.take(size)?;
        if size > 8 {
            return Err("the pickle has an integer beyond 64 bits".to_owned());
        }
        let is_negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
        let mut all = [if is_negative { 0xFF } else { 0 }; 8];
        all[..size].copy_from_slice(bytes);
        Ok(i64::from_le_bytes(all))
    }

    /// Reads a line, without its end.
    pub(super) fn line(&mut self) -> Result<String, String> {
        let end = self.rest.iter().position(|byte| *byte == b'\n');
        let line = self.take(end.ok_or_else(ended)?)?;
        self.skip(1)?;
        Ok(String::from_utf8_lossy(line).into_owned())
    }
}

fn ended() -> String {
    "the pickle ends early".to_owned()
}
