//! The processes of a simulation: each runs a real service, and starts again after it has died.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use forge_aggregator::AggregatorSettings;
use forge_bus::{BusError, SharedBus};
use forge_contract::{
    agent::Identity,
    digest::Digest,
    envelope::Target,
    ids::PoolName,
    quota::{Quota, Quotas},
};
use forge_kernel::backend::Backend;
use forge_planner::PlannerSettings;
use forge_service::{Metrics, clock::Clock, executor::Executor};
use forge_store::Store;
use forge_verifier::VerifierSettings;
use forge_worker::WorkerSettings;
use parking_lot::Mutex;
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    backends::SimulatedBackend, entry_history::EntryHistory, forger, options::WorkerConduct,
    process::Process, process_bus::ProcessBus, process_store::ProcessStore, traffic::TrafficLedger,
    workload::MODELS, world::World,
};

/// Lease of every message.
pub const LEASE: Duration = Duration::from_secs(10);
/// Time after which a shard is dispatched again for the first time.
const SHARD_PATIENCE: Duration = Duration::from_secs(20);
/// How long a job waits for its minimum of agents.
const AGENT_WAIT: Duration = Duration::from_secs(20);
/// How long an aggregator retries while the store fails.
const STORE_PATIENCE: Duration = Duration::from_secs(20);
/// Upper bound of the time between the death of a process and its next start.
const MAX_RESTART_DELAY: Duration = Duration::from_secs(20);
/// The wall clock at the start of a simulation, since 1970: half a minute before midnight, because
/// quotas count by day.
const START_TIME: Duration = Duration::from_secs(1_795_824_000 - 30);

/// What a process does.
#[derive(Debug, Clone, Copy)]
enum ProcessKind {
    Planner,
    Aggregator,
    Verifier,
    Worker(WorkerConduct),
}

/// What all processes share.
pub struct SimulatedCluster {
    pub world: Arc<World>,
    pub bus: SharedBus,
    pub store: Store,
    history: Arc<EntryHistory>,
    ids: Arc<Mutex<BTreeSet<String>>>,
    pub traffic: Arc<TrafficLedger>,
    /// What must never happen in a process.
    violations: Mutex<Vec<String>>,
    /// Identities of agents that never return a wrong result, with their pools.
    honest: Mutex<BTreeMap<String, String>>,
    /// Number of processes that were started, restarts included.
    starts: AtomicUsize,
}

impl SimulatedCluster {
    pub fn new(world: &Arc<World>, bus: SharedBus) -> Arc<Self> {
        Arc::new(Self {
            world: Arc::clone(world),
            bus,
            store: Store::in_memory(),
            history: Arc::default(),
            ids: Arc::default(),
            traffic: Arc::default(),
            violations: Mutex::default(),
            honest: Mutex::default(),
            starts: AtomicUsize::new(0),
        })
    }

    /// Starts all processes.
    pub fn start(self: &Arc<Self>) {
        let options = &self.world.options;
        let count = |kind: ProcessKind, count: usize| std::iter::repeat_n(kind, count);
        let kinds = count(ProcessKind::Planner, options.planners)
            .chain(count(ProcessKind::Aggregator, options.aggregators))
            .chain(count(ProcessKind::Verifier, options.verifiers))
            .chain(options.workers.iter().map(|conduct| ProcessKind::Worker(*conduct)));
        for (index, kind) in kinds.enumerate() {
            tokio::spawn(Arc::clone(self).supervise(kind, index));
        }
    }

