//! A job that admission has accepted: the input of the job driver.

use forge_bus::topology::{Bucket, JobLength};
use forge_contract::{
    envelope::{Policy, Target},
    ids::JobUid,
    job::JobRecord,
    plain_program::PlainProgram,
};
use forge_documents::Job;
use forge_kernel::job_key::JobKey;

/// A job to drive.
#[derive(Debug)]
pub struct AdmittedJob {
    pub job: Job,
    /// The job's record as admission created or found it. It is not updated afterwards.
    pub record: JobRecord,
    /// The key to which the record commits.
    pub key: JobKey,
    /// Bucket that holds the record.
    pub bucket: Bucket,
    /// The record existed before: another planner, or this one earlier, may already have charged
    /// the job and dispatched some of its shards.
    pub taken_over: bool,
}

impl AdmittedJob {
    pub fn uid(&self) -> JobUid {
        self.record.uid
    }

    pub fn policy(&self) -> &Policy {
        &self.job.request.envelope.policy
    }

    /// Whether the job is short or long, which decides where its shards wait.
    pub fn length(&self) -> JobLength {
        JobLength::of_job(self.job.request.plan.is_short())
    }

    /// The hardware that executes the job: programs that GPUs do not execute go to CPUs.
    pub fn target(&self) -> Target {
        match self.policy().target {
            Target::Any if PlainProgram::new(&self.job.request.program).is_none() => Target::Cpu,
            target => target,
        }
    }
}
