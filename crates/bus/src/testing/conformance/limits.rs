//! Guarantees about limits: what a stream or bucket refuses, and what it still accepts when full.

use bytes::Bytes;
use futures_util::future::join_all;

use super::fixture::{job_uid, publish, result_message, run_check, settings, shard_id};
use crate::{
    bus::SharedBus,
    error::BusError,
    message::Message,
    topology::{self, Bucket, JobLength, SUBMIT_SUBJECT, Stream},
};

/// Checks the limits of buses from `make_bus`.
pub async fn check_limits(make_bus: impl AsyncFn() -> SharedBus) {
    run_check("headers count towards the size", make_bus().await, message_size).await;
    run_check("messages of a subject are bounded", make_bus().await, messages_per_subject).await;
    run_check("a full stream refuses messages", make_bus().await, full_stream).await;
    run_check("a full bucket refuses keys", make_bus().await, full_bucket).await;
    run_check("the entries of a bucket are bounded", make_bus().await, entries_of_bucket).await;
    run_check("subjects are listed in pages", make_bus().await, subjects).await;
}

fn is_full<T>(result: &Result<T, BusError>) -> bool {
    matches!(result, Err(BusError::Full(_)))
}

async fn message_size(bus: SharedBus) {
    let message = |size| Message::new(SUBMIT_SUBJECT, vec![0; size]).with_header("Forge-Test", "value");
    let Err(BusError::TooLarge { size, limit }) = bus.publish(message(bus.max_payload()), "size").await
    else {
        panic!("headers are part of the size");
    };
    assert_eq!(limit, bus.max_payload());
    assert_eq!(size, limit + "NATS/1.0\r\nForge-Test: value\r\nNats-Msg-Id: size\r\n\r\n".len());
    let largest = limit - (size - limit);
    assert_eq!(bus.publish(message(largest), "size").await, Ok(()));
    assert!(bus.publish(message(largest + 1), "over").await.is_err());
    // Streams and buckets of small messages have a limit of their own.
    let task = topology::shard_subject(
        forge_contract::envelope::Target::Cpu,
        JobLength::Short,
        job_uid("j"),
        shard_id(0),
    );
    let limit = Stream::Shards.limits(&settings()).max_message_bytes;
    let large = bus.publish(Message::new(task, vec![0; limit]), "task").await;
    assert!(matches!(large, Err(BusError::TooLarge { limit: l, .. }) if l == limit), "{large:?}");
    let limit = Bucket::Agents.limits(&settings(), 1).max_message_bytes;
    let large = bus.put(&Bucket::Agents, "workers.a", vec![0; limit].into()).await;
    assert!(matches!(large, Err(BusError::TooLarge { limit: l, .. }) if l == limit), "{large:?}");
}

async fn messages_per_subject(bus: SharedBus) {
    let limit = Stream::Results.limits(&settings()).max_messages_per_subject.expect("it is limited");
    for i in 0..limit {
        bus.publish(result_message("j", 0), &format!("id {i}")).await.unwrap();
    }
    let refused = bus.publish(result_message("j", 0), "one more").await;
    assert!(is_full(&refused), "{refused:?}");
    assert_eq!(bus.publish(result_message("j", 0), "id 0").await, Ok(()), "it is stored already");
    publish(&bus, &result_message("j", 1)).await;
    for (stream, subject) in topology::job_subjects(job_uid("j")) {
        bus.purge(stream, &subject).await.unwrap();
    }
    assert_eq!(bus.publish(result_message("j", 0), "one more").await, Ok(()), "a refused id is not used up");
}

async fn full_stream(bus: SharedBus) {
    let message = |size| Message::new(SUBMIT_SUBJECT, vec![0; size]);
    let max_bytes = Stream::Jobs.limits(&settings()).max_bytes;
    let mut stored = 0;
    let refused = loop {
        let result = bus.publish(message(1_000_000), &format!("id {stored}")).await;
        if result.is_err() {
            break result;
        }
        stored += 1;
        assert!(stored * 1_000_000 <= max_bytes, "more than the limit");
    };
    assert!(is_full(&refused), "{refused:?}");
    assert!((stored + 1) * 1_001_000 >= max_bytes, "{stored} of {max_bytes} bytes");
    let space = bus.stream_space(Stream::Jobs).await.unwrap();
    assert!((90..=100).contains(&space.used_percent()), "{space:?}");
    assert_eq!((space.messages, space.max_bytes), (stored, Some(max_bytes)));
    assert_eq!(space.free_bytes(), max_bytes - space.bytes);
    let reduce = bus.stream_space(Stream::Reduce).await.unwrap();
    assert_eq!((reduce.used_percent(), reduce.bytes, reduce.messages, reduce.is_full()), (0, 0, 0, false));
    let batch = (0..4).map(|i| (message(1_000_000), format!("batch {i}"))).collect();
    assert!(is_full(&bus.publish_all(batch).await));
    publish(&bus, &result_message("j", 0)).await;
    bus.purge(Stream::Jobs, SUBMIT_SUBJECT).await.unwrap();
    assert_eq!(bus.publish(message(1_000_000), "after the purge").await, Ok(()));
}

