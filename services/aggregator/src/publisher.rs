//! Publishing a job's result: builds the documents, stores the artifacts and then the manifest.
//! Writes no job record.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use forge_contract::{
    agent::Identity,
    artifact::{ArtifactReference, ManifestDocument},
    error::FailureCode,
    shard::ShardId,
};
use forge_documents::{CompletedJob, Document, document::RESULT_JSON};
use forge_service::Metrics;
use forge_store::{Artifact, Completion, Store, StoreError, shards_file};

use crate::store_retry::retry_within;

/// Publishes the results of jobs in the object store.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub store: Arc<Store>,
    /// Signs the manifests.
    pub identity: Arc<Identity>,
    pub metrics: Metrics,
    /// How long to retry while the store is unavailable.
    pub patience: Duration,
}

/// A stored result.
#[derive(Debug)]
pub(crate) struct Publication {
    pub artifacts: Vec<ArtifactReference>,
    /// Where the manifest is, for people.
    pub manifest: String,
    /// Whether an earlier run of the job stored it.
    pub stored_before: bool,
}

/// Why a result could not be published.
#[derive(Debug)]
pub(crate) struct PublishError {
    pub code: FailureCode,
    /// A sentence for people.
    pub message: String,
}

impl From<StoreError> for PublishError {
    fn from(error: StoreError) -> Self {
        Self { code: FailureCode::StorageFailed, message: error.to_string() }
    }
}

impl Publisher {
    /// Stores the artifacts, with the shard results if they are given, and then the manifest. If an
    /// earlier run of the same job stored its
    /// result, compares with that instead.
    ///
    /// # Errors
    /// [`PublishError`] when the store stays unavailable, when the manifest of another envelope has
    /// this job id, or when the earlier run had another result or its artifacts are damaged.
    pub async fn publish(
        &self,
        completed: &CompletedJob<'_>,
        shard_results: Option<&BTreeMap<ShardId, Bytes>>,
    ) -> Result<Publication, PublishError> {
        let operation = format!("storing the artifacts of job {}", completed.job.id);
        let stored = retry_within(self.patience, &operation, || self.store_all(completed, shard_results));
        let (manifest, stored_before) = match stored.await? {
            (manifest, Completion::Stored) => (manifest, false),
            (_, Completion::AlreadyComplete(earlier)) => {
                self.check_earlier(completed, &earlier).await?;
                (*earlier, true)
            }
        };
        let location = self.manifest_location(completed);
        Ok(Publication { artifacts: manifest.artifacts, manifest: location, stored_before })
    }

    fn manifest_location(&self, completed: &CompletedJob<'_>) -> String {
        self.store.locate(&Store::manifest_key(&completed.job.id))
    }

    async fn store_all(
        &self,
        completed: &CompletedJob<'_>,
        shard_results: Option<&BTreeMap<ShardId, Bytes>>,
    ) -> Result<(ManifestDocument, Completion), StoreError> {
        if let Some(earlier) = self.store.get_manifest(&completed.job.id).await? {
            return Ok((completed.manifest(Vec::new()), Completion::AlreadyComplete(Box::new(earlier))));
        }
        let mut artifacts: Vec<_> = completed.documents().into_iter().map(to_artifact).collect();
        artifacts.extend(shard_results.map(|results| shards_artifact(completed, results)));
        let references = self.store.put_artifacts(artifacts).await;
        self.metrics.count_artifact_write(if references.is_ok() { "ok" } else { "failed" });
        let manifest = completed.manifest(references?).sign(&self.identity);
        let completion = self.store.complete_job(&manifest, &completed.headline()).await?;
        Ok((manifest, completion))
    }

    /// Checks that an earlier run had the same envelope and the same result, and that its artifacts
    /// are intact.
    async fn check_earlier(
        &self,
        completed: &CompletedJob<'_>,
        earlier: &ManifestDocument,
    ) -> Result<(), PublishError> {
        let location = self.manifest_location(completed);
        if earlier.request != completed.job.envelope_digest {
            let job = &completed.job.id;
            let message = format!(
                "{location} is the manifest of another envelope with the job id {job}: choose another \
                 ctx.job_id or another store"
            );
            return Err(PublishError { code: FailureCode::Conflict, message });
        }
        let (stored, computed) = (earlier.result, completed.result.hash);
        if stored != computed {
            let message = format!("{location} has the result {stored}, but this run computed {computed}");
            return Err(PublishError { code: FailureCode::VerificationFailed, message });
        }
        for reference in &earlier.artifacts {
            if reference.name == RESULT_JSON && reference.sha256 != stored {
                let message = format!("{location} has the result {stored}, but names another {RESULT_JSON}");
                return Err(PublishError { code: FailureCode::VerificationFailed, message });
            }
            // In chunks: an earlier artifact may have any size.
            let mut reader = self.store.open_artifact(reference).await?;
            while reader.next_chunk().await?.is_some() {}
        }
        Ok(())
    }
}

fn to_artifact(document: Document) -> Artifact {
    Artifact {
        name: document.name.to_owned(),
        media_type: document.media_type.to_owned(),
        bytes: document.bytes,
    }
}

/// The results of the shards, in shard order.
fn shards_artifact(completed: &CompletedJob<'_>, shard_results: &BTreeMap<ShardId, Bytes>) -> Artifact {
    let mut writer = shards_file::ShardsFileWriter::new();
    let results = completed.executions.iter();
    let results = results.filter_map(|execution| shard_results.get(&execution.shard_id));
    results.for_each(|bytes| writer.push(bytes));
    Artifact {
        name: shards_file::FILE_NAME.to_owned(),
        media_type: shards_file::MEDIA_TYPE.to_owned(),
        bytes: writer.finish(),
    }
}
