//! The choice of backend and the verdicts of a verifier on the in-process bus.

use forge_bus::{
    Bus, Message, ReplayContent,
    memory::MemoryBus,
    topology::{self, TopologySettings},
};
use forge_contract::{
    program::Program,
    shard::{Shard, ShardId},
    shard_result::ShardResult,
    verdict::Verdict,
};
use forge_kernel::{
    backend::{ExecutionControl, ExecutionError},
    request::Request,
};
use futures_util::StreamExt;

use super::*;

/// The reference backend under another name or on other hardware, possibly faulty.
#[derive(Clone, Copy)]
struct TestBackend {
    name: &'static str,
    adapter: Option<&'static str>,
    fault: Fault,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    WrongResult,
    DeviceLost,
}

const CPU: TestBackend = TestBackend { name: "cpu", adapter: None, fault: Fault::None };
const OTHER: TestBackend = TestBackend { name: "other", ..CPU };
const GPU: TestBackend =
    TestBackend { name: "gpu", adapter: Some("test adapter, driver 1"), fault: Fault::None };

impl Backend for TestBackend {
    fn name(&self) -> &str {
        self.name
    }

    fn adapter(&self) -> Option<&str> {
        self.adapter
    }

    fn batch_size(&self) -> usize {
        if self.adapter.is_some() { 4 } else { 1 }
    }

    fn execute(
        &self,
        program: &Program,
        shards: &[Shard],
        control: &dyn ExecutionControl,
    ) -> Result<Vec<ShardResult>, ExecutionError> {
        if self.fault == Fault::DeviceLost {
            return Err(ExecutionError::Device("the device is lost".to_owned()));
        }
        let mut results = Scalar.execute(program, shards, control)?;
        let error = u64::from(self.fault == Fault::WrongResult);
        results.iter_mut().for_each(|result| result.components[0].occurrences += error);
        Ok(results)
    }
}

fn backends(backends: &[TestBackend]) -> Vec<Arc<dyn Backend>> {
    backends.iter().map(|backend| Arc::new(*backend) as Arc<dyn Backend>).collect()
}

fn claim(backend: TestBackend, result_hash: Digest) -> Claim {
    let agent_id = Identity::from_random([1; 32]).id().clone();
    let adapter = backend.adapter.map(str::to_owned);
    Claim { agent_id, backend: backend.name.to_owned(), adapter, result_hash }
}

#[test]
fn other_hardware_is_preferred_then_another_backend() {
    let order = |available: &[TestBackend], claimed| -> Vec<String> {
        let (available, claim) = (backends(available), claim(claimed, Digest([0; 32])));
        sort_by_independence(&available, &claim).iter().map(|backend| backend.name().to_owned()).collect()
    };
    assert_eq!(order(&[GPU, CPU, OTHER], GPU), ["cpu", "other", "gpu"]);
    assert_eq!(order(&[GPU, CPU, OTHER], CPU), ["gpu", "other", "cpu"]);
    assert_eq!(order(&[CPU, OTHER, GPU], OTHER), ["gpu", "cpu", "other"]);
    assert_eq!(order(&[CPU, OTHER], CPU), ["other", "cpu"]);
    assert_eq!(order(&[CPU, OTHER], GPU), ["cpu", "other"]);
    assert_eq!(order(&[CPU], CPU), ["cpu"]);
    assert_eq!(order(&[GPU], GPU), ["gpu"]);
}

