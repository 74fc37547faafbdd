//! Promises about the replay of results.

use futures_util::{StreamExt, stream::BoxStream};
use tokio::time::timeout;

use super::{QUIET, SOON, check, id, job, publish, publish_all, result};
use crate::{
    bus::{ReplayContent, SharedBus},
    message::{Message, StoredMessage},
    topology,
};

/// Checks replays on buses that `make` makes.
pub async fn replay(make: impl AsyncFn() -> SharedBus) {
    check("from the start, then live", make().await, start_and_live).await;
    check("headers only", make().await, headers_only).await;
    check("after a purge", make().await, after_purge).await;
    check("many, by several readers", make().await, many).await;
}

async fn next(stream: &mut BoxStream<'static, StoredMessage>) -> StoredMessage {
    timeout(SOON, stream.next()).await.expect("a result").expect("no end")
}

async fn quiet(stream: &mut BoxStream<'static, StoredMessage>) {
    if let Ok(stored) = timeout(QUIET, stream.next()).await {
        panic!("nothing was to come: {stored:?}");
    }
}

async fn start_and_live(bus: SharedBus) {
    let verdict = |i| Message::new(topology::verdict_subject(&job("j"), id(i)), "good");
    let mut early =
        bus.replay(topology::shard_message_subjects(&job("j")), ReplayContent::Full).await.unwrap();
    quiet(&mut early).await;
    publish(&bus, &result("j", 0)).await;
    publish(&bus, &result("other", 0)).await;
    publish(&bus, &verdict(0)).await;
    let mut late =
        bus.replay(topology::shard_message_subjects(&job("j")), ReplayContent::Full).await.unwrap();
    for stream in [&mut early, &mut late] {
        let (first, second) = (next(stream).await, next(stream).await);
        assert_eq!((first.message, second.message), (result("j", 0), verdict(0)));
        assert!(first.sequence < second.sequence);
        quiet(stream).await;
    }
    publish(&bus, &result("j", 1)).await;
    publish(&bus, &result("j", 1)).await;
    for stream in [&mut early, &mut late] {
        assert_eq!(next(stream).await.message, result("j", 1));
        quiet(stream).await;
    }
}

async fn headers_only(bus: SharedBus) {
    publish(&bus, &result("j", 0)).await;
    let mut stream =
        bus.replay(topology::shard_message_subjects(&job("j")), ReplayContent::Headers).await.unwrap();
    let bare = Message { payload: bytes::Bytes::new(), ..result("j", 0) };
    assert_eq!(next(&mut stream).await.message, bare);
}

async fn after_purge(bus: SharedBus) {
    publish_all(&bus, (0..10).map(|i| result("j", i))).await;
    let mut before =
        bus.replay(topology::shard_message_subjects(&job("j")), ReplayContent::Full).await.unwrap();
    let last = next(&mut before).await.sequence;
    for (stream, subject) in topology::job_subjects(&job("j")) {
        bus.purge(stream, &subject).await.unwrap();
    }
    let mut after =
        bus.replay(topology::shard_message_subjects(&job("j")), ReplayContent::Full).await.unwrap();
    quiet(&mut after).await;
    bus.publish(result("j", 3), "again").await.unwrap();
    let stored = next(&mut after).await;
    assert_eq!(stored.message, result("j", 3));
    assert!(stored.sequence > last + 8, "numbers are never used again");
    // The other may have had the rest on its way; it goes on with what came after.
    while next(&mut before).await.sequence != stored.sequence {}
}

async fn many(bus: SharedBus) {
    let count = 3000;
    let outcomes = topology::shard_message_subjects(&job("j"));
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(bus.replay(outcomes.clone(), ReplayContent::Full).await.unwrap());
    }
    let mixed = (0..count).flat_map(|i| [result("j", i), result("k", i)]);
    let ((), ()) = tokio::join!(publish_all(&bus, mixed), async {
        for i in 0..count {
            assert_eq!(next(&mut streams[0]).await.message, result("j", i));
        }
    });
    for stream in &mut streams[1..] {
        for i in 0..count {
            assert_eq!(next(stream).await.message, result("j", i), "in order, without gaps");
        }
        quiet(stream).await;
    }
}
