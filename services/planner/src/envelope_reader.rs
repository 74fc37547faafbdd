//! Validates an envelope under this installation's rules. Pure apart from the model cache; it
//! neither reads nor writes records.

use std::sync::Arc;

use forge_contract::error::InvalidDocument;
use forge_documents::Job;
use forge_kernel::request::Request;
use forge_service::{blocking::compute_aside, job_memory, model_cache::ModelCache, result_limit};
use tokio::sync::Semaphore;

/// Envelopes that are compiled at the same time. One takes seconds at worst.
const CONCURRENT_READS: usize = 2;

/// Turns submitted bytes into a planned [`Job`].
#[derive(Debug, Clone)]
pub struct EnvelopeReader {
    models: Arc<ModelCache>,
    namespaces: Vec<String>,
    /// Memory of an aggregator for jobs, in bytes.
    job_memory: u64,
    /// Largest result of a shard, in bytes.
    max_result_bytes: u64,
    /// Permits to compile.
    reads: Arc<Semaphore>,
}

impl EnvelopeReader {
    /// `namespaces` are the buckets of job records that an envelope may name. Envelopes for which
    /// an aggregator needs more than `job_memory` bytes are refused, and those whose shards have
    /// larger results than `max_result_bytes`.
    pub fn new(
        models: Arc<ModelCache>,
        namespaces: Vec<String>,
        job_memory: u64,
        max_result_bytes: u64,
    ) -> Self {
        let reads = Arc::new(Semaphore::new(CONCURRENT_READS));
        Self { models, namespaces, job_memory, max_result_bytes, reads }
    }

    /// Parses and validates an envelope, compiles its model and plans it. Large portfolios take
    /// seconds, so other tasks of this process go on meanwhile.
    ///
    /// # Errors
    /// Every fault of the envelope at once, each with its JSON pointer.
    pub async fn read(&self, envelope: &[u8]) -> Result<Job, InvalidDocument> {
        let _permit = self.reads.acquire().await;
        compute_aside(|| self.read_at_once(envelope))
    }

    fn read_at_once(&self, envelope: &[u8]) -> Result<Job, InvalidDocument> {
        let request = Request::from_json_with(envelope, self.models.as_ref())?;
        let namespace = &request.envelope.artifacts.kv_namespace;
        if !self.namespaces.contains(namespace) {
            return Err(InvalidDocument::single(
                "/artifacts/kv_namespace",
                format!(
                    "is not a namespace of this installation: must be one of {}, not {namespace:?}",
                    self.namespaces.join(", ")
                ),
            ));
        }
        let bytes = job_memory::aggregation_bytes(&request);
        if bytes > self.job_memory {
            let shards = request.plan.shard_count();
            let excess = job_memory::describe_excess(shards, bytes, self.job_memory);
            return Err(InvalidDocument::single("/args/iterations", format!("are too many: {excess}")));
        }
        if let Some(size) = request.excess_result_size(self.max_result_bytes) {
            let excess = result_limit::describe_excess(&request, &size, self.max_result_bytes);
            return Err(InvalidDocument::single("/args", format!("describe too large a model: {excess}")));
        }
        Ok(Job::new(request))
    }
}

/// All faults of an envelope on one line.
pub fn one_line(invalid: &InvalidDocument) -> String {
    let errors: Vec<_> = invalid.errors().iter().map(ToString::to_string).collect();
    errors.join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::settings::CACHE_CAPACITY;

    fn read(artifacts: &str) -> Result<Job, InvalidDocument> {
        read_with(artifacts, 9)
    }

    fn read_with(artifacts: &str, iterations: u64) -> Result<Job, InvalidDocument> {
        let models = Arc::new(ModelCache::new(CACHE_CAPACITY));
        let namespaces = vec!["jobs".to_owned(), "night".to_owned()];
        let reader = EnvelopeReader::new(models, namespaces, 1 << 30, 1 << 20);
        let envelope = format!(
            r#"{{"op": {{"name": "mc", "version": 1, "profile": "insurance.v1"}}, "artifacts": {artifacts},
                 "args": {{"iterations": {iterations}, "claim_freq": 0.1, "claim_severity_mu": 1, "claim_severity_sig": 1}}}}"#
        );
        reader.read_at_once(envelope.as_bytes())
    }

    #[test]
    fn a_portfolio_whose_results_do_not_fit_into_a_message_is_refused() {
        let lines: Vec<String> = (0..16).map(|line| format!("line {line}")).collect();
        let strikes: Vec<_> = lines
            .iter()
            .map(|line| json!({"line": line, "severity": {"lognormal": {"mu": 9, "sigma": 5}}}))
            .collect();
        let treaties = |count: u32| -> Vec<_> {
            let treaty = |step| {
                json!({"name": format!("share {step}"), "step": step, "kind": "quota_share", "covers": lines,
                    "cession": 0.01})
            };
            (1..=count).map(treaty).collect()
        };
        let models = Arc::new(ModelCache::new(CACHE_CAPACITY));
        let reader = EnvelopeReader::new(models, vec!["jobs".to_owned()], 1 << 30, 1 << 20);
        let read = |treaties: Vec<Value>, allocation: bool| {
            let envelope = json!({"op": {"name": "mc", "version": 1, "profile": "risk.compound.v1"}, "args": {
                "iterations": 100_000, "lines": lines, "treaties": treaties, "report": {"allocation": allocation},
                "groups": [{"name": "all", "count": {"poisson": 2}, "strikes": strikes}]}});
            reader.read_at_once(envelope.to_string().as_bytes())
        };
        assert!(read(treaties(2), false).is_ok());
        let text = one_line(&read(treaties(32), true).unwrap_err());
        for part in [
            "/args: ",
            "at most 1024 KiB",
            "16 lines, 32 treaties and 32 steps",
            "report.allocation",
            "`forge run`",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn envelope_may_name_only_a_configured_namespace() {
        assert!(read("{}").is_ok());
        assert!(read(r#"{"kv_namespace": "night"}"#).is_ok());
        let invalid = read(r#"{"kv_namespace": "day"}"#).unwrap_err();
        let text = one_line(&invalid);
        assert!(text.starts_with("/artifacts/kv_namespace: ") && text.contains("jobs, night"), "{text}");
    }

    #[test]
    fn a_job_for_which_no_aggregator_has_memory_is_refused() {
        assert!(read_with("{}", 1 << 44).is_ok());
        let text = one_line(&read_with("{}", 1 << 48).unwrap_err());
        let expected = "/args/iterations: are too many: the job has 1048576 shards, for which an aggregator needs \
                        8196 MiB of memory, but has 1024 MiB for jobs (FORGE_JOB_MEMORY_MIB)";
        assert_eq!(text, expected);
    }

    #[test]
    fn all_faults_fit_on_one_line() {
        let text = one_line(&read(r#"{"persist": 1, "kv_namespace": 2}"#).unwrap_err());
        assert!(text.contains("; ") && !text.contains('\n'), "{text}");
    }
}
