//! A completed job in its store, as `forge replay` and `forge audit` read it: by the path of its
//! manifest in a directory or a bucket. Read-only.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use forge_contract::{
    artifact::{ArtifactReference, ManifestDocument},
    error::InvalidDocument,
    ids::{JobId, ReplayKey},
};
use forge_documents::{
    Job,
    document::{ENVELOPE_JSON, RESULT_JSON},
};
use forge_kernel::{
    KERNEL,
    request::{ModelCompiler, Request},
};
use forge_store::{Store, StoreError, StoreLocation, location::InvalidStoreLocation};
use tokio::runtime::Runtime;

use crate::{
    artifact_limits::{self, OversizedArtifact},
    error::CommandError,
    runtime,
    store_args::s3_options,
};

/// Where a job is: its store and its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobLocation {
    store: StoreLocation,
    /// Id of the job.
    pub job: JobId,
}

impl JobLocation {
    /// The location of a job in a store.
    pub fn in_store(store: StoreLocation, job: JobId) -> Self {
        Self { store, job }
    }

    /// The location that `path` names: a job's `manifest.json`, another file next to it, or the
    /// directory `jobs/<job_id>`. A path in a bucket starts with `s3://`, as in
    /// `s3://bucket/jobs/<job_id>`.
    ///
    /// # Errors
    /// [`CommandError::Input`] if the path is not that of a job or does not exist.
    pub fn from_path(path: &Path) -> Result<Self, CommandError> {
        match path.to_str().filter(|text| text.starts_with("s3://")) {
            Some(url) => split_bucket_url(url),
            None => split_path(path),
        }
    }
}

/// Why there is no content of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArtifactProblem {
    /// The artifact is missing, or differs from what the manifest states.
    Wrong(String),
    /// The artifact could not be read here, which says nothing about it.
    Unreadable(String),
}

impl From<OversizedArtifact> for ArtifactProblem {
    fn from(oversized: OversizedArtifact) -> Self {
        match oversized {
            OversizedArtifact::Implausible { .. } => Self::Wrong(oversized.to_string()),
            OversizedArtifact::TooLargeForMemory { .. } => Self::Unreadable(oversized.to_string()),
        }
    }
}

/// Why a stored envelope is not that of the job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WrongEnvelope {
    /// It is no valid envelope.
    #[error("the stored envelope is not valid: {0}")]
    Invalid(#[from] InvalidDocument),
    /// It asks for another result than the manifest names.
    #[error("its replay key is {found}, but the manifest has {expected}")]
    ReplayKey {
        /// Replay key of the envelope.
        found: ReplayKey,
        /// Replay key in the manifest.
        expected: ReplayKey,
    },
    /// It asks for the same result, and differs in what else it says.
    #[error("it is not the envelope that the manifest names")]
    OtherEnvelope,
}

impl From<StoreError> for ArtifactProblem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Missing { .. } | StoreError::Corrupt { .. } | StoreError::Malformed { .. } => {
                Self::Wrong(error.to_string())
            }
            _ => Self::Unreadable(error.to_string()),
        }
    }
}

/// What the problem means to a command that needs the artifact.
impl From<ArtifactProblem> for CommandError {
    fn from(problem: ArtifactProblem) -> Self {
        match problem {
            ArtifactProblem::Wrong(reason) => Self::Mismatch(reason),
            ArtifactProblem::Unreadable(reason) => Self::Input(reason),
        }
    }
}

/// A completed job in its store. Everything in it may be an attacker's, apart from the root of a
/// local store.
pub struct StoredJob {
    runtime: Runtime,
    store: Store,
    /// The job's manifest.
    pub manifest: ManifestDocument,
}

