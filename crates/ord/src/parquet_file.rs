//! Files of Apache Parquet.

use std::{
    io::{self, Write},
    sync::Arc,
};

use parquet::{
    basic::{Encoding, LogicalType, Repetition, Type as PhysicalType},
    data_type::{DoubleType, Int32Type, Int64Type},
    errors::ParquetError,
    file::{
        properties::{EnabledStatistics, WriterProperties},
        writer::SerializedFileWriter,
    },
    schema::types::{ColumnPath, Type, TypePtr},
};

use crate::{
    blocks::{AMOUNT_DIGITS, BlockFile, ColumnValues},
    table::{ColumnType, OrdColumn, OrdTable},
};

/// The program that files name as their writer. It has no version, so that the bytes of a file do
/// not depend on it.
const CREATED_BY: &str = "forge";

/// A Parquet file that is written.
pub struct ParquetFile<W: Write> {
    writer: SerializedFileWriter<W>,
}

impl<W: Write + Send> ParquetFile<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// Writing failed.
    pub fn new(table: OrdTable, decimals: u32, output: W) -> io::Result<Self> {
        let fields = table.columns().iter().map(|column| field(column, decimals).map(Arc::new));
        let fields = fields.collect::<Result<Vec<TypePtr>, _>>().map_err(to_io)?;
        let schema = Type::group_type_builder(table.name()).with_fields(fields).build().map_err(to_io)?;
        let writer = SerializedFileWriter::new(output, Arc::new(schema), Arc::new(properties(table)));
        Ok(Self { writer: writer.map_err(to_io)? })
    }
}

impl<W: Write + Send> BlockFile<W> for ParquetFile<W> {
    fn write_block(&mut self, columns: &[ColumnValues]) -> io::Result<()> {
        let mut group = self.writer.next_row_group().map_err(to_io)?;
        for values in columns {
            let Some(mut column) = group.next_column().map_err(to_io)? else {
                return Err(io::Error::other("a block has more columns than the file"));
            };
            let written = match values {
                ColumnValues::Integers(values) => column.typed::<Int32Type>().write_batch(values, None, None),
                ColumnValues::Amounts(values) => column.typed::<Int64Type>().write_batch(values, None, None),
                ColumnValues::Reals(values) => column.typed::<DoubleType>().write_batch(values, None, None),
            };
            written.and_then(|_| column.close()).map_err(to_io)?;
        }
        group.close().map_err(to_io)?;
        Ok(())
    }

    fn finish(self) -> io::Result<W> {
        self.writer.into_inner().map_err(to_io)
    }
}

fn field(column: &OrdColumn, decimals: u32) -> Result<Type, ParquetError> {
    let field =
        |physical| Type::primitive_type_builder(column.name, physical).with_repetition(Repetition::REQUIRED);
    match column.column_type {
        ColumnType::Integer => field(PhysicalType::INT32).build(),
        ColumnType::Real => field(PhysicalType::DOUBLE).build(),
        ColumnType::Amount => {
            let (scale, precision) = (decimals as i32, i32::from(AMOUNT_DIGITS));
            field(PhysicalType::INT64)
                .with_logical_type(Some(LogicalType::decimal(scale, precision)))
                .with_precision(precision)
                .with_scale(scale)
                .build()
        }
    }
}

/// Whole numbers and amounts are packed by their differences, which takes nothing for constant ones
/// and few bits for ascending ones. Others are constant, and have a dictionary.
fn properties(table: OrdTable) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_created_by(CREATED_BY.to_owned())
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true);
    let packed = table.columns().iter().filter(|column| column.column_type != ColumnType::Real);
    for column in packed {
        let path = ColumnPath::from(column.name);
        properties = properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
    }
    properties.build()
}

fn to_io(error: ParquetError) -> io::Error {
    io::Error::other(error)
}
