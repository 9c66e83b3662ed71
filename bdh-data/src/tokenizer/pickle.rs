//! Pickles of plain data, read without running anything.
//!
//! A pickle is a program that may call any function of Python. This reader knows numbers, texts, bytes, lists, tuples and
//! dictionaries, as protocols 2 to 5 write them. A class is refused unless the caller expects it, and is then a name
//! beside its data. The numbers in a file cannot make it fill the memory.

mod bytes;
mod stack;

use bytes::Bytes;
use stack::Stack;
use std::collections::HashMap;
use std::rc::Rc;

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
    /// Class by its module and name, `tiktoken.core Encoding`.
    Class(Rc<str>),
    /// Object of a class, with its arguments or its state.
    Object(Rc<str>, Box<Value>),
    /// Reference to data beside the pickle.
    Persistent(Box<Value>),
    /// Second reference to a value with content, which is not repeated.
    Again,
}

/// Classes that a caller expects in a pickle.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    /// Module and name of each class.
    pub(super) classes: &'static [&'static str],
    /// Description of the objects, for a message.
    pub(super) name: &'static str,
}

/// Parses a pickle of plain data and of these classes.
pub(super) fn parse(bytes: &[u8], expected: Expected) -> Result<Value, String> {
    let mut machine = Machine {
        bytes: Bytes::new(bytes),
        expected,
        stack: Stack::default(),
        memo: HashMap::new(),
    };
    loop {
        if let Some(value) = machine.step()? {
            return Ok(value);
        }
    }
}

/// Reader in the middle of a pickle.
struct Machine<'a> {
    bytes: Bytes<'a>,
    expected: Expected,
    stack: Stack,
    memo: HashMap<u32, Value>,
}

