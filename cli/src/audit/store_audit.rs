//! `forge audit --all`: audits every completed job of a store, and reports the verdicts in one
//! table.

use forge_contract::ids::JobId;
use forge_store::{Store, StoreError, StoreLocation};
use serde_json::{Value, json};

use super::{report::AuditReport, verdict::AuditVerdict};
use crate::{
    error::CommandError,
    output::{TextStyle, to_json_lines},
    runtime,
    store_args::s3_options,
    stored_job::JobLocation,
    text::{count_of, table},
};

/// The audits of a store's jobs.
pub struct StoreAudit {
    store: String,
    /// The report of each job, or why it could not be audited.
    jobs: Vec<(JobId, Result<AuditReport, String>)>,
}

impl StoreAudit {
    /// Audits every completed job with `audit`.
    ///
    /// # Errors
    /// [`CommandError::Input`] if the store cannot be read or has no completed job, and any error
    /// of `audit` that does not concern the job alone.
    pub fn run(
        location: &StoreLocation,
        mut audit: impl FnMut(&JobLocation) -> Result<AuditReport, CommandError>,
    ) -> Result<Self, CommandError> {
        let options = s3_options(location)?;
        let list = async { Store::open_for_reading(location, &options).await?.list_completed_jobs().await };
        let listed = runtime::current_thread()?.block_on(list);
        let ids = listed.map_err(|error: StoreError| CommandError::Input(error.to_string()))?;
        if ids.is_empty() {
            return Err(CommandError::Input(format!("no job has completed in {location}")));
        }
        let mut jobs = Vec::with_capacity(ids.len());
        for id in ids {
            let outcome = match audit(&JobLocation::in_store(location.clone(), id.clone())) {
                Ok(report) => Ok(report),
                Err(CommandError::Input(reason)) => Err(reason),
                Err(other) => return Err(other),
            };
            jobs.push((id, outcome));
        }
        Ok(Self { store: location.to_string(), jobs })
    }

    /// The outcome of the command.
    ///
    /// # Errors
    /// [`CommandError::Mismatch`] if an audit failed, [`CommandError::Incomplete`] if something
    /// that was asked for could not be done.
    pub fn outcome(&self) -> Result<(), CommandError> {
        let count = count_of(self.jobs.len() as u64, "job");
        let failed: Vec<_> = self.jobs.iter().filter(|(_, outcome)| has_failed(outcome)).collect();
        if let Some((job, outcome)) = failed.first() {
            let reason = outcome.as_ref().map(AuditReport::describe_failures).unwrap_or_default();
            let failed = failed.len();
            return Err(CommandError::Mismatch(format!(
                "{failed} of {count} failed; the first: {job}: {reason}"
            )));
        }
        let omission = self.jobs.iter().find_map(|(job, outcome)| Some((job, omission(outcome)?)));
        omission.map_or(Ok(()), |(job, reason)| Err(CommandError::Incomplete(format!("job {job}: {reason}"))))
    }

    /// One line per job.
    pub fn render(&self, style: TextStyle) -> String {
        let header = ["Job", "Verdict", "Re-executed", "Remark"];
        let rows: Vec<_> = self.jobs.iter().map(row).collect();
        let failed = self.jobs.iter().filter(|(_, outcome)| has_failed(outcome)).count() as u64;
        let (count, store) = (count_of(self.jobs.len() as u64, "job"), &self.store);
        let headline = match failed {
            0 => style.heading(&format!("{count} of {store}: no audit failed")),
            failed => style.alarm(&format!("{count} of {store}: {} failed", count_of(failed, "audit"))),
        };
        let lines = table::render_text_table(&header, &rows, table::output_width());
        format!("{headline}\n{}\n", lines.join("\n"))
    }

    /// The report of each job as a line of JSON. A job that could not be audited has the verdict
    /// null and the reason.
    pub fn to_json(&self) -> String {
        let line = |(job, outcome): &(JobId, Result<AuditReport, String>)| -> Value {
            match outcome {
                Ok(report) => report.to_value(),
                Err(reason) => json!({
                    "schema": "forge.audit.v1", "job_id": job, "verdict": null, "passed": false, "reason": reason,
                }),
            }
        };
        to_json_lines(self.jobs.iter().map(line))
    }
}

fn has_failed(outcome: &Result<AuditReport, String>) -> bool {
    outcome.as_ref().is_ok_and(|report| report.verdict() == AuditVerdict::Failed)
}

/// Why something that was asked for could not be done; `None` if all was done.
fn omission(outcome: &Result<AuditReport, String>) -> Option<&str> {
    match outcome {
        Ok(report) => report.omission.as_deref(),
        Err(reason) => Some(reason),
    }
}

fn row((job, outcome): &(JobId, Result<AuditReport, String>)) -> Vec<String> {
    let (verdict, reexecuted, remark) = match outcome {
        Err(reason) => ("not audited", "-".to_owned(), reason.clone()),
        Ok(report) => {
            let coverage = &report.coverage;
            let reexecuted = format!("{} of {}", coverage.reexecuted, coverage.shards);
            match (report.verdict(), &report.omission) {
                (AuditVerdict::Failed, _) => ("FAILED", "-".to_owned(), report.describe_failures()),
                (_, Some(omission)) => ("consistent", reexecuted, omission.clone()),
                (AuditVerdict::Proved, None) => ("proved", reexecuted, String::new()),
                (AuditVerdict::Consistent, None) => ("consistent", reexecuted, String::new()),
            }
        }
    };
    vec![job.to_string(), verdict.to_owned(), reexecuted, remark]
}
