//! The request-reply API of the micro service `forge`: submit, status and cancel. It reads records,
//! stores envelopes and requests terminations; it admits no job itself. A response is a job record,
//! or an error with an HTTP status code.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use forge_bus::{
    BusError, Message, ServiceCall, SharedBus,
    topology::{self, Bucket},
};
use forge_contract::{
    artifact::Phase,
    error::FailureCode,
    ids::{InvalidSubmitter, JobId, Submitter},
    job::JobRecord,
    task::EndOrder,
};
use forge_documents::Job;
use forge_service::{job_records, job_watch::JobWatch, retry::retry_until_stopped};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    end_requester::EndRequester,
    envelope_reader::{EnvelopeReader, one_line},
    job_lookup::JobLookup,
    quota_ledger::QuotaLedger,
};

/// How long a request waits for a planner to decide, or for an aggregator to end a job.
const RECORD_WAIT: Duration = Duration::from_secs(5);
/// Interval at which a submit request reads the job's record.
const RECORD_POLL_INTERVAL: Duration = Duration::from_millis(2);

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
}

impl ApiOperation {
    fn from_subject(subject: &str) -> Result<Self, ApiError> {
        if subject == topology::API_STATUS_SUBJECT {
            Ok(Self::Status)
        } else if subject == topology::API_CANCEL_SUBJECT {
            Ok(Self::Cancel)
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
}

impl Api {
    /// Serves requests, each in its own task, until `stop`.
    pub async fn serve(self, stop: &CancellationToken) {
        let calls = retry_until_stopped(stop, "subscribing to API requests", || self.bus.serve()).await;
        let Some(mut calls) = calls else { return };
        let api = Arc::new(self);
        while let Some(Some(call)) = stop.run_until_cancelled(calls.next()).await {
            let api = Arc::clone(&api);
            tokio::spawn(async move { api.respond(call).await });
        }
    }

    async fn respond(&self, call: ServiceCall) {
        match self.process(&call.message).await {
            Ok(record) => {
                let json = serde_json::to_vec(&record).expect("a record consists of strings and numbers");
                call.responder.reply(json.into()).await;
            }
            Err(ApiError { status, reason }) => {
                call.responder.reply_error(status, reason.replace('\n', " ")).await
            }
        }
    }

    async fn process(&self, request: &Message) -> Result<JobRecord, ApiError> {
        match ApiOperation::from_subject(&request.subject)? {
            ApiOperation::Submit(submitter) => self.submit(&submitter, request).await,
            ApiOperation::Status => self.status(&parse_job_id(&request.payload)?).await,
            ApiOperation::Cancel => self.cancel(&parse_job_id(&request.payload)?).await,
        }
    }

    /// Stores an envelope, unless its job has a record, and returns the record once its quota
    /// decision is known or [`RECORD_WAIT`] has passed.
    async fn submit(&self, submitter: &Submitter, request: &Message) -> Result<JobRecord, ApiError> {
        let job = self.reader.read(&request.payload);
        let job = job.map_err(|invalid| ApiError::new(400, one_line(&invalid)))?;
        let bucket = Bucket::Jobs(job.request.envelope.artifacts.kv_namespace.clone());
        let mut found = job_records::get(self.bus.as_ref(), &bucket, &job.id).await?;
        if found.is_none() {
            self.store(submitter, request, &job).await?;
        }
        let started = Instant::now();
        loop {
            let expired = started.elapsed() >= RECORD_WAIT;
            if let Some(found) = found {
                let record = check_request(&job, found.record)?;
                if expired || self.ledger.is_decision_visible(&bucket, &record).await? {
                    return Ok(record);
                }
            } else if expired {
                let id = &job.id;
                let reason =
                    format!("job {id} is queued, but no planner has admitted it yet: query its status");
                return Err(ApiError::new(503, reason));
            }
            sleep(RECORD_POLL_INTERVAL).await;
            found = job_records::get(self.bus.as_ref(), &bucket, &job.id).await?;
        }
    }

    /// Publishes a request's envelope for admission.
    async fn store(&self, submitter: &Submitter, request: &Message, job: &Job) -> Result<(), BusError> {
        let mut envelope = Message::new(topology::submit_subject(submitter), request.payload.clone());
        envelope.headers = request.headers.clone();
        self.bus.publish(envelope, &format!("submit.{}.{}", job.id, job.envelope_digest)).await
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
        self.end_requester
            .request(EndOrder::new(
                job.clone(),
                record.uid,
                bucket.name(),
                FailureCode::Cancelled,
                Phase::Execute,
                "cancelled on request",
            ))
            .await?;
        let end = self.job_watch.watch(&bucket, job).await?;
        let _ = timeout(RECORD_WAIT, end.token().cancelled()).await;
        self.status(job).await
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subject_selects_the_operation() {
        let operation = |subject: &str| ApiOperation::from_subject(subject);
        assert_eq!(operation(topology::API_STATUS_SUBJECT), Ok(ApiOperation::Status));
        assert_eq!(operation(topology::API_CANCEL_SUBJECT), Ok(ApiOperation::Cancel));
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
}
