//! The tables and their columns, with the names of Open Results Data.

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// A whole number that fits 32 bits.
    Integer,
    /// An exact amount, in minor units.
    Amount,
    /// A weight, a mean, or another figure that is not exact.
    Real,
}

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrdColumn {
    /// Name.
    pub name: &'static str,
    /// Type of its values.
    pub column_type: ColumnType,
}

const fn integer(name: &'static str) -> OrdColumn {
    OrdColumn { name, column_type: ColumnType::Integer }
}

const fn amount(name: &'static str) -> OrdColumn {
    OrdColumn { name, column_type: ColumnType::Amount }
}

const fn real(name: &'static str) -> OrdColumn {
    OrdColumn { name, column_type: ColumnType::Real }
}

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrdTable {
    /// Year loss table: the loss of each year and its largest occurrence. Most capital models
    /// import it; ORD has no such table.
    Ylt,
    /// Sample period loss table: the loss of each occurrence of each year.
    Splt,
    /// Average loss table.
    Alt,
    /// Average loss convergence table.
    Alct,
    /// Exceedance probability table.
    Ept,
    /// Exceedance probability table by sample.
    Psept,
}

const YLT: [OrdColumn; 4] = [integer("Period"), integer("SummaryId"), amount("Loss"), amount("MaxLoss")];
const SPLT: [OrdColumn; 12] = [
    integer("Period"),
    real("PeriodWeight"),
    integer("EventId"),
    integer("Year"),
    integer("Month"),
    integer("Day"),
    integer("Hour"),
    integer("Minute"),
    integer("SummaryId"),
    integer("SampleId"),
    amount("Loss"),
    amount("ImpactedExposure"),
];
const ALT: [OrdColumn; 4] = [integer("SummaryId"), integer("SampleType"), real("MeanLoss"), real("SDLoss")];
const ALCT: [OrdColumn; 14] = [
    integer("SummaryId"),
    real("MeanLoss"),
    real("SDLoss"),
    integer("SampleSize"),
    real("LowerCI"),
    real("UpperCI"),
    real("StandardError"),
    real("RelativeError"),
    real("VarElementHaz"),
    real("StandardErrorHaz"),
    real("RelativeErrorHaz"),
    real("VarElementVuln"),
    real("StandardErrorVuln"),
    real("RelativeErrorVuln"),
];
const EPT: [OrdColumn; 5] =
    [integer("SummaryId"), integer("EPCalc"), integer("EPType"), real("ReturnPeriod"), real("Loss")];
const PSEPT: [OrdColumn; 5] =
    [integer("SummaryId"), integer("SampleId"), integer("EPType"), real("ReturnPeriod"), real("Loss")];

impl OrdTable {
    /// All tables.
    pub const ALL: [Self; 6] = [Self::Ylt, Self::Splt, Self::Alt, Self::Alct, Self::Ept, Self::Psept];

    /// The name in names of files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ylt => "ylt",
            Self::Splt => "splt",
            Self::Alt => "alt",
            Self::Alct => "alct",
            Self::Ept => "ept",
            Self::Psept => "psept",
        }
    }

    /// The columns, in order.
    pub const fn columns(self) -> &'static [OrdColumn] {
        match self {
            Self::Ylt => &YLT,
            Self::Splt => &SPLT,
            Self::Alt => &ALT,
            Self::Alct => &ALCT,
            Self::Ept => &EPT,
            Self::Psept => &PSEPT,
        }
    }
}
