//! Reader and writer of the canonical binary encodings: little-endian integers and minimal
//! LEB128 varints.
//!
//! Each value has exactly one encoding, so comparing hashes of encodings compares values. The
//! reader therefore rejects over-long varints and trailing bytes. This module defines no format:
//! the types that use it give the bytes their meaning.

use ethnum::U256;

/// Error: the bytes are not the canonical encoding of a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ends inside a value.
    #[error("the input ends early: {needed} more bytes are needed at offset {offset}")]
    Truncated {
        /// Offset at which the value starts.
        offset: usize,
        /// Number of missing bytes.
        needed: usize,
    },
    /// Bytes follow the last value. Carries their number.
    #[error("{0} bytes follow the last value")]
    TrailingBytes(usize),
    /// A varint is longer than necessary or exceeds 64 bits. Carries its offset.
    #[error("the varint at offset {0} is not minimal")]
    NonMinimalVarint(usize),
    /// A value violates a rule of its type. Carries the rule.
    #[error("{0}")]
    Invalid(String),
}

impl DecodeError {
    /// Creates a [`DecodeError::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }
}

/// Appends values to an encoding.
#[derive(Debug, Default)]
pub struct WireWriter(Vec<u8>);

impl WireWriter {
    /// Starts an encoding with `magic` (4 ASCII bytes) and a format version.
    pub fn new(magic: &[u8; 4], version: u32) -> Self {
        let mut writer = Self(magic.to_vec());
        writer.u32(version);
        writer
    }

    /// Appends a little-endian u32.
    pub fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    /// Appends a little-endian i32.
    pub fn i32(&mut self, value: i32) {
        self.0.extend(value.to_le_bytes());
    }

    /// Appends a little-endian u64.
    pub fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    /// Appends a little-endian u128.
    pub fn u128(&mut self, value: u128) {
        self.0.extend(value.to_le_bytes());
    }

    /// Appends a little-endian 256-bit integer.
    pub fn u256(&mut self, value: U256) {
        self.0.extend(value.to_le_bytes());
    }

    /// Appends an unsigned LEB128 varint: 7 bits per byte, least significant group first, with the
    /// top bit set on all bytes but the last.
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// Appends an unsigned LEB128 varint of at most 128 bits.
    pub fn varint128(&mut self, mut value: u128) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// Returns the complete encoding.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads values from an encoding, in order.
#[derive(Debug)]
pub struct WireReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> WireReader<'a> {
    /// Starts reading an encoding and checks its header.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] when the magic or the format version differs.
    pub fn new(bytes: &'a [u8], magic: &[u8; 4], version: u32) -> Result<Self, DecodeError> {
        let mut reader = Self { bytes, at: 0 };
        if &reader.array::<4>()? != magic {
            return Err(DecodeError::invalid(format!(
                "the input does not start with {:?}",
                String::from_utf8_lossy(magic)
            )));
        }
        let found = reader.u32()?;
        if found != version {
            return Err(DecodeError::invalid(format!(
                "the format version is {found}; only {version} is supported"
            )));
        }
        Ok(reader)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let rest = &self.bytes[self.at..];
        let Some(head) = rest.first_chunk::<N>() else {
            return Err(DecodeError::Truncated { offset: self.at, needed: N - rest.len() });
        };
        self.at += N;
        Ok(*head)
    }

    /// Reads a little-endian u32.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when the input ends early. The other reading methods return it
    /// too.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    /// Reads a little-endian i32.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_le_bytes)
    }

    /// Reads a little-endian u64.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Reads a little-endian u128.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u128(&mut self) -> Result<u128, DecodeError> {
        self.array().map(u128::from_le_bytes)
    }

    /// Reads a little-endian 256-bit integer.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u256(&mut self) -> Result<U256, DecodeError> {
        self.array().map(U256::from_le_bytes)
    }

    /// Reads a minimal LEB128 varint of at most 64 bits.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], or [`DecodeError::NonMinimalVarint`] when the varint is
    /// over-long or exceeds 64 bits.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        Ok(self.varint_of_bits(64)? as u64)
    }

    /// Reads a minimal LEB128 varint of at most 128 bits.
    ///
    /// # Errors
    /// As [`WireReader::varint`].
    pub fn varint128(&mut self) -> Result<u128, DecodeError> {
        self.varint_of_bits(128)
    }

    fn varint_of_bits(&mut self, bits: u32) -> Result<u128, DecodeError> {
        let start = self.at;
        let mut value = 0u128;
        for shift in (0..bits).step_by(7) {
            let [byte] = self.array()?;
            let part = u128::from(byte & 0x7f);
            if bits - shift < 7 && part >> (bits - shift) > 0 {
                return Err(DecodeError::NonMinimalVarint(start));
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                let minimal = byte != 0 || shift == 0;
                return if minimal { Ok(value) } else { Err(DecodeError::NonMinimalVarint(start)) };
            }
        }
        Err(DecodeError::NonMinimalVarint(start))
    }

    /// Reads the length of a list whose entries take at least a byte each.
    ///
    /// # Errors
    /// As [`WireReader::varint`], and [`DecodeError::Invalid`] when the remaining bytes cannot hold
    /// that many entries.
    pub fn list_length(&mut self) -> Result<usize, DecodeError> {
        let length = self.varint()?;
        if length > self.remaining() as u64 {
            return Err(DecodeError::invalid("a list is longer than the remaining bytes"));
        }
        Ok(length as usize)
    }

    /// Number of unread bytes.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Checks that the whole input has been read.
    ///
    /// # Errors
    /// [`DecodeError::TrailingBytes`] when unread bytes remain.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            rest => Err(DecodeError::TrailingBytes(rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_varint(bytes: &[u8]) -> Result<u64, DecodeError> {
        let mut reader = WireReader { bytes, at: 0 };
        let value = reader.varint()?;
        reader.finish().map(|()| value)
    }

    #[test]
    fn varints_round_trip_and_must_be_minimal() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), 1 << 63, u64::MAX] {
            let mut writer = WireWriter::default();
            writer.varint(value);
            assert_eq!(read_varint(&writer.finish()), Ok(value));
        }
        assert_eq!(read_varint(&[0x80, 0x00]), Err(DecodeError::NonMinimalVarint(0)));
        assert_eq!(read_varint(&[0xff; 11]), Err(DecodeError::NonMinimalVarint(0)));
        let above_64_bits = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(read_varint(&above_64_bits), Err(DecodeError::NonMinimalVarint(0)));
        assert!(matches!(read_varint(&[0x80]), Err(DecodeError::Truncated { .. })));
        assert_eq!(read_varint(&[1, 1]), Err(DecodeError::TrailingBytes(1)));
    }

    #[test]
    fn the_header_is_checked_for_magic_and_version() {
        let bytes = WireWriter::new(b"FKSR", 1).finish();
        assert!(WireReader::new(&bytes, b"FKSR", 1).unwrap().finish().is_ok());
        assert!(WireReader::new(&bytes, b"FKSR", 2).is_err());
        assert!(WireReader::new(&bytes, b"FKPG", 1).is_err());
    }
}