impl StoredJob {
    /// Opens a job.
    ///
    /// # Errors
    /// [`CommandError::Input`] if there is no such job or another kernel version executed it,
    /// [`CommandError::Mismatch`] if the manifest is malformed or no regular file.
    pub fn open(location: &JobLocation) -> Result<Self, CommandError> {
        let job = &location.job;
        let to_command_error = |error: StoreError| match error {
            StoreError::Malformed { .. } | StoreError::Corrupt { .. } => {
                CommandError::Mismatch(error.to_string())
            }
            other => CommandError::Input(other.to_string()),
        };
        let runtime = runtime::current_thread()?;
        let options = s3_options(&location.store)?;
        let store = runtime.block_on(Store::open_for_reading(&location.store, &options));
        let store = store.map_err(to_command_error)?;
        let Some(manifest) = runtime.block_on(store.get_manifest(job)).map_err(to_command_error)? else {
            let manifest_path = store.locate(&Store::manifest_key(job));
            return Err(CommandError::Input(format!(
                "{manifest_path} does not exist: no such job has completed in this store"
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

    /// Checks that the result hash that the manifest states is that of its result.json, if it names
    /// one.
    ///
    /// # Errors
    /// [`CommandError::Mismatch`] if it is not.
    pub fn check_result_reference(&self) -> Result<(), CommandError> {
        let stated = self.manifest.result;
        match self.artifact_reference(RESULT_JSON) {
            Some(reference) if reference.sha256 != stated => Err(CommandError::Mismatch(format!(
                "the manifest's result is {stated}, but its {RESULT_JSON} has the hash {}",
                reference.sha256
            ))),
            _ => Ok(()),
        }
    }

    /// Reads the stored envelope and derives the job from it. The compiler may reuse a compiled
    /// model.
    ///
    /// # Errors
    /// [`CommandError::Mismatch`] if the envelope is missing, or is not the one that the manifest
    /// names, [`CommandError::Input`] if it cannot be read.
    pub fn read_job(&self, compiler: &dyn ModelCompiler) -> Result<Job, CommandError> {
        let missing = || CommandError::Mismatch(format!("the manifest names no {ENVELOPE_JSON}"));
        let reference = self.artifact_reference(ENVELOPE_JSON).ok_or_else(missing)?;
        let bytes = self.read_artifact(reference, 0)?;
        self.job_of_envelope(&bytes, compiler)
            .map_err(|reason| CommandError::Mismatch(format!("{ENVELOPE_JSON}: {reason}")))
    }

    /// The manifest's reference to an artifact; `None` if the job did not keep it.
    pub fn artifact_reference(&self, name: &str) -> Option<&ArtifactReference> {
        self.manifest.artifacts.iter().find(|artifact| artifact.name == name)
    }

    /// Reads an artifact and checks its size and hash against the manifest. `shards` bounds the
    /// size that the manifest may state.
    ///
    /// # Errors
    /// Why there is no such artifact that is intact and of acceptable size.
    pub fn read_artifact(
        &self,
        reference: &ArtifactReference,
        shards: u64,
    ) -> Result<Vec<u8>, ArtifactProblem> {
        artifact_limits::check(reference, shards)?;
        artifact_limits::check_memory(reference)?;
        Ok(self.runtime.block_on(self.store.get_artifact(reference))?)
    }

    /// Reads an artifact in chunks, and checks its size and hash as [`StoredJob::read_artifact`]
    /// does. Do not rely on the chunks if the result is an error.
    ///
    /// # Errors
    /// See [`StoredJob::read_artifact`].
    pub fn read_artifact_in_chunks(
        &self,
        reference: &ArtifactReference,
        shards: u64,
        mut on_chunk: impl FnMut(&[u8]),
    ) -> Result<(), ArtifactProblem> {
        artifact_limits::check(reference, shards)?;
        let read = async {
            let mut reader = self.store.open_artifact(reference).await?;
            while let Some(chunk) = reader.next_chunk().await? {
                on_chunk(&chunk);
            }
            Ok(())
        };
        self.runtime.block_on(read).map_err(|error: StoreError| error.into())
    }

    /// Reads the job's index page; `None` if there is none.
    ///
    /// # Errors
    /// The page is too large or no regular file, or the store cannot be read.
    pub fn read_index_page(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.runtime.block_on(self.store.get_index_page(&self.manifest.job_id))
    }

    /// Lists what else lies in the directories of the job's documents, at most `max` keys.
    ///
    /// # Errors
    /// A directory is something else, or the store cannot be listed.
    pub fn list_surroundings(&self, max: usize) -> Result<Vec<String>, StoreError> {
        self.runtime.block_on(self.store.list_surroundings(&self.manifest, max))
    }

    /// Derives the job from the bytes of the stored envelope, and checks it against the manifest.
    /// The compiler may reuse a compiled model.
    ///
    /// # Errors
    /// [`WrongEnvelope`].
    pub fn job_of_envelope(
        &self,
        envelope: &[u8],
        compiler: &dyn ModelCompiler,
    ) -> Result<Job, WrongEnvelope> {
        let job = Job::new(Request::from_json_with(envelope, compiler)?);
        let (found, expected) = (job.request.replay_key, self.manifest.replay_key);
        if found != expected {
            return Err(WrongEnvelope::ReplayKey { found, expected });
        }
        if (job.envelope_digest, &job.id) != (self.manifest.request, &self.manifest.job_id) {
            return Err(WrongEnvelope::OtherEnvelope);
        }
        Ok(job)
    }
}

/// Splits `<root>/jobs/<job_id>`, or the path of a file in it, into the store's root and the job
/// id. Resolves no link below the root, where the content is not trusted.
fn split_path(path: &Path) -> Result<JobLocation, CommandError> {
    let expected = "expected jobs/<job_id>/manifest.json or its directory";
    let shown = path.display();
    let not_a_job = || CommandError::Input(format!("{shown} is not in the directory of a job: {expected}"));
    let cannot_open =
        |error: io::Error| CommandError::Input(format!("cannot open {shown}: {error}; {expected}"));
    let is_directory = fs::symlink_metadata(path).map_err(cannot_open)?.is_dir();
    let absolute = without_dots(&std::path::absolute(path).map_err(cannot_open)?);
    let is_job = |directory: &Path| directory.parent().is_some_and(|jobs| jobs.ends_with("jobs"));
    let parent = absolute.parent().filter(|parent| is_job(parent));
    // Whatever is in place of a job's file or directory is refused when it is read.
    let directory = match parent {
        Some(parent) if !(is_directory && is_job(&absolute)) => parent,
        _ => absolute.as_path(),
    };
    let name = directory.file_name().and_then(|name| name.to_str());
    let job = name.and_then(|name| name.parse().ok()).ok_or_else(not_a_job)?;
    let jobs = directory.parent().filter(|_| is_job(directory));
    let root = jobs.and_then(Path::parent).ok_or_else(not_a_job)?;
    Ok(JobLocation { store: StoreLocation::Directory(root.to_owned()), job })
}

/// The path with `.` and `..` resolved by its text alone.
fn without_dots(path: &Path) -> PathBuf {
    let mut resolved = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                resolved.pop();
            }
            other => resolved.push(other),
        }
    }
    resolved
}

/// Splits `s3://<bucket>[/<prefix>]/jobs/<job_id>`, or the URL of an object in it, into the store's
/// location and the job id.
fn split_bucket_url(url: &str) -> Result<JobLocation, CommandError> {
    let not_a_job = || {
        let expected = "s3://<bucket>[/<prefix>]/jobs/<job_id>/manifest.json";
        CommandError::Input(format!("{url} is not a job in a bucket: expected {expected}"))
    };
    let (root, key) = url.rsplit_once("/jobs/").ok_or_else(not_a_job)?;
    let job = key.split('/').next().unwrap_or(key).parse().map_err(|_| not_a_job())?;
    let store = root.parse().map_err(|error: InvalidStoreLocation| CommandError::Input(error.to_string()))?;
    Ok(JobLocation { store, job })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unavailable_store_is_no_fault_of_an_artifact() {
        let (path, reason) = ("x".to_owned(), "y".to_owned());
        let problem = |error: StoreError| ArtifactProblem::from(error);
        let unavailable = StoreError::Unavailable { path: path.clone(), reason: reason.clone() };
        assert_eq!(problem(unavailable), ArtifactProblem::Unreadable("x: y".to_owned()));
        let denied = StoreError::Unusable { path: path.clone(), reason: reason.clone() };
        assert!(matches!(problem(denied), ArtifactProblem::Unreadable(_)));
        for error in [StoreError::Missing { path: path.clone() }, StoreError::Corrupt { path, reason }] {
            assert!(matches!(problem(error), ArtifactProblem::Wrong(_)));
        }
    }

    #[test]
    fn job_in_a_bucket_is_found_by_the_url_of_any_of_its_objects() {
        for url in [
            "s3://bucket/a/b/jobs/j-1/manifest.json",
            "s3://bucket/a/b/jobs/j-1",
            "s3://bucket/a/b/jobs/j-1/",
        ] {
            let JobLocation { store, job } = split_bucket_url(url).unwrap();
            assert_eq!((store.to_string().as_str(), job.as_str()), ("s3://bucket/a/b", "j-1"));
        }
        for url in ["s3://bucket/j-1", "s3://bucket/jobs/", "s3://b/jobs/j"] {
            assert!(split_bucket_url(url).is_err(), "{url}");
        }
    }

    #[test]
    fn job_in_a_directory_is_found_by_the_text_of_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let job = directory.path().join("jobs/j-1");
        fs::create_dir_all(&job).unwrap();
        fs::write(job.join("manifest.json"), "").unwrap();
        for path in [&job, &job.join("manifest.json"), &job.join("../j-1/./manifest.json")] {
            let location = JobLocation::from_path(path).unwrap();
            assert_eq!(location.store, StoreLocation::Directory(directory.path().to_owned()));
            assert_eq!(location.job.as_str(), "j-1");
        }
        for path in [directory.path(), &directory.path().join("jobs"), &job.join("absent")] {
            assert!(JobLocation::from_path(path).is_err(), "{}", path.display());
        }
    }
}
