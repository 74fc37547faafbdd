//! Reading what the command line names: envelopes, and the stores that manifests lie in.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::Context;
use forge_contract::{
    artifact::{ArtifactReference, ManifestDocument},
    ids::JobId,
    strict::MAX_DOCUMENT_BYTES,
};
use forge_documents::Job;
use forge_kernel::{
    KERNEL,
    request::{ModelCompiler, Request},
};
use forge_store::{S3Options, Store, StoreError, StoreLocation, location::InvalidStoreLocation};
use tokio::runtime::{self, Runtime};

use crate::failure::Failure;

/// Reads and plans an envelope, with models that may have been compiled already; `-` is standard input.
///
/// # Errors
/// The file cannot be read, or holds no valid envelope.
pub fn request(path: &Path, models: &dyn ModelCompiler) -> Result<Request, Failure> {
    let (name, bytes) = read(path)?;
    Request::from_json_with(&bytes, models).map_err(|errors| Failure::Invalid { name, errors })
}

/// Reads an envelope that has to be valid, and answers its bytes; `-` is standard input.
///
/// # Errors
/// As [`request`].
pub fn envelope(path: &Path) -> Result<Vec<u8>, Failure> {
    let (name, bytes) = read(path)?;
    Request::from_json(&bytes).map_err(|errors| Failure::Invalid { name, errors })?;
    Ok(bytes)
}

/// Name and content of a file; `-` is standard input.
fn read(path: &Path) -> Result<(String, Vec<u8>), Failure> {
    let (name, bytes) = if path == Path::new("-") {
        ("standard input".to_owned(), read_bounded(io::stdin().lock()))
    } else {
        (path.display().to_string(), File::open(path).and_then(read_bounded))
    };
    let bytes = bytes.map_err(|error| Failure::Input(format!("{name} cannot be read: {error}")))?;
    Ok((name, bytes))
}

/// At most one byte more than an envelope may have: enough to see that there is too much.
fn read_bounded(input: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(MAX_DOCUMENT_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A runtime for the store: one thread, and others where a file has to be waited for.
///
/// # Errors
/// The system gives none.
pub fn runtime() -> Result<Runtime, Failure> {
    Ok(runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no asynchronous runtime can be made")?)
}

/// A completed job in its store.
pub struct Completed {
    runtime: Runtime,
    store: Store,
    /// What the job left behind.
    pub manifest: ManifestDocument,
}

impl Completed {
    /// Opens the job that `path` names: a `manifest.json`, another file beside it, or the directory `jobs/<job_id>`; or the
    /// same in a bucket, as in `s3://bucket/jobs/<job_id>`.
    ///
    /// # Errors
    /// There is no such job, or its manifest is not one of this kernel.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let (location, job) = match path.to_str().filter(|text| text.starts_with("s3://")) {
            Some(text) => split_bucket(text)?,
            None => split(path).map(|(root, job)| (StoreLocation::Directory(root), job))?,
        };
        let refused = |error: StoreError| match error {
            StoreError::Malformed { .. } => Failure::Mismatch(error.to_string()),
            other => Failure::Input(other.to_string()),
        };
        let runtime = runtime()?;
        let options = S3Options::from_env().map_err(refused)?;
        let store = runtime.block_on(Store::open_for_reading(&location, &options)).map_err(refused)?;
        let Some(manifest) = runtime.block_on(store.get_manifest(&job)).map_err(refused)? else {
            let place = store.locate(&Store::manifest_key(&job));
            return Err(Failure::Input(format!("{place} does not exist: the job has not completed")));
        };
        if manifest.kernel != KERNEL {
            return Err(Failure::Input(format!(
                "job {job} was executed with kernel version {}, and this forge has version {KERNEL}: use one of that \
                 version",
                manifest.kernel
            )));
        }
        Ok(Self { runtime, store, manifest })
    }

    /// The reference of an artifact, if the job kept it.
    pub fn reference(&self, name: &str) -> Option<&ArtifactReference> {
        self.manifest.artifacts.iter().find(|artifact| artifact.name == name)
    }

    /// The content of an artifact, of the size and the hash that the manifest names.
    ///
    /// # Errors
    /// It is missing or damaged.
    pub fn get(&self, reference: &ArtifactReference) -> Result<Vec<u8>, StoreError> {
        self.runtime.block_on(self.store.get_artifact(reference))
    }

    /// The job of a stored envelope, if it is the one that the manifest speaks of.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn job(&self, envelope: &[u8]) -> Result<Job, String> {
        let request = Request::from_json(envelope)
            .map_err(|errors| format!("the stored envelope is not valid: {errors}"))?;
        let job = Job::new(request);
        let (request, replay_key) = (self.manifest.request, self.manifest.replay_key);
        if job.request.replay_key != replay_key {
            return Err(format!(
                "its replay key is {}, and the manifest's {replay_key}",
                job.request.replay_key
            ));
        }
        if (job.envelope_digest, &job.id) != (request, &self.manifest.job_id) {
            return Err("it is not the envelope that the manifest names".to_owned());
        }
        Ok(job)
    }
}

/// The store's root and the job's id: from `<root>/jobs/<job_id>`, or a file in it.
fn split(path: &Path) -> Result<(PathBuf, JobId), Failure> {
    let wrong = |reason: &str| {
        let shown = path.display();
        Failure::Input(format!("{shown} {reason}: give a jobs/<job_id>/manifest.json, or its directory"))
    };
    let full = path.canonicalize().map_err(|error| wrong(&format!("cannot be opened ({error})")))?;
    let directory = if full.is_dir() { Some(full.as_path()) } else { full.parent() };
    let name = directory.and_then(Path::file_name).and_then(|name| name.to_str());
    let jobs = directory.and_then(Path::parent);
    let (Some(job), Some(jobs)) = (name.and_then(|name| name.parse().ok()), jobs) else {
        return Err(wrong("is not in a job's directory"));
    };
    match jobs.parent() {
        Some(root) if jobs.ends_with("jobs") => Ok((root.to_owned(), job)),
        _ => Err(wrong("is not in a job's directory")),
    }
}

/// The store's place and the job's id: from `s3://<bucket>[/<prefix>]/jobs/<job_id>`, or an object in it.
fn split_bucket(text: &str) -> Result<(StoreLocation, JobId), Failure> {
    let wrong = || {
        let form = "s3://<bucket>[/<prefix>]/jobs/<job_id>/manifest.json";
        Failure::Input(format!("{text} is not a job in a bucket: give {form}"))
    };
    let (place, rest) = text.rsplit_once("/jobs/").ok_or_else(wrong)?;
    let job = rest.split('/').next().unwrap_or(rest).parse().map_err(|_| wrong())?;
    let location = place.parse().map_err(|error: InvalidStoreLocation| Failure::Input(error.to_string()))?;
    Ok((location, job))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_in_a_bucket_is_named_by_any_of_its_objects() {
        for text in [
            "s3://bucket/a/b/jobs/j-1/manifest.json",
            "s3://bucket/a/b/jobs/j-1",
            "s3://bucket/a/b/jobs/j-1/",
        ] {
            let (location, job) = split_bucket(text).unwrap();
            assert_eq!((location.to_string().as_str(), job.as_str()), ("s3://bucket/a/b", "j-1"));
        }
        for text in ["s3://bucket/j-1", "s3://bucket/jobs/", "s3://b/jobs/j"] {
            assert!(split_bucket(text).is_err(), "{text}");
        }
    }
}
