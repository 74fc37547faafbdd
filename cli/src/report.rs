//! `forge report`: writes the documents of a completed job that follow from its result, whether or
//! not the job keeps them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use forge_contract::envelope::ArtifactKind;
use forge_documents::{Document, artifact_name, reproducible_document};

use crate::{
    engine::EngineArgs, error::CommandError, local_path::local_path, output, recomputation::Recomputation,
};

const EXAMPLES: &str = "\
Examples:
  forge report forge-out/jobs/quickstart-001/manifest.json --html report.html
  forge report forge-out/jobs/quickstart-001 --csv - | head
  forge report s3://forge/jobs/quickstart-001 --html report.html --csv ept.csv --json result.json

Computes the job again from its stored envelope, offline, so the files have the bytes that the job
itself keeps if its envelope includes them. Exits with code 4, and writes nothing, if the
recomputed result differs from the stored one. To file the report as PDF, print report.html from a
browser: its style has a layout for paper.";

/// Write the report of a completed job, even if the job does not keep it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct StoredReportArgs {
    /// The job: its manifest.json or its directory jobs/<job_id>, locally or in a bucket as s3://…
    manifest: PathBuf,
    #[command(flatten)]
    files: ReportFiles,
    #[command(flatten)]
    engine: EngineArgs,
}

/// The files to write.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct ReportFiles {
    /// Write report.html, the result as one page for readers: what was asked, the model, figures
    /// with confidence intervals, curves, and how to check them. - is standard output
    #[arg(long, value_name = "FILE", value_parser = local_path())]
    html: Option<PathBuf>,
    /// Write ept.csv, the exceedance table for other programs, in the columns of Open Results Data
    #[arg(long, value_name = "FILE", value_parser = local_path())]
    csv: Option<PathBuf>,
    /// Write result.json, every figure as canonical JSON; its SHA-256 is the result hash
    #[arg(long, value_name = "FILE", value_parser = local_path())]
    json: Option<PathBuf>,
}

impl ReportFiles {
    /// The kinds to write, each with its option and its path.
    fn requested(&self) -> Vec<(ArtifactKind, &'static str, &Path)> {
        let files = [
            (ArtifactKind::ReportHtml, "--html", &self.html),
            (ArtifactKind::EptCsv, "--csv", &self.csv),
            (ArtifactKind::ResultJson, "--json", &self.json),
        ];
        files.into_iter().filter_map(|(kind, option, path)| Some((kind, option, path.as_deref()?))).collect()
    }
}

/// Runs the command.
///
/// # Errors
/// The job cannot be read or executed, its result differs from the stored one, the job has no such
/// document, or a file cannot be written.
pub fn execute(args: &StoredReportArgs) -> Result<(), CommandError> {
    let requested = args.files.requested();
    if requested.iter().filter(|(.., path)| is_stdout(path)).count() > 1 {
        return Err(CommandError::Input("only one document can go to standard output".to_owned()));
    }
    let recomputed = Recomputation::of_job(&args.manifest, &args.engine)?;
    recomputed.require_same_result()?;
    let request = &recomputed.job.request;
    let render = |(kind, option, path)| {
        let document = reproducible_document(kind, request, &recomputed.completion.job_result);
        let document = document.ok_or_else(|| {
            let (name, profile) = (artifact_name(kind), request.profile().name);
            CommandError::Input(format!("{option}: there is no {name}: {profile} has no return periods"))
        })?;
        Ok::<_, CommandError>((document, path))
    };
    let documents = requested.into_iter().map(render).collect::<Result<Vec<_>, _>>()?;
    documents.iter().try_for_each(|(document, path)| write(document, path))
}

fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

fn write(document: &Document, path: &Path) -> Result<(), CommandError> {
    if is_stdout(path) {
        return output::print(&document.bytes);
    }
    fs::write(path, &document.bytes)
        .map_err(|error| CommandError::Input(format!("cannot write {}: {error}", path.display())))
}
