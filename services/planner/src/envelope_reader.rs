//! Validates an envelope under this installation's rules. Pure apart from its caches; it neither
//! reads nor writes records.

use std::sync::Arc;

use forge_bus::SharedBus;
use forge_contract::error::{FieldError, InvalidDocument};
use forge_documents::Job;
use forge_kernel::{
    request::{ModelCompiler, Request},
    result_size::ResultSize,
};
use forge_service::{
    blocking::compute_blocking,
    job_memory,
    model_cache::{CONCURRENT_COMPILATIONS, CachedModels, ModelCache},
    result_limit::{self, ExcessSizes, max_result_bytes},
};
use tokio::sync::Semaphore;

/// Upper bound on the errors of an envelope, as JSON in bytes. A record holds them twice: without
/// it, long keys that errors quote would make a record as large as the envelope.
const MAX_ERRORS_BYTES: usize = 32 << 10;

/// Turns submitted bytes into a planned [`Job`]. Clones share the caches and the permits.
#[derive(Debug, Clone)]
pub struct EnvelopeReader {
    rules: Arc<EnvelopeRules>,
    /// Permits to compile.
    compilations: Arc<Semaphore>,
}

/// The rules of the installation, and what reading envelopes has computed.
#[derive(Debug)]
struct EnvelopeRules {
    bus: SharedBus,
    models: Arc<ModelCache>,
    namespaces: Vec<String>,
    /// Memory of an aggregator for jobs, in bytes.
    job_memory: u64,
    excess_sizes: ExcessSizes,
}

impl EnvelopeReader {
    /// `namespaces` are the buckets of job records that an envelope may name. Envelopes for which
    /// an aggregator needs more than `job_memory` bytes are refused, and those whose shards have
    /// results that do not fit into a message of `bus`.
    pub fn new(bus: SharedBus, models: Arc<ModelCache>, namespaces: Vec<String>, job_memory: u64) -> Self {
        let excess_sizes = ExcessSizes::default();
        let rules = Arc::new(EnvelopeRules { bus, models, namespaces, job_memory, excess_sizes });
        Self { rules, compilations: Arc::new(Semaphore::new(CONCURRENT_COMPILATIONS)) }
    }

    /// A reader with the same rules and caches, and permits of its own: its envelopes do not wait
    /// for those of this reader.
    #[must_use]
    pub fn with_own_permits(&self) -> Self {
        Self {
            rules: Arc::clone(&self.rules),
            compilations: Arc::new(Semaphore::new(CONCURRENT_COMPILATIONS)),
        }
    }

    /// Parses and validates an envelope, compiles its model and plans it. Large portfolios take
    /// seconds, so other tasks of this process go on meanwhile, and only as many are compiled at
    /// once as there are permits. Envelopes whose model is cached wait for none.
    ///
    /// # Errors
    /// Every fault of the envelope at once, each with its JSON pointer, as far as they are short.
    pub async fn read(&self, envelope: &[u8]) -> Result<Job, InvalidDocument> {
        self.read_with_permit(envelope).await.map_err(limit_errors)
    }

    async fn read_with_permit(&self, envelope: &[u8]) -> Result<Job, InvalidDocument> {
        if let Some(read) = compute_blocking(|| self.rules.read_cached(envelope)) {
            return read;
        }
        let _permit = self.compilations.acquire().await;
        compute_blocking(|| self.rules.read(envelope))
    }
}

impl EnvelopeRules {
    fn read(&self, envelope: &[u8]) -> Result<Job, InvalidDocument> {
        let request = self.parse(envelope, self.models.as_ref())?;
        let limit = self.max_result_bytes();
        let excess = self.excess_sizes.get_or_compute(&request, limit);
        check_excess(request, excess, limit)
    }

    /// As [`Self::read`]; `None` if that would compile a model, or execute a part of it.
    fn read_cached(&self, envelope: &[u8]) -> Option<Result<Job, InvalidDocument>> {
        let cached = CachedModels::new(&self.models);
        let parsed = self.parse(envelope, &cached);
        if cached.has_missed() {
            return None;
        }
        let request = match parsed {
            Ok(request) => request,
            Err(invalid) => return Some(Err(invalid)),
        };
        let limit = self.max_result_bytes();
        let excess = self.excess_sizes.get(&request, limit)?;
        Some(check_excess(request, excess, limit))
    }

    /// The request of an envelope that fits the namespaces and the memory of the installation.
    fn parse(&self, envelope: &[u8], models: &dyn ModelCompiler) -> Result<Request, InvalidDocument> {
        let request = Request::from_json_with(envelope, models)?;
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
        Ok(request)
    }

    /// Largest result of a shard, in bytes. The server's limit may change with every reconnect.
    fn max_result_bytes(&self) -> u64 {
        max_result_bytes(self.bus.max_payload())
    }
}

/// The job of a request, unless its shards have larger results than `limit` bytes.
fn check_excess(request: Request, excess: Option<ResultSize>, limit: u64) -> Result<Job, InvalidDocument> {
    let Some(size) = excess else { return Ok(Job::new(request)) };
    let excess = result_limit::describe_excess(&request, &size, limit);
    Err(InvalidDocument::single("/args", format!("describe too large a model: {excess}")))
}

