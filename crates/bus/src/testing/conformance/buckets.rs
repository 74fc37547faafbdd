//! Promises about key-value buckets.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream::BoxStream};
use tokio::time::{sleep, timeout};

use super::{QUIET, SOON, check};
use crate::{
    bus::{BucketEntry, SharedBus},
    error::BusError,
    topology::Bucket,
};

/// Checks buckets on buses that `make` makes.
pub async fn buckets(make: impl AsyncFn() -> SharedBus) {
    check("values are written and read", make().await, read_and_write).await;
    check("compare and set", make().await, compare_and_set).await;
    check("one winner in a race", make().await, race).await;
    check("watch", make().await, watch).await;
    check("keys", make().await, keys).await;
    check("what cannot be", make().await, errors).await;
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn read_and_write(bus: SharedBus) {
    let jobs = Bucket::default_jobs();
    assert_eq!(bus.get(&jobs, "a").await, Ok(None));
    let first = bus.put(&jobs, "a", bytes("1")).await.unwrap();
    let second = bus.put(&jobs, "a", bytes("2")).await.unwrap();
    assert!(second > first);
    sleep(QUIET).await;
    let entry = bus.get(&jobs, "a").await.unwrap().unwrap();
    assert_eq!((entry.key.as_str(), entry.value, entry.revision), ("a", Some(bytes("2")), second));
    assert!(entry.age >= QUIET / 2 && entry.age < SOON, "{:?}", entry.age);
    assert_eq!(bus.get(&Bucket::Agents, "a").await, Ok(None), "buckets are apart");
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

async fn race(bus: SharedBus) {
    let jobs = Bucket::default_jobs();
    let attempts = |expected| {
        let (bus, jobs) = (bus.clone(), jobs.clone());
        let one = move |i: u64| {
            let (bus, jobs) = (bus.clone(), jobs.clone());
            async move { bus.compare_and_set(&jobs, "a", bytes(&i.to_string()), expected).await.unwrap() }
        };
        join_all((0..16).map(one))
    };
    let mut expected = None;
    for _ in 0..5 {
        let won: Vec<u64> = attempts(expected).await.into_iter().flatten().collect();
        assert_eq!(won.len(), 1, "{won:?}");
        expected = Some(won[0]);
    }
    bus.delete(&jobs, "a").await.unwrap();
    assert_eq!(attempts(None).await.into_iter().flatten().count(), 1, "over a removal, too");
}

async fn next(stream: &mut BoxStream<'static, BucketEntry>) -> (String, Option<Bytes>) {
    let entry = timeout(SOON, stream.next()).await.expect("a change").expect("no end");
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
    let mut there = vec![next(&mut workers).await, next(&mut workers).await];
    there.sort();
    let value = |key: &str| (key.to_owned(), Some(bytes(key)));
    assert_eq!(there, [value("workers.1"), value("workers.2")]);
    for _ in 0..3 {
        next(&mut all).await;
    }
    assert!(timeout(QUIET, workers.next()).await.is_err(), "nothing else is there");
    bus.put(&agents, "verifiers.2", bytes("v")).await.unwrap();
    bus.put(&agents, "workers.1", bytes("new")).await.unwrap();
    bus.delete(&agents, "workers.2").await.unwrap();
    bus.put(&agents, "workers.2", bytes("back")).await.unwrap();
    // Changes of one key may be taken together; the last one comes.
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
    for some in expected.chunks(100) {
        join_all(some.iter().map(put)).await;
    }
    bus.delete(&Bucket::Programs, &expected.remove(7)).await.unwrap();
    let mut keys = bus.keys(&Bucket::Programs).await.unwrap();
    keys.sort();
    assert!(keys == expected, "{} keys of {}", keys.len(), expected.len());
}

async fn errors(bus: SharedBus) {
    let nowhere = Bucket::Jobs("nowhere".to_owned());
    assert!(matches!(bus.get(&nowhere, "a").await, Err(BusError::Missing(_))));
    assert!(matches!(bus.put(&nowhere, "a", Bytes::new()).await, Err(BusError::Missing(_))));
    assert!(matches!(bus.keys(&nowhere).await, Err(BusError::Missing(_))));
    assert!(matches!(bus.watch(&nowhere, ">").await.map(drop), Err(BusError::Missing(_))));
    for key in ["", ".a", "a..b", "a b", "*", "a.>"] {
        assert!(matches!(bus.get(&Bucket::Agents, key).await, Err(BusError::Unusable(_))), "{key:?}");
    }
    let huge = Bytes::from(vec![0; bus.max_payload() + 1]);
    let refused = bus.put(&Bucket::default_jobs(), "a", huge).await;
    assert!(matches!(refused, Err(BusError::TooLarge { .. })), "{refused:?}");
    sleep(Duration::ZERO).await;
}
