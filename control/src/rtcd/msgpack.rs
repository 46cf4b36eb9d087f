//! MessagePack, as much of it as rtcd's messages need. Source: the MessagePack specification, "Formats".
//!
//! What is read comes from peers, so no length is believed: text and bytes are borrowed from the input, nothing is allocated by a
//! header's word, and values of no interest are passed over by counting, not by recursion. Reading therefore takes time linear in the
//! input and no memory, whatever the nesting; that is why there is no limit on depth.

use std::fmt;

/// One value, or the header of one: the elements of arrays and maps follow it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Token<'a> {
    /// No value.
    Nil,
    /// A truth value.
    Bool(bool),
    /// An integer of zero or more, in any of its forms.
    Unsigned(u64),
    /// An integer below zero.
    Negative(i64),
    /// A float of either width.
    Float(f64),
    /// Text; whether it is UTF-8 is not checked yet.
    Str(&'a [u8]),
    /// Bytes.
    Bin(&'a [u8]),
    /// An application's own type.
    Ext,
    /// So many values follow.
    Array(u32),
    /// So many pairs of values follow.
    Map(u32),
}

impl Token<'_> {
    /// What it is, for an error's text.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "a bool",
            Self::Unsigned(_) | Self::Negative(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Str(_) => "a str",
            Self::Bin(_) => "a bin",
            Self::Ext => "an ext",
            Self::Array(_) => "an array",
            Self::Map(_) => "a map",
        }
    }
}

/// Why bytes are not MessagePack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FormatError {
    /// The input ends within a value, or before as many elements as a header announces can have come.
    Truncated,
    /// The byte `c1`, which the specification leaves unused.
    ReservedByte,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the message ends before what its lengths announce",
            Self::ReservedByte => "the byte c1 begins no MessagePack value",
        })
    }
}

/// Reads values one after the other.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next value, or the next header.
    ///
    /// # Errors
    /// Every [`FormatError`]; the reader is of no use after one.
    pub fn token(&mut self) -> Result<Token<'a>, FormatError> {
        let marker = self.array::<1>()?[0];
        Ok(match marker {
            0x00..=0x7f => Token::Unsigned(marker.into()),
            0x80..=0x8f => self.map(u32::from(marker & 0x0f))?,
            0x90..=0x9f => self.list(u32::from(marker & 0x0f))?,
            0xa0..=0xbf => Token::Str(self.take(u32::from(marker & 0x1f))?),
            0xc0 => Token::Nil,
            0xc1 => return Err(FormatError::ReservedByte),
            0xc2 => Token::Bool(false),
            0xc3 => Token::Bool(true),
            0xc4 | 0xd9 => {
                let length = self.array::<1>()?[0].into();
                self.text_or_bytes(marker == 0xd9, length)?
            }
            0xc5 | 0xda => {
                let length = u16::from_be_bytes(self.array()?).into();
                self.text_or_bytes(marker == 0xda, length)?
            }
            0xc6 | 0xdb => {
                let length = u32::from_be_bytes(self.array()?);
                self.text_or_bytes(marker == 0xdb, length)?
            }
            0xc7 => {
                let length = self.array::<1>()?[0].into();
                self.ext(length)?
            }
            0xc8 => {
                let length = u16::from_be_bytes(self.array()?).into();
                self.ext(length)?
            }
            0xc9 => {
                let length = u32::from_be_bytes(self.array()?);
                self.ext(length)?
            }
            0xca => Token::Float(f32::from_be_bytes(self.array()?).into()),
            0xcb => Token::Float(f64::from_be_bytes(self.array()?)),
            0xcc => Token::Unsigned(self.array::<1>()?[0].into()),
            0xcd => Token::Unsigned(u16::from_be_bytes(self.array()?).into()),
            0xce => Token::Unsigned(u32::from_be_bytes(self.array()?).into()),
            0xcf => Token::Unsigned(u64::from_be_bytes(self.array()?)),
            0xd0 => signed(i8::from_be_bytes(self.array()?).into()),
            0xd1 => signed(i16::from_be_bytes(self.array()?).into()),
            0xd2 => signed(i32::from_be_bytes(self.array()?).into()),
            0xd3 => signed(i64::from_be_bytes(self.array()?)),
            0xd4..=0xd8 => self.ext(1 << (marker - 0xd4))?,
            0xdc => {
                let length = u16::from_be_bytes(self.array()?).into();
                self.list(length)?
            }
            0xdd => {
                let length = u32::from_be_bytes(self.array()?);
                self.list(length)?
            }
            0xde => {
                let pairs = u16::from_be_bytes(self.array()?).into();
                self.map(pairs)?
            }
            0xdf => {
                let pairs = u32::from_be_bytes(self.array()?);
                self.map(pairs)?
            }
            0xe0..=0xff => signed(i8::from_be_bytes([marker]).into()),
        })
    }

    /// Passes over one value with all that is in it.
    ///
    /// # Errors
    /// As [`Self::token`].
    pub fn skip(&mut self) -> Result<(), FormatError> {
        // Each turn takes at least one byte of the input; the sum of announced elements fits 64 bits, since each header costs a byte.
        let mut left: u64 = 1;
        while left > 0 {
            left -= 1;
            left += match self.token()? {
                Token::Array(elements) => u64::from(elements),
                Token::Map(pairs) => 2 * u64::from(pairs),
                _ => 0,
            };
        }
        Ok(())
    }

    fn text_or_bytes(&mut self, is_text: bool, length: u32) -> Result<Token<'a>, FormatError> {
        let bytes = self.take(length)?;
        Ok(if is_text { Token::Str(bytes) } else { Token::Bin(bytes) })
    }

    /// The type's number is a byte before the `length` bytes of data.
    fn ext(&mut self, length: u32) -> Result<Token<'a>, FormatError> {
        self.array::<1>()?;
        self.take(length)?;
        Ok(Token::Ext)
    }

    /// Every element is at least a byte: a header that announces more than are left is wrong at once.
    fn list(&mut self, elements: u32) -> Result<Token<'a>, FormatError> {
        self.check_left(u64::from(elements))?;
        Ok(Token::Array(elements))
    }

    fn map(&mut self, pairs: u32) -> Result<Token<'a>, FormatError> {
        self.check_left(2 * u64::from(pairs))?;
        Ok(Token::Map(pairs))
    }

    fn check_left(&self, bytes: u64) -> Result<(), FormatError> {
        if bytes > self.rest.len() as u64 { Err(FormatError::Truncated) } else { Ok(()) }
    }

    fn take(&mut self, length: u32) -> Result<&'a [u8], FormatError> {
        let length = usize::try_from(length).map_err(|_| FormatError::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(FormatError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(FormatError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }
}

fn signed(value: i64) -> Token<'static> {
    u64::try_from(value).map_or(Token::Negative(value), Token::Unsigned)
}

