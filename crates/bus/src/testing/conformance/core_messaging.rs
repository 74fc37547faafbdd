//! Guarantees of broadcasts, requests and replies.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all};
use tokio::time::timeout;

use super::fixture::{EVENT_TIMEOUT, QUIET_PERIOD, job_uid, publish, result_message, run_check};
use crate::{
    bus::SharedBus,
    error::BusError,
    message::Message,
    topology::{self, API_CANCEL_SUBJECT, API_STATUS_SUBJECT, API_SUBMIT_SUBJECT},
};

/// A subject that matches the wildcard of an endpoint.
const SUBMIT_AS_ALICE: &str = "forge.v1.api.submit.alice";

/// Checks broadcasts and requests of buses from `make_bus`.
pub async fn check_core_messaging(make_bus: impl AsyncFn() -> SharedBus) {
    run_check("broadcasts reach current subscribers", make_bus().await, broadcasts).await;
    run_check("requests get replies and errors", make_bus().await, replies).await;
    run_check("requests fail without a service", make_bus().await, missing_service).await;
    run_check("a request goes to one instance", make_bus().await, several_instances).await;
}

async fn broadcasts(bus: SharedBus) {
    let message =
        Message::new(topology::job_ended_subject(job_uid("j")), "over").with_header("Forge-Test", "1");
    bus.broadcast(message.clone()).await.unwrap();
    let mut subscribers = [
        bus.subscribe(topology::JOB_ENDED_FILTER).await.unwrap(),
        bus.subscribe(&topology::job_ended_subject(job_uid("j"))).await.unwrap(),
    ];
    let mut other = bus.subscribe(&topology::job_ended_subject(job_uid("k"))).await.unwrap();
    let mut results = bus.subscribe("forge.v1.results.>").await.unwrap();
    bus.broadcast(message.clone()).await.unwrap();
    for subscriber in &mut subscribers {
        assert_eq!(timeout(EVENT_TIMEOUT, subscriber.next()).await.unwrap().unwrap(), message);
        assert!(timeout(QUIET_PERIOD, subscriber.next()).await.is_err(), "once, and no earlier message");
    }
    assert!(timeout(QUIET_PERIOD, other.next()).await.is_err());
    publish(&bus, &result_message("j", 0)).await;
    assert_eq!(
        timeout(EVENT_TIMEOUT, results.next()).await.unwrap().unwrap(),
        result_message("j", 0),
        "stored messages too"
    );
}

async fn replies(bus: SharedBus) {
    let mut calls = bus.serve().await.unwrap();
    let serving = tokio::spawn(async move {
        while let Some(call) = calls.next().await {
            match call.message.subject.as_str() {
                API_SUBMIT_SUBJECT | SUBMIT_AS_ALICE => call.responder.reply(call.message.payload).await,
                API_STATUS_SUBJECT => call.responder.reply_error(404, "no such\njob".to_owned()).await,
                _ => drop(call),
            }
        }
    });
    for subject in [API_SUBMIT_SUBJECT, SUBMIT_AS_ALICE] {
        let request = Message::new(subject, "hello").with_header("Forge-Test", "1");
        assert_eq!(bus.request(request, EVENT_TIMEOUT).await.unwrap().payload, "hello", "{subject}");
    }
    match bus.request(Message::new(API_STATUS_SUBJECT, ""), EVENT_TIMEOUT).await {
        Err(BusError::Refused { status: 404, reason }) => assert!(reason.starts_with("no such"), "{reason}"),
        other => panic!("{other:?}"),
    }
    let unanswered = bus.request(Message::new(API_CANCEL_SUBJECT, ""), QUIET_PERIOD).await;
    assert!(matches!(unanswered, Err(BusError::NoResponse(_))), "{unanswered:?}");
    serving.abort();
}

async fn missing_service(bus: SharedBus) {
    let result = bus.request(Message::new(API_SUBMIT_SUBJECT, ""), EVENT_TIMEOUT).await;
    assert!(matches!(result, Err(BusError::NoResponse(_))), "{result:?}");
}

async fn several_instances(bus: SharedBus) {
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
    let request = |_| bus.request(Message::new(API_SUBMIT_SUBJECT, ""), EVENT_TIMEOUT);
    let replies = join_all((0..40).map(request)).await;
    assert!(replies.iter().all(Result::is_ok), "{replies:?}");
    let counts: Vec<u32> = join_all(serving).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(counts.iter().sum::<u32>(), 40, "{counts:?}");
}
