//! Random values from a seed: what the generated requests are made of.

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;
use uuid::Uuid;

/// A source of random values from a seed.
pub struct Gen {
    state: u64,
    flexible: bool,
}

impl Gen {
    /// A source for one request; `flexible` when its version may carry tagged fields.
    pub fn new(seed: u64, flexible: bool) -> Self {
        Self { state: seed | 1, flexible }
    }

    /// The next number (xorshift64*).
    pub fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 32) as usize % end
    }

    /// A boolean.
    pub fn bool(&mut self) -> bool {
        self.below(2) == 0
    }

    /// An 8-bit integer.
    pub fn i8(&mut self) -> i8 {
        self.next() as i8
    }

    /// A 16-bit integer.
    pub fn i16(&mut self) -> i16 {
        self.next() as i16
    }

    /// A 32-bit integer.
    pub fn i32(&mut self) -> i32 {
        (self.next() >> 16) as i32
    }

    /// A 64-bit integer.
    pub fn i64(&mut self) -> i64 {
        self.next() as i64
    }

    /// A UUID.
    pub fn uuid(&mut self) -> Uuid {
        Uuid::from_u128(u128::from(self.next()) << 64 | u128::from(self.next()))
    }

    /// A length: mostly short, now and then beyond what one byte of a variable-length integer says.
    pub fn len(&mut self) -> usize {
        if self.below(8) == 0 { 120 + self.below(200) } else { self.below(10) }
    }

    /// A string, with characters of one to four bytes.
    pub fn str<T: From<StrBytes>>(&mut self) -> T {
        let text: String = (0..self.len()).map(|_| ['a', '7', '-', 'ä', '語', '🦀'][self.below(6)]).collect();
        StrBytes::from_string(text).into()
    }

    /// A byte string.
    pub fn bytes(&mut self) -> Bytes {
        (0..self.len()).map(|_| self.next() as u8).collect()
    }

    /// Something, or nothing in one case of four.
    pub fn opt<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.below(4) == 0 { None } else { Some(make(self)) }
    }

    /// A few elements, now and then many.
    pub fn vec<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let len = if self.below(10) == 0 { 130 } else { self.below(4) };
        // Long arrays inside long arrays would make a test slow and show nothing new.
        let len = len.min(if self.below(3) == 0 { 130 } else { 3 });
        (0..len).map(|_| make(self)).collect()
    }

    /// Tagged fields that nobody knows: mostly none.
    pub fn tags(&mut self) -> BTreeMap<i32, Bytes> {
        let count = if self.flexible && self.below(4) == 0 { 1 + self.below(3) } else { 0 };
        (0..count).map(|_| (100 + self.below(1 << 30) as i32, self.bytes())).collect()
    }
}
