//! The checks of an audit and their outcomes, in the order in which they were made.

use serde::Serialize;

use crate::{
    foreign_text::{quote_line, quote_value},
    output::TextStyle,
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

/// The checks of an audit.
#[derive(Debug, Default)]
pub struct CheckList {
    checks: Vec<AuditCheck>,
}

impl CheckList {
    /// Adds a check. Name and detail may repeat text of the store.
    pub fn add(&mut self, name: &str, result: AuditCheckResult) {
        let (status, detail) = match result {
            Ok(remark) => (CheckStatus::Ok, remark),
            Err(CheckProblem::Failed(explanation)) => (CheckStatus::Failed, explanation),
            Err(CheckProblem::NotCompared(explanation)) => (CheckStatus::NotCompared, explanation),
        };
        self.checks.push(AuditCheck { name: quote_value(name), status, detail: quote_line(&detail) });
    }

    /// Whether a check failed.
    pub fn has_failed(&self) -> bool {
        self.count(CheckStatus::Failed) > 0
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

    /// How many checks failed, as in `2 of 20 checks`.
    pub fn describe_failed_count(&self) -> String {
        format!("{} of {} checks", self.count(CheckStatus::Failed), self.checks.len())
    }

    /// How many checks passed, and how many compared nothing.
    pub fn describe_counts(&self) -> String {
        let (passed, open) = (self.count(CheckStatus::Ok), self.count(CheckStatus::NotCompared));
        format!("{passed} checks passed; {open} not compared.")
    }

    /// Names of the checks that compared nothing.
    pub fn not_compared(&self) -> Vec<&str> {
        self.with_status(CheckStatus::NotCompared).map(|check| check.name.as_str()).collect()
    }

    /// The checks for a JSON report.
    pub fn as_json(&self) -> &impl Serialize {
        &self.checks
    }

    /// One line per check.
    pub fn render(&self, style: TextStyle) -> String {
        let facts: Vec<_> =
            self.checks.iter().map(|check| (check.name.clone(), check.detail.clone())).collect();
        let marks = self.checks.iter().map(|check| match check.status {
            CheckStatus::Ok => "ok          ".to_owned(),
            CheckStatus::Failed => format!("{}      ", style.alarm("FAILED")),
            CheckStatus::NotCompared => "not compared".to_owned(),
        });
        marks.zip(table::render_facts(&facts)).map(|(mark, line)| format!("  {mark}{line}\n")).collect()
    }

    fn with_status(&self, status: CheckStatus) -> impl Iterator<Item = &AuditCheck> {
        self.checks.iter().filter(move |check| check.status == status)
    }

    fn count(&self, status: CheckStatus) -> usize {
        self.with_status(status).count()
    }
}
