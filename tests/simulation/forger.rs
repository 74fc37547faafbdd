//! A worker that signs every result with another key, and answers some hand-outs that were never
//! made. It has a worker's permissions: it reads shards and programs, and writes results.

use std::sync::Arc;

use forge_bus::{
    BusError, SharedBus,
    topology::{JobLength, Queue},
};
use forge_contract::{
    agent::Identity, envelope::Target, ids::PoolName, protocol::parse_message, task::ShardTask,
};
use forge_kernel::backend::Backend;
use forge_service::{
    executor::{Executor, StopFlag},
    program_store::ProgramStore,
    random, shard_messages,
};
use tokio::time::{Duration, sleep};

/// Runs until the bus fails.
///
/// # Errors
/// Returns any error of the bus: the process then starts again.
pub async fn run(bus: SharedBus, backend: Arc<dyn Backend>) -> Result<(), BusError> {
    let pool: PoolName = "others".parse().expect("it consists of letters");
    let (executor, programs) =
        (Executor::inline(1, Duration::from_millis(10)), ProgramStore::new(bus.clone(), 16));
    let mut queue = bus.open_queue(Queue::Shards(Target::Any, JobLength::Short)).await?;
    loop {
        for delivery in queue.fetch(1).await? {
            let Ok(mut task) = parse_message::<ShardTask>(&delivery.message.payload) else { continue };
            let Ok(program) = programs.get(task.program).await else { continue };
            let identity = Identity::from_random(random::bytes());
            let [choice] = random::bytes();
            if choice % 4 == 0 {
                task.task_id.0 = random::bytes();
            }
            let (backend, stop) = (Arc::clone(&backend), StopFlag::default());
            let executed =
                executor.execute(JobLength::Short, backend.clone(), program, task.clone(), stop).await;
            let Ok(executed) = executed else { continue };
            let (message, id) =
                shard_messages::build_result(&identity, &pool, backend.as_ref(), &task, &executed);
            bus.publish(message, &id).await?;
            // A shard that is acknowledged and not answered is found overdue.
            if choice % 4 != 1 {
                delivery.lease.ack().await;
            }
        }
        sleep(Duration::from_millis(200)).await;
    }
}
