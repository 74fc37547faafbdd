//! A worker that misbehaves on purpose: `faulty-worker NATS_URL FAULT`. Used by the tests of the services alone.
//!
//! Faults: `wrong-bytes` returns wrong results, rightly signed; `unregistered` signs with a key that is not in the registry;
//! `stall` takes eight shards and never answers; `crash` ends the process on the second shard of every job; `trivial` executes
//! nothing and returns zeros, for measuring what the services cost.

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

/// The SIMD backend, with a fault.
struct Faulty(Fault);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    WrongBytes,
    Unregistered,
    Stall,
    Crash,
    Trivial,
}

impl Backend for Faulty {
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
            Fault::Crash if shards.iter().any(|shard| shard.id.index == 1) => std::process::abort(),
            Fault::Trivial => Ok(shards.iter().map(|shard| zeros(program, shard)).collect()),
            _ => {
                let mut results = Simd::new().execute(program, shards, control)?;
                if self.0 == Fault::WrongBytes {
                    results.iter_mut().for_each(|result| result.components[0].occurrences += 1);
                }
                Ok(results)
            }
        }
    }
}

/// A result in which nothing ever happened.
fn zeros(program: &Program, shard: &Shard) -> ShardResult {
    let nothing = || Distribution {
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
        total: nothing(),
        largest: nothing(),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [url, fault] = arguments.as_slice() else { return Err("usage: faulty-worker NATS_URL FAULT".into()) };
    let fault = match fault.as_str() {
        "wrong-bytes" => Fault::WrongBytes,
        "unregistered" => Fault::Unregistered,
        "stall" => Fault::Stall,
        "crash" => Fault::Crash,
        "trivial" => Fault::Trivial,
        other => return Err(format!("there is no fault {other}").into()),
    };
    let lease = Duration::from_millis(env::var("FORGE_LEASE_MS").map_or(Ok(30_000), |text| text.parse())?);
    let bus = JetStreamBus::connect(JetStreamOptions { manage_topology: false, ..JetStreamOptions::new(url) })
        .await? as SharedBus;
    match fault {
        Fault::Unregistered | Fault::Stall => by_hand(bus, fault).await?,
        _ => {
            let settings = forge_worker::WorkerSettings {
                executor: Executor::new(2, None),
                slots: 2,
                target: Target::Cpu,
                lease,
            };
            let stop = shutdown::stop_on_signals();
            let backend = Arc::new(Faulty(fault));
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

/// Shards that a worker keeps which stalls: one that took them all would have every shard given up in the end.
const KEPT: usize = 8;

/// A worker without registration; one that stalls keeps what it has taken.
async fn by_hand(bus: SharedBus, fault: Fault) -> Result<(), Box<dyn std::error::Error>> {
    let identity = identity()?;
    let (executor, programs) = (Executor::new(1, None), ProgramStore::new(bus.clone(), 4));
    let mut pull = bus.open_queue(Queue::Shards(Target::Any)).await?;
    let mut kept = 0;
    while kept < KEPT {
        for delivery in pull.fetch(1).await? {
            if fault == Fault::Stall {
                kept += 1;
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
