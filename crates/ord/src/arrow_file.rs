//! Files in the format of Apache Arrow.

use std::{
    io::{self, Write},
    sync::Arc,
};

use arrow_array::{ArrayRef, Decimal128Array, Float64Array, Int32Array, RecordBatch};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema};

use crate::{
    blocks::{AMOUNT_DIGITS, BlockFile, ColumnValues},
    table::{ColumnType, OrdTable},
};

/// An Arrow file that is written.
pub struct ArrowFile<W: Write> {
    writer: FileWriter<W>,
    decimals: i8,
}

impl<W: Write> ArrowFile<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// Writing failed.
    pub fn new(table: OrdTable, decimals: u32, output: W) -> io::Result<Self> {
        let decimals = i8::try_from(decimals).map_err(io::Error::other)?;
        let fields = table.columns().iter().map(|column| {
            let data_type = match column.column_type {
                ColumnType::Integer => DataType::Int32,
                ColumnType::Amount => DataType::Decimal128(AMOUNT_DIGITS, decimals),
                ColumnType::Real => DataType::Float64,
            };
            Field::new(column.name, data_type, false)
        });
        let schema = Schema::new(fields.collect::<Vec<_>>());
        Ok(Self { writer: FileWriter::try_new(output, &schema).map_err(to_io)?, decimals })
    }

    fn array(&self, values: &ColumnValues) -> Result<ArrayRef, ArrowError> {
        Ok(match values {
            ColumnValues::Integers(values) => Arc::new(Int32Array::from_iter_values(values.iter().copied())),
            ColumnValues::Reals(values) => Arc::new(Float64Array::from_iter_values(values.iter().copied())),
            ColumnValues::Amounts(values) => {
                let amounts =
                    Decimal128Array::from_iter_values(values.iter().map(|&amount| i128::from(amount)));
                Arc::new(amounts.with_precision_and_scale(AMOUNT_DIGITS, self.decimals)?)
            }
        })
    }
}

impl<W: Write> BlockFile<W> for ArrowFile<W> {
    fn write_block(&mut self, columns: &[ColumnValues]) -> io::Result<()> {
        let arrays = columns.iter().map(|values| self.array(values)).collect::<Result<Vec<_>, _>>();
        let schema = Arc::clone(self.writer.schema());
        let batch = arrays.and_then(|arrays| RecordBatch::try_new(schema, arrays)).map_err(to_io)?;
        self.writer.write(&batch).map_err(to_io)
    }

    fn finish(self) -> io::Result<W> {
        self.writer.into_inner().map_err(to_io)
    }
}

fn to_io(error: ArrowError) -> io::Error {
    io::Error::other(error)
}
