//! What an audit can rely on: the manifest, and those of its artifacts that have the right size and
//! hash. It also adds a check for each of them.

use std::{cell::OnceCell, collections::BTreeMap, fmt::Display};

use forge_contract::{
    artifact::{ArtifactReference, ExecutionsDocument, ManifestDocument},
    canonical::to_canonical_json,
    digest::Digest,
    error::InvalidDocument,
    strict,
};
use forge_documents::{
    Job,
    document::{ENVELOPE_JSON, EXECUTIONS_JSON, RESULT_JSON},
    number_format::format_count,
};
use forge_store::shards_file;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    kept_shards::KeptShards,
    report::{AuditReport, CheckProblem},
    sampling::RecordedShard,
};
use crate::stored_job::StoredJob;

/// Upper bound on the shards of a job, so that a forged manifest cannot exhaust memory: as many as
/// the largest run has.
pub const MAX_SHARDS: u64 = 1 << 20;

/// The intact artifacts of a job.
pub struct Evidence<'a> {
    /// The job's manifest.
    pub manifest: &'a ManifestDocument,
    /// The store, for documents that the manifest does not name.
    pub stored: &'a StoredJob,
    job: Result<Job, CheckProblem>,
    /// Content by artifact name; `None` if the artifact is missing or damaged.
    artifacts: BTreeMap<&'a str, Option<Vec<u8>>>,
    /// The shard results; `None` if they were not kept, or are missing or damaged.
    kept_shards: Option<KeptShards>,
    executions: OnceCell<Result<ExecutionsDocument, CheckProblem>>,
}

impl<'a> Evidence<'a> {
    /// Reads every artifact, and reports whether its size and hash are those of the manifest.
    pub fn collect(stored: &'a StoredJob, report: &mut AuditReport) -> Self {
        let manifest = &stored.manifest;
        let (shards, kept) = (format_count(manifest.shards), manifest.artifacts.len());
        report.add("manifest.json", Ok(format!("{shards} shards, {kept} artifacts")));
        let not_named = || Err(CheckProblem::failed(format!("the manifest names no {ENVELOPE_JSON}")));
        // The envelope comes first: it bounds the sizes of the others.
        let envelope = stored.artifact_reference(ENVELOPE_JSON);
        let envelope = envelope.map(|reference| read(stored, reference, 0, report));
        let job = match &envelope {
            None => not_named(),
            Some(None) => Err(missing(ENVELOPE_JSON)),
            Some(Some(bytes)) => {
                stored.job_of_envelope(bytes, &()).map_err(|wrong| CheckProblem::failed(wrong.to_string()))
            }
        };
        // Shards that the plan does not have justify no larger document.
        let is_planned = |job: &Job| {
            let last = usize::try_from(manifest.shards.saturating_sub(1)).unwrap_or(usize::MAX);
            manifest.shards <= MAX_SHARDS && job.request.plan.shards().nth(last).is_some()
        };
        let shards = if job.as_ref().is_ok_and(is_planned) { manifest.shards } else { 0 };
        let mut evidence = Self {
            manifest,
            stored,
            job,
            artifacts: envelope.map(|bytes| (ENVELOPE_JSON, bytes)).into_iter().collect(),
            kept_shards: None,
            executions: OnceCell::new(),
        };
        for reference in manifest.artifacts.iter().filter(|reference| reference.name != ENVELOPE_JSON) {
            evidence.add_artifact(reference, shards, report);
        }
        evidence
    }

    /// The job of the stored envelope, and the shard results that were kept.
    ///
    /// # Errors
    /// See [`Evidence::job`].
    pub fn into_job(self) -> Result<(Job, Option<KeptShards>), CheckProblem> {
        Ok((self.job?, self.kept_shards))
    }

    fn add_artifact(&mut self, reference: &'a ArtifactReference, shards: u64, report: &mut AuditReport) {
        let content = if reference.name == shards_file::FILE_NAME {
            let request = self.job.as_ref().ok().map(|job| &job.request);
            self.kept_shards = KeptShards::read(self.stored, reference, shards, request, report);
            None
        } else {
            read(self.stored, reference, shards, report)
        };
        self.artifacts.insert(&reference.name, content);
    }

    /// Whether the manifest names an artifact.
    pub fn is_named(&self, name: &str) -> bool {
        self.artifacts.contains_key(name)
    }

    /// The content of an artifact.
    ///
    /// # Errors
    /// [`CheckProblem::NotCompared`] if it was not kept, or is missing or damaged.
    pub fn bytes(&self, name: &str) -> Result<&[u8], CheckProblem> {
        match self.artifacts.get(name) {
            None => Err(CheckProblem::NotCompared(format!("{name} was not kept"))),
            Some(None) => Err(missing(name)),
            Some(Some(bytes)) => Ok(bytes),
        }
    }

    /// An artifact, parsed strictly: without duplicate keys, with numbers that every reader reads
    /// alike, and in the only form that a `T` is written in.
    ///
    /// # Errors
    /// See [`Evidence::bytes`]; [`CheckProblem::Failed`] if it is not a `T` in canonical JSON.
    pub fn document<T: DeserializeOwned + Serialize>(&self, name: &str) -> Result<T, CheckProblem> {
        let bytes = self.bytes(name)?;
        strict::check_document(bytes, bytes.len()).map_err(|errors| unreadable(name, &errors))?;
        let document: T = serde_json::from_slice(bytes).map_err(|error| cannot_parse(name, error))?;
        canonical(name, document, bytes)
    }

