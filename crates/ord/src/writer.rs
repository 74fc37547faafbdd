//! The formats of files, and their writers.

use std::{
    fmt,
    io::{self, Write},
};

#[cfg(feature = "columnar")]
use crate::{arrow_file::ArrowFile, blocks::BlockWriter, parquet_file::ParquetFile};
use crate::{csv::CsvWriter, row::OrdWriter, table::OrdTable};

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// Text (RFC 4180, lines end with LF), header first. Amounts have all decimals.
    Csv,
    /// Apache Parquet. Amounts are decimals of 18 digits.
    Parquet,
    /// The file format of Apache Arrow, also called Feather. Amounts are decimals of 18 digits.
    Arrow,
}

impl FileFormat {
    /// All formats.
    pub const ALL: [Self; 3] = [Self::Csv, Self::Parquet, Self::Arrow];

    /// The name, which is the extension of a file too.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
        }
    }

    /// Checks that this build writes the format.
    ///
    /// # Errors
    /// It does not.
    pub const fn check_support(self) -> Result<(), UnsupportedFormat> {
        match self {
            Self::Csv => Ok(()),
            Self::Parquet | Self::Arrow if cfg!(feature = "columnar") => Ok(()),
            Self::Parquet | Self::Arrow => Err(UnsupportedFormat(self)),
        }
    }
}

/// This build has no writer of a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnsupportedFormat(pub FileFormat);

impl fmt::Display for UnsupportedFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.name();
        write!(f, "this build has no {name} files, because it lacks the cargo feature columnar; csv works")
    }
}

impl std::error::Error for UnsupportedFormat {}

/// A writer of a table's rows. Amounts have this many decimals, at most 9.
///
/// # Errors
/// The build lacks the format, or writing failed.
pub fn ord_writer<W: Write + Send + 'static>(
    format: FileFormat,
    table: OrdTable,
    decimals: u32,
    output: W,
) -> io::Result<Box<dyn OrdWriter<W>>> {
    match format {
        FileFormat::Csv => Ok(Box::new(CsvWriter::new(table, decimals, output)?)),
        #[cfg(feature = "columnar")]
        FileFormat::Parquet => {
            Ok(Box::new(BlockWriter::new(table, ParquetFile::new(table, decimals, output)?)))
        }
        #[cfg(feature = "columnar")]
        FileFormat::Arrow => Ok(Box::new(BlockWriter::new(table, ArrowFile::new(table, decimals, output)?))),
        #[cfg(not(feature = "columnar"))]
        FileFormat::Parquet | FileFormat::Arrow => {
            Err(io::Error::new(io::ErrorKind::Unsupported, UnsupportedFormat(format)))
        }
    }
}
