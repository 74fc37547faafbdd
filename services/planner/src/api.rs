//! The request-reply API of the micro service `forge`: submit, status, cancel and list. It reads
//! records, stores envelopes and requests terminations; it admits no job itself. A response is a
//! job record, a page of them, or an error with an HTTP status code.
//!
//! Clients are untrusted, so every resource of a call is bounded: its size, its duration, and the
//! number of calls at once.

use std::{sync::Arc, time::Duration};

use forge_bus::{
    BusError, Message, ServiceCall, SharedBus,
    retry::RetryPolicy,
    topology::{self, Bucket, Stream},
};
use forge_contract::{
    artifact::Phase,
    error::FailureCode,
    ids::{InvalidSubmitter, JobId, Submitter},
    job::JobRecord,
    job_list::JobListRequest,
    task::EndOrder,
};
use forge_documents::Job;
use forge_service::{job_records, job_watch::JobWatch, random, retry::retry_until_stopped};
use futures_util::StreamExt;
use serde::Serialize;
use serde_json::Value;
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    end_requester::EndRequester,
    envelope_reader::{EnvelopeReader, one_line},
    job_lookup::JobLookup,
    quota_ledger::QuotaLedger,
    record_space::RecordSpace,
};

/// How long a request waits for a planner to decide, or for an aggregator to end a job.
const RECORD_WAIT: Duration = Duration::from_secs(5);
/// How long a request waits while [`MAX_WAITING_CALLS`] others do. Too short for them to keep all
/// other calls out.
const BUSY_RECORD_WAIT: Duration = Duration::from_millis(250);
/// Intervals at which a submit request reads the job's record and its submitter's
/// usage. A change of the record is noticed at once; a change of usage only by reading.
const RECORD_POLL_POLICY: RetryPolicy =
    RetryPolicy::new(Duration::from_millis(10), Duration::from_millis(500));
/// Calls in progress at which this planner refuses further ones.
const MAX_CONCURRENT_CALLS: usize = 256;
/// Calls that wait for [`RECORD_WAIT`] at the same time.
const MAX_WAITING_CALLS: usize = MAX_CONCURRENT_CALLS / 4 * 3;
/// List calls in progress at which this planner refuses further ones; each reads up to
/// [`JobListRequest::MAX_LIMIT`] records.
const MAX_CONCURRENT_LISTS: usize = 4;
/// Largest request of every operation but submit, in bytes. Submit accepts what the envelope reader
/// accepts.
const MAX_REQUEST_BYTES: usize = 4096;
/// An order to end a job takes less space in its stream.
const MAX_END_ORDER_BYTES: u64 = 4096;

/// An error response.
#[derive(Debug, PartialEq, Eq)]
struct ApiError {
    /// HTTP status code.
    status: u16,
    reason: String,
}

impl ApiError {
    fn new(status: u16, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into() }
    }

    fn unknown_job(job: &JobId) -> Self {
        Self::new(404, format!("job {job} does not exist"))
    }
}

impl From<BusError> for ApiError {
    fn from(error: BusError) -> Self {
        Self::new(503, error.to_string())
    }
}

/// What a request's subject asks for.
#[derive(Debug, PartialEq, Eq)]
enum ApiOperation {
    Submit(Submitter),
    Status,
    Cancel,
    List,
}

impl ApiOperation {
    fn from_subject(subject: &str) -> Result<Self, ApiError> {
        if subject == topology::API_STATUS_SUBJECT {
            Ok(Self::Status)
        } else if subject == topology::API_CANCEL_SUBJECT {
            Ok(Self::Cancel)
        } else if subject == topology::API_LIST_SUBJECT {
            Ok(Self::List)
        } else if let Some(submitter) = topology::parse_submit_subject(subject) {
            Ok(Self::Submit(submitter))
        } else if topology::subject_matches(topology::API_SUBMIT_AS_FILTER, subject) {
            Err(ApiError::new(400, format!("subject {subject} names no submitter: {InvalidSubmitter}")))
        } else {
            Err(ApiError::new(404, format!("endpoint {subject} does not exist")))
        }
    }
}

/// The API and its dependencies.
#[derive(Debug)]
pub struct Api {
    pub bus: SharedBus,
    pub reader: EnvelopeReader,
    pub ledger: Arc<QuotaLedger>,
    pub jobs: JobLookup,
    pub job_watch: JobWatch,
    pub end_requester: EndRequester,
    pub space: Arc<RecordSpace>,
    pub limits: ApiLimits,
}

/// Permits for calls in progress.
#[derive(Debug)]
pub struct ApiLimits {
    calls: Arc<Semaphore>,
    lists: Semaphore,
    waits: Semaphore,
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            calls: Arc::new(Semaphore::new(MAX_CONCURRENT_CALLS)),
            lists: Semaphore::new(MAX_CONCURRENT_LISTS),
            waits: Semaphore::new(MAX_WAITING_CALLS),
        }
    }
}

