//! One run: a cluster, its clients, the turmoil, the time after it, and the checks.

use std::{
    cell::RefCell,
    panic,
    sync::{Arc, Once},
    thread,
    time::Duration,
};

use forge_bus::{
    Bus, MemoryBus,
    topology::{Bucket, Stream, TopologySettings},
};
use forge_contract::job::JobRecord;
use forge_service::random;
use tokio::{
    runtime::{Builder, Handle},
    time::sleep,
};

use crate::{
    cheats::CheatTally,
    checker::Checker,
    client::run_clients,
    cluster::{LEASE, SimulatedCluster},
    executions::PublishedEvidence,
    options::SimulationOptions,
    submitted_jobs::SubmittedJobs,
    traffic::TrafficLedger,
    workload::NAMESPACES,
    world::World,
};

/// Upper bound of the time between the end of all faults and the end of every job.
const RECOVERY_TIME: Duration = Duration::from_secs(1200);
/// Upper bound of the time after that in which every message is removed.
const CLEANUP_TIME: Duration = Duration::from_secs(300);
/// Upper bound of the messages that a stream holds at once: some ten times as many as in healthy
/// runs.
const MAX_QUEUED_MESSAGES: usize = 2000;
/// Time after which a process has no more work: longer than a freeze, a request that hangs, and the
/// execution of a shard that is not needed any more.
const SETTLING_TIME: Duration = Duration::from_secs(150);
/// Interval between two looks at the cluster.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

thread_local! {
    /// Panics of this thread that services have caught.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// What a run came to.
pub struct RunReport {
    pub options: SimulationOptions,
    pub violations: Vec<String>,
    pub trace_hash: (u64, u64),
    pub trace: Vec<String>,
    /// Time of the run, and of these its recovery.
    pub times: (Duration, Duration),
    /// How the jobs ended, as text.
    pub ends: Vec<String>,
    /// Lies in the results of its jobs.
    pub cheats: CheatTally,
}

/// Runs a simulation on a thread of its own, whose random sources it seeds.
pub fn simulate(options: SimulationOptions, keeps_all_lines: bool) -> RunReport {
    let seed = options.seed;
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
            default(info);
        }));
    });
    let run = move || {
        random::seed_thread(seed);
        fastrand::seed(seed);
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without I/O needs nothing from the system");
        let mut report = runtime.block_on(run(options, keeps_all_lines));
        drop(runtime);
        report.violations.extend(PANICS.with_borrow_mut(std::mem::take));
        report
    };
    let thread = thread::Builder::new().name("simulation".to_owned()).spawn(run);
    thread
        .expect("a thread can be started")
        .join()
        .unwrap_or_else(|_| panic!("the simulation of seed {seed} panicked"))
}

async fn run(options: SimulationOptions, keeps_all_lines: bool) -> RunReport {
    let world = World::new(options, keeps_all_lines);
    let settings = TopologySettings { lease: LEASE, ..TopologySettings::default() };
    let bus = MemoryBus::with_namespaces(settings, NAMESPACES.map(str::to_owned).to_vec());
    bus.prepare().await.expect("the in-process bus does not fail");
    let cluster = SimulatedCluster::new(&world, bus.clone());
    tokio::spawn(watch_streams(bus.clone(), Arc::clone(&cluster.traffic)));
    let tasks_before_start = Handle::current().metrics().num_alive_tasks();
    cluster.start();
    let log = run_clients(&cluster).await;
    sleep(world.options.turmoil.saturating_sub(world.now())).await;
    world.heal();
    let (healed_at, mut violations) = (world.now(), Vec::new());
    wait(RECOVERY_TIME, async || !world.has_late_messages()).await;
    for subject in &log.kept_garbage {
        let stream = Stream::for_subject(subject).expect("it was published to a stream");
        bus.purge(stream, subject).await.expect("the in-process bus does not fail");
    }
    if !wait(RECOVERY_TIME, || have_jobs_ended(&bus)).await {
        violations.push(format!("jobs have not ended within {RECOVERY_TIME:?}"));
    }
    let recovery = world.now() - healed_at;
    let is_clean = async || {
        !world.has_late_messages() && Stream::ALL.iter().all(|stream| bus.message_count(*stream) == 0)
    };
    wait(CLEANUP_TIME, is_clean).await;
    violations.extend(cluster.traffic.violations(MAX_QUEUED_MESSAGES));
    let faults = &world.options.faults;
    let (verifiers, gpu_workers) = (cluster.verifiers(), cluster.gpu_workers());
    let checker = Checker {
        options: &world.options,
        bus: &bus,
        store: &cluster.store,
        log: &log,
        evidence: PublishedEvidence {
            traffic: &cluster.traffic,
            verifiers: &verifiers,
            gpu_workers: &gpu_workers,
            has_late_aggregators: faults.delays_aggregators(),
        },
        jobs: SubmittedJobs::new(&log),
        honest_agents: cluster.honest_agents(),
        violations,
        cheats: CheatTally::default(),
    };
    let (mut violations, cheats) = checker.check().await;
    sleep(SETTLING_TIME).await;
    violations.extend(cluster.stop(tasks_before_start).await);
    violations.extend(cluster.violations());
    let mut ends = Vec::new();
    for record in records(&bus).await {
        let code = record.and_then(|record| record.error).map(|error| error.code);
        ends.push(code.map_or("completed", |code| code.as_str()).to_owned());
    }
    RunReport {
        options: world.options.clone(),
        violations,
        trace_hash: world.trace_hash(),
        trace: world.trace_lines(),
        times: (world.now(), recovery),
        ends,
        cheats,
    }
}

/// Notes how long streams get, every second.
async fn watch_streams(bus: Arc<MemoryBus>, traffic: Arc<TrafficLedger>) {
    loop {
        for stream in Stream::ALL {
            traffic.note_length(stream, bus.message_count(stream));
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Waits until a condition holds, and returns whether it does in time.
async fn wait(limit: Duration, condition: impl AsyncFn() -> bool) -> bool {
    let mut waited = Duration::ZERO;
    while waited < limit {
        if condition().await {
            return true;
        }
        sleep(LOOK_INTERVAL).await;
        waited += LOOK_INTERVAL;
    }
    false
}

/// Whether every submission has been decided on, and every record is terminal.
async fn have_jobs_ended(bus: &MemoryBus) -> bool {
    if bus.message_count(Stream::Jobs) > 0 {
        return false;
    }
    let is_terminal = |record: &Option<JobRecord>| record.as_ref().is_some_and(|of| of.state.is_terminal());
    records(bus).await.iter().all(is_terminal)
}

/// The present records; `None` for one that cannot be read.
async fn records(bus: &MemoryBus) -> Vec<Option<JobRecord>> {
    let mut records = Vec::new();
    for namespace in NAMESPACES {
        let jobs = Bucket::Jobs(namespace.to_owned());
        for key in bus.keys(&jobs).await.expect("the in-process bus does not fail") {
            let entry = bus.get(&jobs, &key).await.expect("the in-process bus does not fail");
            records.push(entry.and_then(|entry| serde_json::from_slice(&entry.value?).ok()));
        }
    }
    records
}
