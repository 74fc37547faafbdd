//! Requests to the planners' API, one at a time and without retries.

use std::time::Duration;

use forge_bus::{Bus, BusError, Message, topology};
use forge_contract::{
    ids::JobId,
    job::JobRecord,
    job_list::{JobListPage, JobListRequest},
};
use serde::de::DeserializeOwned;

use crate::telemetry::trace;

/// Maximum wait for the reply to a request.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends a request, and parses the reply.
///
/// # Errors
/// Any error of the request: [`BusError::Refused`] with the status of the API if that is an error,
/// 503 if it is unavailable for now; [`BusError::NoResponse`] if no planner answers.
pub async fn request<T: DeserializeOwned>(
    bus: &dyn Bus,
    subject: &str,
    payload: Vec<u8>,
) -> Result<T, BusError> {
    let mut message = Message::new(subject, payload);
    trace::inject_context(&mut message.headers);
    let reply = bus.request(message, REPLY_TIMEOUT).await?;
    serde_json::from_slice(&reply.payload).map_err(|error| {
        BusError::Unusable(format!(
            "cannot parse the planner's reply; planner and forge versions differ: {error}"
        ))
    })
}

/// Reads the record of a job.
///
/// # Errors
/// See [`request`]. The status is 404 if there is no such job.
pub async fn status(bus: &dyn Bus, job: &JobId) -> Result<JobRecord, BusError> {
    request(bus, topology::API_STATUS_SUBJECT, job.as_str().into()).await
}

/// Reads one page of job records.
///
/// # Errors
/// See [`request`]. The status is 404 if the installation has no such namespace.
pub async fn list(bus: &dyn Bus, page: &JobListRequest) -> Result<JobListPage, BusError> {
    request(bus, topology::API_LIST_SUBJECT, list_payload(page)).await
}

/// The payload of a request for a page.
///
/// # Panics
/// Never: such a request consists of strings and a number.
pub fn list_payload(page: &JobListRequest) -> Vec<u8> {
    serde_json::to_vec(page).expect("a request consists of strings and a number")
}