/// Writes values one after the other, each in its shortest form.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Text. Longer than 4 GiB is nothing that we have.
    pub fn str(&mut self, text: &str) {
        let length = length(text.len());
        match length {
            0..=31 => self.bytes.push(0xa0 | length as u8),
            32..=0xff => self.bytes.extend([0xd9, length as u8]),
            _ => self.long(0xda, length),
        }
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Bytes.
    pub fn bin(&mut self, bytes: &[u8]) {
        let length = length(bytes.len());
        match length {
            0..=0xff => self.bytes.extend([0xc4, length as u8]),
            _ => self.long(0xc5, length),
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The header of a map: so many pairs follow.
    pub fn map(&mut self, pairs: usize) {
        let pairs = length(pairs);
        match pairs {
            0..=15 => self.bytes.push(0x80 | pairs as u8),
            _ => self.long(0xde, pairs),
        }
    }

    /// A small number, up to 127 in one byte.
    pub fn u8(&mut self, value: u8) {
        if value > 0x7f {
            self.bytes.push(0xcc);
        }
        self.bytes.push(value);
    }

    /// A small number, in two bytes whatever its value.
    pub fn u8_in_two_bytes(&mut self, value: u8) {
        self.bytes.extend([0xcc, value]);
    }

    /// A truth value.
    pub fn bool(&mut self, value: bool) {
        self.bytes.push(if value { 0xc3 } else { 0xc2 });
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// A length of 16 bits after `marker`, or one of 32 after the marker that follows it.
    fn long(&mut self, marker: u8, length: u32) {
        match u16::try_from(length) {
            Ok(short) => {
                self.bytes.push(marker);
                self.bytes.extend(short.to_be_bytes());
            }
            Err(_) => {
                self.bytes.push(marker + 1);
                self.bytes.extend(length.to_be_bytes());
            }
        }
    }
}

fn length(length: usize) -> u32 {
    u32::try_from(length).expect("what we write is far below 4 GiB")
}

#[cfg(test)]
mod tests {
    use rmpv::Value;

    use super::*;

    fn encoded(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, value).expect("memory takes it");
        bytes
    }

    /// A value of any kind, nested up to `depth`, from numbers that a seed determines.
    fn any_value(numbers: &mut impl FnMut() -> u64, depth: u32) -> Value {
        let number = numbers();
        let length = [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536][number as usize % 10];
        match numbers() % if depth == 0 { 8 } else { 10 } {
            0 => Value::Nil,
            1 => Value::from(number.is_multiple_of(2)),
            2 => Value::from(number >> (number % 64)),
            3 => Value::from((number as i64) >> (number % 64)),
            4 => Value::from(f64::from_bits(number)),
            5 => Value::from("x".repeat(length)),
            6 => Value::Binary(vec![7; length]),
            7 => Value::Ext(5, vec![7; length]),
            8 => Value::Array((0..number % 20).map(|_| any_value(numbers, depth - 1)).collect()),
            _ => {
                let pairs = 0..number % 20;
                Value::Map(pairs.map(|_| (Value::from(1), any_value(numbers, depth - 1))).collect())
            }
        }
    }

    #[test]
    fn a_value_of_another_encoder_is_passed_over_to_its_last_byte() {
        let mut state = 42_u64;
        let mut numbers = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state ^ (state >> 29)
        };
        for round in 0..500 {
            let mut bytes = encoded(&any_value(&mut numbers, 3));
            let whole = bytes.len();
            bytes.push(0xc3);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.skip(), Ok(()), "round {round}");
            assert_eq!(reader.token(), Ok(Token::Bool(true)), "round {round}");
            assert_eq!(Reader::new(&bytes[..whole - 1]).skip(), Err(FormatError::Truncated));
        }
    }

    #[test]
    fn integers_are_read_in_every_form() {
        for bytes in [
            &[5][..],
            &[0xcc, 5],
            &[0xcd, 0, 5],
            &[0xce, 0, 0, 0, 5],
            &[0xcf, 0, 0, 0, 0, 0, 0, 0, 5],
            &[0xd0, 5],
            &[0xd1, 0, 5],
            &[0xd2, 0, 0, 0, 5],
            &[0xd3, 0, 0, 0, 0, 0, 0, 0, 5],
        ] {
            assert_eq!(Reader::new(bytes).token(), Ok(Token::Unsigned(5)), "{bytes:x?}");
        }
        for bytes in [&[0xff][..], &[0xd0, 0xff], &[0xd1, 0xff, 0xff]] {
            assert_eq!(Reader::new(bytes).token(), Ok(Token::Negative(-1)), "{bytes:x?}");
        }
    }

    #[test]
    fn what_is_written_is_read_by_another_decoder() {
        for length in [0, 1, 31, 32, 255, 256, 65_535, 65_536] {
            let (text, bytes) = ("x".repeat(length), vec![7; length]);
            let mut writer = Writer::default();
            writer.str(&text);
            writer.bin(&bytes);
            let written = writer.finish();
            let mut rest = written.as_slice();
            let mut read = || rmpv::decode::read_value(&mut rest).expect("a value");
            assert_eq!(read(), Value::from(text.as_str()));
            assert_eq!(read(), Value::Binary(bytes));
            assert_eq!(rest, [0_u8; 0]);
            // As short as the other encoder makes it.
            assert_eq!(
                written[..written.len() / 2],
                encoded(&Value::from(text))[..written.len() / 2]
            );
        }
        for pairs in [0, 15, 16, 65_535, 65_536] {
            let mut writer = Writer::default();
            writer.map(pairs);
            for _ in 0..2 * pairs {
                writer.u8(200);
            }
            let written = writer.finish();
            let value = rmpv::decode::read_value(&mut written.as_slice()).expect("a value");
            assert_eq!(value.as_map().map(Vec::len), Some(pairs));
        }
    }

    #[test]
    fn lengths_beyond_the_input_are_refused_at_the_header() {
        for marker in [0xc6, 0xc9, 0xdb, 0xdd, 0xdf] {
            let bytes = [marker, 0xff, 0xff, 0xff, 0xff, 0, 0, 0];
            assert_eq!(Reader::new(&bytes).token(), Err(FormatError::Truncated), "{marker:x}");
        }
        for marker in [0xc5, 0xc8, 0xda, 0xdc, 0xde] {
            let bytes = [marker, 0xff, 0xff, 0, 0];
            assert_eq!(Reader::new(&bytes).token(), Err(FormatError::Truncated), "{marker:x}");
        }
    }

    #[test]
    fn nesting_of_any_depth_takes_no_stack() {
        let mut bytes = vec![0x91; 1_000_000];
        assert_eq!(Reader::new(&bytes).skip(), Err(FormatError::Truncated));
        bytes.push(0xc0);
        assert_eq!(Reader::new(&bytes).skip(), Ok(()));
        let maps = [0x81, 0xc0].repeat(100_000);
        assert_eq!(Reader::new(&maps).skip(), Err(FormatError::Truncated));
    }

    #[test]
    fn arbitrary_bytes_end_in_a_value_or_an_error() {
        for first in 0..=255 {
            for second in 0..=255 {
                let bytes = [first, second, 0, 0, 1, 2];
                let mut reader = Reader::new(&bytes);
                while reader.skip().is_ok() {}
            }
        }
        assert_eq!(Reader::new(&[0xc1]).token(), Err(FormatError::ReservedByte));
        assert_eq!(Reader::new(&[]).token(), Err(FormatError::Truncated));
    }
}
