//! A worker with one deliberate fault, for tests and benchmarks of the services:
//! `faulty-worker NATS_URL FAULT`. `FORGE_POOL` names its pool.
//!
//! - `wrong-bytes` returns wrong results with valid signatures.
//! - `new-keys` does the same and signs every result with a new key.
//! - `unknown-task` answers eight hand-outs that were never made.
//! - `wrong-seed` states another seed than that of the shard.
//! - `header` adds a header to its results, which are correct otherwise.
//! - `stall` receives eight shards and never settles them.
//! - `crash` aborts the process on the second shard of every job.
//! - `refuse` returns every shard to the queue unexecuted.
//! - `trivial` executes nothing and returns zeros, to measure the overhead of the services.

use std::{env, sync::Arc, time::Duration};

use forge_bus::{
    BusError, SharedBus,
    jetstream::{JetStreamBus, JetStreamOptions},
    topology::{JobLength, Queue},
};
use forge_contract::{
    agent::Identity,
    digest::Digest,
    envelope::Target,
    ids::PoolName,
    program::Program,
    protocol::parse_message,
    shard::Shard,
    shard_result::{Distribution, ShardResult, Tally},
    task::ShardTask,
};
use forge_kernel::backend::{Backend, ExecutionControl, ExecutionError, simd::Simd};
use forge_service::{
    Metrics,
    executor::{Executor, StopFlag},
    program_store::ProgramStore,
    shard_messages, shutdown,
};

/// The SIMD backend with a fault.
struct FaultyBackend(WorkerFault);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WorkerFault {
    WrongBytes,
    NewKeys,
    UnknownTask,
    WrongSeed,
    Header,
    Stall,
    Crash,
    Refuse,
    Trivial,
}

impl WorkerFault {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "wrong-bytes" => Self::WrongBytes,
            "new-keys" => Self::NewKeys,
            "unknown-task" => Self::UnknownTask,
            "wrong-seed" => Self::WrongSeed,
            "header" => Self::Header,
            "stall" => Self::Stall,
            "crash" => Self::Crash,
            "refuse" => Self::Refuse,
            "trivial" => Self::Trivial,
            _ => return None,
        })
    }

    /// Whether the worker program runs with this fault, which its backend has. Otherwise the fault
    /// is in the messages, and this program sends them itself.
    fn is_of_backend(self) -> bool {
        matches!(self, Self::WrongBytes | Self::Crash | Self::Trivial)
    }
}

impl Backend for FaultyBackend {
    fn name(&self) -> &str {
        "simd-faulty"
    }

    fn execute(
        &self,
        program: &Program,
        shards: &[Shard],
        control: &dyn ExecutionControl,
    ) -> Result<Vec<ShardResult>, ExecutionError> {
        match self.0 {
            WorkerFault::Crash if shards.iter().any(|shard| shard.id.index == 1) => std::process::abort(),
            WorkerFault::Trivial => Ok(shards.iter().map(|shard| empty_result(program, shard)).collect()),
            _ => {
                let mut results = Simd::new().execute(program, shards, control)?;
                if matches!(self.0, WorkerFault::WrongBytes | WorkerFault::NewKeys) {
                    results.iter_mut().for_each(|result| result.components[0].occurrences += 1);
                }
                Ok(results)
            }
        }
    }
}

/// A result in which no event occurred.
fn empty_result(program: &Program, shard: &Shard) -> ShardResult {
    let empty_distribution = || Distribution {
        min: 0,
        max: 0,
        at_marks: vec![0; program.marks().len()],
        histogram: vec![(0, shard.iterations)],
        listed: Vec::new(),
    };
    ShardResult {
        iterations: shard.iterations,
        components: vec![Tally::default(); program.component_count()],
        capped: 0,
        sum: 0,
        sum_squares: Default::default(),
        total: empty_distribution(),
        largest: empty_distribution(),
        details: None,
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [url, fault] = arguments.as_slice() else { return Err("usage: faulty-worker NATS_URL FAULT".into()) };
    let fault = WorkerFault::parse(fault).ok_or_else(|| format!("unknown fault {fault}"))?;
    let pool: PoolName = env::var("FORGE_POOL").map_or(Ok(PoolName::default()), |name| name.parse())?;
    let lease = Duration::from_millis(env::var("FORGE_LEASE_MS").map_or(Ok(30_000), |text| text.parse())?);
    let bus = JetStreamBus::connect(JetStreamOptions { manage_topology: false, ..JetStreamOptions::new(url) })
        .await? as SharedBus;
    if !fault.is_of_backend() {
        let send = |length| send_faulty_messages(length, bus.clone(), pool.clone(), fault);
        return tokio::try_join!(send(JobLength::Short), send(JobLength::Long)).map(drop);
    }
    let settings = forge_worker::WorkerSettings {
        executor: Executor::new(2, None),
        slots: 2,
        target: Target::Cpu,
        accepts_any_target: true,
        lease,
        pool,
    };
    let stop = shutdown::stop_on_signals();
    let backend = Arc::new(FaultyBackend(fault));
    Ok(forge_worker::run(bus, backend, identity()?, settings, Metrics::new("faulty"), stop).await?)
}

fn identity() -> Result<Identity, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(Identity::from_random(bytes))
}

/// Shards that a worker keeps from its job by a result that is ignored, or by none. They return
/// only after the patience of the planner or the lease.
const WITHHELD_SHARDS: usize = 8;

/// Pause before a refused shard is delivered again.
const REFUSAL_PAUSE: Duration = Duration::from_millis(20);

/// Receives the shards of short or of long jobs without a heartbeat, and answers them with this
/// fault.
async fn send_faulty_messages(
    length: JobLength,
    bus: SharedBus,
    pool: PoolName,
    fault: WorkerFault,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut identity = identity()?;
    let (executor, programs) = (Executor::new(1, None), ProgramStore::new(bus.clone(), 4));
    let backend: Arc<dyn Backend> = Arc::new(FaultyBackend(fault));
    let queue = Queue::Shards(Target::Any, length);
    let mut pull = loop {
        match bus.open_queue(queue).await {
            // The planner is still creating it.
            Err(BusError::Missing(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
            opened => break opened?,
        }
    };
    let mut withheld = 0;
    while withheld < WITHHELD_SHARDS {
        for delivery in pull.fetch(1).await? {
            match fault {
                WorkerFault::Stall => {
                    withheld += 1;
                    continue;
                }
                WorkerFault::Refuse => {
                    delivery.lease.retry(REFUSAL_PAUSE).await;
                    continue;
                }
                WorkerFault::NewKeys => identity = self::identity()?,
                _ => {}
            }
            let mut task: ShardTask = parse_message(&delivery.message.payload)?;
            let program = programs.get(task.program).await?;
            let (executing, stop) = (Arc::clone(&backend), StopFlag::default());
            let executed = executor.execute(length, executing, program, task.clone(), stop).await?;
            match fault {
                WorkerFault::UnknownTask => {
                    withheld += 1;
                    getrandom::fill(&mut task.task_id.0)?;
                }
                WorkerFault::WrongSeed => task.seed = Digest([7; 32]),
                _ => {}
            }
            let (mut message, id) =
                shard_messages::build_result(&identity, &pool, backend.as_ref(), &task, &executed);
            if fault == WorkerFault::Header {
                message = message.with_header("Forge-Attestation", "{}");
            }
            bus.publish(message, &id).await?;
            delivery.lease.ack().await;
        }
    }
    std::future::pending().await
}
