//! `forge diff`: compares two results, their args and their figures side by side.
//!
//! Reading order: [`compared_result`] → [`leaves`] → [`figures`] → [`report`].

mod compared_result;
mod figures;
mod leaves;
mod report;

use std::path::PathBuf;

use clap::Args;

use self::{compared_result::ComparedResult, report::DiffReport};
use crate::{
    error::CommandError,
    output::{self, OutputFormat, TextStyle},
};

const EXAMPLES: &str = "\
Examples:
  forge diff forge-out/jobs/quickstart-001 forge-out/jobs/quickstart-002
  forge diff old.json s3://forge/jobs/quickstart-002 --all
  forge run job.json --format json | forge diff forge-out/jobs/quickstart-001 - --format json

Exits with code 0 if both are the same result, and with code 4 if they differ.

Every figure with a 95% interval is compared with the sampling error: where the intervals of A and B are apart,
the difference is beyond it. Two runs have common random numbers if they have the same seed, profile and
number of iterations and draw the same parts, so that every iteration draws the same numbers for the same
parts. Their difference has less sampling error than the intervals suggest.";

/// Compare two results: args and figures side by side
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DiffArgs {
    /// The first result: the manifest.json of a job, its directory jobs/<job_id>, locally or in a
    /// bucket as s3://…, or a result.json; - is standard input
    a: PathBuf,
    /// The second result, named likewise
    b: PathBuf,
    /// Show equal args and figures too, and every figure of lines, steps and treaties, not only
    /// their means
    #[arg(long)]
    all: bool,
    /// Output format: text is a table of args and one of figures, json is one object with all args
    /// that differ and all figures
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
}

/// Runs the command.
///
/// # Errors
/// A result cannot be read, the profiles differ, or [`CommandError::ResultsDiffer`].
pub fn execute(args: &DiffArgs) -> Result<(), CommandError> {
    if args.a == args.b && args.a.as_os_str() == "-" {
        return Err(CommandError::Input("only one result can come from standard input".to_owned()));
    }
    let (a, b) = (ComparedResult::read(&args.a)?, ComparedResult::read(&args.b)?);
    let report = DiffReport::new(&a, &b)?;
    let text = match args.format {
        OutputFormat::Json => report.to_json(args.all),
        OutputFormat::Text => report.render(args.all, TextStyle::of_stdout()),
    };
    output::print(text.as_bytes())?;
    if report.is_same_result { Ok(()) } else { Err(CommandError::ResultsDiffer) }
}
