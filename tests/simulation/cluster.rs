//! The processes of a simulation: each runs a real service, and starts again after it has died.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use forge_aggregator::AggregatorSettings;
use forge_bus::{BusError, SharedBus};
use forge_contract::{agent::Identity, digest::Digest, envelope::Target, ids::PoolName, quota::Quotas};
use forge_kernel::backend::Backend;
use forge_planner::PlannerSettings;
use forge_service::{Metrics, clock::Clock, executor::Executor};
use forge_store::Store;
use forge_verifier::VerifierSettings;
use forge_worker::WorkerSettings;
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    backends::SimulatedBackend,
    entry_history::EntryHistory,
    forger,
    options::{WorkerConduct, WorkerOptions},
    process::Process,
    process_bus::ProcessBus,
    process_store::ProcessStore,
    traffic::TrafficLedger,
    workload::{MODELS, NAMESPACES},
    world::World,
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
/// Upper bound of the time in which a process ends that is asked to: more than services give their
/// messages.
const MAX_STOP_TIME: Duration = Duration::from_secs(30);
/// Upper bound of the tasks of a process when there is nothing to do. Tasks that outlive their job
/// or message exceed it.
const MAX_TASKS: usize = 20;
/// Time from the start of a simulation to midnight by a wall clock that is not ahead: quotas count
/// by day.
pub const TIME_TO_MIDNIGHT: Duration = Duration::from_secs(30);
/// The midnight of a simulation, since 1970.
const MIDNIGHT: Duration = Duration::from_secs(1_795_824_000);

/// What a process does.
#[derive(Debug, Clone, Copy)]
enum ProcessKind {
    Planner,
    Aggregator,
    Verifier,
    Worker(WorkerOptions),
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
    /// Identities of all verifiers.
    verifiers: Mutex<BTreeSet<String>>,
    /// Identities of workers with a GPU.
    gpu_workers: Mutex<BTreeSet<String>>,
    /// Number of processes that were started, restarts included.
    starts: AtomicUsize,
    /// The places of the processes that run.
    slots: Mutex<Vec<ProcessSlot>>,
}

