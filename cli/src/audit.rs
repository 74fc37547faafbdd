//! `forge audit`: checks everything that a completed job stored, offline, and reports the outcome
//! of every check and a verdict. With `--all` it audits every job of a store, and with `--log` it
//! checks the log of a store instead.
//!
//! Reading order: [`audit`](self) → [`verdict`] → [`evidence`] → the checks → [`report`] →
//! [`attestation`] → [`store_audit`]; [`log_walk`] → [`log_audit`].

mod attestation;
mod check_list;
mod content_checks;
mod document_checks;
mod evidence;
mod execution_checks;
mod kept_shards;
mod log_audit;
mod log_walk;
mod metrics_checks;
mod reexecution;
mod report;
mod result_shape;
mod sampling;
mod shard_merge;
mod signature_checks;
mod signers;
mod store_audit;
mod verdict;
mod verdict_checks;
mod verification_checks;

use std::path::{Path, PathBuf};

use clap::Args;
use forge_contract::{artifact::ManifestDocument, manifest_log::LogPosition};
use forge_documents::JobResult;
use forge_store::StoreLocation;

use self::{
    attestation::AttestationFile,
    reexecution::{RecomputedJob, ReexecutionOptions},
    signature_checks::SignaturePolicy,
    signers::KnownSigners,
    store_audit::StoreAudit,
    verdict::AuditVerdict,
};
pub use self::{
    document_checks::planned_end,
    evidence::Evidence,
    kept_shards::ShardPeaks,
    report::{AuditReport, CheckProblem},
    shard_merge::ShardMerge,
};
use crate::{
    archive::ExtractedArchive,
    engine::{self, default_threads},
    error::CommandError,
    job_host::JobHost,
    output::{self, OutputFormat, TextStyle},
    stored_job::{JobLocation, StoredJob},
};

const EXAMPLES: &str = "\
Examples:
  forge audit forge-out/jobs/quickstart-001/manifest.json --full
  forge audit forge-out/jobs/quickstart-001 --reexecute 3
  forge audit s3://forge/jobs/quickstart-001 --signers signers.txt --format json | jq .verdict
  forge audit job.tar --full --attest attestation.html
  forge audit --all s3://forge --reexecute 1
  forge audit --log s3://forge

The first line is the verdict:
  proved      every shard was executed again, and the merge is result.json, byte for byte
  consistent  nothing contradicts the result, but less was executed again; the end of the report states the chance
              that a forger was missed
  failed      something contradicts the result or its record

Exits with code 0 if the verdict is proved or consistent and everything that was asked for was done, with 4 if it is
failed, and with 5 if something that was asked for could not be done.

With --all, every completed job of the store is audited, and the report is a table, or with --format json the
report of each job on a line. The exit code is 4 if one audit failed.

--attest writes a document about the audit for your files: when it was made, with which forge, what was executed
again, the verdict and every check. It is written whatever the verdict is. It is not signed.

With --log, the store's log is checked instead: that no entry is missing or changed, and that every job is the one
that was recorded. The report ends with the position of the last entry. Keep it, and give it to the next audit as
--log-head: removed last entries show in no other way.

A signers file has a line `ROLE KEY` for each known key; roles are aggregator (required), verifier and agent.
A line `pool NAME` names a known pool of workers.";

/// What the audit of a job executes again, and which signatures it accepts.
#[derive(Debug, Clone, Args)]
pub struct JobAuditArgs {
    /// Execute every shard again and merge the results, which proves the result
    #[arg(long)]
    pub full: bool,
    /// Execute N randomly drawn shards again
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "full")]
    pub reexecute: usize,
    /// Seed that draws the shards to execute again, to repeat an audit [default: random]
    #[arg(long, value_name = "TEXT")]
    pub seed: Option<String>,
    /// Backend that executes shards again: scalar, the reference, or a faster one that `forge
    /// devices` lists
    #[arg(long, value_name = "NAME", default_value = "scalar")]
    pub backend: String,
    /// Number of threads that execute shards again [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub threads: Option<u16>,
    /// File of known keys and pools: fail if another one signed
    #[arg(long, value_name = "FILE", conflicts_with = "allow_unsigned")]
    pub signers: Option<PathBuf>,
    /// Accept a manifest without a signature
    #[arg(long)]
    pub allow_unsigned: bool,
}

