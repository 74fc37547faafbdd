//! A completed job as tables of losses in the columns of Open Results Data. Tables of years are
//! computed again, and checked as `forge explain` checks years; tables of statistics follow from
//! the result.
//!
//! Reading order: [`export_tables`] → [`selection`] → [`year_rows`] → [`statistics`] →
//! [`table_file`].

mod selection;
mod statistics;
mod table_file;
mod year_rows;

use std::{
    fs,
    ops::{ControlFlow, Range},
    path::Path,
};

use anyhow::Context;
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use forge_contract::shard_result::ShardResult;
use forge_documents::number_format::{format_bytes, format_count};
use forge_kernel::years::YearTrace;
use forge_ord::{FileFormat, OrdTable};
use serde_json::json;

use self::{
    selection::{LossPerspective, SummarySet, YearRange, refuse_occurrences, refuse_summaries},
    statistics::{SummaryStatistics, stated_amounts, statistics_rows},
    table_file::{TableFile, WrittenFile, write_text_file},
    year_rows::{LossRow, YearRows},
};
use crate::{
    error::CommandError,
    foreign_text::escape_line,
    output::{self, OutputFormat},
    text::{data_table::csv_field, table::render_table},
    year_pass::{CompletedPass, PassArgs, PassCoverage, YearCollector, YearPass},
    year_record::{ShardYears, YearRecord},
};

/// Rows that a block of years is expected to have at most.
const BLOCK_ROWS: f64 = 131_072.0;
/// Occurrences of a period loss table beyond which the years have to be named: a gigabyte of CSV.
const MAX_UNASKED_OCCURRENCES: f64 = 20e6;

/// Which tables are written, and how.
#[derive(Debug, Args)]
pub struct TableArgs {
    /// Write these tables of Open Results Data in place of an archive: ylt (loss and largest
    /// occurrence of each year), splt (loss of each occurrence), alt (mean and standard deviation),
    /// alct (error of the mean), ept and psept (losses by return period)
    #[arg(
        long = "table",
        value_name = "TABLES",
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(OrdTable::ALL.map(OrdTable::name)).map(|name| table_of(&name))
    )]
    tables: Vec<OrdTable>,
    /// The losses: gross (before treaties), ceded (what treaties pay), net (after treaties and
    /// limits of the year)
    #[arg(
        long = "perspective",
        value_name = "PERSPECTIVES",
        value_delimiter = ',',
        value_enum,
        default_value = "net",
        requires = "tables"
    )]
    perspectives: Vec<LossPerspective>,
    /// What has a summary of its own: all losses together, each line, or each treaty (of what it
    /// pays)
    #[arg(long = "by", value_enum, default_value_t = SummarySet::All, requires = "tables")]
    set: SummarySet,
    /// The years of ylt and splt, such as 0..1000 for the years 0 to 999 [default: all]
    #[arg(long, value_name = "FIRST..END", requires = "tables")]
    years: Option<YearRange>,
    /// Format of the files; parquet and arrow need a build with the feature columnar, as release
    /// images are
    #[arg(
        long = "as",
        value_name = "FORMAT",
        default_value = FileFormat::Csv.name(),
        requires = "tables",
        value_parser = PossibleValuesParser::new(FileFormat::ALL.map(FileFormat::name)).map(|name| format_of(&name))
    )]
    file_format: FileFormat,
    #[command(flatten)]
    pass: PassArgs,
}

fn table_of(name: &str) -> OrdTable {
    OrdTable::ALL.into_iter().find(|table| table.name() == name).expect("the parser knows the names")
}

fn format_of(name: &str) -> FileFormat {
    FileFormat::ALL.into_iter().find(|format| format.name() == name).expect("the parser knows the names")
}

impl TableArgs {
    /// Whether tables are to be written, and no archive.
    pub fn are_requested(&self) -> bool {
        !self.tables.is_empty()
    }
}

