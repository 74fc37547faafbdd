//! The store: artifacts by hash, and the record of each job. One implementation for every `object_store` backend.
//!
//! Order of writing: artifacts, then the index page, then the manifest. So wherever a writer dies, no manifest names an
//! object that is missing.

use std::{fmt, sync::Arc};

use forge_contract::{
    artifact::{ArtifactReference, ErrorDocument, ManifestDocument},
    canonical::to_canonical_json,
    digest::Digest,
    ids::JobId,
};
use futures_util::future::join_all;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, memory::InMemory, path::Path as Key};
use serde::{Serialize, de::DeserializeOwned};

use crate::{error::StoreError, index};

/// Where artifacts and job records are kept. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    /// How people call the place: a directory or a bucket.
    place: String,
}

/// An object to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// File name: 1 to 64 of `A–Z a–z 0–9 . _ -`, not starting with a dot.
    pub name: String,
    /// Media type, as in `application/json`.
    pub media_type: String,
    /// The content.
    pub bytes: Vec<u8>,
}

impl Artifact {
    /// How the artifact is referred to: by the hash of its content.
    pub fn reference(&self) -> ArtifactReference {
        ArtifactReference {
            name: self.name.clone(),
            sha256: Digest::of(&[&self.bytes]),
            size: self.bytes.len() as u64,
            media_type: self.media_type.clone(),
        }
    }
}

/// What became of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completion {
    /// It is stored.
    Stored,
    /// Another run of the job had completed before. This is its manifest, which stays.
    AlreadyComplete(Box<ManifestDocument>),
}

impl Store {
    /// A store in this process's memory.
    pub fn in_memory() -> Self {
        Self::at(Arc::new(InMemory::new()), "memory")
    }

    pub(crate) fn at(objects: Arc<dyn ObjectStore>, place: &str) -> Self {
        Self { objects, place: place.to_owned() }
    }

    /// Where an object lies, for people: with a local store, its path.
    pub fn locate(&self, key: &str) -> String {
        format!("{}/{key}", self.place.trim_end_matches('/'))
    }

    /// Key of a job's manifest.
    pub fn manifest_key(job: &JobId) -> String {
        format!("jobs/{job}/manifest.json")
    }

    /// Key of the record of a job's failed attempt.
    pub fn error_key(job: &JobId) -> String {
        format!("jobs/{job}/error.json")
    }

    /// Stores an artifact under its hash. If it is there already, its bytes are compared and nothing is written.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when other bytes lie under the hash; [`StoreError::Malformed`] when the name is unsafe;
    /// [`StoreError::Full`], [`StoreError::Unusable`] or [`StoreError::Unavailable`] when it cannot be written.
    pub async fn put_artifact(&self, artifact: Artifact) -> Result<ArtifactReference, StoreError> {
        let reference = artifact.reference();
        let key = self.key(&checked_key(&reference)?)?;
        match self.objects.put_opts(&key, artifact.bytes.into(), PutMode::Create.into()).await {
            Ok(_) => Ok(reference),
            Err(object_store::Error::AlreadyExists { .. }) => {
                self.get_artifact(&reference).await.map(|_| reference)
            }
            Err(error) => Err(self.failed(key.as_ref(), &error)),
        }
    }

    /// Stores artifacts side by side and returns their references in order. Every write has ended when it returns.
    ///
    /// # Errors
    /// The first of the errors of [`Store::put_artifact`].
    pub async fn put_artifacts(
        &self,
        artifacts: Vec<Artifact>,
    ) -> Result<Vec<ArtifactReference>, StoreError> {
        join_all(artifacts.into_iter().map(|artifact| self.put_artifact(artifact)))
            .await
            .into_iter()
            .collect()
    }

    /// The content of an artifact, of the size and the hash that the reference names.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Corrupt`], [`StoreError::Malformed`] when the name is unsafe, or
    /// [`StoreError::Unavailable`].
    pub async fn get_artifact(&self, reference: &ArtifactReference) -> Result<Vec<u8>, StoreError> {
        let key = checked_key(reference)?;
        let corrupt = |reason: String| StoreError::Corrupt { path: self.locate(&key), reason };
        let answer = self.objects.get(&self.key(&key)?).await.map_err(|error| self.failed(&key, &error))?;
        if answer.meta.size != reference.size {
            let (found, expected) = (answer.meta.size, reference.size);
            return Err(corrupt(format!("it has {found} bytes, where {expected} are expected")));
        }
        let bytes = answer.bytes().await.map_err(|error| self.failed(&key, &error))?;
        let found = Digest::of(&[&bytes]);
        if found != reference.sha256 {
            return Err(corrupt(format!("the SHA-256 of its content is {found}")));
        }
        Ok(bytes.into())
    }

