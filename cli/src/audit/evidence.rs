//! What an audit can rely on: the manifest, and those of its artifacts that have the right size and
//! hash. It also adds a check for each of them.

use std::{cell::OnceCell, collections::BTreeMap};

use forge_contract::{
    artifact::{ExecutionsDocument, ManifestDocument},
    digest::Digest,
};
use forge_documents::{
    Job,
    document::{ENVELOPE_JSON, EXECUTIONS_JSON},
    number_format::format_count,
};
use forge_store::shards_file;
use serde::de::DeserializeOwned;

use super::{
    report::{AuditReport, CheckProblem},
    sampling::RecordedShard,
};
use crate::stored_job::StoredJob;

/// The intact artifacts of a job.
pub struct Evidence<'a> {
    /// The job's manifest.
    pub manifest: &'a ManifestDocument,
    /// Content by artifact name; `None` if the artifact is missing or damaged.
    artifacts: BTreeMap<&'a str, Option<Vec<u8>>>,
    stored: &'a StoredJob,
    job: OnceCell<Result<Job, CheckProblem>>,
}

impl<'a> Evidence<'a> {
    /// Reads every artifact, and reports whether its size and hash are those of the manifest.
    pub fn collect(stored: &'a StoredJob, report: &mut AuditReport) -> Self {
        let manifest = &stored.manifest;
        let kept = manifest.artifacts.len();
        report
            .add("manifest.json", Ok(format!("{} shards, {kept} artifacts", format_count(manifest.shards))));
        let mut artifacts = BTreeMap::new();
        for reference in &manifest.artifacts {
            let content = stored.read_artifact(reference);
            let result = match &content {
                Ok(bytes) => Ok(format!("{} bytes, SHA-256 matches", format_count(bytes.len() as u64))),
                Err(error) => Err(CheckProblem::failed(error.to_string())),
            };
            report.add(&reference.name, result);
            artifacts.insert(reference.name.as_str(), content.ok());
        }
        Self { manifest, artifacts, stored, job: OnceCell::new() }
    }

    /// The content of an artifact.
    ///
    /// # Errors
    /// [`CheckProblem::NotPossible`] if it was not kept, or is missing or damaged.
    pub fn bytes(&self, name: &str) -> Result<&[u8], CheckProblem> {
        match self.artifacts.get(name) {
            None => Err(CheckProblem::NotPossible(format!("{name} was not kept"))),
            Some(None) => Err(CheckProblem::NotPossible(format!("{name} is missing or damaged"))),
            Some(Some(bytes)) => Ok(bytes),
        }
    }

    /// An artifact, parsed.
    ///
    /// # Errors
    /// See [`Evidence::bytes`]; [`CheckProblem::Failed`] if it is not a `T`.
    pub fn document<T: DeserializeOwned>(&self, name: &str) -> Result<T, CheckProblem> {
        serde_json::from_slice(self.bytes(name)?)
            .map_err(|error| CheckProblem::failed(format!("cannot parse {name}: {error}")))
    }

    /// The job of the stored envelope.
    ///
    /// # Errors
    /// See [`Evidence::bytes`]; [`CheckProblem::Failed`] if the envelope is not the one that the
    /// manifest names.
    pub fn job(&self) -> Result<&Job, CheckProblem> {
        let derive =
            || self.stored.job_of_envelope(self.bytes(ENVELOPE_JSON)?, &()).map_err(CheckProblem::Failed);
        self.job.get_or_init(derive).as_ref().map_err(Clone::clone)
    }

    /// The job, for checks of other documents. A wrong envelope has a failed check of its own and
    /// only makes the others impossible.
    ///
    /// # Errors
    /// [`CheckProblem::NotPossible`] if there is no reliable envelope.
    pub fn trusted_job(&self) -> Result<&Job, CheckProblem> {
        self.job().map_err(|_| CheckProblem::NotPossible(format!("{ENVELOPE_JSON} is not reliable")))
    }

    /// The encoded shard results that were kept, in shard order.
    ///
    /// # Errors
    /// See [`Evidence::bytes`]; [`CheckProblem::Failed`] if the framing is wrong.
    pub fn shard_results(&self) -> Result<Vec<&[u8]>, CheckProblem> {
        let bytes = self.bytes(shards_file::FILE_NAME)?;
        shards_file::read_results(bytes)
            .map_err(|error| CheckProblem::failed(format!("{}: {error}", shards_file::FILE_NAME)))
    }

    /// The shards with the hashes of their results: from executions.json if it was kept, otherwise
    /// from the shard results.
    ///
    /// # Errors
    /// [`CheckProblem::NotPossible`] if neither was kept, [`CheckProblem::Failed`] if what was kept
    /// cannot be parsed.
    pub fn recorded_shards(&self) -> Result<Vec<RecordedShard>, CheckProblem> {
        if self.artifacts.contains_key(EXECUTIONS_JSON) {
            let document: ExecutionsDocument = self.document(EXECUTIONS_JSON)?;
            let shards = document.executions.into_iter();
            return Ok(shards.map(|e| RecordedShard { id: e.shard_id, hash: e.result_hash }).collect());
        }
        let results = self.shard_results().map_err(|problem| match problem {
            CheckProblem::NotPossible(_) => CheckProblem::NotPossible(format!(
                "neither {EXECUTIONS_JSON} nor {} was kept",
                shards_file::FILE_NAME
            )),
            failed => failed,
        })?;
        let hash = |bytes: &&[u8]| Digest::hash_parts(&[bytes]);
        let ids = self.trusted_job()?.request.plan.shards();
        Ok(ids.zip(results.iter().map(hash)).map(|(id, hash)| RecordedShard { id, hash }).collect())
    }
}
