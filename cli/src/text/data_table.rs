//! Tables of figures that are written as text, CSV and JSON from the same cells. Amounts are exact
//! in text and CSV.

use forge_documents::number_format::{format_amount, format_count};
use serde_json::{Map, Value, json};

use super::table::render_table;

/// A value in a table.
#[derive(Debug, Clone, PartialEq)]
pub enum DataCell {
    /// Nothing: `-` in text, empty in CSV, null in JSON.
    Absent,
    /// Text, which may come from an envelope.
    Text(String),
    /// A count or a number of something.
    Count(u64),
    /// An amount in minor units.
    Amount(u64),
    /// A mean or a ratio.
    Number(f64),
}

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnRole {
    /// It identifies the row.
    Key,
    /// A figure of the row.
    Figure,
    /// One of the parts that a figure consists of. In text these have a table of their own, and in
    /// JSON an object.
    Part,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataColumn {
    /// Name in CSV and JSON.
    pub name: String,
    /// Heading in text.
    pub heading: String,
    /// Role.
    pub role: ColumnRole,
}

/// A table of figures.
#[derive(Debug, Clone, PartialEq)]
pub struct DataTable {
    /// Minor units in a unit: a power of ten.
    pub units: u32,
    /// Name of the object of the parts in JSON.
    pub parts: &'static str,
    /// The columns.
    pub columns: Vec<DataColumn>,
    /// The rows, each with a cell for every column.
    pub rows: Vec<Vec<DataCell>>,
}

impl DataColumn {
    /// A column with a fixed name.
    pub fn new(name: &str, heading: &str, role: ColumnRole) -> Self {
        Self { name: name.to_owned(), heading: heading.to_owned(), role }
    }

    /// The column of a part, under the part's own name.
    pub fn part(name: &str) -> Self {
        Self::new(name, name, ColumnRole::Part)
    }
}

impl DataTable {
    /// Lines of text: the keys and figures, without the parts.
    pub fn text_lines(&self) -> Vec<String> {
        self.lines_of(ColumnRole::Figure)
    }

    /// Lines of text: the keys and the parts; `None` without parts.
    pub fn part_lines(&self) -> Option<Vec<String>> {
        let has_parts = self.columns.iter().any(|column| column.role == ColumnRole::Part);
        has_parts.then(|| self.lines_of(ColumnRole::Part))
    }

    fn lines_of(&self, role: ColumnRole) -> Vec<String> {
        let shown: Vec<usize> = (0..self.columns.len())
            .filter(|&at| [ColumnRole::Key, role].contains(&self.columns[at].role))
            .collect();
        let header: Vec<&str> = shown.iter().map(|&at| self.columns[at].heading.as_str()).collect();
        let text = |row: &Vec<DataCell>| shown.iter().map(|&at| self.text(&row[at])).collect();
        let rows: Vec<Vec<String>> = self.rows.iter().map(text).collect();
        render_table(&header, &rows)
    }

    fn text(&self, cell: &DataCell) -> String {
        match cell {
            DataCell::Absent => "-".to_owned(),
            DataCell::Text(text) => text.clone(),
            DataCell::Count(count) => format_count(*count),
            DataCell::Amount(amount) => format_minor_units(*amount, self.units),
            DataCell::Number(number) => format_amount(*number),
        }
    }

    /// The table as CSV (RFC 4180, lines end with LF), header first.
    pub fn csv(&self) -> String {
        let header = self.columns.iter().map(|column| match column.role {
            ColumnRole::Part => csv_field(&format!("{}: {}", self.parts, column.name)),
            ColumnRole::Key | ColumnRole::Figure => csv_field(&column.name),
        });
        let mut csv = header.collect::<Vec<_>>().join(",") + "\n";
        for row in &self.rows {
            csv += &row.iter().map(|cell| self.csv_cell(cell)).collect::<Vec<_>>().join(",");
            csv.push('\n');
        }
        csv
    }

    fn csv_cell(&self, cell: &DataCell) -> String {
        match cell {
            DataCell::Absent => String::new(),
            DataCell::Text(text) => csv_field(text),
            DataCell::Count(count) => count.to_string(),
            DataCell::Amount(amount) => {
                let (whole, decimals) = split_minor_units(*amount, self.units);
                format!("{whole}{decimals}")
            }
            DataCell::Number(number) => number.to_string(),
        }
    }

    /// The rows as JSON objects. Amounts are numbers in units.
    pub fn json_rows(&self) -> Vec<Value> {
        self.rows.iter().map(|row| Value::Object(self.json_row(row))).collect()
    }

    fn json_row(&self, row: &[DataCell]) -> Map<String, Value> {
        let (mut object, mut parts) = (Map::new(), Map::new());
        for (column, cell) in self.columns.iter().zip(row) {
            let value = match cell {
                DataCell::Absent => Value::Null,
                DataCell::Text(text) => json!(text),
                DataCell::Count(count) => json!(count),
                DataCell::Amount(amount) => json!(*amount as f64 / f64::from(self.units)),
                DataCell::Number(number) => json!(number),
            };
            let members = if column.role == ColumnRole::Part { &mut parts } else { &mut object };
            members.insert(column.name.clone(), value);
        }
        if !parts.is_empty() {
            object.insert(self.parts.to_owned(), Value::Object(parts));
        }
        object
    }
}

/// An amount with thousands separators and all its decimals.
pub fn format_minor_units(amount: u64, units: u32) -> String {
    let (whole, decimals) = split_minor_units(amount, units);
    format!("{}{decimals}", format_count(whole))
}

/// The whole units of an amount, and its decimals with the point; empty without decimals.
fn split_minor_units(amount: u64, units: u32) -> (u64, String) {
    let (whole, rest) = (amount / u64::from(units), amount % u64::from(units));
    let digits = units.ilog10() as usize;
    (whole, if digits == 0 { String::new() } else { format!(".{rest:0digits$}") })
}

/// A field of CSV, quoted if it has a separator, a quote or a line end.
pub fn csv_field(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_the_same_values_in_every_format() {
        let column = |name, role| DataColumn::new(name, name, role);
        let table = DataTable {
            units: 100,
            parts: "ceded",
            columns: vec![
                column("year", ColumnRole::Key),
                column("net", ColumnRole::Figure),
                column("group", ColumnRole::Figure),
                DataColumn::part("QS, \"motor\""),
            ],
            rows: vec![vec![
                DataCell::Count(1234),
                DataCell::Amount(123_405),
                DataCell::Absent,
                DataCell::Amount(7),
            ]],
        };
        assert_eq!(table.text_lines(), ["  year         net   group", "  1,234   1,234.05       -"]);
        assert_eq!(table.part_lines().unwrap()[1], "  1,234          0.07");
        assert_eq!(table.csv(), "year,net,group,\"ceded: QS, \"\"motor\"\"\"\n1234,1234.05,,0.07\n");
        let row = json!({"year": 1234, "net": 1234.05, "group": null, "ceded": {"QS, \"motor\"": 0.07}});
        assert_eq!(table.json_rows(), [row]);
    }

    #[test]
    fn amounts_have_the_decimals_of_their_units() {
        let amounts = [(12_345, 100), (5, 1000), (1_234_567, 1), (u64::MAX, 10_000)];
        assert_eq!(
            amounts.map(|(amount, units)| format_minor_units(amount, units)),
            ["123.45", "0.005", "1,234,567", "1,844,674,407,370,955.1615"]
        );
    }
}
