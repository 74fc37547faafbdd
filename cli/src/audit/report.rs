//! The report of a job's audit: every check and the verdict, as text and as JSON.

use forge_contract::{artifact::ArtifactReference, ids::JobId};
use forge_documents::number_format::format_count;
use serde_json::Value;

pub use super::check_list::{AuditCheckResult, CheckProblem};
use super::{
    check_list::CheckList,
    verdict::{AuditCoverage, AuditVerdict},
};
use crate::{
    output::{TextStyle, to_json_document},
    stored_job::ArtifactProblem,
};

/// All checks of an audit, in the order in which they were made.
#[derive(Debug)]
pub struct AuditReport {
    job: JobId,
    checks: CheckList,
    /// How much was recomputed.
    pub coverage: AuditCoverage,
    /// Why something that the user asked for could not be done; `None` if all was done.
    pub omission: Option<String>,
}

impl AuditReport {
    /// A report without checks.
    pub fn new(job: JobId) -> Self {
        Self { job, checks: CheckList::default(), coverage: AuditCoverage::default(), omission: None }
    }

    /// Adds a check. Name and detail may repeat text of the store.
    pub fn add(&mut self, name: &str, result: AuditCheckResult) {
        self.checks.add(name, result);
    }

    /// Adds the check of an artifact's size and hash. An artifact that cannot be read here is an
    /// omission: it contradicts nothing.
    pub fn add_artifact(&mut self, reference: &ArtifactReference, read: Result<(), ArtifactProblem>) {
        let name = &reference.name;
        let result = match read {
            Ok(()) => Ok(format!("{} bytes, SHA-256 matches", format_count(reference.size))),
            Err(ArtifactProblem::Wrong(reason)) => Err(CheckProblem::Failed(reason)),
            Err(ArtifactProblem::Unreadable(reason)) => {
                self.omission.get_or_insert_with(|| format!("{name} could not be read: {reason}"));
                Err(CheckProblem::NotCompared(reason))
            }
        };
        self.add(name, result);
    }

    /// Names figures that nothing was compared with.
    pub fn add_not_compared(&mut self, name: &str, reason: &str) {
        self.add(name, Err(CheckProblem::NotCompared(reason.to_owned())));
    }

    /// What the audit shows.
    pub fn verdict(&self) -> AuditVerdict {
        match (self.checks.has_failed(), self.coverage.is_proved) {
            (true, _) => AuditVerdict::Failed,
            (false, true) => AuditVerdict::Proved,
            (false, false) => AuditVerdict::Consistent,
        }
    }

    /// The failed checks as one sentence.
    pub fn describe_failures(&self) -> String {
        self.checks.describe_failures()
    }

    /// The verdict, one line per check, and what the checks leave open.
    pub fn render(&self, style: TextStyle) -> String {
        let headline = match self.verdict() {
            AuditVerdict::Failed => style.alarm(&self.headline()),
            AuditVerdict::Proved | AuditVerdict::Consistent => style.heading(&self.headline()),
        };
        format!("{headline}\n{}{}", self.checks.render(style), self.conclusion())
    }

    /// The verdict and what was executed again, as one sentence.
    pub(crate) fn headline(&self) -> String {
        let (job, coverage) = (&self.job, self.coverage.describe());
        match self.verdict() {
            AuditVerdict::Proved => {
                format!("proved: the result of job {job} follows from its envelope: {coverage}")
            }
            AuditVerdict::Consistent => format!(
                "consistent: nothing contradicts the result of job {job}, but it was not recomputed: {coverage}"
            ),
            AuditVerdict::Failed => {
                let failed = self.checks.describe_failed_count();
                format!("failed: {failed} of job {job} failed")
            }
        }
    }

    fn conclusion(&self) -> String {
        let counts = self.checks.describe_counts();
        match self.verdict() {
            AuditVerdict::Consistent => format!("{counts} {}\n", self.coverage.describe_limits()),
            _ => format!("{counts}\n"),
        }
    }

    /// One JSON object; docs/start/auditor.md describes its fields.
    pub fn to_json(&self) -> String {
        to_json_document(&self.to_value())
    }

    /// The object of [`AuditReport::to_json`].
    pub(crate) fn to_value(&self) -> Value {
        // A failed audit has no chance to state, and its number of shards may be a forger's.
        let missed = match self.verdict() {
            AuditVerdict::Failed => Vec::new(),
            _ => self.coverage.missed_forgeries(),
        };
        serde_json::json!({
            "schema": "forge.audit.v1",
            "job_id": self.job,
            "verdict": self.verdict(),
            "passed": self.verdict() != AuditVerdict::Failed && self.omission.is_none(),
            "shards": self.coverage.shards,
            "shards_reexecuted": self.coverage.reexecuted,
            "result_merged": self.coverage.is_result_merged,
            "missed": missed,
            "not_compared": self.checks.not_compared(),
            "checks": self.checks.as_json(),
        })
    }
}
