//! Which backend a verifier takes, on the in-process bus.

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

/// The reference under another name, on other hardware, wrong or lost.
#[derive(Clone, Copy)]
struct Double {
    name: &'static str,
    adapter: Option<&'static str>,
    fault: Fault,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Wrong,
    Lost,
}

const CPU: Double = Double { name: "cpu", adapter: None, fault: Fault::None };
const OTHER: Double = Double { name: "other", ..CPU };
const GPU: Double = Double { name: "gpu", adapter: Some("a card, driver 1"), fault: Fault::None };

impl Backend for Double {
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
        if self.fault == Fault::Lost {
            return Err(ExecutionError::Device("the card is gone".to_owned()));
        }
        let mut results = Scalar.execute(program, shards, control)?;
        let wrong = u64::from(self.fault == Fault::Wrong);
        results.iter_mut().for_each(|result| result.components[0].occurrences += wrong);
        Ok(results)
    }
}

fn backends(doubles: &[Double]) -> Vec<Arc<dyn Backend>> {
    doubles.iter().map(|double| Arc::new(*double) as Arc<dyn Backend>).collect()
}

fn claim(by: Double, result_hash: Digest) -> Claim {
    let agent_id = Identity::from_random([1; 32]).id().clone();
    let adapter = by.adapter.map(str::to_owned);
    Claim { agent_id, backend: by.name.to_owned(), adapter, result_hash }
}

#[test]
fn other_hardware_comes_first_then_another_backend() {
    let order = |has: &[Double], by| -> Vec<String> {
        let (has, claim) = (backends(has), claim(by, Digest([0; 32])));
        unlike(&has, &claim).iter().map(|backend| backend.name().to_owned()).collect()
    };
    assert_eq!(order(&[GPU, CPU, OTHER], GPU), ["cpu", "other", "gpu"]);
    assert_eq!(order(&[GPU, CPU, OTHER], CPU), ["gpu", "other", "cpu"]);
    assert_eq!(order(&[CPU, OTHER, GPU], OTHER), ["gpu", "cpu", "other"]);
    assert_eq!(order(&[CPU, OTHER], CPU), ["other", "cpu"]);
    assert_eq!(order(&[CPU, OTHER], GPU), ["cpu", "other"]);
    assert_eq!(order(&[CPU], CPU), ["cpu"]);
    assert_eq!(order(&[GPU], GPU), ["gpu"]);
}

/// What a verifier with these backends says about the claims.
async fn verdicts(has: &[Double], claims: &[(Double, bool)]) -> Vec<Verdict> {
    let bus = MemoryBus::new(TopologySettings::default());
    bus.prepare().await.unwrap();
    let envelope = br#"{"op": {"name": "mc", "version": 1, "profile": "insurance.v1"},
        "args": {"iterations": 1000, "claim_freq": 0.1, "claim_severity_mu": 1, "claim_severity_sig": 1}}"#;
    let request = Request::from_json(envelope).unwrap();
    let shared: SharedBus = bus.clone();
    ProgramStore::new(shared.clone(), 1).put(request.program_digest, &request.program).await.unwrap();
    let job: forge_contract::ids::JobId = "j".parse().unwrap();
    for (index, (by, right)) in (0..).zip(claims) {
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
        let claim = Some(claim(*by, if *right { hash } else { Digest([9; 32]) }));
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
        backends(has),
        Identity::from_random([2; 32]),
        settings,
        Metrics::new("test"),
        stop.clone(),
    );
    let verifier = tokio::spawn(verifier);
    let outcomes = bus.replay(topology::shard_message_subjects(&job), ReplayContent::Headers).await.unwrap();
    let mut verdicts: Vec<_> = outcomes
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

fn by(verdicts: &[Verdict]) -> Vec<(&str, Option<&str>, VerdictOutcome)> {
    verdicts.iter().map(|one| (one.backend.as_str(), one.adapter.as_deref(), one.outcome)).collect()
}

#[tokio::test]
async fn what_a_gpu_executed_a_cpu_verifies_and_the_other_way_round() {
    let found = verdicts(&[GPU, CPU], &[(CPU, true), (GPU, true), (OTHER, true), (CPU, true)]).await;
    let (gpu, cpu) =
        (("gpu", GPU.adapter, VerdictOutcome::Confirmed), ("cpu", None, VerdictOutcome::Confirmed));
    assert_eq!(by(&found), [gpu, cpu, gpu, gpu]);
}

#[tokio::test]
async fn where_they_differ_the_reference_decides() {
    let wrong = Double { fault: Fault::Wrong, ..GPU };
    let found = verdicts(&[wrong, CPU], &[(CPU, true), (CPU, false), (GPU, false)]).await;
    let outcomes = [VerdictOutcome::Confirmed, VerdictOutcome::Undecided, VerdictOutcome::Refuted];
    assert_eq!(by(&found), outcomes.map(|outcome| ("scalar", None, outcome)));
}

#[tokio::test]
async fn where_a_device_is_lost_the_next_backend_takes_its_place() {
    let lost = Double { fault: Fault::Lost, ..GPU };
    let found = verdicts(&[lost, CPU, OTHER], &[(CPU, true), (GPU, true)]).await;
    assert_eq!(
        by(&found),
        [("other", None, VerdictOutcome::Confirmed), ("cpu", None, VerdictOutcome::Confirmed)]
    );
}
