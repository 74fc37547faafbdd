//! The micro service `forge`: submit, status and cancel, for clients that want an answer at once. Every answer is a job's
//! record, or an error with a number as in HTTP.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use forge_bus::{BusError, Message, ServiceCall, topology};
use forge_contract::{
    artifact::Phase,
    error::FailureCode,
    ids::{InvalidSubmitter, JobId, Submitter},
    job::JobRecord,
    task::EndOrder,
};
use forge_documents::Job;
use forge_service::{job_records, retry::retry_until_stopped};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::time::sleep;
use topology::Bucket;

use crate::{admit::one_line, planner::Planner};

/// How long a request waits for a planner, or an aggregator, to write the record.
const WAIT: Duration = Duration::from_secs(5);

/// An error as it is answered.
struct Refusal(u16, String);

impl From<BusError> for Refusal {
    fn from(error: BusError) -> Self {
        Self(503, error.to_string())
    }
}

/// Serves until the planner stops.
pub async fn serve(planner: Arc<Planner>) {
    let calls = retry_until_stopped(&planner.stop, "serving requests", || planner.bus.serve()).await;
    let Some(mut calls) = calls else { return };
    while let Some(Some(call)) = planner.stop.run_until_cancelled(calls.next()).await {
        let planner = Arc::clone(&planner);
        tokio::spawn(async move { planner.answer(call).await });
    }
}

impl Planner {
    async fn answer(&self, call: ServiceCall) {
        let payload = &call.message.payload;
        let answered =
            match (call.message.subject.as_str(), topology::parse_submit_subject(&call.message.subject)) {
                (topology::API_STATUS_SUBJECT, _) => self.status(payload).await,
                (topology::API_CANCEL_SUBJECT, _) => self.cancel(payload).await,
                (_, Some(submitter)) => self.submit(&submitter, &call.message).await,
                (other, None) if topology::subject_matches(topology::API_SUBMIT_AS_FILTER, other) => {
                    Err(Refusal(400, format!("the subject {other} names no submitter: {InvalidSubmitter}")))
                }
                (other, None) => Err(Refusal(404, format!("there is no endpoint {other}"))),
            };
        match answered {
            Ok(record) => {
                let json = serde_json::to_vec(&record).expect("a record is made of strings and numbers");
                call.responder.reply(json.into()).await;
            }
            Err(Refusal(status, reason)) => {
                call.responder.reply_error(status, reason.replace('\n', " ")).await
            }
        }
    }

    /// Stores an envelope, unless its job is there, and answers the job's record once a planner has decided about it.
    async fn submit(&self, submitter: &Submitter, request: &Message) -> Result<JobRecord, Refusal> {
        let job = self.read(&request.payload).map_err(|invalid| Refusal(400, one_line(&invalid)))?;
        let bucket = Bucket::Jobs(job.request.envelope.artifacts.kv_namespace.clone());
        let mut found = job_records::get(self.bus.as_ref(), &bucket, &job.id).await?;
        if found.is_none() {
            let mut envelope = Message::new(topology::submit_subject(submitter), request.payload.clone());
            envelope.headers = request.headers.clone();
            let id = format!("submit.{}.{}", job.id, job.envelope_digest);
            self.bus.publish(envelope, &id).await?;
        }
        let started = Instant::now();
        loop {
            let waited = started.elapsed() >= WAIT;
            if let Some(found) = found {
                let record = same(&job, found.record)?;
                if waited || self.is_decided(&bucket, &record).await? {
                    return Ok(record);
                }
            } else if waited {
                let message =
                    format!("job {} is stored, and no planner has taken it yet: ask for its status", job.id);
                return Err(Refusal(503, message));
            }
            sleep(Duration::from_millis(2)).await;
            found = job_records::get(self.bus.as_ref(), &bucket, &job.id).await?;
        }
    }

    async fn status(&self, payload: &[u8]) -> Result<JobRecord, Refusal> {
        let job = named(payload)?;
        let found = self.find(&job).await?;
        found.map(|(_, record)| record).ok_or_else(|| unknown(&job))
    }

    async fn cancel(&self, payload: &[u8]) -> Result<JobRecord, Refusal> {
        let job = named(payload)?;
        let (bucket, record) = self.find(&job).await?.ok_or_else(|| unknown(&job))?;
        if record.state.is_terminal() {
            return Ok(record);
        }
        self.end(EndOrder::new(
            job.clone(),
            bucket.name(),
            FailureCode::Cancelled,
            Phase::Execute,
            "cancelled on request",
        ))
        .await?;
        let ending = self.job_watch.watch(&bucket, &job).await?;
        let _ = tokio::time::timeout(WAIT, ending.token().cancelled()).await;
        self.status(payload).await
    }
}

/// The record, if it is of this very job.
fn same(job: &Job, record: JobRecord) -> Result<JobRecord, Refusal> {
    if record.request == Some(job.envelope_digest) {
        return Ok(record);
    }
    let message =
        format!("the job id {} names a job with another envelope: choose another ctx.job_id", job.id);
    Err(Refusal(409, message))
}

fn unknown(job: &JobId) -> Refusal {
    Refusal(404, format!("there is no job {job}"))
}

/// Reads `{"job_id": "…"}`, or the id alone.
fn named(payload: &[u8]) -> Result<JobId, Refusal> {
    let text = std::str::from_utf8(payload).unwrap_or_default().trim();
    let json: Option<Value> = serde_json::from_str(text).ok();
    let id = json.as_ref().and_then(|json| json.get("job_id")?.as_str()).unwrap_or(text);
    id.parse().map_err(|error| Refusal(400, format!("/job_id: {error}")))
}
