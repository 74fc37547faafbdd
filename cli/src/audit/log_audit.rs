//! `forge audit --log`: checks the log of a whole store, and that every job there is the one that
//! was recorded.

use forge_contract::manifest_log::LogPosition;
use forge_documents::number_format::format_count;
use forge_store::{Store, StoreError, StoreLocation};

use super::{
    check_list::{AuditCheckResult, CheckList, CheckProblem},
    log_walk::{LogFindings, LogWalk},
    signers::{KnownSigners, compare_log_signers},
    verdict::AuditVerdict,
};
use crate::{
    error::CommandError,
    output::{TextStyle, to_json_document},
    runtime,
    store_args::s3_options,
    text::count_of,
};

/// The report of a log's audit.
pub struct LogReport {
    store: String,
    walk: LogWalk,
    checks: CheckList,
}

/// Audits the log of a store. `known_head` is an entry that the auditor knows.
///
/// # Errors
/// [`CommandError::Input`] if the store cannot be read, [`CommandError::Mismatch`] if its folders
/// are not folders.
pub fn audit_log(
    location: &StoreLocation,
    known_head: Option<LogPosition>,
    known_signers: Option<&KnownSigners>,
) -> Result<LogReport, CommandError> {
    let to_command_error = |error: StoreError| match error {
        StoreError::Malformed { .. } | StoreError::Corrupt { .. } => {
            CommandError::Mismatch(error.to_string())
        }
        other => CommandError::Input(other.to_string()),
    };
    let options = s3_options(location)?;
    let read = async {
        let store = Store::open_for_reading(location, &options).await?;
        LogWalk::read(&store, known_head.map(|head| head.number)).await
    };
    let walk = runtime::current_thread()?.block_on(read).map_err(to_command_error)?;
    if walk.objects == 0 && walk.jobs == 0 {
        let message = format!(
            "{location} has neither log/ nor jobs/: name the store itself, such as forge-out or s3://forge"
        );
        return Err(CommandError::Input(message));
    }
    let mut checks = CheckList::default();
    add_chain_checks(&walk, known_signers, &mut checks);
    add_job_checks(&walk, &mut checks);
    checks.add("known head", compare_head(&walk, known_head));
    let reason = "audit each job by its manifest.json: the log shows only that it is the recorded one";
    checks.add("contents of the jobs", Err(CheckProblem::NotCompared(reason.to_owned())));
    Ok(LogReport { store: location.to_string(), walk, checks })
}

fn add_chain_checks(walk: &LogWalk, known: Option<&KnownSigners>, checks: &mut CheckList) {
    let entries = count_of(walk.objects, "entry").replace("entrys", "entries");
    checks.add("entries", unless_found(&walk.gaps, || format!("{entries}, none missing")));
    checks.add("format", unless_found(&walk.malformed, || "canonical JSON of this format".to_owned()));
    let linked = || "each entry has the SHA-256 of the one before".to_owned();
    checks.add("chain", unless_found(&walk.broken_links, linked));
    checks.add("signatures", unless_found(&walk.wrong_signatures, || "each by its signer".to_owned()));
    checks.add("signers", compare_log_signers(&walk.signers, known));
}

fn add_job_checks(walk: &LogWalk, checks: &mut CheckList) {
    let repeated = match walk.repeated {
        0 => String::new(),
        count => format!("; {} recorded again, which is harmless", format_count(count)),
    };
    let recorded = || format!("each is the one that its entry records{repeated}");
    checks.add("manifests", unless_found(&walk.wrong_manifests, recorded));
    let jobs = || format!("{}, each with an entry", count_of(walk.jobs, "job"));
    let unrecorded = walk.unrecorded_jobs.describe().map(|found| {
        format!("{found}: put there by a stranger, or its entry was removed, or it is being completed now")
    });
    checks.add("jobs", unrecorded.map_or_else(|| Ok(jobs()), |found| Err(CheckProblem::Failed(found))));
}

fn unless_found(findings: &LogFindings, remark: impl FnOnce() -> String) -> AuditCheckResult {
    findings.describe().map_or_else(|| Ok(remark()), |found| Err(CheckProblem::Failed(found)))
}

fn compare_head(walk: &LogWalk, known: Option<LogPosition>) -> AuditCheckResult {
    let Some(known) = known else {
        let reason = "a log whose last entries were removed looks like a shorter one; see --log-head";
        return Err(CheckProblem::NotCompared(reason.to_owned()));
    };
    let LogPosition { number, hash } = known;
    match walk.asked {
        Some(found) if found == known => Ok(format!("entry {number} is the known one")),
        Some(found) => Err(CheckProblem::failed(format!(
            "entry {number} has SHA-256 {}, but {hash} is known: it was replaced, or the log was written anew",
            found.hash
        ))),
        None if walk.last_number < number => Err(CheckProblem::failed(format!(
            "the log ends with entry {}, but entry {number} is known: later entries were removed",
            walk.last_number
        ))),
        None => Err(CheckProblem::failed(format!("entry {number} is known, but missing or unreadable"))),
    }
}

impl LogReport {
    /// What the audit shows. Nothing is recomputed, so a log is never proved.
    pub fn verdict(&self) -> AuditVerdict {
        if self.checks.has_failed() { AuditVerdict::Failed } else { AuditVerdict::Consistent }
    }

    /// The failed checks as one sentence.
    pub fn describe_failures(&self) -> String {
        self.checks.describe_failures()
    }

    /// The verdict, one line per check, and the end of the log.
    pub fn render(&self, style: TextStyle) -> String {
        let (store, checks) = (&self.store, &self.checks);
        let headline = match self.verdict() {
            AuditVerdict::Failed => {
                let failed = checks.describe_failed_count();
                style.alarm(&format!("failed: {failed} of the log of {store} failed"))
            }
            _ => style.heading(&format!(
                "consistent: nothing contradicts the log of {store}; its jobs were not audited"
            )),
        };
        let head = match (self.verdict(), self.walk.head) {
            (AuditVerdict::Consistent, Some(head)) => {
                format!(" The log ends with {head}. Keep this for the next audit: --log-head {head}")
            }
            _ => String::new(),
        };
        format!("{headline}\n{}{}{head}\n", checks.render(style), checks.describe_counts())
    }

    /// One JSON object; docs/start/auditor.md describes its fields.
    pub fn to_json(&self) -> String {
        let document = serde_json::json!({
            "schema": "forge.log-audit.v1",
            "store": self.store,
            "verdict": self.verdict(),
            "passed": self.verdict() != AuditVerdict::Failed,
            "entries": self.walk.objects,
            "jobs": self.walk.jobs,
            "head": self.walk.head.map(|head| head.to_string()),
            "not_compared": self.checks.not_compared(),
            "checks": self.checks.as_json(),
        });
        to_json_document(&document)
    }
}
