//! Writes an archive, and computes its hash on the way.

use std::io::{self, Error, Write};

use forge_contract::digest::{Digest, IncrementalDigest};

use super::header::{ArchiveEntry, BLOCK, padding};

/// An archive that is being written.
pub struct ArchiveWriter<W> {
    output: W,
    digest: IncrementalDigest,
    /// Files so far.
    files: u64,
    /// Bytes so far.
    bytes: u64,
    /// Size of the current file, and its bytes that are still to be written.
    current: (u64, u64),
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveSummary {
    /// Number of files.
    pub files: u64,
    /// Size of the archive in bytes.
    pub bytes: u64,
    /// SHA-256 of the archive.
    pub sha256: Digest,
}

impl<W: Write> ArchiveWriter<W> {
    /// Begins an archive.
    pub fn new(output: W) -> Self {
        Self { output, digest: IncrementalDigest::new(), files: 0, bytes: 0, current: (0, 0) }
    }

    /// Adds a file.
    ///
    /// # Errors
    /// The name or the size is not allowed, or writing failed.
    pub fn add(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.begin(name, content.len() as u64)?;
        self.append(content)
    }

    /// Begins a file, whose content [`ArchiveWriter::append`] writes.
    ///
    /// # Errors
    /// See [`ArchiveWriter::add`]; also if the file before is not complete.
    pub fn begin(&mut self, name: &str, size: u64) -> io::Result<()> {
        self.end_file()?;
        let header = ArchiveEntry { name: name.to_owned(), size }.encode().map_err(Error::other)?;
        self.files += 1;
        self.current = (size, size);
        self.write(&header)
    }

    /// Appends a part of the current file's content.
    ///
    /// # Errors
    /// The file becomes larger than it was announced, or writing failed.
    pub fn append(&mut self, part: &[u8]) -> io::Result<()> {
        let left = self.current.1.checked_sub(part.len() as u64);
        self.current.1 = left.ok_or_else(|| Error::other("a file is larger than announced"))?;
        self.write(part)
    }

    /// Ends the archive. Returns its summary and the output.
    ///
    /// # Errors
    /// The last file is not complete, or writing failed.
    pub fn finish(mut self) -> io::Result<(ArchiveSummary, W)> {
        self.end_file()?;
        self.write(&[0; 2 * BLOCK])?;
        self.output.flush()?;
        let summary = ArchiveSummary { files: self.files, bytes: self.bytes, sha256: self.digest.finish() };
        Ok((summary, self.output))
    }

    fn end_file(&mut self) -> io::Result<()> {
        let (size, left) = self.current;
        if left > 0 {
            return Err(Error::other("a file is smaller than announced"));
        }
        self.current = (0, 0);
        self.write(&[0; BLOCK][..padding(size)])
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        self.output.write_all(bytes)
    }
}
