//! A completed job and everything that checks it, as one archive.

mod readme;
mod verifier;

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use forge_contract::artifact::ArtifactReference;
use forge_documents::number_format::{format_bytes, format_count};
use forge_store::{Store, StoreError};
use serde_json::json;

use self::verifier::VERIFIER_FILES;
use crate::{
    archive::{ArchiveSummary, ArchiveWriter, STORE_FOLDER},
    error::CommandError,
    output::{self, OutputFormat},
    schema::all_schemas,
    stored_job::{JobLocation, StoredJob},
};

/// Writes the archive of the job at `manifest`, and prints what was written.
///
/// # Errors
/// The job cannot be read, an artifact differs from what the manifest states, or the archive cannot
/// be written.
pub fn export_archive(manifest: &Path, path: &Path, format: OutputFormat) -> Result<(), CommandError> {
    let stored = StoredJob::open(&JobLocation::from_path(manifest)?)?;
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let written = write_archive(&stored, &partial).and_then(|summary| {
        fs::rename(&partial, path).map(|()| summary).map_err(|error| cannot_write(path, &error))
    });
    let summary = written.inspect_err(|_| {
        // The error that matters is the first one.
        let _ = fs::remove_file(&partial);
    })?;
    print_summary(path, format, &stored, &summary)
}

fn print_summary(
    path: &Path,
    format: OutputFormat,
    stored: &StoredJob,
    summary: &ArchiveSummary,
) -> Result<(), CommandError> {
    let (job, shown) = (&stored.manifest.job_id, path.display());
    let text = match format {
        OutputFormat::Json => output::to_json_document(&json!({
            "schema": "forge.export.v1",
            "job_id": job,
            "result": stored.manifest.result,
            "file": path,
            "files": summary.files,
            "bytes": summary.bytes,
            "sha256": summary.sha256,
        })),
        OutputFormat::Text => format!(
            "{shown}: job {job}, {} files, {}\nSHA-256  {}\nCheck    forge audit {shown} --full\n",
            format_count(summary.files),
            format_bytes(summary.bytes),
            summary.sha256
        ),
    };
    output::print(text.as_bytes())
}

fn cannot_write(path: &Path, error: &io::Error) -> CommandError {
    CommandError::Input(format!("cannot write {}: {error}", path.display()))
}

fn write_archive(stored: &StoredJob, path: &Path) -> Result<ArchiveSummary, CommandError> {
    let job = stored.read_job(&())?;
    let failed = |error: io::Error| cannot_write(path, &error);
    let mut writer = ArchiveWriter::new(BufWriter::new(File::create(path).map_err(failed)?));
    let manifest = &stored.manifest;
    let in_store = |key: &str| format!("{STORE_FOLDER}/{key}");
    writer.add("README.txt", readme::render(manifest).as_bytes()).map_err(failed)?;
    let manifest_key = in_store(&Store::manifest_key(&manifest.job_id));
    writer.add(&manifest_key, &Store::manifest_bytes(manifest)).map_err(failed)?;
    let page =
        stored.read_index_page().map_err(|error: StoreError| CommandError::Input(error.to_string()))?;
    if let Some(page) = page {
        writer.add(&in_store(&Store::index_page_key(&manifest.job_id)), &page).map_err(failed)?;
    }
    for reference in &manifest.artifacts {
        add_artifact(stored, reference, &in_store(&reference.key()), &mut writer, path)?;
    }
    writer.add("program.bin", &job.request.program.encode()).map_err(failed)?;
    for (name, schema) in all_schemas() {
        let text = output::to_json_document(&schema);
        writer.add(&format!("schemas/{name}.schema.json"), text.as_bytes()).map_err(failed)?;
    }
    for (name, text) in VERIFIER_FILES {
        writer.add(&format!("verifier/{name}"), text.as_bytes()).map_err(failed)?;
    }
    let (summary, output) = writer.finish().map_err(failed)?;
    output
        .into_inner()
        .map_err(|error| error.into_error())
        .and_then(|file| file.sync_all())
        .map_err(failed)?;
    Ok(summary)
}

/// Adds an artifact in parts, so that one of any size fits in memory.
fn add_artifact(
    stored: &StoredJob,
    reference: &ArtifactReference,
    name: &str,
    writer: &mut ArchiveWriter<impl Write>,
    path: &Path,
) -> Result<(), CommandError> {
    let failed = |error: io::Error| cannot_write(path, &error);
    writer.begin(name, reference.size).map_err(failed)?;
    let mut written = Ok(());
    let read = stored.read_artifact_in_chunks(reference, stored.manifest.shards, |chunk| {
        if written.is_ok() {
            written = writer.append(chunk);
        }
    });
    read?;
    written.map_err(failed)
}
