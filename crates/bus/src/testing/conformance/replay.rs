//! Guarantees of the replay of a stream.

use futures_util::StreamExt;
use tokio::time::timeout;

use super::fixture::{
    EVENT_TIMEOUT, QUIET_PERIOD, job_uid, publish, publish_all, result_message, run_check, verdict_message,
};
use crate::{
    bus::SharedBus,
    message::{Message, StoredMessage},
    replay::Replay,
    topology::{self, Stream},
};

/// Checks replays of buses from `make_bus`.
pub async fn check_replay(make_bus: impl AsyncFn() -> SharedBus) {
    run_check("stored messages come first, then new ones", make_bus().await, stored_then_new).await;
    run_check("a replay yields all that matches any filter", make_bus().await, several_filters).await;
    run_check("the end of the stored messages is reported", make_bus().await, end_of_stored).await;
    run_check("a replay continues after a purge", make_bus().await, purge).await;
    run_check("a replay lacks removed messages", make_bus().await, removed_messages).await;
    run_check("several readers see all messages in order", make_bus().await, several_readers).await;
}

/// Opens the replay of the results of job `j`.
async fn replay_results(bus: &SharedBus) -> Replay {
    let filters = vec![topology::results_filter(job_uid("j"))];
    bus.replay(Stream::Results, filters).await.expect("the replay opens")
}

async fn next(stream: &mut Replay) -> StoredMessage {
    timeout(EVENT_TIMEOUT, stream.next()).await.expect("a message arrives").expect("the replay continues")
}

async fn assert_quiet(stream: &mut Replay) {
    if let Ok(stored) = timeout(QUIET_PERIOD, stream.next()).await {
        panic!("unexpected message: {stored:?}");
    }
}

async fn stored_then_new(bus: SharedBus) {
    let mut early = replay_results(&bus).await;
    assert_quiet(&mut early).await;
    publish(&bus, &result_message("j", 0)).await;
    publish(&bus, &result_message("other", 0)).await;
    publish(&bus, &verdict_message("j", 0)).await;
    publish(&bus, &result_message("j", 1)).await;
    let mut late = replay_results(&bus).await;
    for stream in [&mut early, &mut late] {
        let (first, second) = (next(stream).await, next(stream).await);
        assert_eq!((first.message, second.message), (result_message("j", 0), result_message("j", 1)));
        assert!(first.sequence < second.sequence);
        assert_quiet(stream).await;
    }
    publish(&bus, &result_message("j", 2)).await;
    publish(&bus, &result_message("j", 2)).await;
    for stream in [&mut early, &mut late] {
        assert_eq!(next(stream).await.message, result_message("j", 2));
        assert_quiet(stream).await;
    }
}

async fn several_filters(bus: SharedBus) {
    let outcomes = |job| Message::new(topology::outcomes_subject(job_uid(job)), "outcomes");
    let filters = vec![topology::verdicts_filter(job_uid("j")), topology::outcomes_subject(job_uid("j"))];
    let mut early = bus.replay(Stream::Verdicts, filters.clone()).await.unwrap();
    for message in [
        verdict_message("j", 0),
        verdict_message("other", 0),
        outcomes("j"),
        outcomes("other"),
        verdict_message("j", 1),
    ] {
        publish(&bus, &message).await;
    }
    publish(&bus, &result_message("j", 0)).await;
    let mut late = bus.replay(Stream::Verdicts, filters).await.unwrap();
    for stream in [&mut early, &mut late] {
        for expected in [verdict_message("j", 0), outcomes("j"), verdict_message("j", 1)] {
            assert_eq!(next(stream).await.message, expected);
        }
        assert_quiet(stream).await;
    }
}

async fn next_stored(replay: &mut Replay) -> Option<StoredMessage> {
    timeout(EVENT_TIMEOUT, replay.next_stored()).await.expect("the replay catches up")
}