impl ApiLimits {
    /// How long a call may wait, and its permit to do so.
    fn wait(&self) -> (Option<SemaphorePermit<'_>>, Duration) {
        let permit = self.waits.try_acquire().ok();
        let wait = if permit.is_some() { RECORD_WAIT } else { BUSY_RECORD_WAIT };
        (permit, wait)
    }
}

impl Api {
    /// Serves requests, each in its own task, until `stop`. Refuses them while
    /// [`MAX_CONCURRENT_CALLS`] are in progress. Notifies `answering` once they arrive here.
    pub async fn serve(self, answering: &Notify, stop: &CancellationToken) {
        let calls = retry_until_stopped(stop, "subscribing to API requests", || self.bus.serve()).await;
        let Some(mut calls) = calls else { return };
        answering.notify_one();
        let api = Arc::new(self);
        while let Some(Some(call)) = stop.run_until_cancelled(calls.next()).await {
            let Ok(permit) = Arc::clone(&api.limits.calls).try_acquire_owned() else {
                let reason = format!("this planner is serving {MAX_CONCURRENT_CALLS} requests: try again");
                call.responder.reply_error(503, reason).await;
                continue;
            };
            let api = Arc::clone(&api);
            tokio::spawn(async move {
                api.respond(call).await;
                drop(permit);
            });
        }
    }

    async fn respond(&self, call: ServiceCall) {
        match self.process(&call.message).await {
            Ok(json) => call.responder.reply(json.into()).await,
            Err(ApiError { status, reason }) => {
                call.responder.reply_error(status, reason.replace('\n', " ")).await
            }
        }
    }

    async fn process(&self, request: &Message) -> Result<Vec<u8>, ApiError> {
        let operation = ApiOperation::from_subject(&request.subject)?;
        if !matches!(operation, ApiOperation::Submit(_)) && request.payload.len() > MAX_REQUEST_BYTES {
            let reason = format!("the request is too large: at most {MAX_REQUEST_BYTES} bytes are read");
            return Err(ApiError::new(413, reason));
        }
        Ok(match operation {
            ApiOperation::Submit(submitter) => to_json(&self.submit(&submitter, request).await?),
            ApiOperation::Status => to_json(&self.status(&parse_job_id(&request.payload)?).await?),
            ApiOperation::Cancel => to_json(&self.cancel(&parse_job_id(&request.payload)?).await?),
            ApiOperation::List => self.list(&request.payload).await?,
        })
    }

    /// Stores an envelope, unless its job has a record, and returns the record once its quota
    /// decision is known or [`RECORD_WAIT`] has passed.
    async fn submit(&self, submitter: &Submitter, request: &Message) -> Result<JobRecord, ApiError> {
        let job = self.reader.read(&request.payload).await;
        let job = job.map_err(|invalid| ApiError::new(400, one_line(&invalid)))?;
        let bucket = Bucket::Jobs(job.request.envelope.artifacts.kv_namespace.clone());
        let changes = self.job_watch.subscribe(&bucket, &job.id);
        let mut found = job_records::get(self.bus.as_ref(), &bucket, &job.id).await?;
        if found.is_none() {
            self.check_other_namespaces(&job.id, &bucket).await?;
            self.space.check(&bucket).map_err(|full| ApiError::new(507, full.to_string()))?;
            self.store(submitter, request).await?;
        }
        let (_permit, wait) = self.limits.wait();
        let deadline = Instant::now() + wait;
        let mut reads = 0;
        loop {
            let expired = Instant::now() >= deadline;
            if let Some(found) = found {
                let record = check_request(&job, found.record)?;
                if expired || self.ledger.is_decision_visible(&bucket, &record).await? {
                    return Ok(record);
                }
            } else if expired {
                self.check_other_namespaces(&job.id, &bucket).await?;
                let id = &job.id;
                let reason =
                    format!("job {id} is queued, but no planner has admitted it yet: query its status");
                return Err(ApiError::new(503, reason));
            }
            reads += 1;
            let next_read = Instant::now() + RECORD_POLL_POLICY.delay(reads);
            let _ = timeout_at(next_read.min(deadline), changes.changed()).await;
            found = job_records::get(self.bus.as_ref(), &bucket, &job.id).await?;
        }
    }

    /// Refuses a job id that a namespace other than that of `bucket` holds, as admission would.
    async fn check_other_namespaces(&self, job: &JobId, bucket: &Bucket) -> Result<(), ApiError> {
        match self.jobs.find(job).await? {
            Some((other, _)) if other != *bucket => {
                let namespace = other.name();
                let reason = format!(
                    "job id {job} already names a job in namespace {namespace}: choose another ctx.job_id"
                );
                Err(ApiError::new(409, reason))
            }
            _ => Ok(()),
        }
    }

