//! `forge bench`: measures the speed of this machine's backends side by side in one run, and where
//! the time of a GPU goes.

mod measurement;
mod report;

use std::sync::Arc;

use clap::Args;
use forge_contract::program::Program;
use forge_kernel::{backend::ExecutionError, request::Request};

use self::report::{BenchReport, ModelMeasurement};
use crate::{
    error::CommandError,
    output::{self, OutputFormat, TextStyle},
};

const EXAMPLES: &str = "\
Examples:
  forge bench
  forge bench --backend gpu
  forge bench --backend gpu --format json > bench.json

The backends take turns within a round. Rates are medians over the rounds; ratios are medians of the ratios
of each round. Without --backend, measures the best SIMD level and every GPU except software drivers.";

/// The models that are measured: title, and claims per year.
const MODELS: [(&str, &str); 2] =
    [("Insurance quickstart", "2.0"), ("The same with 300 claims a year", "300")];

/// Measure how many iterations per second the backends execute
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    /// Backend to measure beside the best SIMD level, by name as listed by `forge devices`; may be
    /// repeated
    #[arg(long, value_name = "NAME")]
    backend: Vec<String>,
    /// Number of rounds, not counting a warm-up round
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Approximate duration of one measurement, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0.3)]
    seconds: f64,
    /// Output format: text is a table per model, json is one object
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
}

/// Runs the command.
///
/// # Errors
/// A backend cannot be used, or fails.
pub fn execute(args: &BenchArgs) -> Result<(), CommandError> {
    let contenders = measurement::contenders(&args.backend)?;
    let mut report = BenchReport { schema: "forge.bench.v1", models: Vec::new(), breakdowns: Vec::new() };
    for (title, claims_per_year) in MODELS {
        let program = insurance_program(claims_per_year);
        let contenders_rates = measurement::measure_rates(&contenders, &program, args.rounds, args.seconds)?;
        report.models.push(ModelMeasurement { title, claims_per_year, contenders: contenders_rates });
        report.breakdowns.extend(measurement::gpu_breakdowns(
            &contenders,
            title,
            &program,
            args.rounds,
            args.seconds,
        )?);
    }
    match args.format {
        OutputFormat::Json => output::print(output::to_json_document(&report).as_bytes()),
        OutputFormat::Text => output::print(report.render(TextStyle::of_stdout()).as_bytes()),
    }
}

/// The program of the quickstart example, with another number of claims per year.
fn insurance_program(claims_per_year: &str) -> Arc<Program> {
    let json = format!(
        r#"{{"op": {{"name": "mc", "version": 1, "profile": "insurance.v1"}}, "args": {{"iterations": 1000000000,
        "claim_freq": {claims_per_year}, "claim_severity_mu": 6.0, "claim_severity_sig": 1.0, "cat_prob": 0.02,
        "cat_mu": 10.0, "cat_sig": 1.5, "policy_limit": 50000, "aggregate_limit": 250000}}}}"#
    );
    Request::from_json(json.as_bytes()).expect("the benchmark's envelope is valid").program
}

fn execution_failed(error: ExecutionError) -> CommandError {
    CommandError::Other(error.into())
}
