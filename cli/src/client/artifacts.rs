//! `forge artifacts`: lists and fetches the artifacts of a job from the store.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, Subcommand};
use forge_contract::{
    artifact::{ArtifactReference, ManifestDocument},
    ids::JobId,
};
use forge_documents::number_format::format_count;
use forge_store::{ArtifactReader, Store, StoreError};
use serde::Serialize;

use crate::{
    artifact_limits,
    context::ContextArgs,
    error::CommandError,
    local_path::local_path,
    output::{self, OutputFormat},
    runtime,
    store_args::StoreArgs,
    text::{count_of, table},
};

const EXAMPLES: &str = "\
Examples:
  forge artifacts ls quickstart-001 --store s3://forge
  forge artifacts get quickstart-001 --out /tmp/quickstart
  forge artifacts get quickstart-001 result.json | jq .output.mean_loss";

/// Largest artifact that is written to standard output: it is held in memory.
const MAX_PRINTED_BYTES: u64 = 256 << 20;

/// List or fetch the artifacts of a job
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ArtifactsArgs {
    #[command(subcommand)]
    command: ArtifactsCommand,
}

#[derive(Debug, Subcommand)]
enum ArtifactsCommand {
    /// List the artifacts of a job
    Ls {
        /// Id of the job
        job: JobId,
        /// Output format: text is a table, json is one artifact per line, as in the manifest
        #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
        format: OutputFormat,
        #[command(flatten)]
        store: StoreArgs,
        #[command(flatten)]
        _context: ContextArgs,
    },
    /// Fetch the artifacts of a job and check their hashes
    Get {
        /// Id of the job
        job: JobId,
        /// Fetch only this artifact; written to standard output unless --out is given
        name: Option<String>,
        /// Directory to write to; created if missing [default: the job id]
        #[arg(long, value_name = "DIR", value_parser = local_path())]
        out: Option<PathBuf>,
        /// Output format: text is the number of files, json is one file per line, as in the
        /// manifest and with its path
        #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
        format: OutputFormat,
        #[command(flatten)]
        store: StoreArgs,
        #[command(flatten)]
        _context: ContextArgs,
    },
}

/// Runs the command.
///
/// # Errors
/// The store cannot be read, the job has not completed, or an artifact is missing or damaged.
pub fn execute(args: &ArtifactsArgs) -> Result<(), CommandError> {
    runtime::single_worker()?.block_on(async {
        match &args.command {
            ArtifactsCommand::Ls { job, format, store, .. } => {
                list(&read_manifest(&store.open_for_reading().await?, job).await?, *format)
            }
            ArtifactsCommand::Get { job, name, out, format, store, .. } => {
                if name.is_some() && out.is_none() && *format == OutputFormat::Json {
                    let message = "--format json: give --out too: standard output has the artifact itself";
                    return Err(CommandError::Input(message.to_owned()));
                }
                let store = store.open_for_reading().await?;
                let manifest = read_manifest(&store, job).await?;
                match name {
                    Some(name) => get_one(&store, &manifest, name, out.as_deref(), *format).await,
                    None => get_all(&store, &manifest, out.as_deref(), *format).await,
                }
            }
        }
    })
}

async fn read_manifest(store: &Store, job: &JobId) -> Result<ManifestDocument, CommandError> {
    let to_error = |error: StoreError| match error {
        StoreError::Malformed { .. } | StoreError::Corrupt { .. } => {
            CommandError::Mismatch(error.to_string())
        }
        _ => CommandError::Input(error.to_string()),
    };
    if let Some(manifest) = store.get_manifest(job).await.map_err(to_error)? {
        return Ok(manifest);
    }
    Err(CommandError::Input(match store.get_error(job).await.map_err(to_error)? {
        Some(error) => format!("job {job} has no result: {}: {}", error.code, error.message),
        None => {
            let path = store.locate(&Store::manifest_key(job));
            format!("{path} does not exist: no job {job} has completed in this store")
        }
    }))
}

fn list(manifest: &ManifestDocument, format: OutputFormat) -> Result<(), CommandError> {
    if format == OutputFormat::Json {
        return output::print(output::to_json_lines(&manifest.artifacts).as_bytes());
    }
    let artifacts = manifest.artifacts.iter();
    let rows: Vec<_> = artifacts
        .map(|artifact| vec![artifact.name.clone(), format_count(artifact.size), artifact.sha256.to_string()])
        .collect();
    let lines = table::render_table(&["Name", "Bytes", "SHA-256"], &rows);
    output::print(format!("{}\n", lines.join("\n")).as_bytes())
}

/// An artifact that the manifest names could not be read. An unreachable store is no mismatch: it
/// says nothing about the artifact.
fn to_command_error(error: StoreError) -> CommandError {
    match error {
        StoreError::Unavailable { .. } => CommandError::Other(error.into()),
        _ => CommandError::Mismatch(error.to_string()),
    }
}

async fn open_artifact(
    store: &Store,
    manifest: &ManifestDocument,
    reference: &ArtifactReference,
) -> Result<ArtifactReader, CommandError> {
    artifact_limits::check(reference, manifest.shards)
        .map_err(|oversized| CommandError::Mismatch(oversized.to_string()))?;
    store.open_artifact(reference).await.map_err(to_command_error)
}

