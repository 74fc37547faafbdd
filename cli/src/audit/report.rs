//! The outcome of every check of an audit, and its verdict, as text and as JSON.

use forge_contract::{artifact::ArtifactReference, ids::JobId};
use forge_documents::number_format::format_count;
use serde::Serialize;

use super::verdict::{AuditCoverage, AuditVerdict};
use crate::{
    foreign_text::{escape_line, quote_line},
    output::TextStyle,
    stored_job::ArtifactProblem,
    text::table,
};

/// Why a check did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckProblem {
    /// The check failed: what was found differs from what is expected.
    Failed(String),
    /// There is nothing to compare with: it was not kept or not given, or it is damaged, which a
    /// check of its own reports.
    NotCompared(String),
}

impl CheckProblem {
    /// A failed check with this explanation.
    pub fn failed(explanation: impl Into<String>) -> Self {
        Self::Failed(explanation.into())
    }

    /// The explanation, whatever the problem.
    pub fn into_explanation(self) -> String {
        match self {
            Self::Failed(explanation) | Self::NotCompared(explanation) => explanation,
        }
    }
}

/// A passed check with a remark, or the problem.
pub type AuditCheckResult = Result<String, CheckProblem>;

/// The `status` of a check in the JSON report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum CheckStatus {
    Ok,
    Failed,
    NotCompared,
}

/// One check in the JSON report.
#[derive(Debug, Serialize)]
struct AuditCheck {
    name: String,
    status: CheckStatus,
    detail: String,
}

/// All checks of an audit, in the order in which they were made.
#[derive(Debug)]
pub struct AuditReport {
    job: JobId,
    checks: Vec<AuditCheck>,
    /// How much was recomputed.
    pub coverage: AuditCoverage,
    /// Why something that the user asked for could not be done; `None` if all was done.
    pub omission: Option<String>,
}

impl AuditReport {
    /// A report without checks.
    pub fn new(job: JobId) -> Self {
        Self { job, checks: Vec::new(), coverage: AuditCoverage::default(), omission: None }
    }

    /// Adds a check. Name and detail may repeat text of the store.
    pub fn add(&mut self, name: &str, result: AuditCheckResult) {
        let (status, detail) = match result {
            Ok(remark) => (CheckStatus::Ok, remark),
            Err(CheckProblem::Failed(explanation)) => (CheckStatus::Failed, explanation),
            Err(CheckProblem::NotCompared(explanation)) => (CheckStatus::NotCompared, explanation),
        };
        self.checks.push(AuditCheck { name: escape_line(name), status, detail: quote_line(&detail) });
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
        match (self.count(CheckStatus::Failed), self.coverage.is_proved) {
            (0, true) => AuditVerdict::Proved,
            (0, false) => AuditVerdict::Consistent,
            _ => AuditVerdict::Failed,
        }
    }

    /// The failed checks as one sentence.
    pub fn describe_failures(&self) -> String {
        let failed: Vec<_> = self.with_status(CheckStatus::Failed).collect();
        let first = failed.first().map(|check| format!("{}: {}", check.name, check.detail));
        let first = first.unwrap_or_default();
        match failed.len() {
            1 => format!("1 of {} checks failed: {first}", self.checks.len()),
            count => format!("{count} of {} checks failed; the first: {first}", self.checks.len()),
        }
    }

    fn with_status(&self, status: CheckStatus) -> impl Iterator<Item = &AuditCheck> {
        self.checks.iter().filter(move |check| check.status == status)
    }

    fn count(&self, status: CheckStatus) -> usize {
        self.with_status(status).count()
    }

    /// The verdict, one line per check, and what the checks leave open.
    pub fn render(&self, style: TextStyle) -> String {
        let facts: Vec<_> =
            self.checks.iter().map(|check| (check.name.clone(), check.detail.clone())).collect();
        let marks = self.checks.iter().map(|check| match check.status {
            CheckStatus::Ok => "ok          ".to_owned(),
            CheckStatus::Failed => format!("{}      ", style.alarm("FAILED")),
            CheckStatus::NotCompared => "not compared".to_owned(),
        });
        let lines = marks.zip(table::render_facts(&facts)).map(|(mark, line)| format!("  {mark}{line}\n"));
        format!("{}\n{}{}", self.headline(style), lines.collect::<String>(), self.conclusion())
    }

    fn headline(&self, style: TextStyle) -> String {
        let (job, coverage) = (&self.job, self.coverage.describe());
        match self.verdict() {
            AuditVerdict::Proved => {
                style.heading(&format!("proved: the result of job {job} follows from its envelope: {coverage}"))
            }
            AuditVerdict::Consistent => style.heading(&format!(
                "consistent: nothing contradicts the result of job {job}, but it was not recomputed: {coverage}"
            )),
            AuditVerdict::Failed => {
                let (failed, all) = (self.count(CheckStatus::Failed), self.checks.len());
                style.alarm(&format!("failed: {failed} of {all} checks of job {job} failed"))
            }
        }
    }

    fn conclusion(&self) -> String {
        let (passed, open) = (self.count(CheckStatus::Ok), self.count(CheckStatus::NotCompared));
        let counts = format!("{passed} checks passed; {open} not compared.");
        match self.verdict() {
            AuditVerdict::Consistent => format!("{counts} {}\n", self.coverage.describe_limits()),
            _ => format!("{counts}\n"),
        }
    }

    /// One JSON object; docs/start/auditor.md describes its fields.
    pub fn to_json(&self) -> String {
        let not_compared: Vec<_> =
            self.with_status(CheckStatus::NotCompared).map(|check| &check.name).collect();
        // A failed audit has no chance to state, and its number of shards may be a forger's.
        let missed = match self.verdict() {
            AuditVerdict::Failed => Vec::new(),
            _ => self.coverage.missed_forgeries(),
        };
        let document = serde_json::json!({
            "schema": "forge.audit.v1",
            "job_id": self.job,
            "verdict": self.verdict(),
            "passed": self.verdict() != AuditVerdict::Failed && self.omission.is_none(),
            "shards": self.coverage.shards,
            "shards_reexecuted": self.coverage.reexecuted,
            "result_merged": self.coverage.is_result_merged,
            "missed": missed,
            "not_compared": not_compared,
            "checks": self.checks,
        });
        format!("{document:#}\n")
    }
}
