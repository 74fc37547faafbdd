//! What is known about one job: its record, its manifest, and the artifacts that its page shows.

use std::collections::{BTreeMap, BTreeSet};

use forge_contract::{
    artifact::{ArtifactReference, ExecutionsDocument, ManifestDocument, VerificationDocument},
    ids::JobId,
    job::{JobRecord, JobState},
    shard::ShardId,
};
use forge_documents::document::{ENVELOPE_JSON, EXECUTIONS_JSON, RESULT_JSON, VERIFICATION_JSON};
use forge_store::{ArtifactReader, StoreError};
use hyper::StatusCode;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    cluster_reader::ClusterReader,
    shown_document::{ShownEnvelope, ShownResult},
    store_access::StoreAccess,
};

/// Why a request fails: the status of the answer, and a sentence.
pub type FailedRequest = (StatusCode, String);

/// A job as its page shows it.
#[derive(Debug)]
pub struct JobView {
    /// The record; `None` if only the store knows the job.
    pub record: Option<JobRecord>,
    /// The manifest; `None` for a job that has not completed, or stored nothing.
    pub manifest: Option<ManifestDocument>,
    /// Its artifacts.
    pub documents: JobDocuments,
    /// Bounds how many views hold documents.
    _permit: Option<OwnedSemaphorePermit>,
}

/// The artifacts that a page shows, as far as the job has kept them and they can be read.
#[derive(Debug, Default)]
pub struct JobDocuments {
    /// `result.json`.
    pub result: Option<ShownResult>,
    /// `envelope.json`.
    pub envelope: Option<ShownEnvelope>,
    /// The work of each agent.
    pub work: Option<Vec<AgentWork>>,
    /// `verification.json`.
    pub verification: Option<VerificationDocument>,
    /// Why something of the store cannot be shown.
    pub problems: Vec<String>,
}

/// The shards that an agent executed.
#[derive(Debug)]
pub struct AgentWork {
    /// Id of the agent.
    pub agent: String,
    /// Its pool.
    pub pool: String,
    /// The backend, with the adapter of a GPU.
    pub backend: String,
    /// Its shards in their order.
    pub shards: Vec<ExecutedShard>,
}

/// A shard that was executed.
#[derive(Debug)]
pub struct ExecutedShard {
    /// Id of the shard.
    pub id: ShardId,
    /// Time of its execution in milliseconds, as the agent states it.
    pub wall_ms: f64,
    /// Iterations of the shard.
    pub iterations: u64,
    /// Whether another agent has confirmed the result.
    pub is_verified: bool,
}

impl AgentWork {
    /// Time that the agent spent on its shards, in milliseconds.
    pub fn busy_ms(&self) -> f64 {
        self.shards.iter().map(|shard| shard.wall_ms).sum()
    }
}

impl JobView {
    /// Reads the job. `only_record` leaves the store aside, unless the cluster does not know the
    /// job, and then reads its manifest alone.
    ///
    /// # Errors
    /// The status is 404 if neither the cluster nor the store knows the job, and 502 if the cluster
    /// does not answer, or does not know the job and the store cannot be read.
    pub async fn read(
        cluster: &ClusterReader,
        store: &StoreAccess,
        id: &JobId,
        only_record: bool,
    ) -> Result<Self, FailedRequest> {
        let record = cluster.job(id).await;
        let is_live = record.as_ref().is_ok_and(|record| {
            record.as_ref().is_some_and(|record| only_record || record.state != JobState::Completed)
        });
        let mut documents = JobDocuments::default();
        let manifest = if is_live { Ok(None) } else { store.manifest(id).await };
        let manifest = manifest.unwrap_or_else(|error| {
            documents.problems.push(error.to_string());
            None
        });
        let record = match record {
            Ok(record) => record,
            // The store alone shows a job that has completed.
            Err(error) if manifest.is_some() => {
                documents.problems.push(format!("the cluster does not answer: {error}"));
                None
            }
            Err(error) => {
                return Err((StatusCode::BAD_GATEWAY, format!("the cluster does not answer: {error}")));
            }
        };
        if record.is_none() && manifest.is_none() {
            return Err(match documents.problems.pop() {
                Some(reason) => (StatusCode::BAD_GATEWAY, reason),
                None => {
                    let store = store.location();
                    let reason = format!("neither the cluster nor the store {store} knows a job {id}");
                    (StatusCode::NOT_FOUND, reason)
                }
            });
        }
        let mut permit = None;
        if let Some(manifest) = manifest.as_ref().filter(|_| !only_record) {
            permit = store.permit_document_page().await;
            documents.read(store, &manifest.artifacts).await;
        }
        Ok(Self { record, manifest, documents, _permit: permit })
    }

