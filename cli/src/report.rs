//! `forge report`: writes the documents of a completed job that follow from its result, whether or
//! not the job keeps them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use forge_contract::envelope::ArtifactKind;
use forge_documents::{JobResult, artifact_name, reproducible_document};
use forge_kernel::request::Request;

use crate::{
    engine::EngineArgs, error::CommandError, local_path::local_path, output, recomputation::Recomputation,
};

const EXAMPLES: &str = "\
Examples:
  forge report forge-out/jobs/quickstart-001/manifest.json --html report.html
  forge report forge-out/jobs/quickstart-001 --csv - | head
  forge report s3://forge/jobs/quickstart-001 --html report.html --csv ept.csv --json result.json
  forge report forge-out/jobs/quickstart-001 --xlsx result.xlsx

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
    /// Write result.xlsx, the figures as a workbook with charts. Needs a build with the feature
    /// xlsx, as release images are
    #[arg(long, value_name = "FILE", value_parser = local_path())]
    xlsx: Option<PathBuf>,
}

/// A file to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReportFile {
    /// A document that the job itself can keep.
    Artifact(ArtifactKind),
    /// The workbook.
    Workbook,
}

impl ReportFiles {
    /// The files to write, each with its option and its path.
    fn requested(&self) -> Vec<(ReportFile, &'static str, &Path)> {
        let files = [
            (ReportFile::Artifact(ArtifactKind::ReportHtml), "--html", &self.html),
            (ReportFile::Artifact(ArtifactKind::EptCsv), "--csv", &self.csv),
            (ReportFile::Artifact(ArtifactKind::ResultJson), "--json", &self.json),
            (ReportFile::Workbook, "--xlsx", &self.xlsx),
        ];
        files.into_iter().filter_map(|(file, option, path)| Some((file, option, path.as_deref()?))).collect()
    }
}

impl ReportFile {
    /// Checks that this build can write the file.
    fn check_support(self) -> Result<(), CommandError> {
        match self {
            Self::Workbook if cfg!(not(feature = "xlsx")) => Err(no_workbooks()),
            _ => Ok(()),
        }
    }

    /// The bytes of the file.
    fn render(self, option: &str, request: &Request, result: &JobResult) -> Result<Vec<u8>, CommandError> {
        let Self::Artifact(kind) = self else { return render_workbook(request, result) };
        let document = reproducible_document(kind, request, result).ok_or_else(|| {
            let (name, profile) = (artifact_name(kind), request.profile().name);
            CommandError::Input(format!("{option}: there is no {name}: {profile} has no return periods"))
        })?;
        Ok(document.bytes)
    }
}

#[cfg(feature = "xlsx")]
fn render_workbook(request: &Request, result: &JobResult) -> Result<Vec<u8>, CommandError> {
    forge_workbook::result_workbook(request, result).map_err(|error| CommandError::Other(error.into()))
}

#[cfg(not(feature = "xlsx"))]
fn render_workbook(_: &Request, _: &JobResult) -> Result<Vec<u8>, CommandError> {
    Err(no_workbooks())
}

fn no_workbooks() -> CommandError {
    let message = "--xlsx: this build has no workbooks, because it lacks the cargo feature xlsx";
    CommandError::Input(message.to_owned())
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
    requested.iter().try_for_each(|(file, ..)| file.check_support())?;
    let recomputed = Recomputation::of_job(&args.manifest, &args.engine)?;
    recomputed.require_same_result()?;
    let (request, result) = (&recomputed.job.request, &recomputed.completion.job_result);
    let render = |(file, option, path): (ReportFile, &str, _)| {
        file.render(option, request, result).map(|bytes| (bytes, path))
    };
    let files = requested.into_iter().map(render).collect::<Result<Vec<_>, _>>()?;
    files.iter().try_for_each(|(bytes, path)| write(bytes, path))
}

fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

fn write(bytes: &[u8], path: &Path) -> Result<(), CommandError> {
    if is_stdout(path) {
        return output::print(bytes);
    }
    fs::write(path, bytes)
        .map_err(|error| CommandError::Input(format!("cannot write {}: {error}", path.display())))
}
