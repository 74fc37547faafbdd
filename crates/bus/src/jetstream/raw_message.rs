//! Single stored messages, read through JetStream's JSON API from the stream's leader.
//!
//! The API encodes headers and payload, so that no content can disturb the connection. In contrast,
//! a delivered message whose headers async-nats cannot parse makes it drop the connection and all
//! that is in transit, and a bare carriage return in a header value makes its task panic. This
//! module parses headers exactly as async-nats does.

use std::str::FromStr;

use async_nats::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    jetstream::{
        ErrorCode,
        response::Response,
        stream::{self, DeleteStatus},
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{attempt::AttemptFailure, connection::NatsConnection};

/// A stored message.
#[derive(Debug, Clone)]
pub(super) struct RawMessage {
    pub(super) subject: String,
    /// Position in the stream.
    pub(super) sequence: u64,
    /// Time of storing, in nanoseconds since the Unix epoch.
    pub(super) stored_at: u64,
    /// `None` if async-nats could not parse them.
    pub(super) headers: Option<HeaderMap>,
    pub(super) payload: Bytes,
}

/// Selects one message of a stream.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
pub(super) enum MessageQuery<'a> {
    /// The message at this position.
    Sequence {
        #[serde(rename = "seq")]
        sequence: u64,
    },
    /// The first message at or behind a position whose subject matches a filter.
    Next {
        #[serde(rename = "seq")]
        sequence: u64,
        #[serde(rename = "next_by_subj")]
        filter: &'a str,
    },
    /// The latest message of a subject.
    Last {
        #[serde(rename = "last_by_subj")]
        subject: &'a str,
    },
}

#[derive(Deserialize)]
struct MessageReply {
    message: stream::RawMessage,
}

/// Loads a message; `None` if the stream holds none that `query` selects.
pub(super) async fn load(
    connection: &NatsConnection,
    stream: &str,
    query: MessageQuery<'_>,
) -> Result<Option<RawMessage>, AttemptFailure> {
    let subject = format!("STREAM.MSG.GET.{stream}");
    match connection.call_api::<MessageReply>(&subject, &query).await? {
        Response::Ok(MessageReply { message }) => decode(message).map(Some),
        Response::Err { error } if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
        Response::Err { error } => Err(AttemptFailure::from_api(&subject, &error)),
    }
}

/// Removes a message, which may have been removed before.
pub(super) async fn remove(
    connection: &NatsConnection,
    stream: &str,
    sequence: u64,
) -> Result<(), AttemptFailure> {
    let subject = format!("STREAM.MSG.DELETE.{stream}");
    let body = json!({ "seq": sequence, "no_erase": true });
    let Response::Err { error } = connection.call_api::<DeleteStatus>(&subject, &body).await? else {
        return Ok(());
    };
    match error.error_code() {
        ErrorCode::SEQUENCE_NOT_FOUND => Ok(()),
        // The server reports a message that is gone and a failed removal by the same code.
        ErrorCode::STREAM_MESSAGE_DELETE_FAILED => {
            match load(connection, stream, MessageQuery::Sequence { sequence }).await? {
                Some(_) => Err(AttemptFailure::transient(error)),
                None => Ok(()),
            }
        }
        _ => Err(AttemptFailure::from_api(&subject, &error)),
    }
}

fn decode(message: stream::RawMessage) -> Result<RawMessage, AttemptFailure> {
    let headers = match message.headers {
        Some(block) => parse_headers(&STANDARD.decode(block).map_err(AttemptFailure::transient)?),
        None => Some(HeaderMap::new()),
    };
    Ok(RawMessage {
        subject: message.subject,
        sequence: message.sequence,
        stored_at: u64::try_from(message.time.unix_timestamp_nanos()).unwrap_or(u64::MAX),
        headers,
        payload: STANDARD.decode(message.payload).map_err(AttemptFailure::transient)?.into(),
    })
}

/// Parses a block of headers; `None` where async-nats fails or panics.
fn parse_headers(block: &[u8]) -> Option<HeaderMap> {
    let mut lines = std::str::from_utf8(block).ok()?.lines().peekable();
    let status = lines.next()?.strip_prefix("NATS/1.0")?.trim();
    let code = status.split_once(' ').map_or(status, |(code, _)| code.trim());
    if !code.is_empty() {
        code.parse::<StatusCode>().ok()?;
    }
    let mut headers = HeaderMap::new();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let (name, value) = line.split_once(':')?;
        let name = HeaderName::from_str(name).ok()?;
        let mut value = value.trim_start().to_owned();
        while let Some(continuation) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
            value.push_str(continuation);
        }
        headers.append(name, HeaderValue::from_str(value.trim_end()).ok()?);
    }
    Some(headers)
}
