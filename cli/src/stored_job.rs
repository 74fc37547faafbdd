//! A completed job in its store, as `forge replay` and `forge audit` read it: by the path of its
//! manifest in a directory or a bucket. Read-only.

use std::path::{Path, PathBuf};

use forge_contract::{
    artifact::{ArtifactReference, ManifestDocument},
    ids::JobId,
};
use forge_documents::Job;
use forge_kernel::{
    KERNEL,
    request::{ModelCompiler, Request},
};
use forge_store::{S3Options, Store, StoreError, StoreLocation, location::InvalidStoreLocation};
use tokio::runtime::Runtime;

use crate::{error::CommandError, runtime};

/// A completed job in its store.
pub struct StoredJob {
    runtime: Runtime,
    store: Store,
    /// The job's manifest.
    pub manifest: ManifestDocument,
}

impl StoredJob {
    /// Opens the job at `path`: its `manifest.json`, another file next to it, or the directory
    /// `jobs/<job_id>`. A path in a bucket starts with `s3://`, as in `s3://bucket/jobs/<job_id>`.
    ///
    /// # Errors
    /// [`CommandError::Input`] if there is no such job or another kernel version executed it,
    /// [`CommandError::Mismatch`] if the manifest is malformed.
    pub fn open(path: &Path) -> Result<Self, CommandError> {
        let (location, job) = match path.to_str().filter(|text| text.starts_with("s3://")) {
            Some(url) => split_bucket_url(url)?,
            None => split_path(path).map(|(root, job)| (StoreLocation::Directory(root), job))?,
        };
        let to_command_error = |error: StoreError| match error {
            StoreError::Malformed { .. } => CommandError::Mismatch(error.to_string()),
            other => CommandError::Input(other.to_string()),
        };
        let runtime = runtime::current_thread()?;
        let options = S3Options::from_env().map_err(to_command_error)?;
        let store = runtime.block_on(Store::open_for_reading(&location, &options));
        let store = store.map_err(to_command_error)?;
        let Some(manifest) = runtime.block_on(store.get_manifest(&job)).map_err(to_command_error)? else {
            let manifest_path = store.locate(&Store::manifest_key(&job));
            return Err(CommandError::Input(format!(
                "{manifest_path} does not exist: the job has not completed"
            )));
        };
        if manifest.kernel != KERNEL {
            let version = manifest.kernel;
            return Err(CommandError::Input(format!(
                "job {job} was executed with kernel version {version}, but this forge has version {KERNEL}; use a \
                 forge with kernel version {version}"
            )));
        }
        Ok(Self { runtime, store, manifest })
    }

    /// The manifest's reference to an artifact; `None` if the job did not keep it.
    pub fn artifact_reference(&self, name: &str) -> Option<&ArtifactReference> {
        self.manifest.artifacts.iter().find(|artifact| artifact.name == name)
    }

    /// Reads an artifact and checks its size and hash against the manifest.
    ///
    /// # Errors
    /// The artifact is missing or damaged, or the store cannot be read.
    pub fn read_artifact(&self, reference: &ArtifactReference) -> Result<Vec<u8>, StoreError> {
        self.runtime.block_on(self.store.get_artifact(reference))
    }

    /// Derives the job from the bytes of the stored envelope, and checks it against the manifest.
    /// The compiler may reuse a compiled model.
    ///
    /// # Errors
    /// Why the envelope is not the one that the manifest names.
    pub fn job_of_envelope(&self, envelope: &[u8], compiler: &dyn ModelCompiler) -> Result<Job, String> {
        let request = Request::from_json_with(envelope, compiler)
            .map_err(|errors| format!("the stored envelope is not valid: {errors}"))?;
        let job = Job::new(request);
        let replay_key = self.manifest.replay_key;
        if job.request.replay_key != replay_key {
            return Err(format!(
                "its replay key is {}, but the manifest has {replay_key}",
                job.request.replay_key
            ));
        }
        if (job.envelope_digest, &job.id) != (self.manifest.request, &self.manifest.job_id) {
            return Err("it is not the envelope that the manifest names".to_owned());
        }
        Ok(job)
    }
}

/// Splits `<root>/jobs/<job_id>`, or the path of a file in it, into the store's root and the job
/// id.
fn split_path(path: &Path) -> Result<(PathBuf, JobId), CommandError> {
    let expected = "expected jobs/<job_id>/manifest.json or its directory";
    let shown = path.display();
    let not_a_job = || CommandError::Input(format!("{shown} is not in the directory of a job: {expected}"));
    let absolute = path
        .canonicalize()
        .map_err(|error| CommandError::Input(format!("cannot open {shown}: {error}; {expected}")))?;
    let directory = if absolute.is_dir() { Some(absolute.as_path()) } else { absolute.parent() };
    let directory = directory.ok_or_else(not_a_job)?;
    let name = directory.file_name().and_then(|name| name.to_str());
    let job = name.and_then(|name| name.parse().ok()).ok_or_else(not_a_job)?;
    let jobs = directory.parent().filter(|jobs| jobs.ends_with("jobs"));
    let root = jobs.and_then(Path::parent).ok_or_else(not_a_job)?;
    Ok((root.to_owned(), job))
}

/// Splits `s3://<bucket>[/<prefix>]/jobs/<job_id>`, or the URL of an object in it, into the store's
/// location and the job id.
fn split_bucket_url(url: &str) -> Result<(StoreLocation, JobId), CommandError> {
    let not_a_job = || {
        let expected = "s3://<bucket>[/<prefix>]/jobs/<job_id>/manifest.json";
        CommandError::Input(format!("{url} is not a job in a bucket: expected {expected}"))
    };
    let (root, key) = url.rsplit_once("/jobs/").ok_or_else(not_a_job)?;
    let job = key.split('/').next().unwrap_or(key).parse().map_err(|_| not_a_job())?;
    let location =
        root.parse().map_err(|error: InvalidStoreLocation| CommandError::Input(error.to_string()))?;
    Ok((location, job))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_in_a_bucket_is_found_by_the_url_of_any_of_its_objects() {
        for url in [
            "s3://bucket/a/b/jobs/j-1/manifest.json",
            "s3://bucket/a/b/jobs/j-1",
            "s3://bucket/a/b/jobs/j-1/",
        ] {
            let (location, job) = split_bucket_url(url).unwrap();
            assert_eq!((location.to_string().as_str(), job.as_str()), ("s3://bucket/a/b", "j-1"));
        }
        for url in ["s3://bucket/j-1", "s3://bucket/jobs/", "s3://b/jobs/j"] {
            assert!(split_bucket_url(url).is_err(), "{url}");
        }
    }
}
