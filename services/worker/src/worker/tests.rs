//! Workers on the in-process bus: full batches for a backend that takes them, and what a backend that fails does to a queue.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use forge_bus::{
    Bus, Message, ReplayContent,
    memory::MemoryBus,
    topology::{Stream, TopologySettings},
};
use forge_contract::{
    digest::Digest,
    ids::JobId,
    program::Program,
    shard::{Shard, ShardId},
    shard_result::ShardResult,
};
use forge_kernel::{
    backend::{ExecutionControl, ExecutionError, scalar::Scalar},
    request::Request,
};
use tokio::{task::JoinHandle, time::Instant};

use super::*;

/// The reference on a card, which is lost for its first calls.
struct Card {
    batch: usize,
    failing: usize,
    calls: AtomicUsize,
    /// Sizes of calls, and how often each shard was in one.
    log: Mutex<(Vec<usize>, BTreeMap<ShardId, usize>)>,
}

impl Card {
    fn new(batch: usize, failing: usize) -> Arc<Self> {
        Arc::new(Self { batch, failing, calls: AtomicUsize::new(0), log: Mutex::default() })
    }

    fn sizes(&self) -> Vec<usize> {
        self.log.lock().unwrap().0.clone()
    }
}

impl Backend for Card {
    fn name(&self) -> &str {
        "card"
    }

    fn adapter(&self) -> Option<&str> {
        Some("a card, driver 1")
    }

    fn batch_size(&self) -> usize {
        self.batch
    }

    fn execute(
        &self,
        program: &Program,
        shards: &[Shard],
        control: &dyn ExecutionControl,
    ) -> Result<Vec<ShardResult>, ExecutionError> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        {
            let mut log = self.log.lock().unwrap();
            log.0.push(shards.len());
            shards.iter().for_each(|shard| *log.1.entry(shard.id).or_default() += 1);
        }
        // As long as a device needs to be opened, or to execute a batch.
        std::thread::sleep(Duration::from_millis(5));
        if call < self.failing {
            return Err(ExecutionError::Device("the card is gone".to_owned()));
        }
        Scalar.execute(program, shards, control)
    }
}

/// A bus with so many shards for a target.
async fn bus(target: Target, shards: u64) -> Arc<MemoryBus> {
    let bus = MemoryBus::new(TopologySettings::default());
    bus.prepare().await.unwrap();
    let envelope = br#"{"op": {"name": "mc", "version": 1, "profile": "insurance.v1"},
        "args": {"iterations": 1000, "claim_freq": 0.1, "claim_severity_mu": 1, "claim_severity_sig": 1}}"#;
    let request = Request::from_json(envelope).unwrap();
    let programs = ProgramStore::new(bus.clone(), 1);
    programs.put(request.program_digest, &request.program).await.unwrap();
    for index in 0..shards {
        let shard_id = ShardId { height: 0, index };
        let task = ShardTask {
            job_id: job(),
            shard_id,
            iterations: 10,
            seed: Digest([1; 32]),
            program: request.program_digest,
            kernel: KERNEL,
            attempt: 0,
        };
        let subject = topology::shard_subject(target, &task.job_id, shard_id);
        let message = Message::new(subject, serde_json::to_vec(&task).unwrap());
        bus.publish(message, &index.to_string()).await.unwrap();
    }
    bus
}

fn job() -> JobId {
    "j".parse().unwrap()
}

fn start(
    bus: &Arc<MemoryBus>,
    backend: Arc<dyn Backend>,
    number: u8,
    stop: &CancellationToken,
) -> JoinHandle<Result<(), BusError>> {
    let target = forge_contract::agent::Hardware::from_adapter(backend.adapter()).target();
    let settings =
        WorkerSettings { executor: Executor::new(1, None), slots: 1, target, lease: Duration::from_secs(30) };
    let identity = Identity::from_random([number; 32]);
    tokio::spawn(run(bus.clone(), backend, identity, settings, Metrics::new("test"), stop.clone()))
}

/// Waits for so many results, and answers the backends and devices that their attestations name.
async fn results(bus: &Arc<MemoryBus>, count: usize) -> Vec<(String, Option<String>)> {
    let outcomes =
        bus.replay(topology::shard_message_subjects(&job()), ReplayContent::Headers).await.unwrap();
    let attested = outcomes.filter_map(async |stored| shard_messages::parse_attestation(&stored.message));
    attested.map(|one| (one.backend, one.adapter)).take(count).collect().await
}

#[tokio::test]
async fn a_backend_that_takes_batches_gets_full_ones() {
    let (card, stop) = (Card::new(8, 0), CancellationToken::new());
    let bus = bus(Target::Gpu, 200).await;
    let worker = start(&bus, card.clone(), 1, &stop);
    let results = results(&bus, 200).await;
    assert!(results.iter().all(|(name, adapter)| name == "card" && adapter.as_deref() == card.adapter()));
    stop.cancel();
    worker.await.unwrap().unwrap();
    let sizes = card.sizes();
    let full = sizes.iter().filter(|&&size| size == 8).count();
    assert!(sizes.iter().all(|&size| size <= 8) && full >= 20, "{sizes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_device_that_is_lost_once_costs_its_shards_one_delivery() {
    let (card, stop) = (Card::new(8, 2), CancellationToken::new());
    let bus = bus(Target::Any, 100).await;
    let worker = start(&bus, card.clone(), 1, &stop);
    assert_eq!(results(&bus, 100).await.len(), 100);
    stop.cancel();
    worker.await.unwrap().unwrap();
    let most = card.log.lock().unwrap().1.values().copied().max();
    assert!(most <= Some(3), "{most:?}");
    assert_eq!(bus.message_count(Stream::DeadLetters), 0);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_always_fails_does_not_use_up_what_others_can_execute() {
    let (card, stop) = (Card::new(64, usize::MAX), CancellationToken::new());
    let bus = bus(Target::Any, 1000).await;
    let started = Instant::now();
    let broken = start(&bus, card.clone(), 1, &stop);
    // Alone, it tries ever less: the first shards in hand, and then one after each pause.
    sleep(Duration::from_millis(1300)).await;
    let (calls, taken) = (card.sizes().len(), card.sizes().iter().sum::<usize>());
    assert!(calls <= 12 && taken <= 256, "{:?}", card.sizes());
    let other = start(&bus, Arc::new(Scalar), 2, &stop);
    let results = results(&bus, 1000).await;
    assert!(results.iter().all(|(name, adapter)| name == "scalar" && adapter.is_none()));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(bus.message_count(Stream::DeadLetters), 0);
    stop.cancel();
    broken.await.unwrap().unwrap();
    other.await.unwrap().unwrap();
}
