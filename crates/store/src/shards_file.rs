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

/// Splits a shards file into the canonical bytes of each shard's result, in shard order.
///
/// # Errors
/// [`InvalidShardsFile`] when the header differs, or the file ends inside a result.
pub fn read_results(bytes: &[u8]) -> Result<Vec<&[u8]>, InvalidShardsFile> {
    let header = [MAGIC.as_slice(), &VERSION.to_le_bytes()].concat();
    let Some(mut rest) = bytes.strip_prefix(header.as_slice()) else {
        return Err(InvalidShardsFile("it does not start with FKSB and format version 1".to_owned()));
    };
    let mut results = Vec::new();
    while !rest.is_empty() {
        let ends_early = || InvalidShardsFile(format!("it ends inside result {}", results.len()));
        let (length, after) = rest.split_first_chunk::<8>().ok_or_else(ends_early)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| ends_early())?;
        let (result, after) = after.split_at_checked(length).ok_or_else(ends_early)?;
        results.push(result);
        rest = after;
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_round_trip_and_truncated_ones_are_rejected() {
        let mut writer = ShardsFileWriter::new();
        writer.push(b"one");
        writer.push(b"");
        let bytes = writer.finish();
        assert_eq!(bytes, b"FKSB\x01\0\0\0\x03\0\0\0\0\0\0\0one\0\0\0\0\0\0\0\0");
        assert_eq!(read_results(&bytes), Ok(vec![b"one".as_slice(), b""]));
        assert_eq!(read_results(&ShardsFileWriter::new().finish()), Ok(vec![]));
        for length in (0..bytes.len()).filter(|&length| length != 8 && length != 19) {
            assert!(read_results(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_length_that_exceeds_the_file_is_an_error() {
        let mut bytes = ShardsFileWriter::new().finish();
        bytes.extend(u64::MAX.to_le_bytes());
        assert_eq!(read_results(&bytes), Err(InvalidShardsFile("it ends inside result 0".to_owned())));
    }
}