/// The place of a process, whose incarnations follow each other.
struct ProcessSlot {
    name: String,
    /// Asks the process to end, for good.
    stop: CancellationToken,
    supervisor: JoinHandle<()>,
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
            verifiers: Mutex::default(),
            gpu_workers: Mutex::default(),
            starts: AtomicUsize::new(0),
            slots: Mutex::default(),
        })
    }

    /// Starts all processes.
    pub fn start(self: &Arc<Self>) {
        let options = &self.world.options;
        let count = |kind: ProcessKind, count: usize| std::iter::repeat_n(kind, count);
        let kinds = count(ProcessKind::Planner, options.planners)
            .chain(count(ProcessKind::Aggregator, options.aggregators))
            .chain(count(ProcessKind::Verifier, options.verifiers))
            .chain(options.workers.iter().map(|worker| ProcessKind::Worker(*worker)));
        for (index, kind) in kinds.enumerate() {
            let (name, stop) = (format!("{}-{index}", name(kind)), CancellationToken::new());
            let supervisor = tokio::spawn(Arc::clone(self).supervise(kind, index, stop.clone()));
            self.slots.lock().push(ProcessSlot { name, stop, supervisor });
        }
    }

    /// Stops the processes one after the other, as an operator does, when all work is done. Returns
    /// what is wrong: a process that does not end or had too many tasks, and tasks that outlive the
    /// process that has spawned them.
    pub async fn stop(&self, tasks_before_start: usize) -> Vec<String> {
        let (mut slots, mut violations) = (std::mem::take(&mut *self.slots.lock()), Vec::new());
        let count = slots.len();
        let alive = || Handle::current().metrics().num_alive_tasks();
        // Liars in quarantine start again and again, so they would disturb the count of others.
        slots.sort_by_key(|slot| !slot.name.starts_with("lying"));
        for ProcessSlot { name, stop, supervisor } in slots {
            let before = alive();
            stop.cancel();
            if timeout(MAX_STOP_TIME, supervisor).await.is_err() {
                violations.push(format!("{name} has not ended within {MAX_STOP_TIME:?}"));
            }
            // Tasks that were cancelled are dropped when they are next polled.
            sleep(Duration::from_secs(1)).await;
            let ended = before.saturating_sub(alive());
            self.world.record("world", format_args!("{name} ends with {ended} tasks"));
            if ended > MAX_TASKS && !name.starts_with("lying") {
                violations.push(format!("{name} had {ended} tasks when there was nothing to do"));
            }
        }
        // Tasks of a process that has died hang in the simulation, where nothing ends them.
        let is_undisturbed = self.starts.load(Ordering::Relaxed) == count;
        let left = alive().saturating_sub(tasks_before_start);
        if is_undisturbed && left > 0 {
            violations.push(format!("{left} tasks are alive although all processes have ended"));
        }
        violations
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

    /// Identities of all verifiers that were started.
    pub fn verifiers(&self) -> BTreeSet<String> {
        self.verifiers.lock().clone()
    }

    /// Identities of all workers with a GPU.
    pub fn gpu_workers(&self) -> BTreeSet<String> {
        self.gpu_workers.lock().clone()
    }

    /// Runs a process again and again, until it is asked to end.
    async fn supervise(self: Arc<Self>, kind: ProcessKind, index: usize, stop: CancellationToken) {
        let skew = self.world.options.faults.clock_skew * self.world.draw(fastrand::Rng::f64);
        let clock = Clock::simulated(MIDNIGHT - TIME_TO_MIDNIGHT + Duration::from_secs_f64(skew));
        for incarnation in 0u32.. {
            let process = Process::new(format!("{}-{index}.{incarnation}", name(kind)), &self.world);
            self.world.record(&process.name, "starts");
            self.starts.fetch_add(1, Ordering::Relaxed);
            let service_stop = CancellationToken::new();
            let mut service = self.run((kind, index, incarnation), &process, clock, service_stop.clone());
            // The tasks of dead incarnations must not end with this one: they would be counted.
            let relay_stop = async {
                stop.cancelled().await;
                service_stop.cancel();
                pending::<()>().await;
            };
            let lifetime = self.lifetime(kind);
            let end_of_life = async {
                match lifetime {
                    Some(lifetime) => sleep(lifetime).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = process.death.cancelled() => service.abort(),
                () = end_of_life => {
                    self.world.record(&process.name, "is replaced");
                    service.abort();
                }
                () = relay_stop => {}
                end = &mut service => match end {
                    Ok(Ok(())) => self.world.record(&process.name, "ends"),
                    Ok(Err(error)) => self.world.record(&process.name, format_args!("fails: {error}")),
                    Err(error) => self.violations.lock().push(format!("{}: {error}", process.name)),
                },
            }
            if stop.is_cancelled() {
                return;
            }
            // Tasks that the service has started end with it.
            process.death.cancel();
            let delay = match self.world.is_healed() || lifetime.is_some() {
                true => Duration::from_secs(1),
                false => self.world.up_to(MAX_RESTART_DELAY),
            };
            if stop.run_until_cancelled(sleep(delay)).await.is_none() {
                return;
            }
        }
    }

    /// Time after which a process is replaced, if that is short.
    fn lifetime(&self, kind: ProcessKind) -> Option<Duration> {
        let rate = self.world.options.faults.verifier_deaths;
        let is_short = matches!(kind, ProcessKind::Verifier) && rate > 0.0 && !self.world.is_healed();
        is_short.then(|| Duration::from_secs_f64(1.0 / rate))
    }

    fn run(
        &self,
        (kind, index, incarnation): (ProcessKind, usize, u32),
        process: &Arc<Process>,
        clock: Clock,
        stop: CancellationToken,
    ) -> JoinHandle<Result<(), BusError>> {
        let bus: SharedBus = Arc::new(self.connect(process));
        let metrics = Metrics::new("simulation");
        match kind {
            ProcessKind::Planner => {
                let settings = self.planner_settings(clock);
                tokio::spawn(forge_planner::run(bus, settings, metrics, stop))
            }
            ProcessKind::Aggregator => {
                let settings = AggregatorSettings {
                    max_jobs: 4,
                    store_patience: STORE_PATIENCE,
                    namespaces: namespaces(),
                    lease: LEASE,
                    models: Arc::clone(&MODELS),
                    clock,
                    ..AggregatorSettings::default()
                };
                let store = Arc::new(self.store.disturbed(ProcessStore {
                    process: Arc::clone(process),
                    traffic: Arc::clone(&self.traffic),
                }));
                let identity = self.identity(index, incarnation);
                tokio::spawn(forge_aggregator::run(bus, store, identity, settings, metrics, stop))
            }
            ProcessKind::Verifier => {
                let reference = self.backend("scalar", WorkerConduct::Honest);
                let backends = vec![self.backend("simd", WorkerConduct::Honest), Arc::clone(&reference)];
                let executor = Executor::inline(2, Duration::from_millis(20));
                let settings = VerifierSettings { executor, slots: 2, lease: LEASE, reference };
                let identity = self.identity(index, incarnation);
                self.verifiers.lock().insert(identity.id().to_string());
                tokio::spawn(forge_verifier::run(bus, backends, identity, settings, metrics, stop))
            }
            ProcessKind::Worker(WorkerOptions { conduct: WorkerConduct::Forging, .. }) => {
                let forge = forger::run(bus, self.backend("forged", WorkerConduct::Forging));
                tokio::spawn(async move { stop.run_until_cancelled(forge).await.unwrap_or(Ok(())) })
            }
            ProcessKind::Worker(WorkerOptions { conduct, target }) => {
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
                if target == Target::Gpu {
                    self.gpu_workers.lock().insert(identity.id().to_string());
                }
                let settings = WorkerSettings {
                    executor: Executor::inline(1, shard_time),
                    slots: 1,
                    target,
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
        PlannerSettings {
            max_jobs: 3,
            agent_wait: AGENT_WAIT,
            shard_patience: SHARD_PATIENCE,
            namespaces: namespaces(),
            lease: LEASE,
            quotas: Arc::new(Quotas { default: self.world.options.quota, ..Quotas::default() }),
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
        ProcessKind::Worker(WorkerOptions { conduct, target }) => {
            format!("{conduct:?}-{target:?}-worker").to_lowercase()
        }
    }
}

fn namespaces() -> Vec<String> {
    NAMESPACES.map(str::to_owned).to_vec()
}

/// Honest workers are in two pools, the others in one of their own.
fn pool(conduct: WorkerConduct, index: usize) -> PoolName {
    let name = match conduct.is_dishonest() {
        true => "others".to_owned(),
        false => format!("pool-{}", index % 2),
    };
    name.parse().expect("it consists of letters, digits and dashes")
}
