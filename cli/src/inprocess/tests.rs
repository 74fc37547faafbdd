//! A run in this process whose workers are wrong, or right: what its job ends in.

use forge_contract::{
    envelope::VerificationLevel, program::Program, shard::Shard, shard_result::ShardResult,
};
use forge_kernel::{
    backend::{ExecutionControl, ExecutionError, scalar::Scalar, simd::Simd},
    request::Request,
};

use forge_service::model_cache::ModelCache;

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

fn execute(job: &Job, backend: Arc<dyn Backend>, threads: usize) -> Result<JobCompletion, Failure> {
    let (store, models) = (Arc::new(Store::in_memory()), Arc::new(ModelCache::new(1)));
    let local = Local { backend, threads, store, models, keep_shards: false };
    local.execute(&Stage::new().unwrap(), job, false)
}

/// The reference, except that results claim an occurrence more.
struct Wrong;

impl Backend for Wrong {
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

/// Cannot execute anything, in one of two ways.
struct Unable {
    panics: bool,
}

impl Backend for Unable {
    fn name(&self) -> &str {
        "unable"
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
fn every_backend_and_number_of_threads_gives_the_same_result() {
    let job = job(VerificationLevel::Full);
    let one = execute(&job, Arc::new(Scalar), 1).unwrap();
    let many = execute(&job, Arc::new(Simd::new()), 4).unwrap();
    assert_eq!(one.job_result.hash, many.job_result.hash);
    assert_eq!((one.verification.shards, one.verification.checked.len()), (5, 5));
    assert!(one.verification.detection.iter().all(|detection| detection.probability == 1.0));
    let pair = |completed: &JobCompletion| {
        let pairs = &completed.verification.pairs;
        (pairs.len(), pairs[0].primary.clone(), pairs[0].verifier != pairs[0].primary)
    };
    assert_eq!(pair(&one), (1, "scalar".to_owned(), true));
    assert_eq!(pair(&many), (1, Simd::new().name().to_owned(), true));
}

#[test]
fn wrong_results_are_refuted_and_others_take_their_place() {
    let job = job(VerificationLevel::Full);
    let right = execute(&job, Arc::new(Scalar), 1).unwrap();
    let completed = execute(&job, Arc::new(Wrong), 2).unwrap();
    assert_eq!(completed.job_result.hash, right.job_result.hash);
    assert!(!completed.verification.refuted.is_empty());
    assert!(completed.executions.iter().all(|execution| execution.backend != "wrong"));
}

#[test]
fn a_job_whose_shards_cannot_be_executed_fails() {
    for panics in [false, true] {
        match execute(&job(VerificationLevel::None), Arc::new(Unable { panics }), 2) {
            Err(Failure::Job(failure)) => {
                assert_eq!((failure.code, failure.phase), (FailureCode::ExecutionFailed, Phase::Execute));
            }
            other => panic!("{other:?}"),
        }
    }
}
