//! Publishing a job's result: builds the documents, stores the artifacts and then the manifest, and
//! records the manifest in the log. Writes no job record.

use std::{collections::BTreeMap, mem, sync::Arc, time::Duration};

use bytes::Bytes;
use forge_contract::{
    agent::Identity,
    artifact::{ArtifactReference, ManifestDocument},
    digest::Digest,
    shard::ShardId,
};
use forge_documents::{CompletedJob, Document};
use forge_service::Metrics;
use forge_store::{Artifact, Completion, Store, StoreError, StoredManifest, shards_file};

use crate::{
    earlier_manifest::EarlierManifestPolicy,
    index_content::index_content,
    manifest_log::{LoggedManifest, ManifestLog},
    publish_error::PublishError,
    store_retry::retry_within,
};

/// Publishes the results of jobs in the object store.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub store: Arc<Store>,
    /// Signs the manifests.
    pub identity: Arc<Identity>,
    pub log: ManifestLog,
    pub earlier_manifests: EarlierManifestPolicy,
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

impl Publisher {
    /// Stores the artifacts, with the shard results if they are given, then the manifest, then an
    /// entry of the log. If there is a manifest of the job, keeps that one instead. `check` says
    /// whether the result may still be stored; it runs after the artifacts, before the manifest.
    ///
    /// # Errors
    /// [`PublishError::Failed`] when the store stays unavailable, or when the manifest that is
    /// there is not one of this job or its artifacts are damaged; [`PublishError::Bus`]; and the
    /// error of `check`.
    pub async fn publish(
        &self,
        completed: &CompletedJob<'_>,
        shard_results: Option<&BTreeMap<ShardId, Bytes>>,
        check: impl Future<Output = Result<(), PublishError>>,
    ) -> Result<Publication, PublishError> {
        let operation = format!("storing the artifacts of job {}", completed.job.id);
        let stored =
            retry_within(self.patience, &operation, || self.store_artifacts(completed, shard_results));
        let stored = match stored.await? {
            Some(document) => {
                check.await?;
                let operation = format!("storing the manifest of job {}", completed.job.id);
                let store = || self.store_manifest(completed, &document);
                retry_within(self.patience, &operation, store).await?
            }
            None => None,
        };
        let (manifest, stored_before) = match stored {
            Some(stored) => (stored, false),
            None => (self.keep_earlier(completed).await?, true),
        };
        self.record_in_log(completed, &manifest, stored_before).await?;
        let location = self.manifest_location(completed);
        Ok(Publication { artifacts: manifest.document.artifacts, manifest: location, stored_before })
    }

    fn manifest_location(&self, completed: &CompletedJob<'_>) -> String {
        self.store.locate(&Store::manifest_key(&completed.job.id))
    }

    /// Stores the artifacts, and returns their manifest; `None` if there is a manifest already.
    async fn store_artifacts(
        &self,
        completed: &CompletedJob<'_>,
        shard_results: Option<&BTreeMap<ShardId, Bytes>>,
    ) -> Result<Option<ManifestDocument>, StoreError> {
        if self.store.get_manifest(&completed.job.id).await?.is_some() {
            // The attempt that stored it may have failed to remove the error of an earlier one.
            self.store.remove_error(&completed.job.id).await?;
            return Ok(None);
        }
        let mut artifacts: Vec<_> = completed.documents().into_iter().map(to_artifact).collect();
        artifacts.extend(shard_results.map(|results| shards_artifact(completed, results)));
        let references = self.store.put_artifacts(artifacts).await;
        self.metrics.count_artifact_write(if references.is_ok() { "ok" } else { "failed" });
        Ok(Some(completed.manifest(references?).sign(&self.identity)))
    }

    /// Stores the manifest; `None` if there is one already.
    async fn store_manifest(
        &self,
        completed: &CompletedJob<'_>,
        document: &ManifestDocument,
    ) -> Result<Option<StoredManifest>, StoreError> {
        let content = index_content(&completed.job.request, completed.result);
        match self.store.complete_job(document, &content).await? {
            Completion::Stored => {
                let sha256 = Digest::hash_parts(&[&Store::manifest_bytes(document)]);
                Ok(Some(StoredManifest { document: document.clone(), sha256 }))
            }
            Completion::AlreadyComplete(_) => Ok(None),
        }
    }

    /// Reads the manifest that is there, and checks that it is one of this job and that its
    /// artifacts are intact.
    async fn keep_earlier(&self, completed: &CompletedJob<'_>) -> Result<StoredManifest, PublishError> {
        let location = self.manifest_location(completed);
        let operation = format!("reading the artifacts of job {}", completed.job.id);
        let read = retry_within(self.patience, &operation, async || {
            let stored = self.store.get_stored_manifest(&completed.job.id).await?;
            stored.ok_or_else(|| StoreError::Missing { path: location.clone() })
        });
        let earlier = read.await?;
        self.earlier_manifests.check(completed, &earlier.document, &location).await?;
        let check = retry_within(self.patience, &operation, async || {
            for reference in &earlier.document.artifacts {
                // In chunks: an earlier artifact may have any size.
                let mut reader = self.store.open_artifact(reference).await?;
                while reader.next_chunk().await?.is_some() {}
            }
            Ok(())
        });
        check.await?;
        Ok(earlier)
    }

    /// Appends the manifest to the log, so that its removal or replacement can be detected.
    async fn record_in_log(
        &self,
        completed: &CompletedJob<'_>,
        stored: &StoredManifest,
        stored_before: bool,
    ) -> Result<(), StoreError> {
        let manifest = LoggedManifest {
            namespace: completed.job.request.envelope.artifacts.kv_namespace.clone(),
            job_id: completed.job.id.clone(),
            job_uid: stored.document.job_uid,
            sha256: stored.sha256,
        };
        let operation = format!("recording job {} in the log", completed.job.id);
        // An attempt that failed may have succeeded in the store.
        let mut may_be_recorded = stored_before;
        let append = retry_within(self.patience, &operation, || {
            self.log.append(&manifest, mem::replace(&mut may_be_recorded, true))
        });
        let position = append.await?;
        tracing::info!(job = %completed.job.id, log = %position, "the manifest is recorded in the log");
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
