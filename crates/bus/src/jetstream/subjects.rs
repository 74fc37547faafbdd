//! Listing the subjects of a stream.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use super::{attempt::retry_transient, connection::NatsConnection};
use crate::{bus::SubjectPage, error::BusError};

/// Counts the messages of each subject that matches a filter, from the one at position `offset`.
pub(super) async fn subject_page(
    connection: &NatsConnection,
    stream: &str,
    filter: &str,
    offset: usize,
) -> Result<SubjectPage, BusError> {
    #[derive(Deserialize)]
    struct SubjectsReply {
        state: SubjectsState,
        #[serde(default)]
        total: usize,
    }
    #[derive(Deserialize)]
    struct SubjectsState {
        #[serde(default)]
        subjects: BTreeMap<String, u64>,
    }
    let request = format!("STREAM.INFO.{stream}");
    let body = json!({ "subjects_filter": filter, "offset": offset });
    let list = || connection.request_api::<SubjectsReply>(&request, &body);
    let reply = retry_transient(stream, list).await?;
    Ok(SubjectPage { counts: reply.state.subjects, total: reply.total })
}
