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
use futures_util::{FutureExt, StreamExt};
use tokio::{
    runtime::{Builder, Handle},
    task::unconstrained,
    time::sleep,
};

use crate::{
    cheats::CheatTally,
    checker::Checker,
    client::run_clients,
    cluster::{LEASE, SimulatedCluster},
    options::SimulationOptions,
    traffic::TrafficLedger,
    world::World,
};

/// Upper bound of the time between the end of all faults and the end of every job.
const RECOVERY_TIME: Duration = Duration::from_secs(1200);
/// Upper bound of the time after that in which every message is removed.
const CLEANUP_TIME: Duration = Duration::from_secs(300);
/// Upper bound of the messages that a stream holds at once: some ten times as many as in healthy
/// runs.
const MAX_QUEUED_MESSAGES: usize = 2000;
/// Upper bound of the tasks that a process has when every job has ended, or had when it died: twice
/// as many as was seen in 1,000 runs. Tasks that outlive their job or message exceed it.
const MAX_TASKS_PER_START: usize = 20;
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
    let bus = MemoryBus::new(settings);
    bus.prepare().await.expect("the in-process bus does not fail");
    let jobs = Bucket::default_jobs();
    let mut changes = bus.watch(&jobs, ">").await.expect("the in-process bus does not fail");
    let cluster = SimulatedCluster::new(&world, bus.clone());
    cluster.start();
    tokio::spawn(watch_streams(bus.clone(), Arc::clone(&cluster.traffic)));
    let log = run_clients(&cluster).await;
    sleep(world.options.turmoil.saturating_sub(world.now())).await;
    world.heal();
    let (healed_at, mut violations) = (world.now(), Vec::new());
    if !wait(RECOVERY_TIME, || have_jobs_ended(&bus)).await {
        violations.push(format!("jobs have not ended within {RECOVERY_TIME:?}"));
    }
    let recovery = world.now() - healed_at;
    let is_clean = async || {
        !world.has_late_messages() && Stream::ALL.iter().all(|stream| bus.message_count(*stream) == 0)
    };
    wait(CLEANUP_TIME, is_clean).await;
    let tasks = Handle::current().metrics().num_alive_tasks();
    if tasks > MAX_TASKS_PER_START * cluster.starts() {
        violations.push(format!("{tasks} tasks are alive after {} starts of processes", cluster.starts()));
    }
    violations.extend(cluster.violations());
    violations.extend(cluster.traffic.violations(MAX_QUEUED_MESSAGES));
    let mut seen = Vec::new();
    // Within its budget for cooperation, tokio reports a channel as empty after 128 items.
    while let Some(Some(change)) = unconstrained(changes.next()).now_or_never() {
        seen.push(change);
    }
    let checker = Checker {
        options: &world.options,
        bus: &bus,
        store: &cluster.store,
        log: &log,
        changes: seen,
        honest_agents: cluster.honest_agents(),
        violations,
        cheats: CheatTally::default(),
    };
    let (violations, cheats) = checker.check().await;
    let mut ends = Vec::new();
    for key in bus.keys(&jobs).await.expect("the in-process bus does not fail") {
        let entry = bus.get(&jobs, &key).await.expect("the in-process bus does not fail");
        let record = entry.and_then(|entry| serde_json::from_slice::<JobRecord>(&entry.value?).ok());
        let code = |record: &JobRecord| record.error.as_ref().map(|error| error.code);
        ends.extend(record.map(|record| code(&record).map_or("completed", |code| code.as_str()).to_owned()));
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
    let jobs = Bucket::default_jobs();
    for key in bus.keys(&jobs).await.expect("the in-process bus does not fail") {
        let entry = bus.get(&jobs, &key).await.expect("the in-process bus does not fail");
        let record = entry.and_then(|entry| serde_json::from_slice::<JobRecord>(&entry.value?).ok());
        if record.is_none_or(|record| !record.state.is_terminal()) {
            return false;
        }
    }
    true
}
