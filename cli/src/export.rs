//! `forge export`: writes a completed job for other programs: as one archive for auditors who have
//! no access to the store, or as tables of losses.

mod archive;
mod tables;

use std::path::PathBuf;

use clap::Args;

use self::tables::TableArgs;
use crate::{error::CommandError, local_path::local_path, output::OutputFormat};

const EXAMPLES: &str = "\
Examples:
  forge export forge-out/jobs/quickstart-001 -o job.tar
  forge export s3://forge/jobs/quickstart-001/manifest.json -o job.tar
  forge audit job.tar --full
  forge export forge-out/jobs/cat-001 --table ept,alt -o tables
  forge export forge-out/jobs/cat-001 --table ylt --perspective gross,net --by line -o tables
  forge export forge-out/jobs/cat-001 --table splt --perspective gross --as parquet -o tables

Without --table, the archive holds the manifest and all artifacts, the compiled program, the
schemas of all documents, a second implementation in Python, and README.txt, which says how to
check them with and without forge. Every artifact is compared with the hash in the manifest while
it is written. The same job and the same version of forge give the same bytes.

With --table, each table and perspective is a file PERSPECTIVE_SET_TABLE.FORMAT in the directory,
such as il_S2_ylt.csv. Perspectives are il (gross), rl (ceded) and ri (net), sets are S1 (all), S2
(line) and S3 (treaty). PERSPECTIVE_SET_summary-info.csv has the names of the summaries. Periods
are years, numbered from 1. A row has a loss above 0. The same job gives the same bytes. A job
whose artifacts contradict each other, or the years that are computed again, is refused with exit
code 4.";

/// Write a completed job as one archive for auditors, or as tables of losses
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ExportArgs {
    /// The job: its manifest.json or its directory jobs/<job_id>, locally or in a bucket as s3://…
    manifest: PathBuf,
    /// The archive to write, a tar file; with --table, the directory to write files in. Files are
    /// replaced
    #[arg(short, long, value_name = "PATH", value_parser = local_path())]
    output: PathBuf,
    #[command(flatten)]
    tables: TableArgs,
    /// Output format: text is what was written and how to check it, json is one object
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
}

/// Runs the command.
///
/// # Errors
/// The job cannot be read or contradicts itself, it has no such table, or a file cannot be written.
pub fn execute(args: &ExportArgs) -> Result<(), CommandError> {
    match args.tables.are_requested() {
        true => tables::export_tables(&args.manifest, &args.tables, &args.output, args.format),
        false => archive::export_archive(&args.manifest, &args.output, args.format),
    }
}