    /// Publishes a request's envelope for admission, under a random id. The id must be
    /// unguessable: JetStream drops a message whose id it has seen, so a client that publishes
    /// under a predictable id first would suppress this submission. Admission recognises a repeated
    /// submission by its envelope's digest.
    async fn store(&self, submitter: &Submitter, request: &Message) -> Result<(), ApiError> {
        let mut envelope = Message::new(topology::submit_subject(submitter), request.payload.clone());
        envelope.headers = request.headers.clone();
        Ok(self.bus.publish(envelope, &random::message_id("submit")).await?)
    }

    async fn status(&self, job: &JobId) -> Result<JobRecord, ApiError> {
        let found = self.jobs.find(job).await?;
        found.map(|(_, record)| record).ok_or_else(|| ApiError::unknown_job(job))
    }

    /// Requests a job's end, and returns its record once it has ended or [`RECORD_WAIT`] has
    /// passed.
    async fn cancel(&self, job: &JobId) -> Result<JobRecord, ApiError> {
        let (bucket, record) = self.jobs.find(job).await?.ok_or_else(|| ApiError::unknown_job(job))?;
        if record.state.is_terminal() {
            return Ok(record);
        }
        let (code, reason) = (FailureCode::Cancelled, "cancelled on request");
        let order = EndOrder::new(job.clone(), record.uid, bucket.name(), code, Phase::Execute, reason);
        match self.end_requester.request(order.clone()).await {
            // The server has no space for any message. The job's own results make room for the
            // order; nothing needs them any more. They make none in the stream of orders.
            Err(BusError::Full(_))
                if self.bus.stream_space(Stream::Reduce).await?.free_bytes() > MAX_END_ORDER_BYTES =>
            {
                self.bus.purge(Stream::Results, &topology::results_filter(record.uid)).await?;
                self.end_requester.request(order).await?;
            }
            requested => requested?,
        }
        let end = self.job_watch.watch(&bucket, job).await?;
        let (_permit, wait) = self.limits.wait();
        let _ = timeout(wait, end.token().cancelled()).await;
        self.status(job).await
    }

    /// A page of job records, as JSON.
    async fn list(&self, payload: &[u8]) -> Result<Vec<u8>, ApiError> {
        let request = parse_list_request(payload)?;
        let Some(bucket) = self.jobs.listed_bucket(&request) else {
            return Err(ApiError::new(404, "/namespace: is not a namespace of this installation"));
        };
        let Ok(_permit) = self.limits.lists.try_acquire() else {
            let reason = format!("this planner is serving {MAX_CONCURRENT_LISTS} list requests: try again");
            return Err(ApiError::new(503, reason));
        };
        // Leaves room for the members around the records, and for headers.
        let max_bytes = self.bus.max_payload() / 2;
        Ok(to_json(&self.jobs.list(&bucket, &request, max_bytes).await?))
    }
}

fn to_json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("records consist of strings and numbers")
}

/// Returns the record unless it belongs to another envelope.
fn check_request(job: &Job, record: JobRecord) -> Result<JobRecord, ApiError> {
    if record.request == Some(job.envelope_digest) {
        return Ok(record);
    }
    let id = &job.id;
    let reason = format!("job id {id} already names a job with another envelope: choose another ctx.job_id");
    Err(ApiError::new(409, reason))
}

/// Parses `{"job_id": "…"}`, or the bare id.
fn parse_job_id(payload: &[u8]) -> Result<JobId, ApiError> {
    let text = std::str::from_utf8(payload).unwrap_or_default().trim();
    let json: Option<Value> = serde_json::from_str(text).ok();
    let id = json.as_ref().and_then(|json| json.get("job_id")?.as_str()).unwrap_or(text);
    id.parse().map_err(|error| ApiError::new(400, format!("/job_id: {error}")))
}

/// Parses the request for a page; an empty payload asks for the first one.
fn parse_list_request(payload: &[u8]) -> Result<JobListRequest, ApiError> {
    if payload.is_empty() {
        return Ok(JobListRequest::default());
    }
    let request: JobListRequest =
        serde_json::from_slice(payload).map_err(|error| ApiError::new(400, error.to_string()))?;
    if request.limit.is_some_and(|limit| !(1..=JobListRequest::MAX_LIMIT).contains(&limit)) {
        let reason = format!("/limit: must be from 1 to {}", JobListRequest::MAX_LIMIT);
        return Err(ApiError::new(400, reason));
    }
    Ok(request)
}

#[cfg(test)]
mod tests;
