//! Jobs executed in this process by correct, wrong and failing workers, and how they end.

use forge_contract::{
    envelope::VerificationLevel, ids::PoolName, program::Program, shard::Shard, shard_result::ShardResult,
};
use forge_kernel::{
    backend::{ExecutionControl, ExecutionError, scalar::Scalar, simd::Simd},
    request::Request,
};

use super::*;

fn job(verify: VerificationLevel) -> Job {
    let envelope = format!(
        r#"{{"op": {{"name": "mc", "version": 1, "profile": "insurance.v1"}},
             "args": {{"iterations": 300000, "claim_freq": 0.1, "claim_severity_mu": 1, "claim_severity_sig": 1}},
             "policy": {{"verify": {}}}, "artifacts": {{"persist": false}}}}"#,
        serde_json::to_string(&verify).unwrap()
    );
    Job::new(Request::from_json(envelope.as_bytes()).unwrap())
}

fn execute(job: &Job, backend: Arc<dyn Backend>, threads: usize) -> Result<JobCompletion, CommandError> {
    let (store, models) = (Arc::new(Store::in_memory()), Arc::new(ModelCache::new(1)));
    let cluster = InProcessCluster { backend, threads, store, models, max_kept_bytes: 0 };
    cluster.execute(&DetachedRuntime::new().unwrap(), job, &JobHost::Embedded(JobControl::default()))
}

/// The scalar reference, except that its results claim one occurrence too many.
struct WrongBackend;

impl Backend for WrongBackend {
    fn name(&self) -> &str {
        "wrong"
    }

    fn execute(
        &self,
        program: &Program,
        shards: &[Shard],
        control: &dyn ExecutionControl,
    ) -> Result<Vec<ShardResult>, ExecutionError> {
        let mut results = Scalar.execute(program, shards, control)?;
        results.iter_mut().for_each(|result| result.components[0].occurrences += 1);
        Ok(results)
    }
}

/// Executes nothing: it either panics or returns an error.
struct FailingBackend {
    panics: bool,
}

impl Backend for FailingBackend {
    fn name(&self) -> &str {
        "failing"
    }

    fn execute(
        &self,
        _: &Program,
        _: &[Shard],
        _: &dyn ExecutionControl,
    ) -> Result<Vec<ShardResult>, ExecutionError> {
        assert!(!self.panics, "a bug");
        Err(ExecutionError::Device("gone".to_owned()))
    }
}

#[test]
fn result_is_the_same_on_every_backend_and_number_of_threads() {
    let job = job(VerificationLevel::Full);
    let scalar = execute(&job, Arc::new(Scalar), 1).unwrap();
    let simd = execute(&job, Arc::new(Simd::new()), 4).unwrap();
    assert_eq!(scalar.job_result.hash, simd.job_result.hash);
    assert_eq!((scalar.verification.shards, scalar.verification.checked.len()), (5, 5));
    assert!(scalar.verification.escape.iter().all(|escape| escape.probability == 0.0));
    let backend_pair = |completed: &JobCompletion| {
        let pairs = &completed.verification.pairs;
        (pairs.len(), pairs[0].primary.clone(), pairs[0].verifier != pairs[0].primary)
    };
    assert_eq!(backend_pair(&scalar), (1, "scalar".to_owned(), true));
    assert_eq!(backend_pair(&simd), (1, Simd::new().name().to_owned(), true));
}

#[test]
fn wrong_results_are_refuted_and_replaced() {
    let job = job(VerificationLevel::Full);
    let expected = execute(&job, Arc::new(Scalar), 1).unwrap();
    let completed = execute(&job, Arc::new(WrongBackend), 2).unwrap();
    assert_eq!(completed.job_result.hash, expected.job_result.hash);
    assert!(!completed.verification.refuted.is_empty());
    assert!(completed.executions.iter().all(|execution| execution.backend != "wrong"));
}

#[test]
fn verifiers_execute_the_shards_that_the_backend_cannot() {
    let job = job(VerificationLevel::None);
    let expected = execute(&job, Arc::new(Simd::new()), 2).unwrap().job_result.hash;
    let check = |panics| {
        let completion = execute(&job, Arc::new(FailingBackend { panics }), 2).unwrap();
        assert_eq!(completion.job_result.hash, expected);
        assert!(completion.executions.iter().all(|execution| execution.pool == PoolName::verifiers()));
    };
    // Both wait half a minute for the redeliveries of failed shards.
    std::thread::scope(|scope| {
        scope.spawn(|| check(false));
        check(true);
    });
}