    /// The manifest of a completed job; `None` while there is none.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] when it is not a manifest of this job, or [`StoreError::Unavailable`].
    pub async fn manifest(&self, job: &JobId) -> Result<Option<ManifestDocument>, StoreError> {
        let key = Self::manifest_key(job);
        let Some(manifest) = self.read::<ManifestDocument>(&key).await? else {
            return Ok(None);
        };
        let malformed = |reason: String| Err(StoreError::Malformed { path: self.locate(&key), reason });
        if manifest.schema != ManifestDocument::SCHEMA {
            return malformed(format!(
                "its schema is {:?}, not {:?}",
                manifest.schema,
                ManifestDocument::SCHEMA
            ));
        }
        if manifest.job_id != *job {
            return malformed(format!("it is the manifest of job {}", manifest.job_id));
        }
        Ok(Some(manifest))
    }

    /// Ends a job whose artifacts are stored: writes its index page and its manifest, and removes the record of a failed
    /// attempt. `headline` is what the page says about the result: label and text.
    ///
    /// A job that has completed before keeps the manifest and the page it has.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] when there is a manifest that cannot be read; otherwise as for a write.
    pub async fn complete(
        &self,
        manifest: &ManifestDocument,
        headline: &[(String, String)],
    ) -> Result<Completion, StoreError> {
        let job = &manifest.job_id;
        let completion = match self.manifest(job).await? {
            Some(existing) => Completion::AlreadyComplete(Box::new(existing)),
            None => self.write_manifest(manifest, headline).await?,
        };
        self.delete(&Self::error_key(job)).await?;
        Ok(completion)
    }

    async fn write_manifest(
        &self,
        manifest: &ManifestDocument,
        headline: &[(String, String)],
    ) -> Result<Completion, StoreError> {
        let job = &manifest.job_id;
        let page = format!("jobs/{job}/index.html");
        self.put(&page, index::page(manifest, headline).into_bytes(), PutMode::Overwrite).await?;
        let key = Self::manifest_key(job);
        if self.put(&key, canonical(manifest), PutMode::Create).await? {
            return Ok(Completion::Stored);
        }
        // Another run of the job completed in between. The page must show what its manifest names.
        let Some(existing) = self.manifest(job).await? else {
            return Err(StoreError::Missing { path: self.locate(&key) });
        };
        self.put(&page, index::page(&existing, headline).into_bytes(), PutMode::Overwrite).await?;
        Ok(Completion::AlreadyComplete(Box::new(existing)))
    }

    /// Records that an attempt has failed, in place of the record of an earlier one. A job that has completed keeps its
    /// manifest and gets no such record. Answers whether it was written.
    ///
    /// # Errors
    /// As for a write.
    pub async fn put_error(&self, error: &ErrorDocument) -> Result<bool, StoreError> {
        let manifest = Key::from(Self::manifest_key(&error.job_id));
        if self.objects.head(&manifest).await.is_ok() {
            return Ok(false);
        }
        self.put(&Self::error_key(&error.job_id), canonical(error), PutMode::Overwrite).await
    }

    /// The record of a job's failed attempt, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] or [`StoreError::Unavailable`].
    pub async fn error(&self, job: &JobId) -> Result<Option<ErrorDocument>, StoreError> {
        self.read(&Self::error_key(job)).await
    }

    /// Writes an object; `false` if it may only be created and is there already.
    async fn put(&self, key: &str, bytes: Vec<u8>, mode: PutMode) -> Result<bool, StoreError> {
        match self.objects.put_opts(&self.key(key)?, bytes.into(), mode.into()).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(self.failed(key, &error)),
        }
    }

    async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let answer = match self.objects.get(&self.key(key)?).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            other => other.map_err(|error| self.failed(key, &error))?,
        };
        let bytes = answer.bytes().await.map_err(|error| self.failed(key, &error))?;
        let malformed = |error: serde_json::Error| StoreError::Malformed {
            path: self.locate(key),
            reason: error.to_string(),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(malformed)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.objects.delete(&self.key(key)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(key, &error)),
        }
    }

    fn key(&self, key: &str) -> Result<Key, StoreError> {
        Key::parse(key)
            .map_err(|error| StoreError::Malformed { path: self.locate(key), reason: error.to_string() })
    }

    fn failed(&self, key: &str, error: &object_store::Error) -> StoreError {
        StoreError::from_object_store(&self.locate(key), error)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.place)
    }
}

/// The key of an artifact, whose name may come from a manifest that a stranger wrote.
fn checked_key(reference: &ArtifactReference) -> Result<String, StoreError> {
    let name = &reference.name;
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=64).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(safe) {
        return Ok(reference.key());
    }
    Err(StoreError::Malformed {
        path: format!("the artifact {name:?}"),
        reason:
            "a name is 1 to 64 characters out of A-Z, a-z, 0-9, ., _ and -, and does not start with a dot"
                .to_owned(),
    })
}

/// Canonical JSON of a document made of strings, digests and counts of what fits into memory.
fn canonical(document: &impl Serialize) -> Vec<u8> {
    to_canonical_json(document).expect("records hold no number beyond 2^53")
}