/// Writes the tables of the job at `manifest` to a directory, and prints what was written.
///
/// # Errors
/// The job has no such table, contradicts itself or the years that are computed again, or a file
/// cannot be written.
pub fn export_tables(
    manifest: &Path,
    args: &TableArgs,
    directory: &Path,
    format: OutputFormat,
) -> Result<(), CommandError> {
    let input = |reason: String| CommandError::Input(reason);
    args.file_format.check_support().map_err(|error| input(format!("--as: {error}")))?;
    let record = YearRecord::open(manifest)?;
    let export = TableExport::new(&record, args).map_err(input)?;
    fs::create_dir_all(directory)
        .map_err(|error| input(format!("cannot create {}: {error}", directory.display())))?;
    let written = export.write(directory)?;
    export.print(directory, &written, format)
}

/// What is exported of a job.
struct TableExport<'a> {
    record: &'a YearRecord,
    args: &'a TableArgs,
    years: Range<u64>,
}

/// A file with rows of years.
struct YearFile {
    table: OrdTable,
    rows: YearRows,
    file: TableFile,
}

/// What was written.
#[derive(Default)]
struct WrittenTables {
    files: Vec<WrittenFile>,
    /// Which years were computed again; `None` if none was.
    coverage: Option<PassCoverage>,
    /// What a reader has to know.
    notes: Vec<String>,
}

impl<'a> TableExport<'a> {
    /// Checks that the job has the tables.
    fn new(record: &'a YearRecord, args: &'a TableArgs) -> Result<Self, String> {
        let profile = record.request().profile();
        if !profile.vocabulary.return_periods {
            return Err(format!("--table: results of {} are no losses", profile.name));
        }
        let years = args.years.clone().map_or(0..record.years, |range| range.0);
        let export = Self { record, args, years };
        export.check_options()?;
        export.check_years()?;
        export.tables().try_for_each(|(perspective, table)| export.check_table(perspective, table))?;
        Ok(export)
    }

    fn check_options(&self) -> Result<(), String> {
        let files: Vec<_> =
            self.tables().map(|(perspective, table)| self.file_name(perspective, table)).collect();
        match files.iter().enumerate().find(|(at, file)| files[..*at].contains(file)) {
            Some((_, file)) => Err(format!("--table and --perspective name {file} twice")),
            None => Ok(()),
        }
    }

    fn check_years(&self) -> Result<(), String> {
        let (end, years) = (self.years.end, self.record.years);
        if end > years {
            return Err(format!("--years: the result has the years 0 to {}", years - 1));
        }
        if self.args.years.is_some() && !self.tables().any(|(_, table)| is_of_years(table)) {
            return Err("--years: only ylt and splt have rows of years".to_owned());
        }
        if i32::try_from(end).is_err() && self.tables().any(|(_, table)| is_of_years(table)) {
            return Err(format!("--years: periods have 32 bits, so END can be {} at most", i32::MAX));
        }
        let occurrences = self.record.request().expected_occurrences() * years as f64;
        let is_large = occurrences > MAX_UNASKED_OCCURRENCES && self.args.tables.contains(&OrdTable::Splt);
        if is_large && self.args.years.is_none() {
            return Err(format!(
                "--table splt: all years have about {} million occurrences; name the years, such as --years 0..100000, \
                 or --years 0..{years} for all",
                format_count((occurrences / 1e6) as u64)
            ));
        }
        Ok(())
    }

    fn check_table(&self, perspective: LossPerspective, table: OrdTable) -> Result<(), String> {
        let (request, set) = (self.record.request(), self.args.set);
        let program = &request.program;
        let refused = refuse_summaries(perspective, set, program);
        let refused = refused.or_else(|| match table {
            OrdTable::Ylt => None,
            OrdTable::Splt => refuse_occurrences(perspective, program, &request.parts()),
            _ if stated_amounts(program, perspective, set).is_some() => None,
            _ => Some(format!(
                "--table {}: results do not state the distribution of {} losses by {}; --table ylt has them by year",
                table.name(),
                perspective.name(),
                set.name()
            )),
        });
        refused.map_or(Ok(()), Err)
    }

