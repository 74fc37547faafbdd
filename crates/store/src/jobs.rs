//! The stored state of a job: the manifest and the index page of a completed job, or the error
//! document of the last failed attempt.
//!
//! Write order: artifacts, index page, manifest. A writer that dies at any point therefore never
//! leaves a manifest that names a missing object.

use std::collections::BTreeSet;

use forge_contract::{
    artifact::{ErrorDocument, ManifestDocument},
    canonical::to_canonical_json,
    digest::Digest,
    ids::JobId,
};
use object_store::{ObjectStoreExt, PutMode};
use serde::Serialize;

use crate::{
    error::StoreError,
    index::{self, IndexContent},
    store::{MAX_JOB_DOCUMENT_BYTES, Store, checked_key},
};

pub(crate) const JSON_MEDIA_TYPE: &str = "application/json";
const HTML_MEDIA_TYPE: &str = "text/html; charset=utf-8";

/// Outcome of completing a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completion {
    /// The manifest was stored.
    Stored,
    /// Another run of the job completed first. Carries the manifest of that run, which is kept.
    AlreadyComplete(Box<ManifestDocument>),
}

/// A manifest as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredManifest {
    /// The manifest.
    pub document: ManifestDocument,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
}

impl Store {
    /// Key of a job's manifest.
    pub fn manifest_key(job: &JobId) -> String {
        format!("jobs/{job}/manifest.json")
    }

    /// Key of the error document of a job's failed attempt.
    pub fn error_key(job: &JobId) -> String {
        format!("jobs/{job}/error.json")
    }

    /// Key of the page that lists a completed job's artifacts.
    pub fn index_page_key(job: &JobId) -> String {
        format!("jobs/{job}/index.html")
    }

    /// Reads the manifest of a completed job; `None` while the job has none.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] when the object is not a manifest of this job in canonical JSON,
    /// or names two artifacts alike; [`StoreError::Corrupt`] when it is no regular file; or
    /// [`StoreError::Unavailable`].
    pub async fn get_manifest(&self, job: &JobId) -> Result<Option<ManifestDocument>, StoreError> {
        Ok(self.get_stored_manifest(job).await?.map(|stored| stored.document))
    }

    /// Reads the manifest of a completed job with the hash of its bytes; `None` while the job has
    /// none.
    ///
    /// # Errors
    /// See [`Store::get_manifest`].
    pub async fn get_stored_manifest(&self, job: &JobId) -> Result<Option<StoredManifest>, StoreError> {
        let key = Self::manifest_key(job);
        let Some((manifest, sha256)) = self.read_json::<ManifestDocument>(&key).await? else {
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
        if let Err(reason) = check_artifact_names(&manifest) {
            return malformed(reason);
        }
        let canonical = to_canonical_json(&manifest).map(|json| Digest::hash_parts(&[&json]));
        if canonical.ok() != Some(sha256) {
            return malformed("it is not canonical JSON".to_owned());
        }
        Ok(Some(StoredManifest { document: manifest, sha256 }))
    }

    /// The bytes that [`Store::complete_job`] stores for a manifest.
    pub fn manifest_bytes(manifest: &ManifestDocument) -> Vec<u8> {
        canonical_json(manifest)
    }

    /// Reads the index page of a completed job; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] when it is too large, [`StoreError::Corrupt`] when it is no
    /// regular file, or [`StoreError::Unavailable`].
    pub async fn get_index_page(&self, job: &JobId) -> Result<Option<Vec<u8>>, StoreError> {
        self.read_object(&Self::index_page_key(job), MAX_JOB_DOCUMENT_BYTES as u64).await
    }

    /// The index page of a completed job, as [`Store::complete_job`] writes it.
    pub fn render_index_page(manifest: &ManifestDocument, content: &IndexContent) -> Vec<u8> {
        index::render_page(manifest, content).into_bytes()
    }

    /// Completes a job after its artifacts have been stored: writes its index page and its
    /// manifest, and removes the error document of a failed attempt. `content` is what the page
    /// says of the result.
    ///
    /// A job that has already completed keeps its manifest and its page.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] when the existing manifest cannot be read; otherwise the errors of
    /// a write.
    pub async fn complete_job(
        &self,
        manifest: &ManifestDocument,
        content: &IndexContent,
    ) -> Result<Completion, StoreError> {
        let job = &manifest.job_id;
        let completion = match self.get_manifest(job).await? {
            Some(existing) => Completion::AlreadyComplete(Box::new(existing)),
            None => self.write_manifest(manifest, content).await?,
        };
        self.delete(&Self::error_key(job)).await?;
        Ok(completion)
    }

    async fn write_manifest(
        &self,
        manifest: &ManifestDocument,
        content: &IndexContent,
    ) -> Result<Completion, StoreError> {
        let job = &manifest.job_id;
        let page = Self::index_page_key(job);
        let html = Self::render_index_page(manifest, content);
        self.put(&page, html, HTML_MEDIA_TYPE, PutMode::Overwrite).await?;
        let key = Self::manifest_key(job);
        if self.put(&key, Self::manifest_bytes(manifest), JSON_MEDIA_TYPE, PutMode::Create).await? {
            return Ok(Completion::Stored);
        }
        // Another run completed the job in the meantime. The page must list the artifacts of that
        // manifest.
        let Some(existing) = self.get_manifest(job).await? else {
            return Err(StoreError::Missing { path: self.locate(&key) });
        };
        let html = Self::render_index_page(&existing, content);
        self.put(&page, html, HTML_MEDIA_TYPE, PutMode::Overwrite).await?;
        Ok(Completion::AlreadyComplete(Box::new(existing)))
    }

    /// Records a failed attempt, replacing the error document of an earlier one. Returns whether
    /// the document was written: a completed job keeps its manifest and gets no error document.
    ///
    /// # Errors
    /// Returns the errors of a write.
    pub async fn put_error(&self, error: &ErrorDocument) -> Result<bool, StoreError> {
        let manifest = Self::manifest_key(&error.job_id);
        match self.objects.head(&self.key(&manifest)?).await {
            Ok(_) => return Ok(false),
            Err(error) if self.is_absent(&manifest, &error) => {}
            Err(error) => return Err(self.store_error(&manifest, &error)),
        }
        self.put(&Self::error_key(&error.job_id), canonical_json(error), JSON_MEDIA_TYPE, PutMode::Overwrite)
            .await
    }

    /// Removes the error document of a job's failed attempt. Succeeds if there is none.
    ///
    /// # Errors
    /// Returns the errors of a write.
    pub async fn remove_error(&self, job: &JobId) -> Result<(), StoreError> {
        self.delete(&Self::error_key(job)).await
    }

    /// Reads the error document of a job's failed attempt; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] or [`StoreError::Unavailable`].
    pub async fn get_error(&self, job: &JobId) -> Result<Option<ErrorDocument>, StoreError> {
        Ok(self.read_json(&Self::error_key(job)).await?.map(|(document, _)| document))
    }
}

/// Every artifact has a safe name of its own. Names that differ only in case count as equal,
/// because they are one file where file names ignore case.
fn check_artifact_names(manifest: &ManifestDocument) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for reference in &manifest.artifacts {
        checked_key(reference).map_err(|error| error.to_string())?;
        if !names.insert(reference.name.to_ascii_lowercase()) {
            return Err(format!("it names two artifacts {}", reference.name));
        }
    }
    Ok(())
}

/// Canonical JSON of a document that contains only strings, digests and counts of objects in
/// memory.
fn canonical_json(document: &impl Serialize) -> Vec<u8> {
    to_canonical_json(document).expect("counts of objects in memory are far below 2^53")
}
