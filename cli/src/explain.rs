//! `forge explain`: from a figure of a completed job to the years behind it, and to the events of
//! one year. Years are computed again from their numbers, offline.
//!
//! Reading order: [`explain`](self) → [`top`], [`year`], [`tail`].

mod tail;
mod top;
mod year;

use std::path::PathBuf;

use clap::Args;

use self::tail::{TailPart, TailProbability};
use crate::{
    error::CommandError,
    output::TableFormat,
    year_pass::PassArgs,
    year_record::YearRecord,
    year_table::{Perspective, TableReport},
};

const EXAMPLES: &str = "\
Examples:
  forge explain forge-out/jobs/portfolio-001
  forge explain forge-out/jobs/portfolio-001 --top 5 --perspective gross
  forge explain forge-out/jobs/portfolio-001 --year 482133
  forge explain forge-out/jobs/portfolio-001 --tail 0.005 --by treaty
  forge explain s3://forge/jobs/portfolio-001 --top 1000 --format csv > years.csv

The years are computed again from the stored envelope. With --top, only shards whose kept results
reach the largest years are; without kept results, and with --tail, all years are. A job whose
artifacts contradict each other, or the years that are computed again, is refused with exit code 4.";

/// Show the years behind a figure of a completed job, or every event of one year
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ExplainArgs {
    /// The job: its manifest.json or its directory jobs/<job_id>, locally or in a bucket as s3://…
    manifest: PathBuf,
    /// List the K years with the largest amount
    #[arg(
        long,
        value_name = "K",
        default_value_t = 20,
        conflicts_with_all = ["year", "tail"],
        value_parser = clap::value_parser!(u16).range(1..=1000)
    )]
    top: u16,
    /// List every event of the year with this number, counted from 0, with what each treaty pays
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["tail", "perspective"])]
    year: Option<u64>,
    /// Take the tail of this probability apart, such as 0.005 for the years beyond the 99.5%
    /// quantile: means of amounts (co-TVaR) and of counts
    #[arg(long, value_name = "PROBABILITY", requires = "by")]
    tail: Option<TailProbability>,
    /// What the tail is taken apart by: line (before treaties, with the number of occurrences that
    /// have a loss), treaty (what it pays, with the number of its payments), or group (before
    /// treaties, with the number of its occurrences)
    #[arg(long, value_enum, requires = "tail")]
    by: Option<TailPart>,
    /// The amount by which years are compared: net is the total of the result, after treaties and
    /// limits of the year, gross is before them
    #[arg(long, value_enum, default_value_t = Perspective::Net)]
    perspective: Perspective,
    /// Output format: text is for readers, json is one object, csv is the rows alone, with exact
    /// amounts
    #[arg(long, value_enum, default_value_t = TableFormat::Text)]
    format: TableFormat,
    #[command(flatten)]
    pass: PassArgs,
}

/// Runs the command.
///
/// # Errors
/// The job cannot be read, has no such year, or contradicts the years that were computed again.
pub fn execute(args: &ExplainArgs) -> Result<(), CommandError> {
    report(args)?.print(args.format)
}

fn report(args: &ExplainArgs) -> Result<TableReport, CommandError> {
    let record = YearRecord::open(&args.manifest)?;
    match (args.year, args.tail, args.by) {
        (Some(number), ..) => year::explain_year(&record, number),
        (None, Some(tail), Some(by)) => tail::explain_tail(&record, tail, by, args.perspective, &args.pass),
        _ => top::explain_top(&record, usize::from(args.top), args.perspective, &args.pass),
    }
}
