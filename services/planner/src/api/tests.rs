//! The API on the in-process bus, in tokio's paused time, and its parsers.

use std::sync::atomic::{AtomicBool, Ordering};

use forge_bus::{
    Bus, MemoryBus,
    testing::{BusFault, BusOperation, FaultyBus},
    topology::TopologySettings,
};
use forge_contract::{
    ids::{JobUid, PoolName},
    shard::ShardId,
};
use forge_kernel::request::Request;

use super::*;
use crate::{
    settings::PlannerSettings,
    submission_record::{SubmissionOrigin, initial_record},
    test_fixture::{alice, memory_bus, submission, submission_to},
};

/// Serves the API without any planner that admits submissions.
async fn serve(bus: SharedBus, stop: &CancellationToken) {
    serve_with(bus, vec!["jobs".to_owned()], Arc::default(), stop).await;
}

async fn serve_with(
    bus: SharedBus,
    namespaces: Vec<String>,
    space: Arc<RecordSpace>,
    stop: &CancellationToken,
) {
    let PlannerSettings { models, quotas, .. } = PlannerSettings::default();
    let buckets: Vec<_> = namespaces.iter().cloned().map(Bucket::Jobs).collect();
    let api = Api {
        reader: EnvelopeReader::new(bus.clone(), models, namespaces.clone(), 1 << 30),
        ledger: Arc::new(QuotaLedger::new(bus.clone(), quotas)),
        jobs: JobLookup::new(bus.clone(), namespaces),
        job_watch: JobWatch::open(bus.clone(), &buckets, stop).await.unwrap(),
        end_requester: EndRequester::new(bus.clone()),
        space,
        limits: ApiLimits::default(),
        bus,
    };
    let (stop, answering) = (stop.clone(), Arc::new(Notify::new()));
    let notify = Arc::clone(&answering);
    tokio::spawn(async move { api.serve(&notify, &stop).await });
    answering.notified().await;
}

fn submit_request(job: &str) -> Message {
    Message::new(topology::api_submit_subject(&alice()), submission(job, "test").payload)
}

#[test]
fn subject_selects_the_operation() {
    let operation = |subject: &str| ApiOperation::from_subject(subject);
    assert_eq!(operation(topology::API_STATUS_SUBJECT), Ok(ApiOperation::Status));
    assert_eq!(operation(topology::API_CANCEL_SUBJECT), Ok(ApiOperation::Cancel));
    assert_eq!(operation(topology::API_LIST_SUBJECT), Ok(ApiOperation::List));
    for submitter in [Submitter::default(), "alice".parse().unwrap()] {
        let subject = topology::api_submit_subject(&submitter);
        assert_eq!(operation(&subject), Ok(ApiOperation::Submit(submitter)));
    }
    let status = |subject: &str| operation(subject).unwrap_err().status;
    assert_eq!(status(&format!("{}.{}", topology::API_SUBMIT_SUBJECT, "x".repeat(33))), 400);
    assert_eq!(status("forge.v1.api.delete"), 404);
}

#[test]
fn job_id_is_read_from_json_or_plain_text() {
    let id = |payload: &str| parse_job_id(payload.as_bytes()).map(|id| id.to_string());
    for payload in ["a", " a\n", r#"{"job_id": "a"}"#, r#"{"job_id": "a", "more": 1}"#] {
        assert_eq!(id(payload).as_deref(), Ok("a"), "{payload}");
    }
    for payload in ["", "a b", "{}", r#"{"job_id": 3}"#] {
        let error = id(payload).unwrap_err();
        assert!(error.status == 400 && error.reason.starts_with("/job_id: "), "{payload}: {error:?}");
    }
    assert_eq!(parse_job_id(&[0xff]).unwrap_err().status, 400);
}

