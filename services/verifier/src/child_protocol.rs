//! What a verifier and its child processes write to each other: frames, each a length (32 bits,
//! little-endian) and as many bytes.
//!
//! The child begins with an [`Introduction`]. Then the parent writes requests, each an
//! [`ExecutionRequest`] as JSON and, if that says so, the bytes of a program. The child answers
//! each with an [`ExecutionReply`] as JSON and as many encoded results as that says.

use std::io::{self, Read, Write};

use forge_contract::{
    digest::Digest,
    shard::{Shard, ShardId},
};
use serde::{Deserialize, Serialize};

/// Upper bound on a frame, in bytes. A program has at most a few megabytes, a result some 200 kB.
const MAX_FRAME_BYTES: usize = 64 << 20;

/// A backend of a child process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendDescription {
    /// See `Backend::name`.
    pub name: String,
    /// See `Backend::adapter`.
    pub adapter: Option<String>,
    /// See `Backend::batch_size`.
    pub batch_size: usize,
}

/// The first frame of a child process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Introduction {
    /// The backends that it executes with.
    Backends(Vec<BackendDescription>),
    /// Why it has none.
    Unavailable(String),
}

/// The execution of shards of one program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionRequest {
    /// Name of the backend.
    pub backend: String,
    /// Whether the program follows. If not, it is that of the request before.
    pub has_program: bool,
    pub shards: Vec<RequestedShard>,
}

/// A shard in a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestedShard {
    id: ShardId,
    iterations: u64,
    seed: Digest,
}

impl From<&Shard> for RequestedShard {
    fn from(&Shard { id, iterations, seed }: &Shard) -> Self {
        Self { id, iterations, seed }
    }
}

impl From<&RequestedShard> for Shard {
    fn from(&RequestedShard { id, iterations, seed }: &RequestedShard) -> Self {
        Self { id, iterations, seed }
    }
}

/// The answer to an [`ExecutionRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionReply {
    /// This many results follow, in the order of the shards.
    Results(usize),
    /// The backend failed, and the process goes on.
    Failed(String),
}

/// Writes a frame.
///
/// # Errors
/// Those of the stream.
pub fn write_frame(output: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    output.write_all(&length.to_le_bytes())?;
    output.write_all(bytes)
}

/// Writes a value as a frame of JSON.
///
/// # Errors
/// Those of the stream.
pub fn write_json(output: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    write_frame(output, &serde_json::to_vec(value)?)
}

/// Reads a frame; `None` if the stream ends before it.
///
/// # Errors
/// Those of the stream, an end within the frame, or a frame that is too long.
pub fn read_frame(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match input.read(&mut length)? {
        0 => return Ok(None),
        count => input.read_exact(&mut length[count..])?,
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(io::Error::other(format!(
            "a frame of {length} bytes: at most {MAX_FRAME_BYTES} are read"
        )));
    }
    let mut bytes = Vec::new();
    input.take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(bytes))
}

/// Reads a frame that must be there.
///
/// # Errors
/// As [`read_frame`], or because the stream ended.
pub fn read_required_frame(input: &mut impl Read) -> io::Result<Vec<u8>> {
    read_frame(input)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written() {
        let mut stream = Vec::new();
        write_frame(&mut stream, b"first").unwrap();
        write_json(&mut stream, &ExecutionReply::Results(2)).unwrap();
        let mut input = stream.as_slice();
        assert_eq!(read_frame(&mut input).unwrap().unwrap(), b"first");
        let reply: ExecutionReply =
            serde_json::from_slice(&read_required_frame(&mut input).unwrap()).unwrap();
        assert_eq!(reply, ExecutionReply::Results(2));
        assert_eq!(read_frame(&mut input).unwrap(), None);
        for end in [1, 3, 4, 8] {
            assert!(read_frame(&mut &stream[..end]).is_err(), "{end}");
        }
        assert!(read_frame(&mut [255u8; 8].as_slice()).is_err(), "4 GiB");
    }
}
