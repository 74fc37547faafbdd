//! Promises about what is not stored.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all};
use tokio::time::timeout;

use super::{QUIET, SOON, check, job, publish, result};
use crate::{
    bus::SharedBus,
    error::BusError,
    message::Message,
    topology::{self, API_CANCEL_SUBJECT, API_STATUS_SUBJECT, API_SUBMIT_SUBJECT},
};

/// A subject that an endpoint names with a `*`.
const AS_ALICE: &str = "forge.v1.api.submit.alice";

/// Checks broadcasts and requests on buses that `make` makes.
pub async fn wire(make: impl AsyncFn() -> SharedBus) {
    check("broadcasts", make().await, broadcasts).await;
    check("requests are answered and refused", make().await, answers).await;
    check("nobody answers", make().await, nobody).await;
    check("each request goes to one server", make().await, shared).await;
}

async fn broadcasts(bus: SharedBus) {
    let message = Message::new(topology::job_ended_subject(&job("j")), "over").with_header("Forge-Test", "1");
    bus.broadcast(message.clone()).await.unwrap();
    let mut listeners = [
        bus.subscribe(topology::JOB_ENDED_FILTER).await.unwrap(),
        bus.subscribe("forge.v1.ended.j").await.unwrap(),
    ];
    let mut other = bus.subscribe("forge.v1.ended.k").await.unwrap();
    let mut results = bus.subscribe("forge.v1.results.>").await.unwrap();
    bus.broadcast(message.clone()).await.unwrap();
    for listener in &mut listeners {
        assert_eq!(timeout(SOON, listener.next()).await.unwrap().unwrap(), message);
        assert!(timeout(QUIET, listener.next()).await.is_err(), "only once, and not what was before");
    }
    assert!(timeout(QUIET, other.next()).await.is_err());
    publish(&bus, &result("j", 0)).await;
    assert_eq!(timeout(SOON, results.next()).await.unwrap().unwrap(), result("j", 0), "stored messages, too");
}

async fn answers(bus: SharedBus) {
    let mut calls = bus.serve().await.unwrap();
    let serving = tokio::spawn(async move {
        while let Some(call) = calls.next().await {
            match call.message.subject.as_str() {
                API_SUBMIT_SUBJECT | AS_ALICE => call.responder.reply(call.message.payload).await,
                API_STATUS_SUBJECT => call.responder.reply_error(404, "no such\njob".to_owned()).await,
                _ => drop(call),
            }
        }
    });
    for subject in [API_SUBMIT_SUBJECT, AS_ALICE] {
        let request = Message::new(subject, "hello").with_header("Forge-Test", "1");
        assert_eq!(bus.request(request, SOON).await.unwrap().payload, "hello", "{subject}");
    }
    match bus.request(Message::new(API_STATUS_SUBJECT, ""), SOON).await {
        Err(BusError::Refused { status: 404, reason }) => assert!(reason.starts_with("no such"), "{reason}"),
        other => panic!("{other:?}"),
    }
    let silent = bus.request(Message::new(API_CANCEL_SUBJECT, ""), QUIET).await;
    assert!(matches!(silent, Err(BusError::NoResponse(_))), "{silent:?}");
    serving.abort();
}

async fn nobody(bus: SharedBus) {
    let answer = bus.request(Message::new(API_SUBMIT_SUBJECT, ""), SOON).await;
    assert!(matches!(answer, Err(BusError::NoResponse(_))), "{answer:?}");
}

async fn shared(bus: SharedBus) {
    let mut serving = Vec::new();
    for _ in 0..2 {
        let mut calls = bus.serve().await.unwrap();
        serving.push(tokio::spawn(async move {
            let mut count = 0_u32;
            while let Ok(Some(call)) = timeout(Duration::from_secs(2), calls.next()).await {
                count += 1;
                call.responder.reply(Bytes::from_static(b"once")).await;
            }
            count
        }));
    }
    let ask = |_| bus.request(Message::new(API_SUBMIT_SUBJECT, ""), SOON);
    let answers = join_all((0..40).map(ask)).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let counts: Vec<u32> = join_all(serving).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(counts.iter().sum::<u32>(), 40, "{counts:?}");
}