/// The verdicts of a verifier with these backends on claims; `false` marks a claim with a wrong
/// hash.
async fn verdicts(available: &[TestBackend], claims: &[(TestBackend, bool)]) -> Vec<Verdict> {
    let bus = MemoryBus::new(TopologySettings::default());
    bus.prepare().await.unwrap();
    let envelope = br#"{"op": {"name": "mc", "version": 1, "profile": "insurance.v1"},
        "args": {"iterations": 1000, "claim_freq": 0.1, "claim_severity_mu": 1, "claim_severity_sig": 1}}"#;
    let request = Request::from_json(envelope).unwrap();
    let shared: SharedBus = bus.clone();
    ProgramStore::new(shared.clone(), 1).put(request.program_digest, &request.program).await.unwrap();
    let job: forge_contract::ids::JobId = "j".parse().unwrap();
    for (index, (backend, is_correct)) in (0..).zip(claims) {
        let shard =
            Shard { id: ShardId { height: 0, index }, iterations: 10, seed: Digest([index as u8; 32]) };
        let hash = Scalar.execute(&request.program, &[shard], &()).unwrap()[0].digest();
        let task = ShardTask {
            job_id: job.clone(),
            shard_id: shard.id,
            iterations: shard.iterations,
            seed: shard.seed,
            program: request.program_digest,
            kernel: KERNEL,
            attempt: 0,
        };
        let claim = Some(claim(*backend, if *is_correct { hash } else { Digest([9; 32]) }));
        let payload = serde_json::to_vec(&VerifierTask { task, claim }).unwrap();
        bus.publish(
            Message::new(topology::verification_subject(&job, shard.id), payload),
            &index.to_string(),
        )
        .await
        .unwrap();
    }
    let stop = CancellationToken::new();
    let settings =
        VerifierSettings { executor: Executor::new(1, None), slots: 1, lease: Duration::from_secs(30) };
    let verifier = run(
        shared,
        backends(available),
        Identity::from_random([2; 32]),
        settings,
        Metrics::new("test"),
        stop.clone(),
    );
    let verifier = tokio::spawn(verifier);
    let messages = bus.replay(topology::shard_message_subjects(&job), ReplayContent::Headers).await.unwrap();
    let mut verdicts: Vec<_> = messages
        .filter_map(async |stored| {
            let (_, job, shard) = topology::parse_shard_message_subject(&stored.message.subject)?;
            Some((shard.index, shard_messages::parse_signed_verdict(&stored.message, &job, shard)?))
        })
        .take(claims.len())
        .collect()
        .await;
    stop.cancel();
    verifier.await.unwrap().unwrap();
    verdicts.sort_by_key(|(index, _)| *index);
    verdicts.into_iter().map(|(_, verdict)| verdict).collect()
}

fn summaries(verdicts: &[Verdict]) -> Vec<(&str, Option<&str>, VerdictOutcome)> {
    verdicts
        .iter()
        .map(|verdict| (verdict.backend.as_str(), verdict.adapter.as_deref(), verdict.outcome))
        .collect()
}

#[tokio::test]
async fn gpu_results_are_verified_on_a_cpu_and_cpu_results_on_a_gpu() {
    let verdicts = verdicts(&[GPU, CPU], &[(CPU, true), (GPU, true), (OTHER, true), (CPU, true)]).await;
    let (gpu, cpu) =
        (("gpu", GPU.adapter, VerdictOutcome::Confirmed), ("cpu", None, VerdictOutcome::Confirmed));
    assert_eq!(summaries(&verdicts), [gpu, cpu, gpu, gpu]);
}

#[tokio::test]
async fn the_reference_decides_when_results_differ() {
    let wrong = TestBackend { fault: Fault::WrongResult, ..GPU };
    let verdicts = verdicts(&[wrong, CPU], &[(CPU, true), (CPU, false), (GPU, false)]).await;
    let outcomes = [VerdictOutcome::Confirmed, VerdictOutcome::Undecided, VerdictOutcome::Refuted];
    assert_eq!(summaries(&verdicts), outcomes.map(|outcome| ("scalar", None, outcome)));
}

#[tokio::test]
async fn the_next_backend_replaces_a_lost_device() {
    let lost = TestBackend { fault: Fault::DeviceLost, ..GPU };
    let verdicts = verdicts(&[lost, CPU, OTHER], &[(CPU, true), (GPU, true)]).await;
    assert_eq!(
        summaries(&verdicts),
        [("other", None, VerdictOutcome::Confirmed), ("cpu", None, VerdictOutcome::Confirmed)]
    );
}
