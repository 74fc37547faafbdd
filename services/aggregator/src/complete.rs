//! Completing a job: its documents, its manifest, its record. From here on it is not stopped any more.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use forge_bus::BusError;
use forge_contract::{
    artifact::{ManifestDocument, Phase},
    error::FailureCode,
    job::{JobRecord, JobState},
    shard::ShardId,
    task::EndOrder,
};
use forge_documents::{CompletedJob, Document, JobResult};
use forge_service::job_records;
use forge_store::{Artifact, Completion, StoreError, shards_file};
use serde_json::{Map, Value};
use tokio::time::sleep;

use crate::{
    aggregator::{Aggregator, JobCompletion},
    end::is_temporary,
    intake::Gathered,
};

/// What is kept of a job.
struct Kept {
    manifest: ManifestDocument,
    /// Whether an earlier run had stored it.
    before: bool,
}

/// Why nothing could be kept.
struct NotKept {
    code: FailureCode,
    message: String,
}

impl Aggregator {
    /// Makes the result, keeps what the envelope asks to keep, and writes the record.
    pub(crate) async fn complete(&self, gathered: Gathered) -> Result<(), BusError> {
        let Gathered { fold, bucket, planning, executing, kept } = gathered;
        let job = fold.job().clone();
        let progress = fold.progress();
        let record = job_records::update(self.bus.as_ref(), &bucket, &job.id, |record| {
            record.state = JobState::Reducing;
            record.progress = progress;
            true
        })
        .await?;
        if record.record.state.is_terminal() {
            return self.clear(&job.id).await;
        }
        let (merged, stop_reason) = fold.result().expect("a fold that is complete has a result");
        let job_result = JobResult::new(&job.request, merged, stop_reason);
        let (executions, verification) = (fold.executions(), fold.verification());
        let completed_job = CompletedJob {
            job: &job,
            result: &job_result,
            executions: &executions,
            verification: &verification,
            planning_duration: planning,
            execution_duration: executing,
        };
        let persist = job.request.envelope.artifacts.persist;
        let kept = match persist {
            true => match self.keep(&completed_job, &kept).await {
                Ok(kept) => Some(kept),
                Err(NotKept { code, message }) => {
                    let order = EndOrder::new(job.id.clone(), bucket.name(), code, Phase::Store, message);
                    return self.fail(&bucket, order).await;
                }
            },
            false => None,
        };
        let place = kept.as_ref().map(|_| self.store.locate(&forge_store::Store::manifest_key(&job.id)));
        let headline = headline(&job_result);
        let record = job_records::update(self.bus.as_ref(), &bucket, &job.id, |record| {
            record.state = JobState::Completed;
            record.headline = headline.clone();
            record.result = Some(job_result.hash);
            record.manifest = place.clone();
            record.artifacts = kept.as_ref().map_or_else(Vec::new, |kept| kept.manifest.artifacts.clone());
            true
        })
        .await?;
        // Another aggregator, that was given the job too, may have been first.
        if record.written {
            self.told(&record.record);
        }
        let stored_before = kept.is_some_and(|kept| kept.before);
        if let Some(completions) = &self.settings.completions {
            // Nobody may be listening any more.
            let _ = completions.send(JobCompletion {
                job: job.clone(),
                job_result,
                executions,
                verification,
                executing,
                manifest: place,
                stored_before,
            });
        }
        self.clear(&job.id).await
    }

    fn told(&self, record: &JobRecord) {
        tracing::info!(job = %record.job_id, state = record.state.as_str(), result = ?record.result, "the job has ended");
        self.count(record);
    }