    /// The artifacts of the job.
    pub fn artifacts(&self) -> &[ArtifactReference] {
        match (&self.manifest, &self.record) {
            (Some(manifest), _) => &manifest.artifacts,
            (None, Some(record)) => &record.artifacts,
            (None, None) => &[],
        }
    }
}

impl JobDocuments {
    async fn read(&mut self, store: &StoreAccess, artifacts: &[ArtifactReference]) {
        let find = |name| artifacts.iter().find(|artifact| artifact.name == name);
        if let Some(reference) = find(RESULT_JSON) {
            self.result = self.note_problem(store.read_any_json(reference).await);
        }
        if let Some(reference) = find(ENVELOPE_JSON) {
            self.envelope = self.note_problem(store.read_any_json(reference).await);
        }
        if let Some(reference) = find(VERIFICATION_JSON) {
            self.verification = self.note_problem(store.read_json(reference).await);
        }
        if let Some(reference) = find(EXECUTIONS_JSON) {
            let executions: Option<ExecutionsDocument> = self.note_problem(store.read_json(reference).await);
            self.work = executions.map(|executions| work_by_agent(executions, self.verification.as_ref()));
        }
    }

    fn note_problem<T>(&mut self, document: Result<T, StoreError>) -> Option<T> {
        document.map_err(|error| self.problems.push(error.to_string())).ok()
    }
}

/// The executions of each agent, the busiest agent first.
fn work_by_agent(
    document: ExecutionsDocument,
    verification: Option<&VerificationDocument>,
) -> Vec<AgentWork> {
    let checked = verification.map(|verification| &verification.checked[..]).unwrap_or_default();
    let verified: BTreeSet<_> = checked.iter().map(|verdict| verdict.statement.shard_id).collect();
    let mut agents: BTreeMap<_, AgentWork> = BTreeMap::new();
    for execution in document.executions {
        let shard = ExecutedShard {
            id: execution.shard_id,
            // Text of a document: not every number is a duration.
            wall_ms: if execution.wall_ms.is_finite() { execution.wall_ms.max(0.0) } else { 0.0 },
            iterations: execution.iterations,
            is_verified: verified.contains(&execution.shard_id),
        };
        let (pool, agent) = (execution.pool.to_string(), execution.agent_id.to_string());
        let work = agents.entry((pool, agent)).or_insert_with_key(|(pool, agent)| AgentWork {
            agent: agent.clone(),
            pool: pool.clone(),
            backend: match execution.adapter {
                Some(adapter) => format!("{}, {adapter}", execution.backend),
                None => execution.backend,
            },
            shards: Vec::new(),
        });
        work.shards.push(shard);
    }
    let mut agents: Vec<_> = agents.into_values().collect();
    agents.sort_by(|a, b| b.busy_ms().total_cmp(&a.busy_ms()));
    agents
}

/// Starts to read an artifact of a job: as its manifest names it, or its record if the store has no
/// manifest.
///
/// # Errors
/// The status is 404 if there is no such job or artifact, and 502 if the store cannot be read, or
/// the artifact has not the size that is stated.
pub async fn open_artifact(
    cluster: &ClusterReader,
    store: &StoreAccess,
    job: &JobId,
    name: &str,
) -> Result<(ArtifactReference, ArtifactReader), FailedRequest> {
    let unreadable = |error: StoreError| (StatusCode::BAD_GATEWAY, error.to_string());
    let artifacts = match store.manifest(job).await.map_err(unreadable)? {
        Some(manifest) => manifest.artifacts,
        None => match cluster.job(job).await {
            Ok(record) => record.map(|record| record.artifacts).unwrap_or_default(),
            Err(error) => {
                return Err((StatusCode::BAD_GATEWAY, format!("the cluster does not answer: {error}")));
            }
        },
    };
    let Some(reference) = artifacts.into_iter().find(|artifact| artifact.name == name) else {
        return Err((StatusCode::NOT_FOUND, format!("job {job} has no artifact of this name")));
    };
    let reader = store.open_artifact(&reference).await.map_err(unreadable)?;
    Ok((reference, reader))
}
