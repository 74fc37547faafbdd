//! The stored state of a job: the manifest and the index page of a completed job, or the error
//! document of the last failed attempt.
//!
//! Write order: artifacts, index page, manifest. A writer that dies at any point therefore never
//! leaves a manifest that names a missing object.

use forge_contract::{
    artifact::{ErrorDocument, ManifestDocument},
    canonical::to_canonical_json,
    ids::JobId,
};
use object_store::{ObjectStoreExt, PutMode};
use serde::Serialize;

use crate::{error::StoreError, index, store::Store};

const JSON_MEDIA_TYPE: &str = "application/json";
const HTML_MEDIA_TYPE: &str = "text/html; charset=utf-8";

/// Outcome of completing a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completion {
    /// The manifest was stored.
    Stored,
    /// Another run of the job completed first. Carries the manifest of that run, which is kept.
    AlreadyComplete(Box<ManifestDocument>),
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

    /// Reads the manifest of a completed job; `None` while the job has none.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] when the object is not a manifest of this job, or
    /// [`StoreError::Unavailable`].
    pub async fn get_manifest(&self, job: &JobId) -> Result<Option<ManifestDocument>, StoreError> {
        let key = Self::manifest_key(job);
        let Some(manifest) = self.read_json::<ManifestDocument>(&key).await? else {
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

    /// Completes a job after its artifacts have been stored: writes its index page and its
    /// manifest, and removes the error document of a failed attempt. `headline` holds the pairs of
    /// label and text that the page displays.
    ///
    /// A job that has already completed keeps its manifest and its page.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] when the existing manifest cannot be read; otherwise the errors of
    /// a write.
    pub async fn complete_job(
        &self,
        manifest: &ManifestDocument,
        headline: &[(String, String)],
    ) -> Result<Completion, StoreError> {
        let job = &manifest.job_id;
        let completion = match self.get_manifest(job).await? {
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
        self.put(
            &page,
            index::render_page(manifest, headline).into_bytes(),
            HTML_MEDIA_TYPE,
            PutMode::Overwrite,
        )
        .await?;
        let key = Self::manifest_key(job);
        if self.put(&key, canonical_json(manifest), JSON_MEDIA_TYPE, PutMode::Create).await? {
            return Ok(Completion::Stored);
        }
        // Another run completed the job in the meantime. The page must list the artifacts of that
        // manifest.
        let Some(existing) = self.get_manifest(job).await? else {
            return Err(StoreError::Missing { path: self.locate(&key) });
        };
        self.put(
            &page,
            index::render_page(&existing, headline).into_bytes(),
            HTML_MEDIA_TYPE,
            PutMode::Overwrite,
        )
        .await?;
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

    /// Reads the error document of a job's failed attempt; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] or [`StoreError::Unavailable`].
    pub async fn get_error(&self, job: &JobId) -> Result<Option<ErrorDocument>, StoreError> {
        self.read_json(&Self::error_key(job)).await
    }
}

/// Canonical JSON of a document that contains only strings, digests and counts of objects in
/// memory.
fn canonical_json(document: &impl Serialize) -> Vec<u8> {
    to_canonical_json(document).expect("counts of objects in memory are far below 2^53")
}
