//! `forge artifacts`: lists and fetches the artifacts of a job from the store.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, Subcommand};
use forge_contract::{artifact::ManifestDocument, ids::JobId};
use forge_documents::number_format::format_count;
use forge_store::{Store, StoreError};

use crate::{
    error::CommandError,
    output, runtime,
    store_args::StoreArgs,
    text::{count_of, table},
};

const EXAMPLES: &str = "\
Examples:
  forge artifacts ls quickstart-001 --store s3://forge
  forge artifacts get quickstart-001 --out /tmp/quickstart
  forge artifacts get quickstart-001 result.json | jq .output.mean_loss";

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
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Fetch the artifacts of a job and check their hashes
    Get {
        /// Id of the job
        job: JobId,
        /// Fetch only this artifact; written to standard output unless --out is given
        name: Option<String>,
        /// Directory to write to; created if missing [default: the job id]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        #[command(flatten)]
        store: StoreArgs,
    },
}

/// Runs the command.
///
/// # Errors
/// The store cannot be read, the job has not completed, or an artifact is missing or damaged.
pub fn execute(args: &ArtifactsArgs) -> Result<(), CommandError> {
    runtime::single_worker()?.block_on(async {
        match &args.command {
            ArtifactsCommand::Ls { job, store } => {
                list(&read_manifest(&store.open_for_reading().await?, job).await?)
            }
            ArtifactsCommand::Get { job, name, out, store } => {
                let store = store.open_for_reading().await?;
                let manifest = read_manifest(&store, job).await?;
                match name {
                    Some(name) => get_one(&store, &manifest, name, out.as_deref()).await,
                    None => get_all(&store, &manifest, out.as_deref()).await,
                }
            }
        }
    })
}

async fn read_manifest(store: &Store, job: &JobId) -> Result<ManifestDocument, CommandError> {
    let input_error = |error: StoreError| CommandError::Input(error.to_string());
    if let Some(manifest) = store.get_manifest(job).await.map_err(input_error)? {
        return Ok(manifest);
    }
    Err(CommandError::Input(match store.get_error(job).await.map_err(input_error)? {
        Some(error) => format!("job {job} has no result: {}: {}", error.code, error.message),
        None => {
            let path = store.locate(&Store::manifest_key(job));
            format!("{path} does not exist: the job has not completed")
        }
    }))
}

fn list(manifest: &ManifestDocument) -> Result<(), CommandError> {
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

async fn get_one(
    store: &Store,
    manifest: &ManifestDocument,
    name: &str,
    directory: Option<&Path>,
) -> Result<(), CommandError> {
    let Some(reference) = manifest.artifacts.iter().find(|artifact| artifact.name == name) else {
        let names: Vec<_> = manifest.artifacts.iter().map(|artifact| artifact.name.as_str()).collect();
        let names = names.join(", ");
        return Err(CommandError::Input(format!(
            "job {} did not keep {name:?}; it kept {names}",
            manifest.job_id
        )));
    };
    let bytes = store.get_artifact(reference).await.map_err(to_command_error)?;
    match directory {
        Some(directory) => write_file(directory, name, &bytes),
        None => output::print(&bytes),
    }
}

async fn get_all(
    store: &Store,
    manifest: &ManifestDocument,
    directory: Option<&Path>,
) -> Result<(), CommandError> {
    let directory = directory.unwrap_or(Path::new(manifest.job_id.as_str()));
    for reference in &manifest.artifacts {
        let bytes = store.get_artifact(reference).await.map_err(to_command_error)?;
        write_file(directory, &reference.name, &bytes)?;
    }
    let count = count_of(manifest.artifacts.len() as u64, "artifact");
    output::print(format!("{count} written to {}\n", directory.display()).as_bytes())
}

fn write_file(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), CommandError> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let path = directory.join(name);
    Ok(fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?)
}
