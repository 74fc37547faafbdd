//! The record of each job: its manifest once it has completed, the error of its last attempt until then, and a page.
//!
//! Order of writing: artifacts, then the index page, then the manifest. So wherever a writer dies, no manifest names an
//! object that is missing.

use forge_contract::{
    artifact::{ErrorDocument, ManifestDocument},
    canonical::to_canonical_json,
    ids::JobId,
};
use object_store::{ObjectStoreExt, PutMode};
use serde::Serialize;

use crate::{error::StoreError, index, store::Store};

const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// What became of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completion {
    /// It is stored.
    Stored,
    /// Another run of the job had completed before. This is its manifest, which stays.
    AlreadyComplete(Box<ManifestDocument>),
}

impl Store {
    /// Key of a job's manifest.
    pub fn manifest_key(job: &JobId) -> String {
        format!("jobs/{job}/manifest.json")
    }

    /// Key of the record of a job's failed attempt.
    pub fn error_key(job: &JobId) -> String {
        format!("jobs/{job}/error.json")
    }

    /// The manifest of a completed job; `None` while there is none.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] when it is not a manifest of this job, or [`StoreError::Unavailable`].
    pub async fn get_manifest(&self, job: &JobId) -> Result<Option<ManifestDocument>, StoreError> {
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
        self.put(&page, index::page(manifest, headline).into_bytes(), HTML, PutMode::Overwrite).await?;
        let key = Self::manifest_key(job);
        if self.put(&key, canonical(manifest), JSON, PutMode::Create).await? {
            return Ok(Completion::Stored);
        }
        // Another run of the job completed in between. The page must show what its manifest names.
        let Some(existing) = self.get_manifest(job).await? else {
            return Err(StoreError::Missing { path: self.locate(&key) });
        };
        self.put(&page, index::page(&existing, headline).into_bytes(), HTML, PutMode::Overwrite).await?;
        Ok(Completion::AlreadyComplete(Box::new(existing)))
    }

    /// Records that an attempt has failed, in place of the record of an earlier one. A job that has completed keeps its
    /// manifest and gets no such record. Answers whether it was written.
    ///
    /// # Errors
    /// As for a write.
    pub async fn put_error(&self, error: &ErrorDocument) -> Result<bool, StoreError> {
        let manifest = Self::manifest_key(&error.job_id);
        match self.objects.head(&self.key(&manifest)?).await {
            Ok(_) => return Ok(false),
            Err(error) if self.is_absent(&manifest, &error) => {}
            Err(error) => return Err(self.failed(&manifest, &error)),
        }
        self.put(&Self::error_key(&error.job_id), canonical(error), JSON, PutMode::Overwrite).await
    }

    /// The record of a job's failed attempt, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] or [`StoreError::Unavailable`].
    pub async fn get_error(&self, job: &JobId) -> Result<Option<ErrorDocument>, StoreError> {
        self.read(&Self::error_key(job)).await
    }
}

/// Canonical JSON of a document made of strings, digests and counts of what fits into memory.
fn canonical(document: &impl Serialize) -> Vec<u8> {
    to_canonical_json(document).expect("records hold no number beyond 2^53")
}
