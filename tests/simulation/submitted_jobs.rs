//! The valid envelopes that clients have sent, each compiled once.

use std::{collections::BTreeMap, sync::Arc};

use forge_contract::{digest::Digest, envelope::Target, job::JobRecord};
use forge_documents::Job;

use crate::{
    client::ClientLog,
    workload::{PORTFOLIO, parse},
};

/// Jobs by the digest of their envelope.
pub struct SubmittedJobs(BTreeMap<Digest, Arc<Job>>);

impl SubmittedJobs {
    pub fn new(log: &ClientLog) -> Self {
        let valid = log.submissions.iter().filter(|submission| submission.is_valid);
        let jobs = valid.map(|submission| Job::new(parse(&submission.envelope)));
        Self(jobs.map(|job| (job.envelope_digest, Arc::new(job))).collect())
    }

    /// The job of a record; `None` if its envelope was invalid, or no client sent it.
    pub fn of(&self, record: &JobRecord) -> Option<&Arc<Job>> {
        self.0.get(&record.request?)
    }

    /// The hardware that executes a job: GPUs execute no portfolios.
    pub fn target(job: &Job) -> Target {
        let envelope = &job.request.envelope;
        match envelope.policy.target {
            Target::Any if envelope.op.profile == PORTFOLIO => Target::Cpu,
            target => target,
        }
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.0.values()
    }
}