/// Check the stored artifacts of a completed job, or the log of a store, offline
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct AuditArgs {
    /// The job: its manifest.json or its directory jobs/<job_id>, locally or in a bucket as s3://…,
    /// or an archive of `forge export`
    #[arg(required_unless_present_any = ["log", "all"])]
    manifest: Option<PathBuf>,
    /// Audit every completed job of this store, a directory or s3://bucket[/prefix]
    #[arg(long, value_name = "STORE", conflicts_with_all = ["manifest", "log", "log_head", "attest"])]
    all: Option<StoreLocation>,
    /// Check the log of this store, a directory or s3://bucket[/prefix], and that its jobs are
    /// those that were recorded
    #[arg(
        long,
        value_name = "STORE",
        conflicts_with_all = ["manifest", "full", "reexecute", "seed", "backend", "threads", "allow_unsigned"]
    )]
    log: Option<StoreLocation>,
    /// An entry of the log that is known from an earlier audit: fail if the log does not have it
    #[arg(long, value_name = "NUMBER:SHA256", conflicts_with = "manifest")]
    log_head: Option<LogPosition>,
    #[command(flatten)]
    job: JobAuditArgs,
    /// Write an attestation of the audit to this file, which ends in .html or .json
    #[arg(long, value_name = "FILE", conflicts_with = "log")]
    attest: Option<AttestationFile>,
    /// Output format: text is the verdict and one line per check, json is one object, or with --all
    /// one per line
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
}

/// Runs the command.
///
/// # Errors
/// The job cannot be read, a check failed, or something that was asked for could not be done.
pub fn execute(args: &AuditArgs) -> Result<(), CommandError> {
    match (&args.log, &args.all, &args.manifest) {
        (Some(store), ..) => execute_log_audit(store, args),
        (_, Some(store), _) => execute_store_audit(store, args),
        (_, _, Some(manifest)) => execute_job_audit(manifest, args),
        (None, None, None) => {
            Err(CommandError::Input("give the manifest of a job, --all STORE or --log STORE".to_owned()))
        }
    }
}

fn execute_log_audit(store: &StoreLocation, args: &AuditArgs) -> Result<(), CommandError> {
    let known = args.job.read_signers()?;
    let report = log_audit::audit_log(store, args.log_head, known.as_ref())?;
    print_report(args.format, || report.to_json(), |style| report.render(style))?;
    match report.verdict() {
        AuditVerdict::Failed => Err(CommandError::Mismatch(report.describe_failures())),
        AuditVerdict::Proved | AuditVerdict::Consistent => Ok(()),
    }
}

fn execute_store_audit(store: &StoreLocation, args: &AuditArgs) -> Result<(), CommandError> {
    let (known, host) = (args.job.read_signers()?, JobHost::Command { show_progress: true });
    let audit = |location: &JobLocation| Ok(audit_location(location, &args.job, known.as_ref(), &host)?.0);
    let audits = StoreAudit::run(store, audit)?;
    print_report(args.format, || audits.to_json(), |style| audits.render(style))?;
    audits.outcome()
}

fn execute_job_audit(manifest: &Path, args: &AuditArgs) -> Result<(), CommandError> {
    let host = JobHost::Command { show_progress: true };
    let (mut report, document) = audit_path(manifest, &args.job, &host)?;
    print_report(args.format, || report.to_json(), |style| report.render(style))?;
    if let Some(file) = &args.attest {
        let requested = if args.job.full { "all".to_owned() } else { args.job.reexecute.to_string() };
        attestation::write(file, manifest, requested, document.as_ref(), &report)?;
    }
    match (report.verdict(), report.omission.take()) {
        (AuditVerdict::Failed, _) => Err(CommandError::Mismatch(report.describe_failures())),
        (_, Some(omission)) => Err(CommandError::Incomplete(omission)),
        (AuditVerdict::Proved | AuditVerdict::Consistent, None) => Ok(()),
    }
}

/// Checks everything that the job at `manifest`, or in an archive of that path, stored. `host`
/// follows what is executed again.
///
/// # Errors
/// The job cannot be read, a file or a backend cannot be used, or the re-execution failed or was
/// interrupted. A failed check is no error.
pub fn audit_manifest(
    manifest: &Path,
    args: &JobAuditArgs,
    host: &JobHost,
) -> Result<AuditReport, CommandError> {
    audit_path(manifest, args, host).map(|(report, _)| report)
}

/// An audit's report, and the manifest if there is one of the job.
type JobAudit = (AuditReport, Option<ManifestDocument>);

fn audit_path(path: &Path, args: &JobAuditArgs, host: &JobHost) -> Result<JobAudit, CommandError> {
    let known = args.read_signers()?;
    let archive = ExtractedArchive::open(path)?;
    let location = archive.as_ref().map_or_else(|| JobLocation::from_path(path), |a| Ok(a.location()))?;
    audit_location(&location, args, known.as_ref(), host)
}

fn audit_location(
    location: &JobLocation,
    args: &JobAuditArgs,
    known: Option<&KnownSigners>,
    host: &JobHost,
) -> Result<JobAudit, CommandError> {
    let mut report = AuditReport::new(location.job.clone());
    match StoredJob::open(location) {
        Ok(stored) => {
            audit_job(&stored, args, known, host, &mut report)?;
            Ok((report, Some(stored.manifest)))
        }
        // There is a manifest, but it cannot be one of this job.
        Err(CommandError::Mismatch(reason)) => {
            report.add("manifest.json", Err(report::CheckProblem::Failed(reason)));
            Ok((report, None))
        }
        Err(other) => Err(other),
    }
}

