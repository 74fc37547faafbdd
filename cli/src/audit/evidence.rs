//! What an audit has to go by: the manifest, and the artifacts that it names, as far as they are whole.

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
    draw::Recorded,
    report::{Problem, Report},
};
use crate::input::Completed;

/// The artifacts of a job that have the size and the hash that its manifest names.
pub struct Evidence<'a> {
    /// The manifest.
    pub manifest: &'a ManifestDocument,
    /// Content by name; `None` if it is missing or damaged.
    whole: BTreeMap<&'a str, Option<Vec<u8>>>,
    completed: &'a Completed,
    job: OnceCell<Result<Job, Problem>>,
}

impl<'a> Evidence<'a> {
    /// Reads all objects, and checks their sizes and hashes.
    pub fn collect(completed: &'a Completed, report: &mut Report) -> Self {
        let manifest = &completed.manifest;
        let kept = manifest.artifacts.len();
        report
            .add("manifest.json", Ok(format!("{} shards, {kept} artifacts", format_count(manifest.shards))));
        let mut whole = BTreeMap::new();
        for reference in &manifest.artifacts {
            let found = completed.get(reference);
            let outcome = match &found {
                Ok(bytes) => Ok(format!("{} bytes, SHA-256 as named", format_count(bytes.len() as u64))),
                Err(error) => Err(Problem::failed(error.to_string())),
            };
            report.add(&reference.name, outcome);
            whole.insert(reference.name.as_str(), found.ok());
        }
        Self { manifest, whole, completed, job: OnceCell::new() }
    }

    /// The content of an artifact.
    ///
    /// # Errors
    /// It was not kept, or is damaged.
    pub fn bytes(&self, name: &str) -> Result<&[u8], Problem> {
        match self.whole.get(name) {
            None => Err(Problem::NotPossible(format!("{name} was not kept"))),
            Some(None) => Err(Problem::NotPossible(format!("{name} is missing or damaged"))),
            Some(Some(bytes)) => Ok(bytes),
        }
    }

    /// An artifact as the document it should be.
    ///
    /// # Errors
    /// It was not kept, is damaged, or is something else.
    pub fn document<T: DeserializeOwned>(&self, name: &str) -> Result<T, Problem> {
        serde_json::from_slice(self.bytes(name)?)
            .map_err(|error| Problem::failed(format!("{name} cannot be read: {error}")))
    }

    /// The job of the stored envelope.
    ///
    /// # Errors
    /// The envelope is damaged, or not the one that the manifest names.
    pub fn job(&self) -> Result<&Job, Problem> {
        let read = || self.completed.job(self.bytes(ENVELOPE_JSON)?).map_err(Problem::Failed);
        self.job.get_or_init(read).as_ref().map_err(Clone::clone)
    }

    /// The job, for checks of something else: an envelope that fails has been reported as such.
    ///
    /// # Errors
    /// As [`Evidence::job`], but never as a failure.
    pub fn known_job(&self) -> Result<&Job, Problem> {
        self.job().map_err(|_| Problem::NotPossible(format!("{ENVELOPE_JSON} cannot be relied on")))
    }

    /// The kept shard results, in shard order, as bytes.
    ///
    /// # Errors
    /// They were not kept, are damaged, or are not framed results.
    pub fn results(&self) -> Result<Vec<&[u8]>, Problem> {
        let bytes = self.bytes(shards_file::FILE_NAME)?;
        shards_file::read_results(bytes)
            .map_err(|error| Problem::failed(format!("{}: {error}", shards_file::FILE_NAME)))
    }

    /// The shards and the hashes of their results: from executions.json, or else from the kept results.
    ///
    /// # Errors
    /// Neither was kept, or what was kept cannot be read.
    pub fn shards(&self) -> Result<Vec<Recorded>, Problem> {
        if self.whole.contains_key(EXECUTIONS_JSON) {
            let document: ExecutionsDocument = self.document(EXECUTIONS_JSON)?;
            let shards = document.executions.into_iter();
            return Ok(shards.map(|e| Recorded { id: e.shard_id, hash: e.result_hash }).collect());
        }
        let results = self.results().map_err(|problem| match problem {
            Problem::NotPossible(_) => Problem::NotPossible(format!(
                "neither {EXECUTIONS_JSON} nor {} was kept",
                shards_file::FILE_NAME
            )),
            failed => failed,
        })?;
        let hash = |bytes: &&[u8]| Digest::hash_parts(&[bytes]);
        let ids = self.known_job()?.request.plan.shards();
        Ok(ids.zip(results.iter().map(hash)).map(|(id, hash)| Recorded { id, hash }).collect())
    }
}