/// Reads an artifact of a completed job and checks its hash.
///
/// # Errors
/// The store cannot be read, the job has not completed or did not keep the artifact, or the
/// artifact is missing or damaged.
pub fn read_artifact(store: &StoreArgs, job: &JobId, name: &str) -> Result<Vec<u8>, CommandError> {
    runtime::single_worker()?.block_on(async {
        let store = store.open_for_reading().await?;
        let manifest = read_manifest(&store, job).await?;
        let reference = find_reference(&manifest, name)?;
        open_artifact(&store, &manifest, reference).await?.read_to_end().await.map_err(to_command_error)
    })
}

/// Writes all artifacts of a completed job to a directory and checks their hashes. Returns their
/// names.
///
/// # Errors
/// The store cannot be read, the job has not completed, an artifact is missing or damaged, or a
/// file cannot be written.
pub fn fetch_artifacts(
    store: &StoreArgs,
    job: &JobId,
    directory: &Path,
) -> Result<Vec<String>, CommandError> {
    runtime::single_worker()?.block_on(async {
        let store = store.open_for_reading().await?;
        let manifest = read_manifest(&store, job).await?;
        write_all(&store, &manifest, directory).await?;
        Ok(manifest.artifacts.into_iter().map(|artifact| artifact.name).collect())
    })
}

fn find_reference<'a>(
    manifest: &'a ManifestDocument,
    name: &str,
) -> Result<&'a ArtifactReference, CommandError> {
    manifest.artifacts.iter().find(|artifact| artifact.name == name).ok_or_else(|| {
        let names: Vec<_> = manifest.artifacts.iter().map(|artifact| artifact.name.as_str()).collect();
        let names = names.join(", ");
        CommandError::Input(format!("job {} did not keep {name:?}; it kept {names}", manifest.job_id))
    })
}

async fn get_one(
    store: &Store,
    manifest: &ManifestDocument,
    name: &str,
    directory: Option<&Path>,
    format: OutputFormat,
) -> Result<(), CommandError> {
    let reference = find_reference(manifest, name)?;
    let artifact = open_artifact(store, manifest, reference).await?;
    match directory {
        Some(directory) => {
            write_file(directory, name, artifact).await?;
            match format {
                OutputFormat::Json => print_files(directory, [reference]),
                OutputFormat::Text => Ok(()),
            }
        }
        // Nothing is printed before its hash is known to be right.
        None if reference.size <= MAX_PRINTED_BYTES => {
            output::print(&artifact.read_to_end().await.map_err(to_command_error)?)
        }
        None => Err(CommandError::Input(format!(
            "{name} has {} bytes, too many for standard output; use --out",
            format_count(reference.size)
        ))),
    }
}

async fn get_all(
    store: &Store,
    manifest: &ManifestDocument,
    directory: Option<&Path>,
    format: OutputFormat,
) -> Result<(), CommandError> {
    let directory = directory.unwrap_or(Path::new(manifest.job_id.as_str()));
    write_all(store, manifest, directory).await?;
    if format == OutputFormat::Json {
        return print_files(directory, &manifest.artifacts);
    }
    let count = count_of(manifest.artifacts.len() as u64, "artifact");
    output::print(format!("{count} written to {}\n", directory.display()).as_bytes())
}

async fn write_all(store: &Store, manifest: &ManifestDocument, directory: &Path) -> Result<(), CommandError> {
    for reference in &manifest.artifacts {
        let artifact = open_artifact(store, manifest, reference).await?;
        write_file(directory, &reference.name, artifact).await?;
    }
    Ok(())
}

/// A file that was written, as a line of JSON.
#[derive(Serialize)]
struct FileLine<'a> {
    #[serde(flatten)]
    artifact: &'a ArtifactReference,
    path: PathBuf,
}

fn print_files<'a>(
    directory: &Path,
    artifacts: impl IntoIterator<Item = &'a ArtifactReference>,
) -> Result<(), CommandError> {
    let files = artifacts.into_iter();
    let lines = files.map(|artifact| FileLine { artifact, path: directory.join(&artifact.name) });
    output::print(output::to_json_lines(lines).as_bytes())
}

/// Writes an artifact under another name first, so that the file has its own name only if its hash
/// is right.
async fn write_file(directory: &Path, name: &str, mut artifact: ArtifactReader) -> Result<(), CommandError> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let (path, partial) = (directory.join(name), directory.join(format!("{name}.partial")));
    let cannot_write = || format!("cannot write {}", path.display());
    let mut file = fs::File::create(&partial).with_context(cannot_write)?;
    loop {
        match artifact.next_chunk().await {
            Ok(Some(chunk)) => file.write_all(&chunk).with_context(cannot_write)?,
            Ok(None) => break,
            Err(error) => {
                // The error that matters is the artifact's.
                let _ = fs::remove_file(&partial);
                return Err(to_command_error(error));
            }
        }
    }
    Ok(fs::rename(&partial, &path).with_context(cannot_write)?)
}
