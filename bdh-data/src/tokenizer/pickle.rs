//! Pickles of plain data, read without running anything.
//!
//! A pickle is a program that may call any function of Python. This reader knows numbers, texts, bytes, lists, tuples and
//! dictionaries, and keeps the few classes that a caller expects as plain data. Every other class is an error.

use std::collections::HashMap;
use std::rc::Rc;

/// Most values on the stack and in collections, so that a small file cannot fill the memory.
const MOST_VALUES: usize = 4 << 20;

/// Value of a pickle.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Rc<str>),
    Bytes(Rc<[u8]>),
    List(Vec<Value>),
    Tuple(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    /// Class by its full name.
    Class(Rc<str>),
    /// Object of a class with its arguments or its state.
    Object(Rc<str>, Box<Value>),
    /// Reference to data beside the pickle.
    Persistent(Box<Value>),
    /// Second reference to a list, a dictionary or an object, whose content is not repeated.
    Again,
}

/// Parses a pickle in which only these classes occur.
pub(super) fn parse(bytes: &[u8], classes: &[&str]) -> Result<Value, String> {
    let mut machine = Machine {
        bytes,
        at: 0,
        classes,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        values: 0,
    };
    loop {
        if let Some(value) = machine.step()? {
            return Ok(value);
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    classes: &'a [&'a str],
    stack: Vec<Value>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    values: usize,
}

impl Machine<'_> {
    /// Executes one operation; returns the result at the end.
    fn step(&mut self) -> Result<Option<Value>, String> {
        let op = self.take(1)?[0];
        match op {
            0x80 => drop(self.take(1)?), // PROTO
            0x95 => drop(self.take(8)?), // FRAME
            b'.' => return self.pop().map(Some),
            b'(' => self.marks.push(self.stack.len()),
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b']' => self.push(Value::List(Vec::new()))?,
            b')' => self.push(Value::Tuple(Vec::new()))?,
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'K' | b'M' | b'J' | 0x8A | b'G' => self.number(op)?,
            0x8C | b'X' | 0x8D | b'C' | b'B' | 0x8E => self.text(op)?,
            b's' | b'u' | b'a' | b'e' => self.collect(op)?,
            b't' | 0x85 | 0x86 | 0x87 => self.tuple(op)?,
            0x94 | b'q' | b'r' | b'h' | b'j' => self.remember(op)?,
            b'c' | 0x93 | 0x81 | b'R' | b'b' | b'Q' => self.object(op)?,
            other => return Err(format!("the operation {other:#04x} of its pickle is unknown")),
        }
        Ok(None)
    }

    fn number(&mut self, op: u8) -> Result<(), String> {
        let value = match op {
            b'K' => Value::Int(self.take(1)?[0].into()),
            b'M' => Value::Int(self.length(2)? as i64),
            b'J' => Value::Int((self.length(4)? as u32 as i32).into()),
            b'G' => {
                let bits = self.take(8)?.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte));
                Value::Float(f64::from_bits(bits))
            }
            _ => Value::Int(self.long()?),
        };
        self.push(value)
    }

    /// Reads an integer of any size that fits 64 bits.
    fn long(&mut self) -> Result<i64, String> {
        let size = self.take(1)?[0].into();
        let bytes = self.take(size)?;
        if bytes.len() > 8 {
            return Err("its pickle has an integer beyond 64 bits".to_owned());
        }
        let is_negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
        let mut all = [if is_negative { 0xFF } else { 0 }; 8];
        all[..bytes.len()].copy_from_slice(bytes);
        Ok(i64::from_le_bytes(all))
    }

    fn text(&mut self, op: u8) -> Result<(), String> {
        let size = match op {
            0x8C | b'C' => self.length(1)?,
            b'X' | b'B' => self.length(4)?,
            _ => self.length(8)?,
        };
        let bytes = self.take(usize::try_from(size).map_err(|_| ended())?)?;
        if matches!(op, b'C' | b'B' | 0x8E) {
            let bytes = bytes.into();
            return self.push(Value::Bytes(bytes));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let text = text.into();
        self.push(Value::Str(text))
    }

    /// Adds values to the list or dictionary below them.
    fn collect(&mut self, op: u8) -> Result<(), String> {
        let mut items = match op {
            b's' => self.pop_last(2)?,
            b'a' => self.pop_last(1)?,
            _ => self.pop_mark()?,
        };
        match self.stack.last_mut() {
            Some(Value::List(list)) if matches!(op, b'a' | b'e') => list.append(&mut items),
            Some(Value::Dict(dict)) if matches!(op, b's' | b'u') => {
                let mut items = items.into_iter();
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    dict.push((key, value));
                }
            }
            _ => return Err("its pickle adds to something that is no collection".to_owned()),
        }
        Ok(())
    }

    fn tuple(&mut self, op: u8) -> Result<(), String> {
        let items = match op {
            b't' => self.pop_mark()?,
            _ => self.pop_last(usize::from(op - 0x84))?,
        };
        self.push(Value::Tuple(items))
    }

    /// Stores the top of the stack under a number, or brings a stored value back.
    fn remember(&mut self, op: u8) -> Result<(), String> {
        let key = match op {
            0x94 => self.memo.len() as u64,
            b'q' | b'h' => self.length(1)?,
            _ => self.length(4)?,
        };
        let key = key as u32; // four bytes at most
        if matches!(op, b'h' | b'j') {
            let value = self.memo.get(&key).cloned();
            return self.push(value.ok_or("its pickle uses a value that it has not stored")?);
        }
        let value = match self.stack.last() {
            Some(Value::Str(_) | Value::Bytes(_) | Value::Class(_) | Value::Int(_)) => {
                self.stack.last().cloned().unwrap_or(Value::Again)
            }
            Some(Value::Tuple(items)) if items.len() <= 4 && items.iter().all(is_small) => {
                Value::Tuple(items.clone())
            }
            // Copies of collections would let a small file grow without end.
            Some(_) => Value::Again,
            None => return Err("its pickle stores a value before there is one".to_owned()),
        };
        self.memo.insert(key, value);
        Ok(())
    }

    fn object(&mut self, op: u8) -> Result<(), String> {
        let value = match op {
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.class(&format!("{module} {name}"))?
            }
            0x93 => {
                let names = self.pop_last(2)?;
                let [Value::Str(module), Value::Str(name)] = &names[..] else {
                    return Err("its pickle names a class by something that is no text".to_owned());
                };
                self.class(&format!("{module} {name}"))?
            }
            b'Q' => Value::Persistent(Box::new(self.pop()?)),
            b'b' => {
                let state = self.pop()?;
                match self.pop()? {
                    Value::Object(class, _) => Value::Object(class, Box::new(state)),
                    _ => return Err("its pickle gives a state to something that is no object".to_owned()),
                }
            }
            _ => {
                let args = self.pop()?;
                match self.pop()? {
                    Value::Class(class) => Value::Object(class, Box::new(args)),
                    _ => return Err("its pickle calls something that is no class".to_owned()),
                }
            }
        };
        self.push(value)
    }

    /// Returns a class that the caller expects.
    fn class(&self, name: &str) -> Result<Value, String> {
        if self.classes.contains(&name) {
            return Ok(Value::Class(name.into()));
        }
        let dotted = name.replacen(' ', ".", 1);
        Err(format!(
            "its pickle names {dotted:?}; only plain data is read, and nothing in a pickle is run"
        ))
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        self.values += 1;
        if self.values > MOST_VALUES {
            return Err(format!("its pickle has more than {MOST_VALUES} values"));
        }
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<Value, String> {
        self.stack.pop().ok_or_else(empty)
    }

    fn pop_last(&mut self, count: usize) -> Result<Vec<Value>, String> {
        let from = self.stack.len().checked_sub(count).ok_or_else(empty)?;
        Ok(self.stack.split_off(from))
    }

    fn pop_mark(&mut self) -> Result<Vec<Value>, String> {
        let from = self.marks.pop().ok_or_else(empty)?;
        if from > self.stack.len() {
            return Err(empty());
        }
        Ok(self.stack.split_off(from))
    }

    /// Reads a little-endian number.
    fn length(&mut self, bytes: usize) -> Result<u64, String> {
        let bytes = self.take(bytes)?.iter().rev();
        Ok(bytes.fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(ended)?;
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        self.at += end + 1;
        Ok(line)
    }

    fn take(&mut self, count: usize) -> Result<&[u8], String> {
        let end = self.at.checked_add(count).ok_or_else(ended)?;
        let taken = self.bytes.get(self.at..end).ok_or_else(ended)?;
        self.at = end;
        Ok(taken)
    }
}

fn is_small(value: &Value) -> bool {
    !matches!(value, Value::List(_) | Value::Tuple(_) | Value::Dict(_) | Value::Object(..) | Value::Persistent(_))
}

fn ended() -> String {
    "its pickle ends early".to_owned()
}

fn empty() -> String {
    "its pickle takes a value where there is none".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn classes_that_are_not_expected_are_refused_by_name() {
        for pickle in [
            &b"cos\nsystem\n(X\x02\x00\x00\x00lstR."[..],
            &b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R."[..],
        ] {
            let error = parse(pickle, &["tiktoken.core Encoding"]).expect_err("refused");
            assert!(error.contains("os.system") && error.contains("nothing in a pickle is run"), "{error}");
        }
    }

    #[test]
    fn collections_and_numbers_are_read() {
        let value = parse(b"\x80\x02}(X\x01\x00\x00\x00aK\x05X\x01\x00\x00\x00b]J\xff\xff\xff\xffau.", &[]);
        let expected = Value::Dict(vec![
            (Value::Str("a".into()), Value::Int(5)),
            (Value::Str("b".into()), Value::List(vec![Value::Int(-1)])),
        ]);
        assert_eq!(value, Ok(expected));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, &["tiktoken.core Encoding"]);
        }
    }
}
