//! Guarantees of key-value buckets.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream::BoxStream};
use tokio::time::{sleep, timeout};

use super::fixture::{EVENT_TIMEOUT, QUIET_PERIOD, run_check};
use crate::{
    bus::{BucketEntry, SharedBus},
    error::BusError,
    topology::Bucket,
};

/// Checks the buckets of buses from `make_bus`.
pub async fn check_buckets(make_bus: impl AsyncFn() -> SharedBus) {
    run_check("values are written and read", make_bus().await, reads_and_writes).await;
    run_check("compare-and-set checks the revision", make_bus().await, compare_and_set).await;
    run_check("one writer wins a race", make_bus().await, concurrent_writers).await;
    run_check("job records expire", make_bus().await, expiring_values).await;
    run_check("a watch reports every change", make_bus().await, watch).await;
    run_check("all keys are listed", make_bus().await, keys).await;
    run_check("invalid requests fail", make_bus().await, invalid_requests).await;
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn reads_and_writes(bus: SharedBus) {
    let jobs = Bucket::default_jobs();
    assert_eq!(bus.get(&jobs, "a").await, Ok(None));
    let first = bus.put(&jobs, "a", bytes("1")).await.unwrap();
    let second = bus.put(&jobs, "a", bytes("2")).await.unwrap();
    assert!(second > first);
    sleep(QUIET_PERIOD).await;
    let entry = bus.get(&jobs, "a").await.unwrap().unwrap();
    assert_eq!((entry.key.as_str(), entry.value, entry.revision), ("a", Some(bytes("2")), second));
    assert!(entry.age >= QUIET_PERIOD / 2 && entry.age < EVENT_TIMEOUT, "{:?}", entry.age);
    assert_eq!(bus.get(&Bucket::Agents, "a").await, Ok(None), "buckets are separate");
    bus.delete(&jobs, "a").await.unwrap();
    bus.delete(&jobs, "a").await.unwrap();
    bus.delete(&jobs, "never").await.unwrap();
    assert_eq!(bus.get(&jobs, "a").await, Ok(None));
    bus.put(&jobs, "empty", Bytes::new()).await.unwrap();
    assert_eq!(bus.get(&jobs, "empty").await.unwrap().unwrap().value, Some(Bytes::new()));
}

async fn compare_and_set(bus: SharedBus) {
    let jobs = Bucket::default_jobs();
    let first = bus.compare_and_set(&jobs, "a", bytes("1"), None).await.unwrap().unwrap();
    assert_eq!(bus.compare_and_set(&jobs, "a", bytes("x"), None).await, Ok(None));
    let second = bus.compare_and_set(&jobs, "a", bytes("2"), Some(first)).await.unwrap().unwrap();
    assert_eq!(bus.compare_and_set(&jobs, "a", bytes("x"), Some(first)).await, Ok(None));
    assert_eq!(bus.get(&jobs, "a").await.unwrap().unwrap().value, Some(bytes("2")));
    bus.delete(&jobs, "a").await.unwrap();
    assert_eq!(bus.compare_and_set(&jobs, "a", bytes("x"), Some(second)).await, Ok(None));
    let third = bus.compare_and_set(&jobs, "a", bytes("3"), None).await.unwrap().unwrap();
    assert!(third > second);
    assert_eq!(bus.compare_and_set(&jobs, "b", bytes("x"), Some(third)).await, Ok(None));
}

async fn expiring_values(bus: SharedBus) {
    let jobs = Bucket::default_jobs();
    let second = Duration::from_secs(1);
    let running = bus.compare_and_set(&jobs, "ends", bytes("1"), None).await.unwrap();
    bus.compare_and_set_expiring(&jobs, "ends", bytes("2"), running, second).await.unwrap().unwrap();
    assert_eq!(bus.compare_and_set_expiring(&jobs, "ends", bytes("x"), running, second).await, Ok(None));
    let replaced = bus.compare_and_set_expiring(&jobs, "replaced", bytes("1"), None, second).await.unwrap();
    bus.compare_and_set(&jobs, "replaced", bytes("2"), replaced).await.unwrap().unwrap();
    assert_eq!(bus.get(&jobs, "ends").await.unwrap().unwrap().value, Some(bytes("2")));
    let expired = async {
        while bus.get(&jobs, "ends").await.unwrap().is_some() {
            sleep(QUIET_PERIOD).await;
        }
    };
    timeout(EVENT_TIMEOUT, expired).await.expect("the value expires");
    sleep(QUIET_PERIOD).await;
    assert_eq!(bus.get(&jobs, "replaced").await.unwrap().unwrap().value, Some(bytes("2")));
    assert_eq!(bus.keys(&jobs).await, Ok(vec!["replaced".to_owned()]));
    let again = bus.compare_and_set(&jobs, "ends", bytes("3"), None).await.unwrap();
    assert!(again.is_some(), "the key is free again");
    let refused = bus.compare_and_set_expiring(&Bucket::Agents, "a", bytes("1"), None, second).await;
    assert!(matches!(refused, Err(BusError::Unusable(_))), "{refused:?}");
}

async fn concurrent_writers(bus: SharedBus) {
    let jobs = Bucket::default_jobs();
    let attempts = |expected| {
        let (bus, jobs) = (bus.clone(), jobs.clone());
        let attempt = move |i: u64| {
            let (bus, jobs) = (bus.clone(), jobs.clone());
            async move { bus.compare_and_set(&jobs, "a", bytes(&i.to_string()), expected).await.unwrap() }
        };
        join_all((0..16).map(attempt))
    };
    let mut expected = None;
    for _ in 0..5 {
        let winners: Vec<u64> = attempts(expected).await.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1, "{winners:?}");
        expected = Some(winners[0]);
    }
    bus.delete(&jobs, "a").await.unwrap();
    assert_eq!(attempts(None).await.into_iter().flatten().count(), 1, "over a removal too");
}

