//! A sheet before it is written: cells, formats, and what its chart shows.

use serde_json::Value;

/// How a number is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberStyle {
    /// With two decimals and separators.
    Amount,
    /// As a whole number with separators.
    Count,
    /// As a percentage.
    Percent,
    /// With all its digits.
    Plain,
}

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub enum SheetCell {
    /// Nothing.
    Empty,
    /// Text, which is never a formula.
    Text(String),
    /// A number.
    Number(f64, NumberStyle),
}

impl SheetCell {
    /// Text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A number of a document; empty for null.
    pub fn number(value: &Value, style: NumberStyle) -> Self {
        value.as_f64().map_or(Self::Empty, |number| Self::Number(number, style))
    }

    /// An amount of a document; empty for null.
    pub fn amount(value: &Value) -> Self {
        Self::number(value, NumberStyle::Amount)
    }
}

/// The kind of a chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChartKind {
    /// Curves over the first column, whose axis is logarithmic.
    Curves,
    /// Columns over the texts of the first column.
    Columns,
}

/// A chart of columns of its sheet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SheetChart {
    /// Kind.
    pub kind: ChartKind,
    /// Title.
    pub title: String,
    /// Numbers of the columns that it shows.
    pub columns: Vec<usize>,
    /// Rows that it shows, the first ones.
    pub rows: usize,
}

/// A sheet: a table with its title.
#[derive(Debug, Clone, PartialEq)]
pub struct Sheet {
    /// Name.
    pub name: &'static str,
    /// Title, above the table.
    pub title: String,
    /// Headings of the columns.
    pub header: Vec<String>,
    /// Rows, each with at most as many cells as there are headings.
    pub rows: Vec<Vec<SheetCell>>,
    /// Chart, if it has one.
    pub chart: Option<SheetChart>,
    /// Sentences below the table.
    pub notes: Vec<String>,
}

impl Sheet {
    /// A sheet without chart and notes.
    pub fn new(name: &'static str, title: impl Into<String>, header: Vec<String>) -> Self {
        Self { name, title: title.into(), header, rows: Vec::new(), chart: None, notes: Vec::new() }
    }

    /// The sheet with a chart of all its rows.
    pub fn with_chart(self, kind: ChartKind, title: impl Into<String>, columns: Vec<usize>) -> Self {
        let rows = self.rows.len();
        Self { chart: Some(SheetChart { kind, title: title.into(), columns, rows }), ..self }
    }
}

/// Headings as texts.
pub fn headings(header: &[&str]) -> Vec<String> {
    header.iter().map(|&heading| heading.to_owned()).collect()
}

/// The elements of a list in a document; none if it is no list.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
