//! Tables of Open Results Data (ORD), in which capital models and catastrophe models exchange
//! losses: their columns, and writers that make files of rows. The same rows give the same bytes:
//! files hold no time, no name of a machine, and no choice that depends on either. Does not know
//! where rows come from.
//!
//! Reading order: [`table`] → [`row`] → [`writer`] → [`csv`] → `blocks` → `parquet_file` →
//! `arrow_file`.

#[cfg(feature = "columnar")]
mod arrow_file;
#[cfg(feature = "columnar")]
mod blocks;
pub mod csv;
#[cfg(feature = "columnar")]
mod parquet_file;
pub mod row;
pub mod table;
pub mod writer;

pub use self::{
    row::{OrdValue, OrdWriter},
    table::{ColumnType, OrdColumn, OrdTable},
    writer::{FileFormat, UnsupportedFormat, ord_writer},
};
