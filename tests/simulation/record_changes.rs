//! What the changes of records must be: each goes forward only, and no submitter gets more than its
//! quota. Uses no code of the services.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use forge_contract::job::{JobRecord, JobState};

use crate::{options::SimulationOptions, quotas::QuotaChecker, submitted_jobs::SubmittedJobs};

/// A version of a record, as a process has stored it.
#[derive(Debug, Clone)]
pub struct RecordChange {
    pub namespace: String,
    pub key: String,
    /// `None` if the record was removed.
    pub value: Option<Bytes>,
    /// Time since the start of the run.
    pub at: Duration,
}

/// The last versions of all records, by namespace and job, as in `jobs/job-1`.
pub type FinalRecords = BTreeMap<String, JobRecord>;

/// Checks the changes of all records, in their order. Returns the last version of each, and what is
/// violated.
pub fn check_changes(
    changes: Vec<RecordChange>,
    options: &SimulationOptions,
    jobs: &SubmittedJobs,
) -> (FinalRecords, Vec<String>) {
    let (mut records, mut violations) = (FinalRecords::new(), Vec::new());
    let mut quotas = QuotaChecker::new(options, jobs);
    for RecordChange { namespace, key, value, at } in changes {
        let key = format!("{namespace}/{key}");
        let Some(value) = value else {
            violations.push(format!("the record of {key} was removed"));
            continue;
        };
        let record: JobRecord = match serde_json::from_slice(&value) {
            Ok(record) => record,
            Err(error) => {
                violations.push(format!("the record of {key} is malformed: {error}"));
                continue;
            }
        };
        violations.extend(check_step(&key, records.get(&key), &record));
        violations.extend(quotas.apply(&key, &record, at));
        records.insert(key, record);
    }
    violations.extend(quotas.finish());
    (records, violations)
}

/// What is wrong about one change of a record.
fn check_step(key: &str, before: Option<&JobRecord>, record: &JobRecord) -> Vec<String> {
    let (mut violations, to) = (Vec::new(), record.state);
    if let Some(before) = before {
        let from = before.state;
        if from.is_terminal() {
            violations.push(format!("{key} was changed after its end: {from:?} to {to:?}"));
        }
        // An aggregator that takes a job over may have to collect more results.
        let is_taken_over = (from, to) == (JobState::Reducing, JobState::Running);
        if from > to && !is_taken_over {
            violations.push(format!("{key} went back from {from:?} to {to:?}"));
        }
        if before.uid != record.uid {
            violations.push(format!("{key} changed its uid"));
        }
    }
    let (has_all_results, progress) =
        (matches!(to, JobState::Reducing | JobState::Completed), record.progress);
    if has_all_results && progress.shards_done != progress.shards {
        violations.push(format!("{key} is {to:?} without all results: {progress:?}"));
    }
    violations
}