/// The first errors that fit into [`MAX_ERRORS_BYTES`], and the number of the others.
fn limit_errors(invalid: InvalidDocument) -> InvalidDocument {
    let mut left = MAX_ERRORS_BYTES;
    let size = |error: &FieldError| serde_json::to_vec(error).map_or(usize::MAX, |json| json.len());
    let fits = |error: &&FieldError| {
        let rest = left.checked_sub(size(error));
        left = rest.unwrap_or(0);
        rest.is_some()
    };
    let mut errors: Vec<_> = invalid.errors().iter().take_while(fits).cloned().collect();
    let omitted = invalid.errors().len() - errors.len();
    if omitted > 0 {
        let message = format!("has {omitted} more errors, which are too long to list");
        errors.push(FieldError::new("", message));
    }
    InvalidDocument::from_errors(errors).unwrap_or(invalid)
}

/// All faults of an envelope on one line.
pub fn one_line(invalid: &InvalidDocument) -> String {
    let errors: Vec<_> = invalid.errors().iter().map(ToString::to_string).collect();
    errors.join("; ")
}

#[cfg(test)]
mod tests {
    use forge_bus::{MemoryBus, topology::TopologySettings};
    use serde_json::{Value, json};
    use tokio::time::{Duration, timeout};

    use super::*;
    use crate::settings::CACHE_CAPACITY;

    fn read(artifacts: &str) -> Result<Job, InvalidDocument> {
        read_with(artifacts, 9)
    }

    fn read_with(artifacts: &str, iterations: u64) -> Result<Job, InvalidDocument> {
        let reader = reader(1 << 20);
        let envelope = format!(
            r#"{{"op": {{"name": "mc", "version": 1, "profile": "insurance.v1"}}, "artifacts": {artifacts},
                 "args": {{"iterations": {iterations}, "claim_freq": 0.1, "claim_severity_mu": 1, "claim_severity_sig": 1}}}}"#
        );
        reader.rules.read(envelope.as_bytes())
    }

    /// A reader on a bus with messages of this size, in bytes.
    fn reader(max_message_bytes: usize) -> EnvelopeReader {
        let bus = MemoryBus::new(TopologySettings { max_message_bytes, ..TopologySettings::default() });
        let models = Arc::new(ModelCache::new(CACHE_CAPACITY));
        EnvelopeReader::new(bus, models, vec!["jobs".to_owned(), "night".to_owned()], 1 << 30)
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
        let reader = reader((1 << 20) + (8 << 10));
        let read = |treaties: Vec<Value>, allocation: bool| {
            let envelope = json!({"op": {"name": "mc", "version": 1, "profile": "risk.compound.v1"}, "args": {
                "iterations": 100_000, "lines": lines, "treaties": treaties, "report": {"allocation": allocation},
                "groups": [{"name": "all", "count": {"poisson": 2}, "strikes": strikes}]}});
            reader.rules.read(envelope.to_string().as_bytes())
        };
        assert!(read(treaties(2), false).is_ok());
        let text = one_line(&read(treaties(32), true).unwrap_err());
        for part in [
            "/args: ",
            "at most 1024 KiB",
            "16 lines, 1 groups with occurrences, 32 treaties and 32 steps",
            "report.allocation",
            "`forge run`",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn cached_models_need_no_permit_and_the_api_has_its_own() {
        let (reader, day) = (reader(1 << 20), Duration::from_secs(24 * 3600));
        let of_api = reader.with_own_permits();
        let envelope = |frequency: f64| {
            let args = json!({"iterations": 9, "claim_freq": frequency, "claim_severity_mu": 1, "claim_severity_sig": 1});
            let op = json!({"name": "mc", "version": 1, "profile": "insurance.v1"});
            json!({"op": op, "args": args}).to_string()
        };
        assert!(reader.read(envelope(0.1).as_bytes()).await.is_ok());
        let _all =
            reader.compilations.acquire_many(u32::try_from(CONCURRENT_COMPILATIONS).unwrap()).await.unwrap();
        assert!(timeout(day, reader.read(envelope(0.2).as_bytes())).await.is_err(), "it is not cached");
        assert!(timeout(day, reader.read(envelope(0.1).as_bytes())).await.unwrap().is_ok());
        assert!(timeout(day, reader.read(b"{}")).await.unwrap().is_err(), "it has no model");
        assert!(timeout(day, of_api.read(envelope(0.2).as_bytes())).await.unwrap().is_ok());
        assert!(timeout(day, reader.read(envelope(0.2).as_bytes())).await.unwrap().is_ok());
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

    #[tokio::test]
    async fn errors_about_long_keys_are_listed_as_far_as_they_are_short() {
        let reader = reader(1 << 20);
        let errors = async |length: usize| {
            let key = |number| (format!("{number}{}", "\u{1}".repeat(length)), Value::Null);
            let envelope: serde_json::Map<_, _> = (0..70).map(key).collect();
            let invalid = reader.read(Value::from(envelope).to_string().as_bytes()).await.unwrap_err();
            (serde_json::to_string(invalid.errors()).unwrap().len(), one_line(&invalid))
        };
        let (size, text) = errors(2000).await;
        assert!(size < MAX_ERRORS_BYTES + 1000, "{size}");
        assert!(text.ends_with("more errors, which are too long to list"), "{text}");
        let (_, text) = errors(3).await;
        assert!(!text.contains("too long to list"), "{text}");
    }

    #[test]
    fn all_faults_fit_on_one_line() {
        let text = one_line(&read(r#"{"persist": 1, "kv_namespace": 2}"#).unwrap_err());
        assert!(text.contains("; ") && !text.contains('\n'), "{text}");
    }
}
