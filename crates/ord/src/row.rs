//! Rows, and the trait of their writers.

use std::io;

/// A value of a row. Its variant is that of the column's type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OrdValue {
    /// A whole number.
    Integer(i32),
    /// An amount in minor units.
    Amount(u64),
    /// A finite number.
    Real(f64),
}

/// Writes the rows of a table to an output.
pub trait OrdWriter<W> {
    /// Writes a row, with a value for every column.
    ///
    /// # Errors
    /// Writing failed.
    fn write_row(&mut self, row: &[OrdValue]) -> io::Result<()>;

    /// Completes the file, and returns the output.
    ///
    /// # Errors
    /// Writing failed.
    fn finish(self: Box<Self>) -> io::Result<W>;
}