    /// Stores the artifacts and then the manifest; or, if an earlier run of the same job has, compares with its.
    async fn keep(&self, completed_job: &CompletedJob<'_>, results: &Results) -> Result<Kept, NotKept> {
        let started = Instant::now();
        loop {
            let left = self.settings.store_patience.saturating_sub(started.elapsed());
            match within(left, self.store_all(completed_job, results)).await {
                Ok((manifest, Completion::Stored)) => return Ok(Kept { manifest, before: false }),
                Ok((_, Completion::AlreadyComplete(earlier))) => {
                    let compared = self.compare(completed_job, &earlier).await;
                    return compared.map(|()| Kept { manifest: *earlier, before: true });
                }
                Err(error) if !is_temporary(&error) || started.elapsed() > self.settings.store_patience => {
                    return Err(NotKept { code: FailureCode::StorageFailed, message: error.to_string() });
                }
                Err(error) => {
                    tracing::warn!(job = %completed_job.job.id, %error, "artifacts are not stored yet")
                }
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    async fn store_all(
        &self,
        completed_job: &CompletedJob<'_>,
        results: &Results,
    ) -> Result<(ManifestDocument, Completion), StoreError> {
        let unsigned = completed_job.manifest(Vec::new());
        if let Some(earlier) = self.store.get_manifest(&completed_job.job.id).await? {
            return Ok((unsigned, Completion::AlreadyComplete(Box::new(earlier))));
        }
        let mut artifacts: Vec<_> = completed_job.documents().into_iter().map(artifact).collect();
        if self.settings.keep_shards {
            let mut writer = shards_file::ShardsFileWriter::new();
            let results =
                completed_job.executions.iter().filter_map(|execution| results.get(&execution.shard_id));
            results.for_each(|bytes| writer.push(bytes));
            artifacts.push(Artifact {
                name: shards_file::FILE_NAME.to_owned(),
                media_type: shards_file::MEDIA_TYPE.to_owned(),
                bytes: writer.finish(),
            });
        }
        let references = self.store.put_artifacts(artifacts).await;
        self.metrics.count_artifact_write(if references.is_ok() { "ok" } else { "failed" });
        let manifest = completed_job.manifest(references?).sign(&self.identity);
        let completion = self.store.complete_job(&manifest, &completed_job.headline()).await?;
        Ok((manifest, completion))
    }

    /// Compares with what an earlier run stored: its envelope, its result, and that its objects are there and whole.
    async fn compare(
        &self,
        completed_job: &CompletedJob<'_>,
        earlier: &ManifestDocument,
    ) -> Result<(), NotKept> {
        let place = self.store.locate(&forge_store::Store::manifest_key(&completed_job.job.id));
        if earlier.request != completed_job.job.envelope_digest {
            let message = format!(
                "{place} is the manifest of another envelope under the job id {}: choose another ctx.job_id, or \
                 another store",
                completed_job.job.id
            );
            return Err(NotKept { code: FailureCode::Conflict, message });
        }
        let result = completed_job.result.hash;
        if earlier.result != result {
            let stored = earlier.result;
            let message = format!("{place} stores the result {stored}, and this run computed {result}");
            return Err(NotKept { code: FailureCode::VerificationFailed, message });
        }
        for reference in &earlier.artifacts {
            let whole = self.store.get_artifact(reference).await;
            whole
                .map_err(|error| NotKept { code: FailureCode::StorageFailed, message: error.to_string() })?;
        }
        Ok(())
    }
}

/// Does something with the store for so long, at least a second: one that hangs must not outlast the patience with it.
pub(crate) async fn within<T>(
    left: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let left = left.max(Duration::from_secs(1));
    let hangs = || StoreError::Unavailable {
        path: "the store".to_owned(),
        reason: format!("no answer within {:.0} s", left.as_secs_f64()),
    };
    tokio::time::timeout(left, work).await.unwrap_or_else(|_| Err(hangs()))
}

/// Shard results that are kept.
type Results = BTreeMap<ShardId, Bytes>;

fn artifact(document: Document) -> Artifact {
    Artifact {
        name: document.name.to_owned(),
        media_type: document.media_type.to_owned(),
        bytes: document.bytes,
    }
}

/// The numbers among the result's output, as in `mean_loss`.
fn headline(job_result: &JobResult) -> Map<String, Value> {
    let output = job_result.document.output.as_object().into_iter().flatten();
    output.filter(|(_, value)| value.is_number()).map(|(key, value)| (key.clone(), value.clone())).collect()
}
