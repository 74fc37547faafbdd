//! Executing shards a second time, on the scalar reference, and comparing hashes. Which shards is a pure function of the
//! run: they are drawn by a hash, so a run can be verified again in the same way.

use std::ops::ControlFlow;

use forge_contract::{
    artifact::{BackendPair, Detection, Phase, VerificationDocument},
    digest::Digest,
    envelope::{Policy, Verify},
    error::FailureCode,
    shard::ShardId,
};
use forge_documents::Job;
use forge_kernel::{
    execute::{Backend, scalar::Scalar},
    request::Request,
};

use super::{
    crew::{Crew, Done},
    run::{ExecutedShard, Run},
    stop::Stop,
};
use crate::failure::JobFailure;

/// The share of shards that `spotcheck` stands for.
const SPOTCHECK: f64 = 0.1;
/// Shares of wrong shards for which the chance of detection is stated.
const WRONG_SHARES: [f64; 3] = [0.01, 0.05, 0.1];

/// The share of shards that a policy wants executed a second time.
pub fn share(policy: &Policy) -> f64 {
    policy.verify_ratio.unwrap_or(match policy.verify {
        Verify::None => 0.0,
        Verify::Spotcheck => SPOTCHECK,
        Verify::Full => 1.0,
    })
}

/// `count` of `shards`, drawn by the hash of `seed` and the shard's id: those with the smallest hash, in shard order.
pub fn draw(shards: &[ExecutedShard], count: usize, seed: &[u8]) -> Vec<ExecutedShard> {
    let hash = |id: ShardId| Digest::of(&[b"forge/v1/verify\0", seed, id.to_string().as_bytes()]);
    let mut ranked: Vec<_> = shards.iter().map(|shard| (hash(shard.id), shard)).collect();
    ranked.sort_by_key(|(hash, _)| *hash);
    ranked.truncate(count);
    ranked.sort_by_key(|(_, shard)| shard.id.leaves().start);
    ranked.into_iter().map(|(_, shard)| shard.clone()).collect()
}

/// A shard whose second execution gave another result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The shard.
    pub id: ShardId,
    /// Hash of the first result.
    pub first: Digest,
    /// Hash of the second.
    pub second: Digest,
}

/// Executes shards on the reference and answers the first difference, if there is one.
///
/// # Errors
/// The run was stopped, or a shard could not be executed.
pub fn compare(
    request: &Request,
    shards: &[ExecutedShard],
    threads: usize,
    stop: &Stop,
) -> Result<Option<Difference>, JobFailure> {
    let crew = Crew { request, backend: &Scalar, threads, stop, phase: Phase::Verify };
    let mut expected = shards.iter();
    let mut difference = None;
    crew.execute(shards.iter().map(|shard| shard.id), |done: Done| {
        let first = expected.next().map_or(done.hash, |shard| shard.hash);
        if first == done.hash {
            return Ok(ControlFlow::Continue(()));
        }
        difference = Some(Difference { id: done.id, first, second: done.hash });
        Ok(ControlFlow::Break(()))
    })?;
    Ok(difference)
}

/// Verifies a run as its envelope's policy asks, and records what that proves.
///
/// # Errors
/// `verification_failed` when a result differs; otherwise as [`compare`].
pub fn verify(
    job: &Job,
    run: &Run,
    primary: &str,
    threads: usize,
    stop: &Stop,
) -> Result<VerificationDocument, JobFailure> {
    let policy = &job.request.envelope.policy;
    let share = share(policy);
    let total = run.shards.len();
    let count = ((share * total as f64).ceil() as usize).min(total);
    let checked = draw(&run.shards, count, &job.request.root_seed.0);
    if let Some(Difference { id, first, second }) = compare(&job.request, &checked, threads, stop)? {
        let message = format!(
            "shard {id}: {primary} returned {first}, and the scalar reference {second}; \
             run again with --backend scalar, and report this"
        );
        return Err(JobFailure::new(FailureCode::VerificationFailed, Phase::Verify, message));
    }
    let pair = BackendPair {
        primary: primary.to_owned(),
        verifier: Scalar.name().to_owned(),
        shards: checked.len() as u64,
    };
    let detection = |wrong_share: f64| {
        let wrong = (wrong_share * total as f64).ceil() as usize;
        Detection { wrong_share, probability: detection(total, wrong, count) }
    };
    Ok(VerificationDocument {
        schema: VerificationDocument::SCHEMA.to_owned(),
        job_id: job.id.clone(),
        replay_key: job.request.replay_key,
        policy: policy.verify,
        share,
        shards: total as u64,
        checked: checked.iter().map(|shard| shard.id).collect(),
        pairs: if checked.is_empty() { Vec::new() } else { vec![pair] },
        detection: WRONG_SHARES.into_iter().map(detection).collect(),
        refuted: Vec::new(),
    })
}

