//! What the unit tests of several modules share: submissions by alice, and an admission on a bus.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use forge_bus::{
    Bus, BusError, MemoryBus, Message, SharedBus,
    testing::{BusFault, BusOperation, FaultyBus},
    topology::{self, Bucket, TopologySettings},
};
use forge_contract::{
    artifact::Phase,
    error::FailureCode,
    ids::{JobId, Submitter},
    job::{JobError, JobRecord, JobState},
    quota::{Quota, Quotas},
    task::EndOrder,
};
use forge_service::{clock::Clock, job_records};
use serde_json::{Value, json};

use crate::{
    admission::{Admission, AdmissionDecision},
    admitted_job::AdmittedJob,
    envelope_reader::EnvelopeReader,
    quota_ledger::QuotaLedger,
    record_space::RecordSpace,
    settings::PlannerSettings,
};

/// Iterations of every job in these tests.
pub const ITERATIONS: u64 = 1000;

pub fn alice() -> Submitter {
    "alice".parse().unwrap()
}

pub async fn memory_bus() -> Arc<MemoryBus> {
    let bus = MemoryBus::new(TopologySettings::default());
    bus.prepare().await.unwrap();
    bus
}

/// The bus with delayed updates of quotas, so that concurrent planners have all read a quota before
/// the first one writes it.
pub fn slow_quota_bus(bus: &Arc<MemoryBus>) -> SharedBus {
    Arc::new(FaultyBus::new(bus.clone(), |operation| match operation {
        BusOperation::CompareAndSet { bucket: Bucket::Quotas, .. } => {
            BusFault::Delay(Duration::from_millis(1))
        }
        _ => BusFault::None,
    }))
}

/// A quota of concurrent jobs.
pub fn job_quota(limit: u64) -> Quota {
    Quota { concurrent_jobs: Some(limit), ..Quota::default() }
}

/// A quota of iterations per day.
pub fn daily_quota(limit: u64) -> Quota {
    Quota { iterations_per_day: Some(limit), ..Quota::default() }
}

/// Settings with a quota for alice.
pub fn settings(quota: Quota) -> PlannerSettings {
    let submitters = BTreeMap::from([(alice(), quota)]);
    let quotas = Arc::new(Quotas { submitters, ..Quotas::default() });
    PlannerSettings { quotas, ..PlannerSettings::default() }
}

/// The admission part of a planner.
pub struct AdmissionFixture {
    pub admission: Admission,
    pub ledger: Arc<QuotaLedger>,
    pub space: Arc<RecordSpace>,
}

impl AdmissionFixture {
    /// On this bus, with a quota for alice.
    pub fn new(bus: SharedBus, quota: Quota) -> Self {
        Self::with_settings(bus, settings(quota))
    }

    /// On this bus, with these namespaces and no quotas.
    pub fn with_namespaces(bus: SharedBus, namespaces: &[&str]) -> Self {
        let namespaces = namespaces.iter().map(|&namespace| namespace.to_owned()).collect();
        Self::with_settings(bus, PlannerSettings { namespaces, ..PlannerSettings::default() })
    }

    fn with_settings(bus: SharedBus, settings: PlannerSettings) -> Self {
        let PlannerSettings { models, namespaces, quotas, job_memory, .. } = settings;
        let ledger = Arc::new(QuotaLedger::new(bus.clone(), quotas));
        let reader = EnvelopeReader::new(bus.clone(), models, namespaces.clone(), job_memory);
        let (buckets, default_bucket) = (namespaces.into_iter().map(Bucket::Jobs), Bucket::default_jobs());
        let (buckets, space) = (buckets.collect(), Arc::<RecordSpace>::default());
        let (ledger_of, space_of) = (Arc::clone(&ledger), Arc::clone(&space));
        let admission =
            Admission::new(bus, Clock::default(), reader, ledger_of, buckets, default_bucket, space_of);
        Self { admission, ledger, space }
    }

    /// The decision on message number `sequence`, in which alice submits a job.
    pub async fn admit(&self, job: &str, sequence: u64) -> AdmissionDecision {
        self.deliver(&submission(job, "test"), sequence).await.unwrap()
    }

    /// The decision on message number `sequence` in its first delivery.
    pub async fn deliver(&self, message: &Message, sequence: u64) -> Result<AdmissionDecision, BusError> {
        self.admission.admit(message, sequence, 1).await
    }

    /// Alice's iterations of the day, and her active jobs.
    pub async fn usage(&self) -> (u64, Vec<String>) {
        let usage = self.ledger.usage(&alice()).await.unwrap();
        (usage.iterations, usage.active.into_iter().collect())
    }
}

/// A message in which alice submits a job of this billing mode.
pub fn submission(job: &str, mode: &str) -> Message {
    alices_submission(&json!({"job_id": job, "billing": {"mode": mode}}), &json!({}))
}

/// A message in which alice submits a job to this namespace.
pub fn submission_to(job: &str, namespace: &str) -> Message {
    alices_submission(&json!({"job_id": job}), &json!({"kv_namespace": namespace}))
}

fn alices_submission(ctx: &Value, artifacts: &Value) -> Message {
    let envelope = json!({"ctx": ctx, "artifacts": artifacts,
        "op": {"name": "mc", "version": 1, "profile": "insurance.v1"},
        "args": {"iterations": ITERATIONS, "claim_freq": 0.1, "claim_severity_mu": 1, "claim_severity_sig": 1}});
    Message::new(topology::submit_subject(&alice()), envelope.to_string())
}

#[track_caller]
pub fn admitted(decision: AdmissionDecision) -> AdmittedJob {
    match decision {
        AdmissionDecision::Admitted(admitted) => *admitted,
        other => panic!("expected an admitted job, found {other:?}"),
    }
}

#[track_caller]
pub fn rejected(decision: AdmissionDecision) -> EndOrder {
    match decision {
        AdmissionDecision::Rejected(order) => order,
        other => panic!("expected a rejection, found {other:?}"),
    }
}

/// Makes a job's record terminal, as an aggregator does.
pub async fn fail_job(bus: &dyn Bus, job: &JobId, code: FailureCode, message: &str) {
    let change = |record: &mut JobRecord| {
        record.state = JobState::Failed;
        record.error =
            Some(JobError { code, message: message.to_owned(), details: Vec::new(), phase: Phase::Validate });
        true
    };
    assert!(
        job_records::update(bus, Clock::default(), &Bucket::default_jobs(), job, change)
            .await
            .unwrap()
            .written
    );
}