async fn next(stream: &mut BoxStream<'static, BucketEntry>) -> (String, Option<Bytes>) {
    let entry =
        timeout(EVENT_TIMEOUT, stream.next()).await.expect("a change arrives").expect("the watch continues");
    (entry.key, entry.value)
}

async fn watch(bus: SharedBus) {
    let agents = Bucket::Agents;
    for key in ["workers.1", "workers.2", "verifiers.1", "workers.gone"] {
        bus.put(&agents, key, bytes(key)).await.unwrap();
    }
    bus.delete(&agents, "workers.gone").await.unwrap();
    let mut workers = bus.watch(&agents, "workers.*").await.unwrap();
    let mut all = bus.watch(&agents, ">").await.unwrap();
    let mut current = vec![next(&mut workers).await, next(&mut workers).await];
    current.sort();
    let value = |key: &str| (key.to_owned(), Some(bytes(key)));
    assert_eq!(current, [value("workers.1"), value("workers.2")]);
    for _ in 0..3 {
        next(&mut all).await;
    }
    assert!(timeout(QUIET_PERIOD, workers.next()).await.is_err(), "no other key matches");
    bus.put(&agents, "verifiers.2", bytes("v")).await.unwrap();
    bus.put(&agents, "workers.1", bytes("new")).await.unwrap();
    bus.delete(&agents, "workers.2").await.unwrap();
    bus.put(&agents, "workers.2", bytes("back")).await.unwrap();
    // Changes of one key may be merged; the last one arrives.
    assert_eq!(next(&mut workers).await, ("workers.1".to_owned(), Some(bytes("new"))));
    while next(&mut workers).await != ("workers.2".to_owned(), Some(bytes("back"))) {}
    bus.delete(&agents, "workers.1").await.unwrap();
    assert_eq!(next(&mut workers).await, ("workers.1".to_owned(), None));
    assert_eq!(next(&mut all).await, ("verifiers.2".to_owned(), Some(bytes("v"))));
    while next(&mut all).await != ("workers.1".to_owned(), None) {}
}

async fn keys(bus: SharedBus) {
    assert_eq!(bus.keys(&Bucket::Programs).await, Ok(vec![]));
    let mut expected: Vec<String> = (0..1300).map(|i| format!("k{i:04}")).collect();
    let put = |key: &String| {
        let (bus, key) = (bus.clone(), key.clone());
        async move { bus.put(&Bucket::Programs, &key, bytes("value")).await.unwrap() }
    };
    for chunk in expected.chunks(100) {
        join_all(chunk.iter().map(put)).await;
    }
    bus.delete(&Bucket::Programs, &expected.remove(7)).await.unwrap();
    let mut keys = bus.keys(&Bucket::Programs).await.unwrap();
    keys.sort();
    assert!(keys == expected, "{} keys of {}", keys.len(), expected.len());
}

async fn invalid_requests(bus: SharedBus) {
    let missing = Bucket::Jobs("missing".to_owned());
    assert!(matches!(bus.get(&missing, "a").await, Err(BusError::Missing(_))));
    assert!(matches!(bus.put(&missing, "a", Bytes::new()).await, Err(BusError::Missing(_))));
    assert!(matches!(bus.keys(&missing).await, Err(BusError::Missing(_))));
    assert!(matches!(bus.watch(&missing, ">").await.map(drop), Err(BusError::Missing(_))));
    for key in ["", ".a", "a..b", "a b", "*", "a.>"] {
        assert!(matches!(bus.get(&Bucket::Agents, key).await, Err(BusError::Unusable(_))), "{key:?}");
    }
    let oversized = Bytes::from(vec![0; bus.max_payload() + 1]);
    let refused = bus.put(&Bucket::default_jobs(), "a", oversized).await;
    assert!(matches!(refused, Err(BusError::TooLarge { .. })), "{refused:?}");
}
