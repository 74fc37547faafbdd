//! Rows as CSV.

use std::io::{self, Write};

use crate::{
    row::{OrdValue, OrdWriter},
    table::OrdTable,
};

/// Writes rows as CSV.
pub struct CsvWriter<W> {
    output: W,
    decimals: u32,
}

impl<W: Write> CsvWriter<W> {
    /// A writer of a table's rows; writes the header.
    ///
    /// # Errors
    /// Writing failed.
    pub fn new(table: OrdTable, decimals: u32, mut output: W) -> io::Result<Self> {
        let names: Vec<_> = table.columns().iter().map(|column| column.name).collect();
        writeln!(output, "{}", names.join(","))?;
        Ok(Self { output, decimals })
    }
}

impl<W: Write> OrdWriter<W> for CsvWriter<W> {
    fn write_row(&mut self, row: &[OrdValue]) -> io::Result<()> {
        for (position, value) in row.iter().enumerate() {
            if position > 0 {
                self.output.write_all(b",")?;
            }
            match *value {
                OrdValue::Integer(number) => write!(self.output, "{number}")?,
                OrdValue::Amount(amount) => write_amount(&mut self.output, amount, self.decimals)?,
                // The shortest text that is read back as the same number.
                OrdValue::Real(number) => write!(self.output, "{number}")?,
            }
        }
        self.output.write_all(b"\n")
    }

    fn finish(self: Box<Self>) -> io::Result<W> {
        Ok(self.output)
    }
}

fn write_amount(output: &mut impl Write, amount: u64, decimals: u32) -> io::Result<()> {
    let units = 10_u64.pow(decimals);
    match decimals as usize {
        0 => write!(output, "{amount}"),
        digits => write!(output, "{}.{:0digits$}", amount / units, amount % units),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_all_decimals_and_numbers_are_read_back_as_the_same() {
        let mut writer = Box::new(CsvWriter::new(OrdTable::Ylt, 2, Vec::new()).unwrap());
        for (loss, largest) in [(123_405, 5), (u64::MAX, 0)] {
            let row = [
                OrdValue::Integer(7),
                OrdValue::Integer(i32::MAX),
                OrdValue::Amount(loss),
                OrdValue::Amount(largest),
            ];
            writer.write_row(&row).unwrap();
        }
        writer.write_row(&[OrdValue::Real(1e-6), OrdValue::Real(1.0 / 3.0), OrdValue::Real(25.0)]).unwrap();
        let output = writer.finish().unwrap();
        let lines: Vec<_> = std::str::from_utf8(&output).unwrap().lines().collect();
        assert_eq!(
            lines,
            [
                "Period,SummaryId,Loss,MaxLoss",
                "7,2147483647,1234.05,0.05",
                "7,2147483647,184467440737095516.15,0.00",
                "0.000001,0.3333333333333333,25",
            ]
        );
        let mut whole = Vec::new();
        write_amount(&mut whole, 120, 0).unwrap();
        assert_eq!(whole, b"120");
    }
}
