//! Workers while the bucket of programs cannot be read.

use forge_bus::topology::Bucket;

use super::*;

/// A planner has a verifier execute the shard of a dead letter, and no job fails by it.
#[tokio::test(start_paused = true)]
async fn shards_whose_program_cannot_be_read_wait_or_go_to_verifiers() {
    let inner = bus(Target::Cpu, 6).await;
    let (start, outage) = (Instant::now(), Duration::from_secs(45));
    let faulty = Arc::new(FaultyBus::new(inner.clone(), move |operation| match operation {
        BusOperation::Get { bucket: Bucket::Programs, .. } if start.elapsed() < outage => {
            BusFault::Error(BusError::Unavailable("the bucket has no leader".to_owned()))
        }
        _ => BusFault::None,
    }));
    let stop = CancellationToken::new();
    let worker = start_on(faulty, Arc::new(Scalar), 1, true, &stop);
    tokio::time::sleep(outage).await;
    assert_eq!(inner.message_count(Stream::Results), 0);
    tokio::time::sleep(4 * outage).await;
    let answered = inner.message_count(Stream::Results);
    assert_eq!(answered + inner.message_count(Stream::DeadLetters), 6);
    publish_shards(&inner, (Target::Cpu, JobLength::Short), 6..8).await;
    assert_eq!(results(&inner, answered + 2).await.len(), answered + 2);
    stop.cancel();
    worker.await.unwrap().unwrap();
}
