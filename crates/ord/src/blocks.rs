//! Rows collected to columns, in blocks. All blocks of a file but the last one have the same number
//! of rows, so that its bytes follow from its rows alone.

use std::io;

use crate::{
    row::{OrdValue, OrdWriter},
    table::{ColumnType, OrdTable},
};

/// Rows of a block: about 8 MB of the widest table.
pub const BLOCK_ROWS: usize = 131_072;
/// Digits of an amount in a file.
pub const AMOUNT_DIGITS: u8 = 18;
/// The first number with more digits than an amount has.
const AMOUNT_END: u64 = 10_u64.pow(AMOUNT_DIGITS as u32);

/// The values of a column in a block.
pub enum ColumnValues {
    /// Whole numbers.
    Integers(Vec<i32>),
    /// Amounts in minor units, below 10^18.
    Amounts(Vec<i64>),
    /// Other numbers.
    Reals(Vec<f64>),
}

impl ColumnValues {
    fn new(column_type: ColumnType) -> Self {
        match column_type {
            ColumnType::Integer => Self::Integers(Vec::new()),
            ColumnType::Amount => Self::Amounts(Vec::new()),
            ColumnType::Real => Self::Reals(Vec::new()),
        }
    }

    fn push(&mut self, value: OrdValue) -> io::Result<()> {
        match (self, value) {
            (Self::Integers(values), OrdValue::Integer(number)) => values.push(number),
            (Self::Amounts(values), OrdValue::Amount(amount)) if amount < AMOUNT_END => {
                values.push(amount as i64)
            }
            (Self::Reals(values), OrdValue::Real(number)) => values.push(number),
            (_, value) => return Err(io::Error::other(format!("{value:?} does not fit its column"))),
        }
        Ok(())
    }

    fn clear(&mut self) {
        match self {
            Self::Integers(values) => values.clear(),
            Self::Amounts(values) => values.clear(),
            Self::Reals(values) => values.clear(),
        }
    }
}

/// A file that is written in blocks.
pub trait BlockFile<W> {
    /// Writes a block of at least one row.
    ///
    /// # Errors
    /// Writing failed.
    fn write_block(&mut self, columns: &[ColumnValues]) -> io::Result<()>;

    /// Completes the file, and returns the output.
    ///
    /// # Errors
    /// Writing failed.
    fn finish(self) -> io::Result<W>;
}

/// Writes rows in blocks.
pub struct BlockWriter<F> {
    columns: Vec<ColumnValues>,
    rows: usize,
    file: F,
}

impl<F> BlockWriter<F> {
    /// A writer of a table's rows.
    pub fn new(table: OrdTable, file: F) -> Self {
        let columns = table.columns().iter().map(|column| ColumnValues::new(column.column_type)).collect();
        Self { columns, rows: 0, file }
    }
}

impl<W, F: BlockFile<W>> OrdWriter<W> for BlockWriter<F> {
    fn write_row(&mut self, row: &[OrdValue]) -> io::Result<()> {
        for (column, &value) in self.columns.iter_mut().zip(row) {
            column.push(value)?;
        }
        self.rows += 1;
        if self.rows == BLOCK_ROWS {
            self.file.write_block(&self.columns)?;
            self.columns.iter_mut().for_each(ColumnValues::clear);
            self.rows = 0;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<W> {
        if self.rows > 0 {
            self.file.write_block(&self.columns)?;
        }
        self.file.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct CountedBlocks(Vec<usize>);

    impl BlockFile<Vec<usize>> for CountedBlocks {
        fn write_block(&mut self, columns: &[ColumnValues]) -> io::Result<()> {
            let ColumnValues::Integers(periods) = &columns[0] else { panic!("periods are integers") };
            self.0.push(periods.len());
            Ok(())
        }

        fn finish(self) -> io::Result<Vec<usize>> {
            Ok(self.0)
        }
    }

    #[test]
    fn blocks_have_the_same_number_of_rows() {
        let row = [OrdValue::Integer(1), OrdValue::Integer(1), OrdValue::Amount(5), OrdValue::Amount(0)];
        for (rows, expected) in
            [(0, vec![]), (5, vec![5]), (2 * BLOCK_ROWS + 1, vec![BLOCK_ROWS, BLOCK_ROWS, 1])]
        {
            let mut writer = Box::new(BlockWriter::new(OrdTable::Ylt, CountedBlocks(Vec::new())));
            (0..rows).for_each(|_| writer.write_row(&row).unwrap());
            assert_eq!(writer.finish().unwrap(), expected);
        }
        let mut writer = BlockWriter::new(OrdTable::Ylt, CountedBlocks(Vec::new()));
        let mut too_large = row;
        too_large[2] = OrdValue::Amount(AMOUNT_END);
        assert!(writer.write_row(&too_large).is_err());
    }
}
