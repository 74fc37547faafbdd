//! A file while it is written: under another name until it is complete, with the hash of its
//! content.

use std::{
    fs::{File, Permissions},
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use forge_contract::digest::{Digest, IncrementalDigest};
use forge_ord::{FileFormat, OrdTable, OrdValue, OrdWriter, ord_writer};
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::error::CommandError;

/// Size of the buffer before the file system, in bytes.
const BUFFER_BYTES: usize = 1 << 18;

/// A complete file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WrittenFile {
    /// Name in its directory.
    pub file: String,
    /// Number of rows.
    pub rows: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of its content.
    pub sha256: Digest,
}

/// A file of a table's rows.
pub struct TableFile {
    file: PartialFile,
    writer: Box<dyn OrdWriter<BufWriter<HashedFile>>>,
    rows: u64,
}

impl TableFile {
    /// Creates the file under the name that it has until it is complete.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(
        directory: &Path,
        name: String,
        format: FileFormat,
        table: OrdTable,
        decimals: u32,
    ) -> Result<Self, CommandError> {
        let (file, output) = PartialFile::create(directory, name)?;
        let output = BufWriter::with_capacity(BUFFER_BYTES, output);
        let writer = ord_writer(format, table, decimals, output).map_err(|error| file.error(&error))?;
        Ok(Self { file, writer, rows: 0 })
    }

    /// Writes a row.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_row(&mut self, row: &[OrdValue]) -> Result<(), CommandError> {
        self.rows += 1;
        self.writer.write_row(row).map_err(|error| self.file.error(&error))
    }

    /// Completes the file, which gets its name.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(self) -> Result<WrittenFile, CommandError> {
        let Self { file, writer, rows } = self;
        let output = writer.finish().and_then(|buffer| buffer.into_inner().map_err(io::Error::from));
        match output {
            Ok(output) => file.complete(output, rows),
            Err(error) => Err(file.error(&error)),
        }
    }
}

/// Writes a file of text at once; the first of its lines is a header.
///
/// # Errors
/// The file cannot be written.
pub fn write_text_file(directory: &Path, name: String, text: &str) -> Result<WrittenFile, CommandError> {
    let (file, mut output) = PartialFile::create(directory, name)?;
    output.write_all(text.as_bytes()).map_err(|error| file.error(&error))?;
    file.complete(output, text.lines().count().saturating_sub(1) as u64)
}

/// A file under another name than it will have; removed on drop.
struct PartialFile {
    name: String,
    path: PathBuf,
    partial: NamedTempFile,
}

impl PartialFile {
    fn create(directory: &Path, name: String) -> Result<(Self, HashedFile), CommandError> {
        // Each command writes to a file of its own, so that two into one directory cannot mix.
        let path = directory.join(&name);
        let prefix = format!("{name}.");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".partial").permissions(Permissions::from_mode(0o666));
        let created = builder.tempfile_in(directory).and_then(|partial| Ok((partial.reopen()?, partial)));
        let (output, partial) = created.map_err(|error| cannot_write(&path, &error))?;
        let file = Self { name, path, partial };
        Ok((file, HashedFile { file: output, digest: IncrementalDigest::new(), bytes: 0 }))
    }

    fn complete(self, output: HashedFile, rows: u64) -> Result<WrittenFile, CommandError> {
        let HashedFile { file, digest, bytes } = output;
        let Self { name, path, partial } = self;
        let completed = file.sync_all().and_then(|()| Ok(partial.persist(&path)?));
        completed.map_err(|error| cannot_write(&path, &error))?;
        Ok(WrittenFile { file: name, rows, bytes, sha256: digest.finish() })
    }

    fn error(&self, error: &io::Error) -> CommandError {
        cannot_write(&self.path, error)
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> CommandError {
    CommandError::Input(format!("cannot write {}: {error}", path.display()))
}

/// Writes to a file, and computes the hash of what is written.
struct HashedFile {
    file: File,
    digest: IncrementalDigest,
    bytes: u64,
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digest.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
