//! `forge years`: lists the years of a completed job whose amounts meet conditions, computed again
//! from their numbers.

mod conditions;

use std::{ops::ControlFlow, path::PathBuf};

use clap::Args;
use forge_kernel::years::YearFigures;
use serde_json::json;

use self::conditions::YearConditions;
use crate::{
    error::CommandError,
    output::TableFormat,
    year_pass::{PassArgs, YearCollector, YearPass},
    year_record::YearRecord,
    year_table::{TableReport, count_of_years, year_table},
};

const EXAMPLES: &str = "\
Examples:
  forge years forge-out/jobs/portfolio-001 --where 'net >= 120e6'
  forge years forge-out/jobs/portfolio-001 --where 'gross >= 2e8 and net < 1e8' --limit 10
  forge years s3://forge/jobs/portfolio-001 --where 'ceded > 0' --limit 1000000 --format csv > years.csv

A condition is an amount of a year (net, gross, ceded, largest or reinstatement_premium), an
operator (>=, >, <=, < or =) and a number in units of the envelope's amounts. `and` joins
conditions. net is the total of the result, gross is before treaties, ceded is what all treaties
pay, and largest is the largest event before treaties, at most the annual limit of insurance.v1.

The rows are in the order of the years, and the same on every machine. Shards whose kept results
show that no year can meet a condition are passed over. A job whose artifacts contradict each other,
or the years that are computed again, is refused with exit code 4.";

/// List the years of a completed job that meet conditions
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct YearsArgs {
    /// The job: its manifest.json or its directory jobs/<job_id>, locally or in a bucket as s3://…
    manifest: PathBuf,
    /// The conditions, such as 'net >= 120e6 and gross < 2e8'
    #[arg(long = "where", value_name = "CONDITIONS")]
    conditions: YearConditions,
    /// List at most the first N years; the pass ends with the shard that has the last one
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
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
/// The job cannot be read, or contradicts the years that were computed again.
pub fn execute(args: &YearsArgs) -> Result<(), CommandError> {
    report(args)?.print(args.format)
}

fn report(args: &YearsArgs) -> Result<TableReport, CommandError> {
    let record = YearRecord::open(&args.manifest)?;
    let request = record.request();
    let (units, limit) = (request.program.units, args.limit as usize);
    let pass = YearPass::new(&record, &args.pass, |shard| {
        shard.peaks.is_none_or(|peaks| args.conditions.can_hold(&peaks, units))
    });
    let new_collector =
        || MatchingYears { conditions: args.conditions.clone(), units, limit, years: Vec::new() };
    let mut years = Vec::new();
    let completed = pass.execute(new_collector, |of_block| {
        years.extend(of_block.years);
        if years.len() >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let coverage = completed.coverage;
    let is_limited = years.len() >= limit;
    years.truncate(limit);
    let noun = request.profile().vocabulary.iterations;
    let mut notes = vec![format!("{} listed.", count_of_years(years.len() as u64, request))];
    if let (true, Some(last)) = (is_limited, years.last()) {
        let last = last.year;
        notes.push(format!("The limit was reached: {noun} after number {last} are not listed; see --limit."));
    }
    notes.push(coverage.describe(noun));
    let members = json!({
        "schema": "forge.years.v1",
        "job_id": record.job.id,
        "result": record.result,
        "where": args.conditions.to_string(),
        "years": record.years,
        "recomputed": coverage.years,
        "compared_with": coverage.compared_with(),
        "limit_reached": is_limited,
    });
    Ok(TableReport {
        title: format!("Job {}: {noun} with {}", record.job.id, args.conditions),
        table: year_table(request, &years),
        parts_title: "What each treaty pays",
        notes,
        members: members.as_object().cloned().unwrap_or_default(),
    })
}

/// The first years of a block that meet the conditions.
struct MatchingYears {
    conditions: YearConditions,
    units: u32,
    limit: usize,
    years: Vec<YearFigures>,
}

impl YearCollector for MatchingYears {
    type Year = YearFigures;

    fn add(&mut self, figures: &YearFigures) {
        if self.years.len() < self.limit && self.conditions.hold(figures, self.units) {
            self.years.push(figures.clone());
        }
    }
}
