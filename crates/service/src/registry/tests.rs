//! The registry on the in-process bus.

use forge_bus::{memory::MemoryBus, topology::TopologySettings};
use forge_contract::{
    agent::{Identity, PoolQuarantineRecord},
    digest::Digest,
    ids::JobUid,
    shard::ShardId,
};
use forge_kernel::backend::scalar::Scalar;
use tokio::task::yield_now;

use super::*;

async fn fixture() -> (SharedBus, Registry, CancellationToken) {
    let bus: SharedBus = MemoryBus::new(TopologySettings::default());
    bus.prepare().await.unwrap();
    let stop = CancellationToken::new();
    let registry = Registry::open(bus.clone(), stop.clone()).await.unwrap();
    (bus, registry, stop)
}

fn capacity(slots: usize) -> AgentCapacity {
    AgentCapacity::new(&[Arc::new(Scalar)], slots)
}

fn quarantine_record(agent: &Identity, pool: &PoolName) -> QuarantineRecord {
    QuarantineRecord {
        schema: QuarantineRecord::SCHEMA.to_owned(),
        agent_id: agent.id().clone(),
        pool: pool.clone(),
        job_uid: JobUid([1; 16]),
        shard_id: ShardId { height: 0, index: 0 },
        claimed: Digest([1; 32]),
        correct: Digest([2; 32]),
        verifier_id: agent.id().clone(),
    }
}

async fn wait_for_capacity(registry: &Registry, expected: LiveCapacity) {
    while registry.live_capacity(Target::Any) != expected {
        yield_now().await;
    }
}

#[tokio::test]
async fn live_capacity_follows_the_heartbeats_of_workers() {
    let (bus, registry, _stop) = fixture().await;
    let (identity, leave) = (Identity::from_random([1; 32]), CancellationToken::new());
    let record = agent_record(&identity, Target::Cpu, capacity(3), 1);
    let record_host = record.host.clone();
    let heartbeat = register_worker(bus.clone(), PoolName::default(), record, leave.clone()).await.unwrap();
    wait_for_capacity(&registry, LiveCapacity { agents: 1, slots: 3, shards: 3 }).await;
    assert_eq!(registry.live_capacity(Target::Gpu), LiveCapacity::default());
    let key = format!("default.{}", identity.id());
    // The host is that of the machine, whether or not a container names it in a variable.
    assert!(!record_host.is_empty());
    assert!(bus.get(&Bucket::Workers, &key).await.unwrap().is_some());
    leave.cancel();
    heartbeat.await.unwrap();
    wait_for_capacity(&registry, LiveCapacity::default()).await;
}

#[tokio::test]
async fn only_verifiers_and_aggregators_are_registered() {
    let (bus, registry, stop) = fixture().await;
    let [worker, verifier] = [1, 2].map(|number| Identity::from_random([number; 32]));
    let record = |identity| agent_record(identity, Target::Any, capacity(1), 1);
    register_worker(bus.clone(), PoolName::default(), record(&worker), stop.clone()).await.unwrap();
    register(bus.clone(), Role::Verifier, record(&verifier), stop.clone()).await.unwrap();
    let roles = [Role::Verifier, Role::Aggregator];
    assert!(registry.is_registered(verifier.id(), &roles).await.unwrap());
    assert!(!registry.is_registered(verifier.id(), &[Role::Aggregator]).await.unwrap());
    assert!(!registry.is_registered(worker.id(), &roles).await.unwrap());
}

#[tokio::test]
async fn quarantine_takes_an_agent_or_a_whole_pool_and_can_be_lifted() {
    let (bus, registry, stop) = fixture().await;
    let [first, second, third] = [1, 2, 3].map(|number| Identity::from_random([number; 32]));
    let (pool, other): (PoolName, PoolName) = ("rented".parse().unwrap(), PoolName::default());
    for (identity, pool) in [(&first, &pool), (&second, &pool), (&third, &other)] {
        let record = agent_record(identity, Target::Cpu, capacity(1), 1);
        register_worker(bus.clone(), pool.clone(), record, stop.clone()).await.unwrap();
    }
    let workers = |agents| LiveCapacity { agents, slots: agents, shards: agents };
    wait_for_capacity(&registry, workers(3)).await;

    quarantine_agent(&bus, &quarantine_record(&first, &pool)).await.unwrap();
    wait_for_capacity(&registry, workers(2)).await;
    assert!(registry.is_quarantined(&pool, first.id()) && !registry.is_quarantined(&pool, second.id()));
    assert_eq!(registry.quarantined_agents_of(&pool), [first.id().clone()]);
    assert!(registry.quarantined_agents_of(&other).is_empty());
    let found = find_quarantine(&bus, &pool, first.id()).await.unwrap();
    assert_eq!(found, Some(QuarantineScope::Agent));
    assert_eq!(find_quarantine(&bus, &pool, second.id()).await.unwrap(), None);

    let record = PoolQuarantineRecord {
        schema: PoolQuarantineRecord::SCHEMA.to_owned(),
        pool: pool.clone(),
        agents: vec![first.id().clone()],
    };
    quarantine_pool(&bus, &record).await.unwrap();
    wait_for_capacity(&registry, workers(1)).await;
    assert!(registry.is_quarantined(&pool, second.id()) && !registry.is_quarantined(&other, third.id()));
    let found = find_quarantine(&bus, &pool, second.id()).await.unwrap();
    assert_eq!(found, Some(QuarantineScope::Pool));

    for key in [pool_quarantine_key(&pool), agent_quarantine_key(first.id())] {
        bus.delete(&Bucket::Agents, &key).await.unwrap();
    }
    wait_for_capacity(&registry, workers(3)).await;
    assert!(registry.quarantined_agents_of(&pool).is_empty());
}

#[tokio::test]
async fn a_quarantine_holds_although_its_record_cannot_be_parsed() {
    let (bus, registry, _stop) = fixture().await;
    let agent = Identity::from_random([1; 32]);
    bus.put(&Bucket::Agents, &agent_quarantine_key(agent.id()), "{}".into()).await.unwrap();
    while !registry.is_quarantined(&PoolName::default(), agent.id()) {
        yield_now().await;
    }
}
