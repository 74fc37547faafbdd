//! The format of `shards.bin`: all shard results of a job in one object, from which an auditor
//! repeats the reduction.
//!
//! Bytes: `"FKSB"`, the format version as u32le (1), then for each shard, in shard order, the
//! length of its result as u64le and the result's canonical bytes (docs/determinism.md, section 8).
//! This module does not decode the results.

const MAGIC: &[u8; 4] = b"FKSB";
const VERSION: u32 = 1;

/// File name of the object.
pub const FILE_NAME: &str = "shards.bin";
/// Media type of the object.
pub const MEDIA_TYPE: &str = "application/octet-stream";

/// Upper bound on the bytes of one result. Two distributions of 45,056 buckets, at most 6 bytes
/// each, have 541 kB.
pub const MAX_RESULT_BYTES: u64 = 1 << 20;

const LENGTH_BYTES: usize = 8;
const WRONG_HEADER: &str = "it does not start with FKSB and format version 1";

/// Error: the bytes are not a shards file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidShardsFile(String);

/// Writes a shards file in memory.
#[derive(Debug)]
pub struct ShardsFileWriter(Vec<u8>);

impl ShardsFileWriter {
    /// Starts a file without results.
    pub fn new() -> Self {
        Self([MAGIC.as_slice(), &VERSION.to_le_bytes()].concat())
    }

    /// Appends the canonical bytes of the next shard's result, in shard order.
    pub fn push(&mut self, result: &[u8]) {
        self.0.extend((result.len() as u64).to_le_bytes());
        self.0.extend(result);
    }

    /// Returns the content of the file.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

impl Default for ShardsFileWriter {
    fn default() -> Self {
        Self::new()
    }
}

/// Splits a shards file that arrives in chunks into the canonical bytes of each shard's result, in
/// shard order. Holds one result at a time.
#[derive(Debug, Default)]
pub struct ShardsFileReader {
    /// Bytes that arrived and were not returned yet.
    buffer: Vec<u8>,
    is_header_read: bool,
    results: u64,
}

impl ShardsFileReader {
    /// A reader of a file of which nothing has arrived.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the next chunk.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// Takes the next result; `None` if it has not arrived completely.
    ///
    /// # Errors
    /// [`InvalidShardsFile`] when the header differs or a result is larger than
    /// [`MAX_RESULT_BYTES`].
    pub fn next_result(&mut self) -> Result<Option<Vec<u8>>, InvalidShardsFile> {
        if !self.is_header_read {
            let header = [MAGIC.as_slice(), &VERSION.to_le_bytes()].concat();
            let Some(start) = self.buffer.get(..header.len()) else { return Ok(None) };
            if start != header {
                return Err(InvalidShardsFile(WRONG_HEADER.to_owned()));
            }
            self.buffer.drain(..header.len());
            self.is_header_read = true;
        }
        let Some(&length) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u64::from_le_bytes(length);
        if length > MAX_RESULT_BYTES {
            let results = self.results;
            let reason =
                format!("result {results} has {length} bytes, and at most {MAX_RESULT_BYTES} are possible");
            return Err(InvalidShardsFile(reason));
        }
        let end = LENGTH_BYTES + length as usize;
        if self.buffer.len() < end {
            return Ok(None);
        }
        let result = self.buffer[LENGTH_BYTES..end].to_vec();
        self.buffer.drain(..end);
        self.results += 1;
        Ok(Some(result))
    }

    /// Checks that the file ends after a result.
    ///
    /// # Errors
    /// [`InvalidShardsFile`] when it ends in its header or inside a result.
    pub fn finish(self) -> Result<(), InvalidShardsFile> {
        if !self.is_header_read {
            return Err(InvalidShardsFile(WRONG_HEADER.to_owned()));
        }
        if self.buffer.is_empty() {
            return Ok(());
        }
        Err(InvalidShardsFile(format!("it ends inside result {}", self.results)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a file that arrives in chunks of `chunk` bytes.
    fn read(bytes: &[u8], chunk: usize) -> Result<Vec<Vec<u8>>, InvalidShardsFile> {
        let (mut reader, mut results) = (ShardsFileReader::new(), Vec::new());
        for part in bytes.chunks(chunk) {
            reader.push(part);
            while let Some(result) = reader.next_result()? {
                results.push(result);
            }
        }
        reader.finish().map(|()| results)
    }

    #[test]
    fn files_round_trip_and_truncated_ones_are_rejected() {
        let mut writer = ShardsFileWriter::new();
        writer.push(b"one");
        writer.push(b"");
        let bytes = writer.finish();
        assert_eq!(bytes, b"FKSB\x01\0\0\0\x03\0\0\0\0\0\0\0one\0\0\0\0\0\0\0\0");
        for chunk in [1, 3, 100] {
            assert_eq!(read(&bytes, chunk), Ok(vec![b"one".to_vec(), Vec::new()]));
            assert_eq!(read(&ShardsFileWriter::new().finish(), chunk), Ok(vec![]));
            for length in (0..bytes.len()).filter(|&length| length != 8 && length != 19) {
                assert!(read(&bytes[..length], chunk).is_err(), "{length}");
            }
        }
        assert!(read(b"FKSB\x02\0\0\0", 4).is_err());
    }

    #[test]
    fn an_impossible_length_is_an_error_before_anything_is_buffered() {
        let mut bytes = ShardsFileWriter::new().finish();
        bytes.extend((MAX_RESULT_BYTES + 1).to_le_bytes());
        let error = read(&bytes, 100).unwrap_err().to_string();
        assert_eq!(error, "result 0 has 1048577 bytes, and at most 1048576 are possible");
    }
}