impl Machine<'_> {
    /// Reads one operation. Returns the value of the pickle at its end.
    ///
    /// The bytes and their names are those of Python's `pickletools`.
    fn step(&mut self) -> Result<Option<Value>, String> {
        match self.bytes.take(1)?[0] {
            b'.' => return Ok(Some(self.stack.pop()?.value)), // STOP
            0x80 => self.bytes.skip(1)?,                      // PROTO
            0x95 => self.bytes.skip(8)?,                      // FRAME
            b'(' => self.stack.mark()?,                       // MARK
            b'N' => self.stack.push(Value::None)?,            // NONE
            0x88 => self.stack.push(Value::Bool(true))?,      // NEWTRUE
            0x89 => self.stack.push(Value::Bool(false))?,     // NEWFALSE
            b'}' => self.stack.push(Value::Dict(Vec::new()))?, // EMPTY_DICT
            b']' => self.stack.push(Value::List(Vec::new()))?, // EMPTY_LIST
            op @ (b'K' | b'M' | b'J' | 0x8A | b'G') => self.number(op)?,
            op @ (0x8C | b'X' | 0x8D | b'C' | b'B' | 0x8E) => self.text(op)?,
            op @ (b's' | b'u' | b'a' | b'e') => self.collect(op)?,
            op @ (b')' | b't' | 0x85..=0x87) => self.tuple(op)?,
            op @ (0x94 | b'q' | b'r') => self.store(op)?,
            op @ (b'h' | b'j') => self.recall(op)?,
            op @ (b'c' | 0x93) => self.class(op)?,
            op @ (0x81 | b'R' | b'b') => self.object(op)?,
            b'Q' => self.persistent()?,
            op => {
                return Err(format!(
                    "the pickle has the operation {op:#04x}, which plain data needs not"
                ));
            }
        }
        Ok(None)
    }

    /// Reads BININT1, BININT2, BININT, LONG1 or BINFLOAT.
    fn number(&mut self, op: u8) -> Result<(), String> {
        let value = match op {
            b'K' => Value::Int(self.bytes.number(1)? as i64),
            b'M' => Value::Int(self.bytes.number(2)? as i64),
            b'J' => Value::Int(i64::from(self.bytes.number(4)? as i32)),
            b'G' => Value::Float(f64::from_bits(self.bytes.number(8)?.swap_bytes())), // big-endian
            _ => Value::Int(self.bytes.long()?),
        };
        self.stack.push(value)
    }

    /// Reads a text or bytes, with a length of 1, 4 or 8 bytes.
    fn text(&mut self, op: u8) -> Result<(), String> {
        let size = match op {
            0x8C | b'C' => self.bytes.number(1)?,
            b'X' | b'B' => self.bytes.number(4)?,
            _ => self.bytes.number(8)?,
        };
        let bytes = self
            .bytes
            .take(usize::try_from(size).unwrap_or(usize::MAX))?;
        if matches!(op, b'C' | b'B' | 0x8E) {
            return self.stack.push(Value::Bytes(bytes.into()));
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => self.stack.push(Value::Str(text.into())),
            Err(error) => Err(format!("a text of the pickle is damaged ({error})")),
        }
    }

    /// Adds values to the list or dictionary below them: SETITEM, SETITEMS, APPEND or APPENDS.
    fn collect(&mut self, op: u8) -> Result<(), String> {
        let items = match op {
            b's' => self.stack.pop_last(2)?,
            b'a' => self.stack.pop_last(1)?,
            _ => self.stack.pop_mark()?,
        };
        self.stack.extend_top(items, |top, mut items| match top {
            Value::List(list) if matches!(op, b'a' | b'e') => {
                list.append(&mut items);
                true
            }
            Value::Dict(dict) if matches!(op, b's' | b'u') => {
                let mut items = items.into_iter();
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    dict.push((key, value));
                }
                true
            }
            _ => false,
        })
    }

    /// Makes a tuple: EMPTY_TUPLE, TUPLE, TUPLE1, TUPLE2 or TUPLE3.
    fn tuple(&mut self, op: u8) -> Result<(), String> {
        let items = match op {
            b')' => return self.stack.push(Value::Tuple(Vec::new())),
            b't' => self.stack.pop_mark()?,
            _ => self.stack.pop_last(usize::from(op - 0x84))?,
        };
        self.stack
            .push_around(Value::Tuple(items.values), items.depth)
    }

    /// Stores the last value under a number: MEMOIZE, BINPUT or LONG_BINPUT.
    fn store(&mut self, op: u8) -> Result<(), String> {
        let key = match op {
            0x94 => self.memo.len() as u32,
            b'q' => self.bytes.number(1)? as u32,
            _ => self.bytes.number(4)? as u32,
        };
        let value = match self.stack.last()? {
            value @ (Value::Str(_) | Value::Bytes(_) | Value::Class(_)) => value.clone(),
            _ => Value::Again, // copies of collections would let a small file grow without end
        };
        self.stack.count()?;
        self.memo.insert(key, value);
        Ok(())
    }

    /// Brings a stored value back: BINGET or LONG_BINGET.
    fn recall(&mut self, op: u8) -> Result<(), String> {
        let key = self.bytes.number(if op == b'h' { 1 } else { 4 })? as u32;
        match self.memo.get(&key) {
            Some(value) => self.stack.push(value.clone()),
            None => Err("the pickle uses a value that it has not stored".to_owned()),
        }
    }

    /// Reads the name of a class: GLOBAL or STACK_GLOBAL.
    fn class(&mut self, op: u8) -> Result<(), String> {
        let name = if op == b'c' {
            format!("{} {}", self.bytes.line()?, self.bytes.line()?)
        } else {
            match &self.stack.pop_last(2)?.values[..] {
                [Value::Str(module), Value::Str(name)] => format!("{module} {name}"),
                _ => return Err("the pickle names a class by something that is no text".to_owned()),
            }
        };
        if self.expected.classes.contains(&name.as_str()) {
            return self.stack.push(Value::Class(name.into()));
        }
        let dotted = name.replacen(' ', ".", 1);
        let shown: String = dotted.escape_debug().take(80).collect();
        Err(format!(
            "the pickle names `{shown}`: only plain data and {} are read, and nothing in a pickle is run",
            self.expected.name
        ))
    }

    /// Makes an object of a class with arguments, by NEWOBJ or REDUCE, or gives it a state, by BUILD.
    fn object(&mut self, op: u8) -> Result<(), String> {
        let data = self.stack.pop()?;
        let class = match self.stack.pop()?.value {
            Value::Class(class) if op != b'b' => class,
            Value::Object(class, _) if op == b'b' => class,
            _ => return Err("the pickle calls something that is no class".to_owned()),
        };
        let object = Value::Object(class, Box::new(data.value));
        self.stack.push_around(object, data.depth)
    }

    /// Makes a reference to data beside the pickle: BINPERSID.
    fn persistent(&mut self) -> Result<(), String> {
        let key = self.stack.pop()?;
        let reference = Value::Persistent(Box::new(key.value));
        self.stack.push_around(reference, key.depth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXPECTED: Expected = Expected {
        classes: &["tiktoken.core Encoding"],
        name: "tiktoken's Encoding",
    };

    #[test]
    fn classes_that_are_not_expected_are_refused_by_name() {
        for pickle in [
            &b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R."[..],
            b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R.",
        ] {
            assert_eq!(
                parse(pickle, EXPECTED).expect_err("a class of Python"),
                "the pickle names `os.system`: only plain data and tiktoken's Encoding are read, and nothing in a \
                 pickle is run"
            );
        }
    }

    #[test]
    fn plain_data_is_read() {
        let pickle = b"\x80\x04}(\x8c\x01a\x94K\x05X\x01\x00\x00\x00b](J\xff\xff\xff\xff\x8a\x02\x00\x01h\x00e\
                       \x8c\x01cG?\xf8\x00\x00\x00\x00\x00\x00\x8c\x01dN\x89\x86u.";
        let text = |text: &str| Value::Str(text.into());
        let expected = Value::Dict(vec![
            (text("a"), Value::Int(5)),
            (
                text("b"),
                Value::List(vec![Value::Int(-1), Value::Int(256), text("a")]),
            ),
            (text("c"), Value::Float(1.5)),
            (
                text("d"),
                Value::Tuple(vec![Value::None, Value::Bool(false)]),
            ),
        ]);
        assert_eq!(parse(pickle, EXPECTED), Ok(expected));
    }

    #[test]
    fn expected_objects_are_their_data() {
        let pickle = b"\x80\x04\x8c\x0dtiktoken.core\x8c\x08Encoding\x93)\x81}\x8c\x01xK\x01sb.";
        let state = Value::Dict(vec![(Value::Str("x".into()), Value::Int(1))]);
        let object = Value::Object("tiktoken.core Encoding".into(), Box::new(state));
        assert_eq!(parse(pickle, EXPECTED), Ok(object));
    }

    #[test]
    fn small_files_cannot_fill_the_memory_or_the_stack() {
        let nested = [vec![b']'; 100_000], vec![b'a'; 99_999], vec![b'.']].concat();
        let tuples = [vec![b')'], vec![0x85; 100_000], vec![b'.']].concat();
        for pickle in [nested, tuples] {
            let error = parse(&pickle, EXPECTED).expect_err("too deep");
            assert!(error.contains("levels"), "{error}");
        }
        for op in [b'(', b'N'] {
            let error = parse(&vec![op; 10_000_000], EXPECTED).expect_err("too much");
            assert!(error.contains("values"), "{error}");
        }
        let stored = [vec![b'N'], vec![0x94; 10_000_000]].concat();
        let error = parse(&stored, EXPECTED).expect_err("too much");
        assert!(error.contains("values"), "{error}");
        let long = b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fx."; // a length of 8 EiB
        let error = parse(long, EXPECTED).expect_err("too short");
        assert_eq!(error, "the pickle ends early");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, EXPECTED);
        }
    }
}