/// The probability that at least one of `wrong` among `total` shards is among `checked` ones drawn without
/// replacement: 1 − C(total − wrong, checked) / C(total, checked).
fn detection(total: usize, wrong: usize, checked: usize) -> f64 {
    let missed = |i: usize| (total.saturating_sub(checked + i)) as f64 / (total - i) as f64;
    1.0 - (0..wrong).map(missed).product::<f64>()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use forge_contract::{program::Program, shard::Shard, shard_result::ShardResult};
    use forge_kernel::execute::{Control, ExecuteError};

    use super::*;
    use crate::local::run::run;

    /// The reference, except that one shard's result claims an occurrence more.
    struct Wrong(ShardId);

    impl Backend for Wrong {
        fn name(&self) -> &str {
            "wrong"
        }

        fn execute(
            &self,
            program: &Program,
            shards: &[Shard],
            control: &dyn Control,
        ) -> Result<Vec<ShardResult>, ExecuteError> {
            let mut results = Scalar.execute(program, shards, control)?;
            for (result, _) in results.iter_mut().zip(shards).filter(|(_, shard)| shard.id == self.0) {
                result.components[0].occurrences += 1;
            }
            Ok(results)
        }
    }

    fn job(verify: &str) -> Job {
        let envelope = format!(
            r#"{{"op": {{"name": "mc", "version": 1, "profile": "insurance.v1"}},
                 "args": {{"iterations": 300000, "claim_freq": 0.1, "claim_severity_mu": 1, "claim_severity_sig": 1}},
                 "policy": {{"verify": "{verify}"}}}}"#
        );
        Job::new(Request::parse(envelope.as_bytes()).unwrap())
    }

    #[test]
    fn a_wrong_shard_is_found_by_full_verification() {
        let job = job("full");
        let stop = Stop::new(Instant::now(), 0);
        let id = ShardId { height: 0, index: 3 };
        let wrong = run(&job.request, &Wrong(id), 2, &stop, false).unwrap();
        let failure = verify(&job, &wrong, "wrong", 2, &stop).unwrap_err();
        assert_eq!(failure.code, FailureCode::VerificationFailed);
        assert!(failure.message.starts_with("shard 0-3: wrong returned "), "{}", failure.message);

        let right = run(&job.request, &Scalar, 2, &stop, false).unwrap();
        let document = verify(&job, &right, "scalar", 2, &stop).unwrap();
        assert_eq!((document.shards, document.checked.len()), (5, 5));
        assert!(document.detection.iter().all(|detection| detection.probability == 1.0));
    }

    #[test]
    fn a_spot_check_looks_at_one_shard_at_least_and_always_the_same() {
        let job = job("spotcheck");
        let stop = Stop::new(Instant::now(), 0);
        let run = run(&job.request, &Scalar, 1, &stop, false).unwrap();
        let document = verify(&job, &run, "scalar", 1, &stop).unwrap();
        assert_eq!(document.checked.len(), 1);
        assert_eq!(verify(&job, &run, "scalar", 2, &stop).unwrap(), document);
        assert!((document.detection[0].probability - 0.2).abs() < 1e-12);
    }

    #[test]
    fn a_draw_depends_on_its_seed_and_not_on_the_order() {
        let shard = |index| ExecutedShard::unmeasured(ShardId { height: 0, index }, Digest([0; 32]));
        let shards: Vec<_> = (0..100).map(shard).collect();
        let reversed: Vec<_> = (0..100).rev().map(shard).collect();
        let ids = |shards: &[ExecutedShard], seed| {
            draw(shards, 10, seed).iter().map(|shard| shard.id.index).collect::<Vec<_>>()
        };
        assert_eq!(ids(&shards, b"a"), ids(&reversed, b"a"));
        assert_ne!(ids(&shards, b"a"), ids(&shards, b"b"));
        assert!(ids(&shards, b"a").is_sorted());
    }

    #[test]
    fn detection_is_hypergeometric() {
        // 10 shards, 2 wrong, 3 checked: 1 - C(8,3)/C(10,3) = 1 - 56/120.
        assert!((detection(10, 2, 3) - (1.0 - 56.0 / 120.0)).abs() < 1e-12);
        assert_eq!(detection(10, 1, 0), 0.0);
        assert_eq!(detection(10, 1, 10), 1.0);
        assert_eq!(detection(10, 5, 6), 1.0);
    }
}
