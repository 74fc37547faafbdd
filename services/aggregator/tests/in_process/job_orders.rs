//! Orders to end a job, orders of another version, and jobs that make way.

use std::time::Duration;

use forge_aggregator::AggregatorSettings;
use forge_bus::topology::{self, Bucket};
use forge_contract::{
    artifact::Phase,
    error::FailureCode,
    ids::JobUid,
    job::{JobRecord, JobState},
    protocol::PROTOCOL,
    task::{EndOrder, ReduceOrder},
};
use forge_service::{job_keys, job_records, orders};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::{Fixture, PATIENCE, UID, record};

#[tokio::test(start_paused = true)]
async fn order_of_another_protocol_version_is_left_to_other_aggregators() {
    let fixture = Fixture::start().await;
    let order = json!({"order": "reduce", "protocol": PROTOCOL + 1, "job": {"of": "the future"}});
    let message = forge_bus::Message::new(topology::reduce_subject(UID), order.to_string());
    fixture.bus.publish(message, "future").await.unwrap();
    let refused = async {
        while !fixture.metrics.encode().contains(r#"queue="reduce",outcome="retry"} 1"#) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, refused).await.unwrap();
    let record = job_records::get(fixture.bus.as_ref(), &Bucket::default_jobs(), &fixture.job.id).await;
    assert!(!record.unwrap().unwrap().record.state.is_terminal());
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn end_order_writes_error_document_and_terminal_record() {
    let fixture = Fixture::start().await;
    let (job, code) = (fixture.job.id.clone(), FailureCode::Timeout);
    // An order that is late, for an earlier submission of the same job id.
    let stale = EndOrder::new(job.clone(), JobUid([9; 16]), "jobs", code, Phase::Plan, "too late");
    let (message, id) = orders::build_end(stale);
    fixture.bus.publish(message, &id).await.unwrap();
    let order = EndOrder::new(job, UID, "jobs", code, Phase::Execute, "the job took too long");
    let (message, id) = orders::build_end(order);
    fixture.bus.publish(message, &id).await.unwrap();
    let record = fixture.ended_record().await;
    assert_eq!(record.state, JobState::Failed);
    let error = record.error.unwrap();
    assert_eq!(
        (error.code, error.phase, error.message.as_str()),
        (code, Phase::Execute, "the job took too long")
    );
    let document = fixture.store.get_error(&fixture.job.id).await.unwrap().unwrap();
    assert_eq!((document.code, document.message), (code, error.message));
    fixture.wait_for_deleted_key().await;
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn end_order_waits_for_a_record_that_is_not_visible_yet() {
    let fixture = Fixture::start().await;
    let bucket = Bucket::default_jobs();
    let job = "k".parse().unwrap();
    let reason = "the envelope is invalid".to_owned();
    let order = EndOrder::new(job, UID, bucket.name(), FailureCode::InvalidRequest, Phase::Validate, reason);
    let (message, id) = orders::build_end(order);
    fixture.bus.publish(message, &id).await.unwrap();
    // As with a replica of the bucket that has not received the record: the order comes first.
    sleep(Duration::from_millis(200)).await;
    let late = JobRecord { job_id: "k".parse().unwrap(), persist: false, ..record() };
    assert!(job_records::create(fixture.bus.as_ref(), &bucket, &late).await.unwrap());
    let ended = async {
        loop {
            let found = job_records::get(fixture.bus.as_ref(), &bucket, &late.job_id).await.unwrap();
            if found.unwrap().record.state == JobState::Failed {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, ended).await.unwrap();
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_without_progress_makes_way_for_another_one() {
    let settings = AggregatorSettings { max_jobs: 1, ..AggregatorSettings::default() };
    let mut fixture = Fixture::start_settings(settings).await;
    // Its shards wait for hardware that is not there.
    let (job_id, job_uid) = ("idle".parse().unwrap(), JobUid([2; 16]));
    let idle = JobRecord { job_id, uid: job_uid, ..record() };
    job_keys::create(fixture.bus.as_ref(), job_uid, &fixture.key).await.unwrap();
    assert!(job_records::create(fixture.bus.as_ref(), &Bucket::default_jobs(), &idle).await.unwrap());
    let (job_id, mut envelope) = (idle.job_id.clone(), fixture.job.request.envelope.clone());
    envelope.ctx.job_id = Some(job_id.clone());
    let order = ReduceOrder { protocol: PROTOCOL, job_id, job_uid, envelope, plan_us: 1 };
    let (message, id) = orders::build_reduce(order);
    fixture.bus.publish(message, &id).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    fixture.order_reduction().await;
    for (position, result) in fixture.results.clone().iter().enumerate() {
        fixture.return_result(0, position, result).await;
    }
    fixture.completion().await;
    let found = job_records::get(fixture.bus.as_ref(), &Bucket::default_jobs(), &idle.job_id).await;
    assert_eq!(found.unwrap().unwrap().record.state, JobState::Running);
    fixture.stop.cancel();
}