impl JobAuditArgs {
    fn read_signers(&self) -> Result<Option<KnownSigners>, CommandError> {
        self.signers.as_deref().map(KnownSigners::read).transpose()
    }
}

fn print_report(
    format: OutputFormat,
    to_json: impl FnOnce() -> String,
    render: impl FnOnce(TextStyle) -> String,
) -> Result<(), CommandError> {
    let text = match format {
        OutputFormat::Text => render(TextStyle::of_stdout()),
        OutputFormat::Json => to_json(),
    };
    output::print(text.as_bytes())
}

/// Reads the artifacts of a job and checks that they belong together, as an audit does before it
/// executes anything.
///
/// # Errors
/// [`CommandError::Mismatch`] with the checks that fail. What was not kept is no failure.
pub fn consistent_evidence(stored: &StoredJob) -> Result<Evidence<'_>, CommandError> {
    let mut report = AuditReport::new(stored.manifest.job_id.clone());
    let evidence = check_record(stored, &mut report);
    signature_checks::check_result_signatures(&evidence, &mut report);
    signature_checks::check_manifest_signature(&evidence, SignaturePolicy::Optional, &mut report);
    match report.verdict() {
        AuditVerdict::Failed => Err(CommandError::Mismatch(report.describe_failures())),
        AuditVerdict::Proved | AuditVerdict::Consistent => Ok(evidence),
    }
}

/// Reads the artifacts of a job, and makes the checks of them that execute nothing.
fn check_record<'a>(stored: &'a StoredJob, report: &mut AuditReport) -> Evidence<'a> {
    let evidence = Evidence::collect(stored, report);
    report.coverage.shards = stored.manifest.shards;
    document_checks::check_artifacts(&evidence, report);
    document_checks::name_other_files(&evidence, report);
    document_checks::check_envelope(&evidence, report);
    document_checks::check_result(&evidence, report);
    document_checks::check_plan(&evidence, report);
    document_checks::check_shard_count(&evidence, report);
    execution_checks::check_executions(&evidence, report);
    execution_checks::check_merkle_root(&evidence, report);
    execution_checks::check_reduction(&evidence, report);
    evidence
}

fn audit_job(
    stored: &StoredJob,
    args: &JobAuditArgs,
    known: Option<&KnownSigners>,
    host: &JobHost,
    report: &mut AuditReport,
) -> Result<(), CommandError> {
    let evidence = check_record(stored, report);
    let reexecuted = reexecute(&evidence, args, host, report)?;
    let recomputed = reexecuted.as_ref();
    check_figures(&evidence, recomputed.map(|job| &job.figures), report);
    verification_checks::check_verification(&evidence, recomputed.map(|job| &*job.hashes), report);
    let policy = if args.allow_unsigned { SignaturePolicy::Optional } else { SignaturePolicy::Required };
    signature_checks::check_result_signatures(&evidence, report);
    signature_checks::check_job_key(&evidence, report);
    signature_checks::check_manifest_signature(&evidence, policy, report);
    signers::check_signers(&evidence, known, report);
    report.add_not_compared("log", "whether the store's log records this job was not checked; see --log");
    Ok(())
}

/// Executes shards again, as the command line asks. Returns the figures of the job if these were
/// all its shards.
fn reexecute(
    evidence: &Evidence<'_>,
    args: &JobAuditArgs,
    host: &JobHost,
    report: &mut AuditReport,
) -> Result<Option<RecomputedJob>, CommandError> {
    if !args.full && args.reexecute == 0 {
        return Ok(None);
    }
    let backend = engine::open_backend(&args.backend)?;
    let options = ReexecutionOptions {
        shard_count: (!args.full).then_some(args.reexecute),
        seed: args.seed.clone().map_or_else(random_seed, Ok)?,
        threads: args.threads.map_or_else(|| default_threads(backend.as_ref()), usize::from),
        backend,
        host: host.clone(),
    };
    reexecution::check_reexecution(evidence, &options, report)
}

/// Compares everything that follows from the result with figures that were recomputed here, or else
/// with those of the kept shard results.
fn check_figures(evidence: &Evidence<'_>, reexecuted: Option<&JobResult>, report: &mut AuditReport) {
    let kept = evidence.kept_shards().ok().and_then(|kept| kept.merged.as_ref().ok());
    let figures = reexecuted.or(kept);
    let is_recomputed = content_checks::check_contents(evidence, figures, report);
    report.coverage.is_result_merged = is_recomputed;
    report.coverage.is_proved = is_recomputed && reexecuted.is_some();
    metrics_checks::check_metrics(evidence, figures, report);
}

fn random_seed() -> Result<String, CommandError> {
    let random = getrandom::u64().map_err(|error| {
        CommandError::Input(format!("the system provides no random numbers ({error}); give --seed"))
    })?;
    Ok(format!("{random:016x}"))
}