    /// The bus as a new incarnation of a process sees it.
    pub fn connect(&self, process: &Arc<Process>) -> ProcessBus {
        ProcessBus {
            process: Arc::clone(process),
            inner: self.bus.clone(),
            history: Arc::clone(&self.history),
            ids: Arc::clone(&self.ids),
            traffic: Arc::clone(&self.traffic),
        }
    }

    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().clone()
    }

    /// Identities of agents that never return a wrong result, with their pools.
    pub fn honest_agents(&self) -> BTreeMap<String, String> {
        self.honest.lock().clone()
    }

    /// Number of processes that were started, restarts included.
    pub fn starts(&self) -> usize {
        self.starts.load(Ordering::Relaxed)
    }

    /// Runs a process again and again.
    async fn supervise(self: Arc<Self>, kind: ProcessKind, index: usize) {
        let skew = self.world.options.faults.clock_skew * self.world.draw(fastrand::Rng::f64);
        let clock = Clock::simulated(START_TIME + Duration::from_secs_f64(skew));
        for incarnation in 0u32.. {
            let process = Process::new(format!("{}-{index}.{incarnation}", name(kind)), &self.world);
            self.world.record(&process.name, "starts");
            self.starts.fetch_add(1, Ordering::Relaxed);
            let mut service = self.run(kind, index, incarnation, &process, clock);
            tokio::select! {
                biased;
                () = process.death.cancelled() => service.abort(),
                end = &mut service => match end {
                    Ok(Ok(())) => self.world.record(&process.name, "ends"),
                    Ok(Err(error)) => self.world.record(&process.name, format_args!("fails: {error}")),
                    Err(error) => self.violations.lock().push(format!("{}: {error}", process.name)),
                },
            }
            // Tasks that the service has started end with it.
            process.death.cancel();
            let delay = match self.world.is_healed() {
                true => Duration::from_secs(1),
                false => self.world.up_to(MAX_RESTART_DELAY),
            };
            sleep(delay).await;
        }
    }

    fn run(
        &self,
        kind: ProcessKind,
        index: usize,
        incarnation: u32,
        process: &Arc<Process>,
        clock: Clock,
    ) -> JoinHandle<Result<(), BusError>> {
        let bus: SharedBus = Arc::new(self.connect(process));
        let (metrics, stop) = (Metrics::new("simulation"), CancellationToken::new());
        match kind {
            ProcessKind::Planner => {
                let settings = self.planner_settings(clock);
                tokio::spawn(forge_planner::run(bus, settings, metrics, stop))
            }
            ProcessKind::Aggregator => {
                let settings = AggregatorSettings {
                    max_jobs: 4,
                    store_patience: STORE_PATIENCE,
                    lease: LEASE,
                    models: Arc::clone(&MODELS),
                    clock,
                    ..AggregatorSettings::default()
                };
                let store = Arc::new(self.store.disturbed(ProcessStore(Arc::clone(process))));
                let identity = self.identity(index, incarnation);
                tokio::spawn(forge_aggregator::run(bus, store, identity, settings, metrics, stop))
            }
            ProcessKind::Verifier => {
                let reference = self.backend("scalar", WorkerConduct::Honest);
                let backends = vec![self.backend("simd", WorkerConduct::Honest), Arc::clone(&reference)];
                let executor = Executor::inline(2, Duration::from_millis(20));
                let settings = VerifierSettings { executor, slots: 2, lease: LEASE, reference };
                let identity = self.identity(index, incarnation);
                tokio::spawn(forge_verifier::run(bus, backends, identity, settings, metrics, stop))
            }
            ProcessKind::Worker(WorkerConduct::Forging) => {
                tokio::spawn(forger::run(bus, self.backend("forged", WorkerConduct::Forging)))
            }
            ProcessKind::Worker(conduct) => {
                let shard_time = match conduct {
                    WorkerConduct::Slow => self.world.up_to(Duration::from_secs(60)),
                    _ => Duration::from_millis(10),
                };
                // A liar comes back under another name.
                let identity = match conduct.is_dishonest() {
                    true => self.identity(index, incarnation),
                    false => self.identity(index, 0),
                };
                let pool = pool(conduct, index);
                if !conduct.is_dishonest() {
                    self.honest.lock().insert(identity.id().to_string(), pool.to_string());
                }
                let settings = WorkerSettings {
                    executor: Executor::inline(1, shard_time),
                    slots: 1,
                    target: Target::Cpu,
                    accepts_any_target: true,
                    lease: LEASE,
                    pool,
                };
                let backend = self.backend("simd", conduct);
                tokio::spawn(forge_worker::run(bus, backend, identity, settings, metrics, stop))
            }
        }
    }

    fn planner_settings(&self, clock: Clock) -> PlannerSettings {
        let quota = Quota { concurrent_jobs: self.world.options.job_quota, ..Quota::default() };
        PlannerSettings {
            max_jobs: 3,
            agent_wait: AGENT_WAIT,
            shard_patience: SHARD_PATIENCE,
            lease: LEASE,
            quotas: Arc::new(Quotas { default: quota, ..Quotas::default() }),
            models: Arc::clone(&MODELS),
            clock,
            ..PlannerSettings::default()
        }
    }

    fn backend(&self, name: &'static str, conduct: WorkerConduct) -> Arc<dyn Backend> {
        Arc::new(SimulatedBackend { name, conduct, world: Arc::clone(&self.world) })
    }

    fn identity(&self, index: usize, incarnation: u32) -> Identity {
        let parts =
            [&self.world.options.seed.to_le_bytes()[..], &index.to_le_bytes(), &incarnation.to_le_bytes()];
        Identity::from_random(Digest::hash_parts(&parts).0)
    }
}

fn name(kind: ProcessKind) -> String {
    match kind {
        ProcessKind::Planner => "planner".to_owned(),
        ProcessKind::Aggregator => "aggregator".to_owned(),
        ProcessKind::Verifier => "verifier".to_owned(),
        ProcessKind::Worker(conduct) => format!("{conduct:?}-worker").to_lowercase(),
    }
}

/// Honest workers are in two pools, the others in one of their own.
fn pool(conduct: WorkerConduct, index: usize) -> PoolName {
    let name = match conduct.is_dishonest() {
        true => "others".to_owned(),
        false => format!("pool-{}", index % 2),
    };
    name.parse().expect("it consists of letters, digits and dashes")
}