    /// The tables to write, each with its perspective.
    fn tables(&self) -> impl Iterator<Item = (LossPerspective, OrdTable)> + '_ {
        let TableArgs { perspectives, tables, .. } = self.args;
        perspectives.iter().flat_map(|&perspective| tables.iter().map(move |&table| (perspective, table)))
    }

    fn file_name(&self, perspective: LossPerspective, table: OrdTable) -> String {
        let (set, extension) = (self.args.set.code(), self.args.file_format.name());
        format!("{}_{set}_{}.{extension}", perspective.code(), table.name())
    }

    fn create(
        &self,
        directory: &Path,
        perspective: LossPerspective,
        table: OrdTable,
    ) -> Result<TableFile, CommandError> {
        let name = self.file_name(perspective, table);
        let decimals = self.record.request().program.units.ilog10();
        TableFile::create(directory, name, self.args.file_format, table, decimals)
    }

    /// Writes all files.
    fn write(&self, directory: &Path) -> Result<WrittenTables, CommandError> {
        let mut written = WrittenTables::default();
        let mut year_files = Vec::new();
        for (perspective, table) in self.tables().filter(|(_, table)| is_of_years(*table)) {
            let rows = YearRows::new(table, perspective, self.args.set, &self.record.request().program);
            year_files.push(YearFile { table, rows, file: self.create(directory, perspective, table)? });
        }
        let statistics: Vec<_> = self.tables().filter(|(_, table)| !is_of_years(*table)).collect();
        let kept = self.record.kept.as_ref().map(|kept| &kept.merged);
        let needs_result = !statistics.is_empty() && kept.is_none();
        let mut computed = None;
        if !year_files.is_empty() || needs_result {
            let completed = self.write_years(year_files, needs_result, &mut written)?;
            written.coverage = Some(completed.coverage);
            computed = completed.result.map(|result| result.merged);
        }
        let merged = kept.or(computed.as_ref());
        for (perspective, table) in statistics {
            let merged = merged.context("a pass over all years has a result")?;
            let file = self.create(directory, perspective, table)?;
            self.write_statistics(perspective, table, merged, file, &mut written)?;
        }
        for &perspective in &self.args.perspectives {
            written.files.push(self.write_summaries(directory, perspective)?);
        }
        Ok(written)
    }

    /// Computes the years, all of them if the result is needed, and writes their rows.
    fn write_years(
        &self,
        mut files: Vec<YearFile>,
        needs_result: bool,
        written: &mut WrittenTables,
    ) -> Result<CompletedPass, CommandError> {
        let is_needed = |shard: &ShardYears| {
            needs_result || (shard.range.start < self.years.end && self.years.start < shard.range.end)
        };
        let rows: Vec<_> = files.iter().map(|file| file.rows.clone()).collect();
        let rows_a_year = self.expected_rows_a_year(&files);
        let pass = YearPass::new(self.record, &self.args.pass, is_needed)
            .with_block_years((BLOCK_ROWS / rows_a_year) as u64);
        let weight = 1.0 / self.record.years as f64;
        let new_collector = || BlockRows {
            years: self.years.clone(),
            files: rows.iter().map(|rows| (rows.clone(), Vec::new())).collect(),
        };
        let mut failed = Ok(());
        let completed = pass.execute(new_collector, |block: BlockRows| {
            for (file, (_, rows)) in files.iter_mut().zip(&block.files) {
                let write = |row: &LossRow| file.file.write_row(&row.values(file.table, weight));
                failed = rows.iter().try_for_each(write);
                if failed.is_err() {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })?;
        failed?;
        for file in files {
            written.files.push(file.file.finish()?);
        }
        Ok(completed)
    }

    /// How many rows a year has in all files, about, at least one.
    fn expected_rows_a_year(&self, files: &[YearFile]) -> f64 {
        let request = self.record.request();
        let annual = request.program.groups.len() as f64;
        let rows = files.iter().map(|file| match file.table {
            OrdTable::Splt => (request.expected_occurrences() + annual) * f64::from(request.program.lines),
            _ => file.rows.summaries() as f64,
        });
        rows.sum::<f64>().max(1.0)
    }

    fn write_statistics(
        &self,
        perspective: LossPerspective,
        table: OrdTable,
        merged: &ShardResult,
        mut file: TableFile,
        written: &mut WrittenTables,
    ) -> Result<(), CommandError> {
        let request = self.record.request();
        let amounts = stated_amounts(&request.program, perspective, self.args.set).unwrap_or_default();
        let statistics = amounts.iter().map(|&amount| SummaryStatistics::new(request, merged, amount));
        let statistics: Option<Vec<_>> = statistics.collect();
        let rows = statistics_rows(request, table, &statistics.context("the result lacks an amount")?);
        rows.iter().try_for_each(|row| file.write_row(row))?;
        let complete = file.finish()?;
        if matches!(table, OrdTable::Alt | OrdTable::Alct) && rows.len() < amounts.len() {
            let name = &complete.file;
            let note =
                format!("{name} has no row for summaries whose mean or standard deviation does not exist.");
            written.notes.push(note);
        }
        written.files.push(complete);
        Ok(())
    }

    /// Writes the names of the summaries.
    fn write_summaries(
        &self,
        directory: &Path,
        perspective: LossPerspective,
    ) -> Result<WrittenFile, CommandError> {
        let set = self.args.set;
        let mut text = format!("summary_id,{}\n", set.name());
        for (name, number) in set.summaries(&self.record.request().parts()).iter().zip(1..) {
            text += &format!("{number},{}\n", csv_field(name));
        }
        let name = format!("{}_{}_summary-info.csv", perspective.code(), set.code());
        write_text_file(directory, name, &text)
    }

    fn print(
        &self,
        directory: &Path,
        written: &WrittenTables,
        format: OutputFormat,
    ) -> Result<(), CommandError> {
        let WrittenTables { files, coverage, notes } = written;
        let (job, record) = (&self.record.job.id, self.record);
        let text = match format {
            OutputFormat::Json => output::to_json_document(&json!({
                "schema": "forge.tables.v1",
                "job_id": job,
                "result": record.result,
                "years": record.years,
                "directory": directory,
                "files": files,
                "recomputed": coverage.map_or(0, |coverage| coverage.years),
                "compared_with": coverage.and_then(|coverage| coverage.compared_with()),
                "notes": notes,
            })),
            OutputFormat::Text => {
                let row = |file: &WrittenFile| {
                    let (rows, size) = (format_count(file.rows), format_bytes(file.bytes));
                    vec![file.file.clone(), rows, size, file.sha256.to_string()]
                };
                let rows: Vec<_> = files.iter().map(row).collect();
                let noun = record.request().profile().vocabulary.iterations;
                let title = format!("Job {job}: tables of {} {noun}", format_count(record.years));
                let mut lines = vec![format!("{title} in {}", directory.display())];
                lines.extend(render_table(&["File", "Rows", "Size", "SHA-256"], &rows));
                lines.extend(notes.iter().cloned());
                lines.extend(coverage.map(|coverage| coverage.describe(noun)));
                lines.iter().map(|line| escape_line(line) + "\n").collect()
            }
        };
        output::print(text.as_bytes())
    }
}

fn is_of_years(table: OrdTable) -> bool {
    matches!(table, OrdTable::Ylt | OrdTable::Splt)
}

/// The rows of a block of years, for each file.
struct BlockRows {
    years: Range<u64>,
    files: Vec<(YearRows, Vec<LossRow>)>,
}

impl YearCollector for BlockRows {
    type Year = YearTrace;

    fn add(&mut self, year: &YearTrace) {
        if self.years.contains(&year.figures.year) {
            self.files.iter_mut().for_each(|(table, rows)| table.add(year, rows));
        }
    }
}
