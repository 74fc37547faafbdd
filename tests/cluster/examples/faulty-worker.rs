//! A worker with one deliberate fault, for tests and benchmarks of the services:
//! `faulty-worker NATS_URL FAULT`.
//!
//! - `wrong-bytes` returns wrong results with valid signatures.
//! - `unregistered` signs with a key that is not in the registry.
//! - `stall` receives eight shards and never settles them.
//! - `crash` aborts the process on the second shard of every job.
//! - `trivial` executes nothing and returns zeros, to measure the overhead of the services.

use std::{env, sync::Arc, time::Duration};

use forge_bus::{
    SharedBus,
    jetstream::{JetStreamBus, JetStreamOptions},
    topology::Queue,
};
use forge_contract::{
    agent::Identity,
    envelope::Target,
    program::Program,
    shard::Shard,
    shard_result::{Distribution, ShardResult, Tally},
    task::ShardTask,
};
use forge_kernel::backend::{Backend, ExecutionControl, ExecutionError, scalar::Scalar, simd::Simd};
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
    Unregistered,
    Stall,
    Crash,
    Trivial,
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
                if self.0 == WorkerFault::WrongBytes {
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
    };
    ShardResult {
        iterations: shard.iterations,
        components: vec![Tally::default(); program.components.len()],
        capped: 0,
        sum: 0,
        sum_squares: Default::default(),
        total: empty_distribution(),
        largest: empty_distribution(),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [url, fault] = arguments.as_slice() else { return Err("usage: faulty-worker NATS_URL FAULT".into()) };
    let fault = match fault.as_str() {
        "wrong-bytes" => WorkerFault::WrongBytes,
        "unregistered" => WorkerFault::Unregistered,
        "stall" => WorkerFault::Stall,
        "crash" => WorkerFault::Crash,
        "trivial" => WorkerFault::Trivial,
        unknown => return Err(format!("unknown fault {unknown}").into()),
    };
    let lease = Duration::from_millis(env::var("FORGE_LEASE_MS").map_or(Ok(30_000), |text| text.parse())?);
    let bus = JetStreamBus::connect(JetStreamOptions { manage_topology: false, ..JetStreamOptions::new(url) })
        .await? as SharedBus;
    match fault {
        WorkerFault::Unregistered | WorkerFault::Stall => run_without_registration(bus, fault).await?,
        _ => {
            let settings = forge_worker::WorkerSettings {
                executor: Executor::new(2, None),
                slots: 2,
                target: Target::Cpu,
                lease,
            };
            let stop = shutdown::stop_on_signals();
            let backend = Arc::new(FaultyBackend(fault));
            forge_worker::run(bus, backend, identity()?, settings, Metrics::new("faulty"), stop).await?;
        }
    }
    Ok(())
}

fn identity() -> Result<Identity, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(Identity::from_random(bytes))
}

/// Shards that a stalling worker withholds. One that received every redelivery would use up the
/// deliveries of a shard, and its job would fail.
const WITHHELD_SHARDS: usize = 8;

/// Receives shards without registering. Executes them, or withholds them if the fault is to stall.
async fn run_without_registration(
    bus: SharedBus,
    fault: WorkerFault,
) -> Result<(), Box<dyn std::error::Error>> {
    let identity = identity()?;
    let (executor, programs) = (Executor::new(1, None), ProgramStore::new(bus.clone(), 4));
    let mut pull = bus.open_queue(Queue::Shards(Target::Any)).await?;
    let mut withheld = 0;
    while withheld < WITHHELD_SHARDS {
        for delivery in pull.fetch(1).await? {
            if fault == WorkerFault::Stall {
                withheld += 1;
                continue;
            }
            let task: ShardTask = serde_json::from_slice(&delivery.message.payload)?;
            let program = programs.get(task.program).await?;
            let executed =
                executor.execute(Arc::new(Scalar), program, task.clone(), StopFlag::default()).await?;
            let (message, id) = shard_messages::build_result(&identity, &Scalar, &task, &executed);
            bus.publish(message, &id).await?;
            delivery.lease.ack().await;
        }
    }
    std::future::pending().await
}
