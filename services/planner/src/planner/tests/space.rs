//! Jobs that need space which is short.

use forge_bus::topology::{Stream, TopologySettings};
use forge_contract::ids::JobUid;

use super::*;

const RESULT_BYTES: usize = 300_000;
/// Space for results: 112 MiB; for orders: 16 MiB.
const STORAGE_BYTES: u64 = 256 << 20;

async fn small_bus() -> Arc<MemoryBus> {
    let bus = MemoryBus::new(TopologySettings { storage_bytes: STORAGE_BYTES, ..Default::default() });
    bus.prepare().await.unwrap();
    bus
}

/// A worker and an aggregator: answers the shards in a queue, and accepts the results, until no
/// shard has come for 5 s. Returns their number.
async fn answer_shards(bus: &Arc<MemoryBus>) -> u64 {
    let (result, mut answered) = (Message::new("", vec![0; RESULT_BYTES]).payload, 0);
    let mut queue = bus.open_queue(Queue::Shards(Target::Gpu, JobLength::Short)).await.unwrap();
    while let Ok(deliveries) = timeout(Duration::from_secs(5), queue.fetch(8)).await {
        for delivery in deliveries.unwrap() {
            let ShardTask { job_uid, shard_id, task_id, .. } =
                parse_message(&delivery.message.payload).unwrap();
            let subject = topology::result_subject(&PoolName::default(), job_uid, shard_id);
            bus.publish(Message::new(subject, result.clone()), &task_id.to_string()).await.unwrap();
            let result_bytes = RESULT_BYTES as u64;
            let accepted = ShardOutcome::Accepted { shard_id, task_id, wall_us: 1000, result_bytes };
            let (message, id) = shard_messages::build_outcomes(job_uid, vec![accepted]);
            bus.publish(message, &id).await.unwrap();
            delivery.lease.ack().await;
            answered += 1;
        }
    }
    answered
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_results_do_not_fit_leaves_space_to_others() {
    let (bus, stop) = (small_bus().await, CancellationToken::new());
    register_worker(&bus, Target::Gpu, &stop).await;
    let mut planner = start(&bus, &stop);
    let large = two_shards("large", "gpu", 0).replace("100000", "60000000");
    submit(bus.as_ref(), SUBMIT_SUBJECT, large).await;
    let before = answer_shards(&bus).await;
    let used = bus.stream_space(Stream::Results).await.unwrap().used_percent();
    assert!((75..=85).contains(&used), "{before} results take {used}%");
    // A planner that takes the job over decides alike.
    stop.cancel();
    (&mut planner).await.unwrap().unwrap();
    let stop = CancellationToken::new();
    register_worker(&bus, Target::Gpu, &stop).await;
    let planner = start(&bus, &stop);
    assert_eq!(answer_shards(&bus).await, 0);
    submit(bus.as_ref(), SUBMIT_SUBJECT, two_shards("small", "gpu", 0)).await;
    assert_eq!(answer_shards(&bus).await, 2);
    bus.purge(Stream::Results, ">").await.unwrap();
    assert!(answer_shards(&bus).await > 0, "space makes it continue");
    stop.cancel();
    planner.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_job_can_be_cancelled_while_orders_of_others_fill_their_stream() {
    let (bus, stop) = (small_bus().await, CancellationToken::new());
    register_worker(&bus, Target::Gpu, &stop).await;
    let order = Message::new("", vec![0; 500_000]).payload;
    for number in 0..32 {
        let subject = topology::reduce_subject(JobUid([number; 16]));
        bus.publish(Message::new(subject, order.clone()), &number.to_string()).await.unwrap();
    }
    let planner = start(&bus, &stop);
    submit(bus.as_ref(), SUBMIT_SUBJECT, two_shards("waits", "gpu", 0)).await;
    sleep(Duration::from_secs(30)).await;
    let setup = RunningPlanner { bus, stop, planner };
    assert_eq!(setup.record().await.state, JobState::Accepted);
    assert_eq!(setup.bus.message_count(Stream::Reduce), 32, "no order takes the last space");
    let cancel = Message::new(topology::API_CANCEL_SUBJECT, "waits");
    setup.bus.request(cancel, Duration::from_secs(10)).await.unwrap();
    assert_eq!(setup.bus.backlog(Queue::End).await.unwrap(), 1);
    setup.bus.purge(Stream::Reduce, &topology::reduce_subject(JobUid([0; 16]))).await.unwrap();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(setup.record().await.state, JobState::Planned, "space makes it continue");
}
