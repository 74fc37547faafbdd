//! `forge artifacts`: what a job left in the store.

use std::{fs, path::PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use forge_contract::{artifact::ManifestDocument, ids::JobId};
use forge_documents::number_format::format_count;
use forge_store::{Store, StoreError};

use crate::{cluster::StoreArgs, failure::Failure, output, text::table};

const EXAMPLES: &str = "\
Examples:
  forge artifacts ls quickstart-001 --store s3://forge
  forge artifacts get quickstart-001 --out /tmp/quickstart
  forge artifacts get quickstart-001 result.json | jq .output.mean_loss";

/// List or fetch what a job left in the store
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ArtifactsArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List a job's artifacts
    Ls {
        /// The job
        job: JobId,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Fetch a job's artifacts, checked by their hashes
    Get {
        /// The job
        job: JobId,
        /// Only this one, to standard output unless --out is given
        name: Option<String>,
        /// Directory to write to [default: the job id]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        #[command(flatten)]
        store: StoreArgs,
    },
}

/// Carries out the command.
///
/// # Errors
/// The store cannot be read, the job is not in it, or an object is missing or damaged.
pub fn execute(args: &ArtifactsArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.context("no asynchronous runtime can be made")?;
    runtime.block_on(async {
        match &args.action {
            Action::Ls { job, store } => list(&manifest(&store.open_for_reading().await?, job).await?),
            Action::Get { job, name, out, store } => {
                let store = store.open_for_reading().await?;
                let manifest = manifest(&store, job).await?;
                match name {
                    Some(name) => get_one(&store, &manifest, name, out.as_ref()).await,
                    None => get_all(&store, &manifest, out.as_ref()).await,
                }
            }
        }
    })
}

async fn manifest(store: &Store, job: &JobId) -> Result<ManifestDocument, Failure> {
    let found = store.get_manifest(job).await.map_err(|error| Failure::Input(error.to_string()))?;
    if let Some(manifest) = found {
        return Ok(manifest);
    }
    let place = store.locate(&Store::manifest_key(job));
    let error = store.get_error(job).await.map_err(|error| Failure::Input(error.to_string()))?;
    Err(Failure::Input(match error {
        Some(error) => format!("job {job} has no result: {}: {}", error.code, error.message),
        None => format!("{place} does not exist: the job has not completed"),
    }))
}

fn list(manifest: &ManifestDocument) -> Result<(), Failure> {
    let rows = manifest.artifacts.iter().map(|artifact| {
        vec![artifact.name.clone(), format_count(artifact.size), artifact.sha256.to_string()]
    });
    let rows: Vec<_> = rows.collect();
    let lines: String = table::lines(&["Name", "Bytes", "SHA-256"], &rows)
        .into_iter()
        .map(|line| format!("{line}\n"))
        .collect();
    output::print(lines.as_bytes())
}

/// Why an artifact that a manifest names could not be had. A store that is away proves nothing about it.
fn unread(error: StoreError) -> Failure {
    match error {
        StoreError::Unavailable { .. } => Failure::Other(error.into()),
        _ => Failure::Mismatch(error.to_string()),
    }
}

async fn get_one(
    store: &Store,
    manifest: &ManifestDocument,
    name: &str,
    out: Option<&PathBuf>,
) -> Result<(), Failure> {
    let Some(reference) = manifest.artifacts.iter().find(|artifact| artifact.name == name) else {
        let names: Vec<_> = manifest.artifacts.iter().map(|artifact| artifact.name.as_str()).collect();
        return Err(Failure::Input(format!("the job kept no {name:?}; it kept {}", names.join(", "))));
    };
    let bytes = store.get_artifact(reference).await.map_err(unread)?;
    match out {
        Some(directory) => write(directory, name, &bytes),
        None => output::print(&bytes),
    }
}

async fn get_all(store: &Store, manifest: &ManifestDocument, out: Option<&PathBuf>) -> Result<(), Failure> {
    let named = PathBuf::from(manifest.job_id.as_str());
    let directory = out.unwrap_or(&named);
    for reference in &manifest.artifacts {
        let bytes = store.get_artifact(reference).await.map_err(unread)?;
        write(directory, &reference.name, &bytes)?;
    }
    let count = manifest.artifacts.len();
    output::print(format!("{count} artifacts in {}\n", directory.display()).as_bytes())
}

fn write(directory: &PathBuf, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    fs::create_dir_all(directory).with_context(|| format!("{} cannot be created", directory.display()))?;
    let path = directory.join(name);
    Ok(fs::write(&path, bytes).with_context(|| format!("{} cannot be written", path.display()))?)
}
