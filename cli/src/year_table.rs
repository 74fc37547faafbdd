//! Tables of the figures of years, and what `forge explain` and `forge years` have in common when
//! they write them.

use clap::ValueEnum;
use forge_documents::number_format::format_count;
use forge_kernel::{
    request::Request,
    workload::{ModelPart, ModelParts},
    years::YearFigures,
};
use serde_json::{Map, Value};

use crate::{
    error::CommandError,
    foreign_text::escape_line,
    output::{self, TableFormat, TextStyle},
    text::data_table::{ColumnRole, DataCell, DataColumn, DataTable},
};

/// The amount by which years are compared. The help of `--perspective` describes both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Perspective {
    Net,
    Gross,
}

impl Perspective {
    /// The name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Net => "net",
            Self::Gross => "gross",
        }
    }

    /// The amount of a year, in minor units.
    pub fn amount_of(self, figures: &YearFigures) -> u64 {
        match self {
            Self::Net => figures.net,
            Self::Gross => figures.gross,
        }
    }
}

/// The figures of years as a table, a row for each.
pub fn year_table<'a>(request: &Request, years: impl IntoIterator<Item = &'a YearFigures>) -> DataTable {
    let parts = request.parts();
    let has_treaties = !parts.treaties.is_empty();
    let rows = years.into_iter().map(|figures| year_row(&parts, figures));
    DataTable {
        units: request.program.units,
        parts: CEDED_BY_TREATY,
        columns: year_columns(&parts, has_treaties),
        rows: rows.collect(),
    }
}

/// Name of the object of what each treaty pays.
pub const CEDED_BY_TREATY: &str = "ceded_by_treaty";

/// The columns of treaties, as parts.
pub fn treaty_columns(treaties: &[ModelPart]) -> impl Iterator<Item = DataColumn> + '_ {
    treaties.iter().map(|treaty| DataColumn::part(&treaty.name))
}

fn year_columns(parts: &ModelParts, has_treaties: bool) -> Vec<DataColumn> {
    let figure = |name, heading| DataColumn::new(name, heading, ColumnRole::Figure);
    let mut columns = vec![DataColumn::new("year", "Year", ColumnRole::Key), figure("gross", "Gross")];
    if has_treaties {
        columns.push(figure("ceded", "Ceded"));
    }
    columns.push(figure("net", "Net"));
    if has_treaties {
        columns.push(figure("reinstatement_premium", "Reinst. premium"));
    }
    columns.extend([figure("largest_event", "Largest event"), figure("largest_event_group", "Group of it")]);
    columns.extend(treaty_columns(&parts.treaties));
    columns
}

fn year_row(parts: &ModelParts, figures: &YearFigures) -> Vec<DataCell> {
    let ceded = || figures.treaties.iter().map(|treaty| treaty.amount);
    let mut row = vec![DataCell::Count(figures.year), DataCell::Amount(figures.gross)];
    let has_treaties = !parts.treaties.is_empty();
    row.extend(has_treaties.then(|| DataCell::Amount(ceded().sum())));
    row.push(DataCell::Amount(figures.net));
    row.extend(has_treaties.then(|| DataCell::Amount(figures.premiums.iter().sum())));
    let group = figures.largest_group.map(|group| DataCell::Text(parts.groups[group].name.clone()));
    row.extend([DataCell::Amount(figures.largest), group.unwrap_or(DataCell::Absent)]);
    row.extend(ceded().map(DataCell::Amount));
    row
}

/// Puts rank and return period before the other columns: the return period of rank r is the number
/// of years divided by r.
pub fn add_ranks(table: &mut DataTable, years: u64) {
    table.columns.insert(0, DataColumn::new("rank", "Rank", ColumnRole::Key));
    table.columns.insert(2, DataColumn::new("return_period", "Return period", ColumnRole::Figure));
    for (row, rank) in table.rows.iter_mut().zip(1..) {
        row.insert(0, DataCell::Count(rank));
        row.insert(2, DataCell::Number(years as f64 / rank as f64));
    }
}

/// What a command writes: a table, with what describes it.
pub struct TableReport {
    /// Title, in text.
    pub title: String,
    /// The table.
    pub table: DataTable,
    /// Title of the table of parts, in text.
    pub parts_title: &'static str,
    /// Sentences after the tables, in text.
    pub notes: Vec<String>,
    /// Members of the JSON object besides `rows`.
    pub members: Map<String, Value>,
}

impl TableReport {
    /// Writes the report to standard output.
    ///
    /// # Errors
    /// Standard output cannot be written to.
    pub fn print(self, format: TableFormat) -> Result<(), CommandError> {
        let text = match format {
            TableFormat::Text => self.text(TextStyle::of_stdout()),
            TableFormat::Csv => self.table.csv(),
            TableFormat::Json => self.json(),
        };
        output::print(text.as_bytes())
    }

    fn text(&self, style: TextStyle) -> String {
        let section = |title: &str, lines: &[String]| {
            let title = style.heading(&escape_line(title));
            format!("{title}\n{}\n", lines.iter().map(|line| format!("{line}\n")).collect::<String>())
        };
        let mut text = match self.table.rows.is_empty() {
            true => section(&self.title, &[]),
            false => section(&self.title, &self.table.text_lines()),
        };
        let parts = self.table.part_lines().filter(|_| !self.table.rows.is_empty());
        text.extend(parts.map(|lines| section(self.parts_title, &lines)));
        for note in &self.notes {
            text += &escape_line(note);
            text.push('\n');
        }
        text
    }

    fn json(mut self) -> String {
        self.members.insert("rows".to_owned(), self.table.json_rows().into());
        output::to_json_document(&self.members)
    }
}

/// A number of years with its noun.
pub fn count_of_years(count: u64, request: &Request) -> String {
    format!("{} {}", format_count(count), request.profile().vocabulary.iterations)
}