async fn full_bucket(bus: SharedBus) {
    let limits = Bucket::Agents.limits(&settings(), 1);
    let value = |size: usize| Bytes::from(vec![0; size]);
    let mut keys = 0_usize;
    let refused = loop {
        let results = join_all((keys..keys + 32).map(|i| {
            let bus = bus.clone();
            async move { bus.put(&Bucket::Agents, &format!("workers.{i}"), value(8000)).await }
        }))
        .await;
        if let Some(refused) = results.into_iter().find(Result::is_err) {
            break refused;
        }
        keys += 32;
        assert!(keys as u64 * 8000 <= limits.max_bytes, "more than the limit");
    };
    assert!(is_full(&refused), "{refused:?}");
    assert!((95..=100).contains(&bus.used_percent(&Bucket::Agents).await.unwrap()));
    assert_eq!(bus.used_percent(&Bucket::Quotas).await, Ok(0));
    let created = bus.compare_and_set(&Bucket::Agents, "quarantine.a", value(8000), None).await;
    assert!(is_full(&created), "{created:?}");
    let revision = bus.put(&Bucket::Agents, "workers.0", value(8000)).await.expect("a value is replaced");
    bus.compare_and_set(&Bucket::Agents, "workers.0", value(7000), Some(revision)).await.unwrap().unwrap();
    assert_eq!(bus.get(&Bucket::Agents, "workers.0").await.unwrap().unwrap().value, Some(value(7000)));
    for i in 1..8 {
        bus.delete(&Bucket::Agents, &format!("workers.{i}")).await.unwrap();
    }
    bus.put(&Bucket::Agents, "quarantine.a", value(8000)).await.expect("there is space again");
    bus.put(&Bucket::default_jobs(), "a", value(8000)).await.expect("buckets are separate");
}

async fn entries_of_bucket(bus: SharedBus) {
    let limit = Bucket::Workers.limits(&settings(), 1).max_messages.expect("it is limited");
    let mut keys = 0;
    while keys < limit {
        let results = join_all((keys..limit.min(keys + 256)).map(|i| {
            let bus = bus.clone();
            async move { bus.put(&Bucket::Workers, &format!("p.{i}"), "x".into()).await }
        }))
        .await;
        keys += results.len() as u64;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }
    let refused = bus.put(&Bucket::Workers, "p.new", "x".into()).await;
    assert!(is_full(&refused), "{refused:?}");
    bus.put(&Bucket::Workers, "p.0", "x".into()).await.expect("an entry is replaced");
}

async fn subjects(bus: SharedBus) {
    let none = bus.stream_subjects(Stream::Results, "forge.v1.results.>", 0).await.unwrap();
    assert_eq!((none.counts.len(), none.total), (0, 0));
    for (job, index, id) in [("j", 0, "1"), ("j", 0, "2"), ("j", 1, "3"), ("k", 0, "4")] {
        bus.publish(result_message(job, index), id).await.unwrap();
    }
    let page = async |filter: &str, offset| {
        let page = bus.stream_subjects(Stream::Results, filter, offset).await.unwrap();
        (page.counts.into_iter().collect::<Vec<_>>(), page.total)
    };
    let count = |job: &str, index, count| (result_message(job, index).subject, count);
    let all = vec![count("j", 0, 2), count("j", 1, 1), count("k", 0, 1)];
    assert_eq!(page("forge.v1.results.>", 0).await, (all.clone(), 3));
    assert_eq!(page("forge.v1.results.>", 2).await, (all[2..].to_vec(), 3));
    assert_eq!(page(&topology::results_filter(job_uid("j")), 0).await, (all[..2].to_vec(), 2));
    assert_eq!(page("forge.v1.verdicts.>", 0).await, (vec![], 0));
    let jobs = bus.stream_subjects(Stream::Jobs, ">", 0).await.unwrap();
    assert_eq!(jobs.total, 0);
}