#[test]
fn list_request_is_checked() {
    let parse = |payload: &str| parse_list_request(payload.as_bytes());
    assert_eq!(parse(""), Ok(JobListRequest::default()));
    let request = parse(r#"{"limit": 5, "state": "failed", "prefix": "a", "after": "b"}"#).unwrap();
    assert_eq!((request.limit, request.prefix.as_str()), (Some(5), "a"));
    for payload in [r#"{"limit": 0}"#, r#"{"limit": 1001}"#, r#"{"state": "lost"}"#, r#"{"limits": 5}"#, "x"]
    {
        assert_eq!(parse(payload).unwrap_err().status, 400, "{payload}");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_the_limit_are_refused_at_once_and_later_ones_served() {
    let (bus, stop) = (memory_bus().await, CancellationToken::new());
    serve(bus.clone(), &stop).await;
    let waiting: Vec<_> = (0..MAX_CONCURRENT_CALLS)
        .map(|number| {
            let bus = bus.clone();
            tokio::spawn(
                async move { bus.request(submit_request(&format!("j{number}")), 2 * RECORD_WAIT).await },
            )
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let started = Instant::now();
    let status = || Message::new(topology::API_STATUS_SUBJECT, "j0");
    let refused = bus.request(status(), RECORD_WAIT).await.unwrap_err();
    assert!(matches!(refused, BusError::Refused { status: 503, .. }), "{refused:?}");
    assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
    // Calls that wait for long never take all places.
    tokio::time::sleep(2 * BUSY_RECORD_WAIT).await;
    let served = bus.request(status(), RECORD_WAIT).await.unwrap_err();
    assert!(matches!(served, BusError::Refused { status: 404, .. }), "{served:?}");
    assert!(started.elapsed() < RECORD_WAIT, "{:?}", started.elapsed());
    for call in waiting {
        let reply = call.await.unwrap().unwrap_err();
        assert!(matches!(&reply, BusError::Refused { status: 503, reason } if reason.contains("is queued")));
    }
    let served = bus.request(status(), RECORD_WAIT).await.unwrap_err();
    assert!(matches!(served, BusError::Refused { status: 404, .. }), "{served:?}");
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_job_id_of_another_namespace_is_refused_at_once() {
    let namespaces = vec!["jobs".to_owned(), "night".to_owned()];
    let bus = MemoryBus::with_namespaces(TopologySettings::default(), namespaces.clone());
    bus.prepare().await.unwrap();
    let stop = CancellationToken::new();
    serve_with(bus.clone(), namespaces, Arc::default(), &stop).await;
    let time = "2026-11-23T04:21:23.123Z".to_owned();
    let origin = SubmissionOrigin { submitter: alice(), sequence: 1, attempt: 1, time, trace_id: None };
    let record = initial_record("taken".parse().unwrap(), JobUid([1; 16]), origin, None);
    assert!(job_records::create(bus.as_ref(), &Bucket::default_jobs(), &record).await.unwrap());
    let started = Instant::now();
    let subject = topology::api_submit_subject(&alice());
    let request = Message::new(subject, submission_to("taken", "night").payload);
    let refused = bus.request(request, 2 * RECORD_WAIT).await.unwrap_err();
    let expected = "job id taken already names a job in namespace jobs: choose another ctx.job_id";
    assert_eq!(refused, BusError::Refused { status: 409, reason: expected.to_owned() });
    assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
    assert_eq!(bus.backlog(topology::Queue::Jobs).await.unwrap(), 0);
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn submission_to_a_full_bucket_is_refused_at_once() {
    let (bus, stop) = (memory_bus().await, CancellationToken::new());
    let space = Arc::<RecordSpace>::default();
    space.set_used(&Bucket::default_jobs(), 90);
    serve_with(bus.clone(), vec!["jobs".to_owned()], space, &stop).await;
    let refused = bus.request(submit_request("j"), 2 * RECORD_WAIT).await.unwrap_err();
    assert!(
        matches!(&refused, BusError::Refused { status: 507, reason } if reason.contains("90% of the bucket")),
        "{refused:?}"
    );
    assert_eq!(bus.backlog(topology::Queue::Jobs).await.unwrap(), 0);
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn cancelled_job_makes_room_for_the_order_that_ends_it() {
    let (inner, stop) = (memory_bus().await, CancellationToken::new());
    let is_full = Arc::new(AtomicBool::new(true));
    let full = Arc::clone(&is_full);
    let faulty: SharedBus = Arc::new(FaultyBus::new(inner.clone(), move |operation| match operation {
        BusOperation::Publish { subject } if subject.starts_with("forge.v1.reduce.") => {
            match full.load(Ordering::Relaxed) {
                true => BusFault::Error(BusError::Full("the disk of the server is full".to_owned())),
                false => BusFault::None,
            }
        }
        BusOperation::Purge { stream: Stream::Results } => {
            full.store(false, Ordering::Relaxed);
            BusFault::None
        }
        _ => BusFault::None,
    }));
    serve(faulty, &stop).await;
    let (uid, time) = (JobUid([1; 16]), "2026-11-23T04:21:23.123Z".to_owned());
    let origin = SubmissionOrigin { submitter: alice(), sequence: 1, attempt: 1, time, trace_id: None };
    let record = initial_record("j".parse().unwrap(), uid, origin, None);
    assert!(job_records::create(inner.as_ref(), &Bucket::default_jobs(), &record).await.unwrap());
    let shard = ShardId { height: 0, index: 0 };
    for job in [uid, JobUid([2; 16])] {
        let subject = topology::result_subject(&PoolName::default(), job, shard);
        inner.publish(Message::new(subject, "result"), &job.to_string()).await.unwrap();
    }
    let reply = inner.request(Message::new(topology::API_CANCEL_SUBJECT, "j"), 2 * RECORD_WAIT).await;
    reply.unwrap();
    assert!(!is_full.load(Ordering::Relaxed));
    assert_eq!(inner.backlog(topology::Queue::End).await.unwrap(), 1);
    assert_eq!(inner.message_count(Stream::Results), 1, "those of other jobs stay");
    stop.cancel();
}

/// Removing results makes no space for orders in the stream that holds them.
#[tokio::test(start_paused = true)]
async fn cancelling_a_job_removes_no_results_where_that_makes_no_space() {
    let settings = TopologySettings { storage_bytes: 256 << 20, ..TopologySettings::default() };
    let (bus, stop) = (MemoryBus::new(settings), CancellationToken::new());
    bus.prepare().await.unwrap();
    serve(bus.clone(), &stop).await;
    let (uid, time) = (JobUid([1; 16]), "2026-11-23T04:21:23.123Z".to_owned());
    let origin = SubmissionOrigin { submitter: alice(), sequence: 1, attempt: 1, time, trace_id: None };
    let record = initial_record("j".parse().unwrap(), uid, origin, None);
    assert!(job_records::create(bus.as_ref(), &Bucket::default_jobs(), &record).await.unwrap());
    let subject = topology::result_subject(&PoolName::default(), uid, ShardId { height: 0, index: 0 });
    bus.publish(Message::new(subject, "result"), "result").await.unwrap();
    let mut orders = 0_u64;
    for size in [500_000, 10_000, 10] {
        let order = vec![0; size];
        let mut publish = async || {
            orders += 1;
            let subject = topology::reduce_subject(JobUid(u128::from(orders + 1).to_be_bytes()));
            bus.publish(Message::new(subject, order.clone()), &orders.to_string()).await
        };
        while publish().await.is_ok() {}
    }
    let cancel = Message::new(topology::API_CANCEL_SUBJECT, "j");
    let refused = bus.request(cancel, 2 * RECORD_WAIT).await.unwrap_err();
    assert!(matches!(&refused, BusError::Refused { status: 503, .. }), "{refused:?}");
    assert_eq!(bus.message_count(Stream::Results), 1);
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn submission_under_a_foretold_message_id_suppresses_no_other() {
    let (bus, stop) = (memory_bus().await, CancellationToken::new());
    serve(bus.clone(), &stop).await;
    let envelope = submission("victim", "test");
    let digest = Job::new(Request::from_json(&envelope.payload).unwrap()).envelope_digest;
    let squatter = Message::new(topology::SUBMIT_SUBJECT, "no envelope");
    bus.publish(squatter, &format!("submit.victim.{digest}")).await.unwrap();
    assert_eq!(bus.backlog(topology::Queue::Jobs).await.unwrap(), 1);
    bus.request(submit_request("victim"), 2 * RECORD_WAIT).await.unwrap_err();
    assert_eq!(bus.backlog(topology::Queue::Jobs).await.unwrap(), 2);
    stop.cancel();
}