    /// The stored result.
    ///
    /// # Errors
    /// See [`Evidence::document`].
    pub fn result(&self) -> Result<Value, CheckProblem> {
        let bytes = self.bytes(RESULT_JSON)?;
        let value = parse_result(bytes).map_err(|errors| unreadable(RESULT_JSON, &errors))?;
        canonical(RESULT_JSON, value, bytes)
    }

    /// The record of the executions.
    ///
    /// # Errors
    /// See [`Evidence::document`].
    pub fn executions(&self) -> Result<&ExecutionsDocument, CheckProblem> {
        let parse = || {
            let document: ExecutionsDocument = self.document(EXECUTIONS_JSON)?;
            if document.schema == ExecutionsDocument::SCHEMA {
                return Ok(document);
            }
            Err(CheckProblem::failed(format!("the schema of {EXECUTIONS_JSON} is {:?}", document.schema)))
        };
        self.executions.get_or_init(parse).as_ref().map_err(Clone::clone)
    }

    /// The job of the stored envelope.
    ///
    /// # Errors
    /// [`CheckProblem::Failed`] if the manifest names no envelope or another one.
    pub fn job(&self) -> Result<&Job, CheckProblem> {
        self.job.as_ref().map_err(Clone::clone)
    }

    /// The job, for checks of other documents. A wrong envelope has a failed check of its own and
    /// only makes the others impossible.
    ///
    /// # Errors
    /// [`CheckProblem::NotCompared`] if there is no reliable envelope.
    pub fn trusted_job(&self) -> Result<&Job, CheckProblem> {
        self.job().map_err(|_| CheckProblem::NotCompared(format!("{ENVELOPE_JSON} is not reliable")))
    }

    /// The shard results that were kept.
    ///
    /// # Errors
    /// [`CheckProblem::NotCompared`] if they were not kept, or are missing or damaged.
    pub fn kept_shards(&self) -> Result<&KeptShards, CheckProblem> {
        let name = shards_file::FILE_NAME;
        match &self.kept_shards {
            Some(kept) => Ok(kept),
            None if self.is_named(name) => Err(missing(name)),
            None => Err(CheckProblem::NotCompared(format!("{name} was not kept"))),
        }
    }

    /// The hashes of the shards' results, in shard order: from executions.json if it was kept,
    /// otherwise from the shard results.
    ///
    /// # Errors
    /// [`CheckProblem::NotCompared`] if neither was kept, [`CheckProblem::Failed`] if what was kept
    /// cannot be parsed.
    pub fn recorded_hashes(&self) -> Result<Vec<Digest>, CheckProblem> {
        if self.is_named(EXECUTIONS_JSON) {
            return Ok(self.executions()?.executions.iter().map(|execution| execution.result_hash).collect());
        }
        if !self.is_named(shards_file::FILE_NAME) {
            let reason = format!("neither {EXECUTIONS_JSON} nor {} was kept", shards_file::FILE_NAME);
            return Err(CheckProblem::NotCompared(reason));
        }
        Ok(self.kept_shards()?.hashes.clone())
    }

    /// The recorded hashes with the ids of their shards.
    ///
    /// # Errors
    /// See [`Evidence::recorded_hashes`]; also if there is no reliable envelope, or the recorded
    /// shards are not those of the plan.
    pub fn recorded_shards(&self) -> Result<Vec<RecordedShard>, CheckProblem> {
        let hashes = self.recorded_hashes()?;
        let planned = self.trusted_job()?.request.plan.shards().take(hashes.len());
        let shards: Vec<_> = planned.zip(&hashes).map(|(id, &hash)| RecordedShard { id, hash }).collect();
        let is_planned = match self.executions() {
            Ok(document) => document.executions.iter().map(|e| e.shard_id).eq(shards.iter().map(|s| s.id)),
            Err(_) => shards.len() == hashes.len(),
        };
        if is_planned {
            return Ok(shards);
        }
        Err(CheckProblem::NotCompared("the recorded shards are not those of the plan".to_owned()))
    }
}

/// Parses a result: strictly, but with figures beyond 2^53.
///
/// # Errors
/// See [`strict::parse_result`].
pub fn parse_result(bytes: &[u8]) -> Result<Value, InvalidDocument> {
    strict::parse_result(bytes, bytes.len()).map(|node| node.to_value())
}

/// The document, if these are the bytes of its canonical JSON.
fn canonical<T: Serialize>(name: &str, document: T, bytes: &[u8]) -> Result<T, CheckProblem> {
    if to_canonical_json(&document).ok().as_deref() == Some(bytes) {
        return Ok(document);
    }
    Err(CheckProblem::failed(format!("{name} is not canonical JSON")))
}

/// A document with errors, of which one is enough to refuse it.
fn unreadable(name: &str, errors: &InvalidDocument) -> CheckProblem {
    cannot_parse(name, errors.errors().first().map_or_else(String::new, ToString::to_string))
}

fn cannot_parse(name: &str, reason: impl Display) -> CheckProblem {
    CheckProblem::failed(format!("cannot parse {name}: {reason}"))
}

fn missing(name: &str) -> CheckProblem {
    CheckProblem::NotCompared(format!("{name} is missing, damaged or could not be read"))
}

/// Reads an artifact, and reports whether its size and hash are those of the manifest.
fn read(
    stored: &StoredJob,
    reference: &ArtifactReference,
    shards: u64,
    report: &mut AuditReport,
) -> Option<Vec<u8>> {
    let content = stored.read_artifact(reference, shards);
    report.add_artifact(reference, content.as_ref().map(drop).map_err(Clone::clone));
    content.ok()
}