async fn end_of_stored(bus: SharedBus) {
    publish(&bus, &result_message("other", 0)).await;
    let mut empty = replay_results(&bus).await;
    assert_eq!(next_stored(&mut empty).await, None, "no message of the job is stored");

    // More than one batch, with messages of another job behind the last one.
    let count = 1500;
    publish_all(&bus, (0..count).map(|i| result_message("j", i))).await;
    publish(&bus, &result_message("other", 1)).await;
    let mut replay = replay_results(&bus).await;
    assert!(!replay.is_caught_up());
    let mut purged_meanwhile = replay_results(&bus).await;
    // Messages that keep arriving do not move the end away.
    let publishing = tokio::spawn({
        let bus = bus.clone();
        async move {
            for i in count.. {
                publish(&bus, &result_message("j", i)).await;
                tokio::task::yield_now().await;
            }
        }
    });
    let mut read = 0;
    while let Some(stored) = next_stored(&mut replay).await {
        assert_eq!(stored.message, result_message("j", read));
        read += 1;
    }
    assert!(read >= count, "{read} of {count}");
    assert!(replay.is_caught_up());
    assert_eq!(next_stored(&mut replay).await, None);
    assert_eq!(next(&mut replay).await.message, result_message("j", read), "new ones follow");
    publishing.abort();

    next(&mut purged_meanwhile).await;
    for (stream, subject) in topology::job_subjects(job_uid("j")) {
        bus.purge(stream, &subject).await.unwrap();
    }
    while next_stored(&mut purged_meanwhile).await.is_some() {}
    assert!(purged_meanwhile.is_caught_up(), "although stored messages were purged before it");
}

async fn purge(bus: SharedBus) {
    publish_all(&bus, (0..10).map(|i| result_message("j", i))).await;
    let mut before = replay_results(&bus).await;
    let last = next(&mut before).await.sequence;
    for (stream, subject) in topology::job_subjects(job_uid("j")) {
        bus.purge(stream, &subject).await.unwrap();
    }
    let mut after = replay_results(&bus).await;
    assert_quiet(&mut after).await;
    bus.publish(result_message("j", 3), "second").await.unwrap();
    let stored = next(&mut after).await;
    assert_eq!(stored.message, result_message("j", 3));
    assert!(stored.sequence > last + 8, "sequences are never reused");
    // The first replay may still yield purged messages that were in transit, and then the new one.
    while next(&mut before).await.sequence != stored.sequence {}
}

async fn removed_messages(bus: SharedBus) {
    publish_all(&bus, (0..10).map(|i| result_message("j", i))).await;
    let mut before = replay_results(&bus).await;
    for i in 0..10 {
        let stored = next(&mut before).await;
        if i % 2 == 0 {
            bus.remove(Stream::Results, stored.sequence).await.unwrap();
            bus.remove(Stream::Results, stored.sequence).await.expect("it is gone already");
        }
    }
    let mut after = replay_results(&bus).await;
    for i in [1, 3, 5, 7, 9] {
        assert_eq!(next_stored(&mut after).await.unwrap().message, result_message("j", i));
    }
    assert_eq!(next_stored(&mut after).await, None);
    publish(&bus, &result_message("j", 10)).await;
    for replay in [&mut before, &mut after] {
        assert_eq!(next(replay).await.message, result_message("j", 10));
    }
}

async fn several_readers(bus: SharedBus) {
    let count = 3000;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(replay_results(&bus).await);
    }
    let messages = (0..count).flat_map(|i| [result_message("j", i), result_message("k", i)]);
    let ((), ()) = tokio::join!(publish_all(&bus, messages), async {
        for i in 0..count {
            assert_eq!(next(&mut streams[0]).await.message, result_message("j", i));
        }
    });
    for stream in &mut streams[1..] {
        for i in 0..count {
            assert_eq!(next(stream).await.message, result_message("j", i), "in order, without gaps");
        }
        assert_quiet(stream).await;
    }
}
