//! The list of checks and how each came out, as text and as JSON.

use forge_contract::ids::JobId;
use serde::Serialize;

use crate::{output::Style, text::table};

/// Why a check did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// What was found is not what should be there.
    Failed(String),
    /// What the check needs was not kept, or is damaged, which is a failed check of its own.
    NotPossible(String),
}

impl Problem {
    /// A failure with this reason.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed(reason.into())
    }
}

/// A check that holds, with a remark, or the problem with it.
pub type Outcome = Result<String, Problem>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    Failed,
    NotPossible,
}

#[derive(Debug, Serialize)]
struct Check {
    name: String,
    status: Status,
    detail: String,
}

/// What an audit found.
#[derive(Debug)]
pub struct Report {
    job: JobId,
    checks: Vec<Check>,
}

impl Report {
    /// Without checks.
    pub fn new(job: JobId) -> Self {
        Self { job, checks: Vec::new() }
    }

    /// Adds a check.
    pub fn add(&mut self, name: &str, outcome: Outcome) {
        let (status, detail) = match outcome {
            Ok(remark) => (Status::Ok, remark),
            Err(Problem::Failed(reason)) => (Status::Failed, reason),
            Err(Problem::NotPossible(reason)) => (Status::NotPossible, reason),
        };
        self.checks.push(Check { name: name.to_owned(), status, detail });
    }

    /// How many checks there were.
    pub fn len(&self) -> usize {
        self.checks.len()
    }

    /// How many of them failed.
    pub fn failed(&self) -> usize {
        self.count(Status::Failed)
    }

    fn count(&self, status: Status) -> usize {
        self.checks.iter().filter(|check| check.status == status).count()
    }

    /// A line for each check, and a verdict.
    pub fn text(&self, style: Style) -> String {
        let facts: Vec<_> =
            self.checks.iter().map(|check| (check.name.clone(), check.detail.clone())).collect();
        let marks = self.checks.iter().map(|check| match check.status {
            Status::Ok => "ok    ".to_owned(),
            Status::Failed => style.alarm("FAILED"),
            Status::NotPossible => "-     ".to_owned(),
        });
        let lines = marks.zip(table::facts(&facts)).map(|(mark, line)| format!("  {mark}{line}\n"));
        let heading = style.heading(&format!("Audit of job {}", self.job));
        format!("{heading}\n{}{}\n", lines.collect::<String>(), self.verdict())
    }

    fn verdict(&self) -> String {
        let (failed, open) = (self.failed(), self.count(Status::NotPossible));
        let open = if open > 0 { format!("; {open} not possible") } else { String::new() };
        match failed {
            0 => format!("All {} checks hold{open}.", self.count(Status::Ok)),
            _ => format!("{failed} of {} checks FAILED{open}.", self.len()),
        }
    }

    /// One JSON object: `schema`, `job_id`, `passed`, and `checks` of `name`, `status` and `detail`.
    pub fn json(&self) -> String {
        let document = serde_json::json!({
            "schema": "forge.audit.v1",
            "job_id": self.job,
            "passed": self.failed() == 0,
            "checks": self.checks,
        });
        format!("{document:#}\n")
    }
}
