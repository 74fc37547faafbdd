//! The outcome of every check of an audit, as text and as JSON.

use forge_contract::ids::JobId;
use serde::Serialize;

use crate::{output::TextStyle, text::table};

/// Why a check did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckProblem {
    /// The check failed: what was found differs from what is expected.
    Failed(String),
    /// What the check needs was not kept, or is damaged, which a check of its own reports.
    NotPossible(String),
}

impl CheckProblem {
    /// A failed check with this explanation.
    pub fn failed(explanation: impl Into<String>) -> Self {
        Self::Failed(explanation.into())
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
    NotPossible,
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
}

impl AuditReport {
    /// A report without checks.
    pub fn new(job: JobId) -> Self {
        Self { job, checks: Vec::new() }
    }

    /// Adds a check.
    pub fn add(&mut self, name: &str, result: AuditCheckResult) {
        let (status, detail) = match result {
            Ok(remark) => (CheckStatus::Ok, remark),
            Err(CheckProblem::Failed(explanation)) => (CheckStatus::Failed, explanation),
            Err(CheckProblem::NotPossible(explanation)) => (CheckStatus::NotPossible, explanation),
        };
        self.checks.push(AuditCheck { name: name.to_owned(), status, detail });
    }

    /// Number of checks, whatever their outcome.
    pub fn check_count(&self) -> usize {
        self.checks.len()
    }

    /// Number of failed checks.
    pub fn failed_count(&self) -> usize {
        self.count(CheckStatus::Failed)
    }

    fn count(&self, status: CheckStatus) -> usize {
        self.checks.iter().filter(|check| check.status == status).count()
    }

    /// One line per check, and a conclusion.
    pub fn render(&self, style: TextStyle) -> String {
        let facts: Vec<_> =
            self.checks.iter().map(|check| (check.name.clone(), check.detail.clone())).collect();
        let marks = self.checks.iter().map(|check| match check.status {
            CheckStatus::Ok => "ok    ".to_owned(),
            CheckStatus::Failed => style.alarm("FAILED"),
            CheckStatus::NotPossible => "-     ".to_owned(),
        });
        let lines = marks.zip(table::render_facts(&facts)).map(|(mark, line)| format!("  {mark}{line}\n"));
        let heading = style.heading(&format!("Audit of job {}", self.job));
        format!("{heading}\n{}{}\n", lines.collect::<String>(), self.conclusion())
    }

    fn conclusion(&self) -> String {
        let (failed, not_possible) = (self.failed_count(), self.count(CheckStatus::NotPossible));
        let not_possible =
            if not_possible > 0 { format!("; {not_possible} not possible") } else { String::new() };
        match failed {
            0 => format!("All {} checks passed{not_possible}.", self.count(CheckStatus::Ok)),
            _ => format!("{failed} of {} checks FAILED{not_possible}.", self.check_count()),
        }
    }

    /// One JSON object: `schema`, `job_id`, `passed`, and `checks`, each with `name`, `status` and
    /// `detail`.
    pub fn to_json(&self) -> String {
        let document = serde_json::json!({
            "schema": "forge.audit.v1",
            "job_id": self.job,
            "passed": self.failed_count() == 0,
            "checks": self.checks,
        });
        format!("{document:#}\n")
    }
}
