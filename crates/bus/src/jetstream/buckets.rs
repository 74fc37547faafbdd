//! Key-value buckets in the layout that every NATS client shares: stream `KV_<bucket>`, subjects
//! `$KV.<bucket>.<key>`.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_nats::{
    HeaderMap,
    header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_ID, NATS_MESSAGE_TTL},
    jetstream::stream::{DirectGetErrorKind, Info},
};
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, unfold};

use super::{
    attempt::{AttemptFailure, retry_transient},
    connection::{EmptyRequest, NatsConnection},
    convert::random_message_id,
    inbound_connection::InboundConnection,
    publish::OutgoingMessage,
    raw_message::{self, MessageQuery, RawMessage},
    stream_reader::{ReadEvent, StreamReader, StreamSelection},
    subjects::subject_page,
};
use crate::{
    bus::BucketEntry,
    error::BusError,
    topology::{Bucket, TopologySettings},
};

/// Header that marks the removal of a key.
const OPERATION_HEADER: &str = "KV-Operation";

/// Returns the name of a bucket's stream.
pub(super) fn stream_name(bucket: &Bucket) -> String {
    format!("KV_{}", bucket.name())
}

fn subject_prefix(bucket: &Bucket) -> String {
    format!("$KV.{}.", bucket.name())
}

fn is_removal(headers: Option<&HeaderMap>) -> bool {
    headers.and_then(|headers| headers.get(OPERATION_HEADER)).is_some()
}

/// The latest change of a key, possibly its removal.
struct LatestChange {
    entry: BucketEntry,
    /// Id of the message that made the change; empty if it had none.
    message_id: String,
}

impl LatestChange {
    /// Interprets a message; one without readable headers is a removal.
    fn new(key: &str, headers: Option<&HeaderMap>, payload: Bytes, revision: u64, age: Duration) -> Self {
        let is_value = headers.is_some_and(|headers| !is_removal(Some(headers)));
        let id = headers.and_then(|headers| headers.get(NATS_MESSAGE_ID)).map(|id| id.as_str().to_owned());
        let entry = BucketEntry { key: key.to_owned(), value: is_value.then_some(payload), revision, age };
        Self { entry, message_id: id.unwrap_or_default() }
    }
}

/// Reads the latest change of a key from the leader of the bucket; `None` if the key was never
/// written. A change whose headers cannot be read counts as a removal.
///
/// A client that may not read from the leader, and the reader of a program, asks any replica, which
/// may lag behind. A program is immutable, and the reader of a missing one retries.
async fn latest_change(
    connection: &NatsConnection,
    bucket: &Bucket,
    key: &str,
) -> Result<Option<LatestChange>, AttemptFailure> {
    if !connection.can_load_messages() || *bucket == Bucket::Programs {
        return latest_change_of_replica(connection, bucket, key).await;
    }
    let stream = stream_name(bucket);
    let subject = format!("{}{key}", subject_prefix(bucket));
    let message = raw_message::load(connection, &stream, MessageQuery::Last { subject: &subject }).await?;
    Ok(message.map(|RawMessage { sequence, stored_at, headers, payload, .. }| {
        if headers.is_none() {
            connection.report_unreadable(&stream, sequence, &subject);
        }
        let age = connection.server_clock().time_since(stored_at);
        LatestChange::new(key, headers.as_ref(), payload, sequence, age)
    }))
}

/// Reads the latest change of a key from any replica of the bucket.
async fn latest_change_of_replica(
    connection: &NatsConnection,
    bucket: &Bucket,
    key: &str,
) -> Result<Option<LatestChange>, AttemptFailure> {
    let stream = stream_name(bucket);
    let subject = format!("{}{key}", subject_prefix(bucket));
    let read = async {
        let handle = connection.context.get_stream_no_info(&stream).await;
        let handle = handle.map_err(AttemptFailure::transient)?;
        handle.direct_get_last_for_subject(&subject).await.map_or_else(
            |error| match error.kind() {
                DirectGetErrorKind::NotFound => Ok(None),
                _ => Err(AttemptFailure::Transient(format!("{}: {error}", bucket.name()))),
            },
            |message| Ok(Some(message)),
        )
    };
    let request_subject = format!("$JS.API.DIRECT.GET.{stream}.{subject}");
    let message = match connection.fail_if_denied(&request_subject, read).await {
        Err(AttemptFailure::Transient(reason)) => {
            // A missing bucket has no responder, which looks like an outage: ask for the bucket
            // itself.
            let info_request = format!("STREAM.INFO.{stream}");
            let _: Info = connection.request_api(&info_request, &EmptyRequest {}).await?;
            return Err(AttemptFailure::Transient(reason));
        }
        result => result?,
    };
    Ok(message.map(|message| {
        let stored_at = u64::try_from(message.time.unix_timestamp_nanos()).unwrap_or(u64::MAX);
        let age = connection.server_clock().time_since(stored_at);
        LatestChange::new(key, Some(&message.headers), message.payload, message.sequence, age)
    }))
}

/// Reads the entry of a key; `None` if it has no value.
pub(super) async fn get(
    connection: &NatsConnection,
    bucket: &Bucket,
    key: &str,
) -> Result<Option<BucketEntry>, BusError> {
    let change = retry_transient(bucket.name(), || latest_change(connection, bucket, key)).await?;
    Ok(change.map(|change| change.entry).filter(|entry| entry.value.is_some()))
}

/// A change of a key.
#[derive(Default)]
struct BucketChange {
    /// `None` removes the key.
    value: Option<Bytes>,
    expected: Option<u64>,
    /// Time after which the server drops the value, in whole seconds.
    lifetime: Option<Duration>,
}

/// Writes a change under a message id. If `expected` is given, the write
/// succeeds only if that is the sequence of the key's latest change (0: the key was never written).
async fn write_change(
    connection: &NatsConnection,
    bucket: &Bucket,
    key: &str,
    change: BucketChange,
    id: &str,
) -> Result<u64, BusError> {
    let BucketChange { value, expected, lifetime } = change;
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, id);
    if let Some(lifetime) = lifetime {
        headers.insert(NATS_MESSAGE_TTL, lifetime.as_secs().max(1).to_string());
    }
    if let Some(expected) = expected {
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
    }
    if value.is_none() {
        headers.insert(OPERATION_HEADER, "DEL");
    }
    let message = OutgoingMessage {
        stream: stream_name(bucket),
        max_bytes: bucket.limits(&TopologySettings::default(), 1).max_message_bytes,
        subject: format!("{}{key}", subject_prefix(bucket)),
        headers,
        payload: value.unwrap_or_default(),
    };
    message.check_size(connection)?;
    let ack = message.publish(connection).await?.ack;
    if ack.duplicate && connection.can_load_messages() {
        check_own_write(connection, &message, ack.sequence).await?;
    }
    Ok(ack.sequence)
}

/// Checks that the message which the server took for a repetition of `written` is the same. If it
/// has been replaced already, its unpredictable id is the only evidence.
async fn check_own_write(
    connection: &NatsConnection,
    written: &OutgoingMessage,
    sequence: u64,
) -> Result<(), BusError> {
    let query = MessageQuery::Sequence { sequence };
    let load = || raw_message::load(connection, &written.stream, query);
    let stored = retry_transient(&written.subject, load).await?;
    let is_same =
        |stored: &RawMessage| stored.subject == written.subject && stored.payload == written.payload;
    if stored.as_ref().is_none_or(is_same) {
        return Ok(());
    }
    Err(BusError::Unavailable(format!(
        "writing {} failed: the server holds another message with its id",
        written.subject
    )))
}

/// Writes a value and returns its revision.
pub(super) async fn put(
    connection: &NatsConnection,
    bucket: &Bucket,
    key: &str,
    value: Bytes,
) -> Result<u64, BusError> {
    let change = BucketChange { value: Some(value), ..BucketChange::default() };
    write_change(connection, bucket, key, change, &random_message_id()?).await
}

/// Writes a value if the key's revision is still `expected`; `None` if it is another one.
pub(super) async fn compare_and_set(
    connection: &NatsConnection,
    bucket: &Bucket,
    key: &str,
    value: Bytes,
    expected: Option<u64>,
    lifetime: Option<Duration>,
) -> Result<Option<u64>, BusError> {
    let id = random_message_id()?;
    let is_conflict = |error: &BusError| matches!(error, BusError::Refused { status: 409, .. });
    let mut revision = expected.unwrap_or(0);
    loop {
        let change = BucketChange { value: Some(value.clone()), expected: Some(revision), lifetime };
        match write_change(connection, bucket, key, change, &id).await {
            Err(error) if is_conflict(&error) => {}
            result => return result.map(Some),
        }
        let latest = retry_transient(bucket.name(), || latest_change(connection, bucket, key)).await?;
        let Some(LatestChange { entry, message_id }) = latest else { return Ok(None) };
        // The server compares sequences before ids. A write that is repeated because its
        // acknowledgement was lost therefore conflicts with itself.
        if message_id == id {
            return Ok(Some(entry.revision));
        }
        // Creating a value over a removal is allowed: the expected revision is then that of the
        // removal.
        if expected.is_some() || entry.value.is_some() || entry.revision == revision {
            return Ok(None);
        }
        revision = entry.revision;
    }
}

/// Removes a key.
pub(super) async fn delete(connection: &NatsConnection, bucket: &Bucket, key: &str) -> Result<(), BusError> {
    // Writes a removal only over a value: the bucket would keep removals of keys that never
    // existed.
    if get(connection, bucket, key).await?.is_some() {
        write_change(connection, bucket, key, BucketChange::default(), &random_message_id()?).await?;
    }
    Ok(())
}

/// Returns how much of a bucket's space is in use, in percent.
pub(super) async fn used_percent(connection: &NatsConnection, bucket: &Bucket) -> Result<u64, BusError> {
    let info_request = format!("STREAM.INFO.{}", stream_name(bucket));
    let request_info = || connection.request_api(&info_request, &EmptyRequest {});
    let info: Info = retry_transient(bucket.name(), request_info).await?;
    let max_bytes = u64::try_from(info.config.max_bytes).unwrap_or(u64::MAX).max(1);
    Ok(info.state.bytes.saturating_mul(100) / max_bytes)
}

fn select_keys(bucket: &Bucket, filter: &str, headers_only: bool) -> StreamSelection {
    let filters = vec![format!("{}{filter}", subject_prefix(bucket))];
    StreamSelection { stream: stream_name(bucket), filters, headers_only }
}

/// Lists the keys that have a value. A client that may not read from the leader gets the keys of
/// removals too.
pub(super) async fn keys(
    connection: &Arc<NatsConnection>,
    inbound: &Arc<InboundConnection>,
    bucket: &Bucket,
) -> Result<Vec<String>, BusError> {
    if !connection.can_load_messages() {
        return written_keys(connection, bucket).await;
    }
    let prefix = subject_prefix(bucket);
    let mut reader = StreamReader::open(connection, inbound, select_keys(bucket, ">", true)).await?;
    // A key that is written meanwhile may be read twice.
    let mut keys = BTreeSet::new();
    loop {
        match reader.next_within_budget().await? {
            ReadEvent::Message(message) => {
                let Some(key) = message.subject.strip_prefix(&prefix) else { continue };
                if is_removal(message.headers.as_ref()) {
                    keys.remove(key);
                } else {
                    keys.insert(key.to_owned());
                }
            }
            ReadEvent::Unreadable { subject, .. } => {
                subject.strip_prefix(&prefix).map(|key| keys.remove(key));
            }
            ReadEvent::CaughtUp => return Ok(keys.into_iter().collect()),
        }
    }
}

/// Lists the keys that were ever written, without a consumer: permission to create one includes
/// having entries delivered to any subject of the bucket's account.
async fn written_keys(connection: &NatsConnection, bucket: &Bucket) -> Result<Vec<String>, BusError> {
    let (stream, prefix) = (stream_name(bucket), subject_prefix(bucket));
    // A key that is written meanwhile may shift the next page.
    let mut keys = BTreeSet::new();
    let mut offset = 0;
    loop {
        let page = subject_page(connection, &stream, &format!("{prefix}>"), offset).await?;
        offset += page.counts.len();
        let is_last = page.counts.is_empty() || offset >= page.total;
        keys.extend(
            page.counts.keys().filter_map(|subject| subject.strip_prefix(&prefix)).map(str::to_owned),
        );
        if is_last {
            return Ok(keys.into_iter().collect());
        }
    }
}

/// Yields the current entries and then every change. The bucket stores only the latest change of a
/// key, so a reader that resumes after an interruption misses only values that have been replaced.
/// A change whose headers cannot be read is reported as a removal.
pub(super) async fn watch(
    connection: &Arc<NatsConnection>,
    inbound: &Arc<InboundConnection>,
    bucket: &Bucket,
    filter: &str,
) -> Result<BoxStream<'static, BucketEntry>, BusError> {
    let info_request = format!("STREAM.INFO.{}", stream_name(bucket));
    let request_info = || connection.request_api(&info_request, &EmptyRequest {});
    let info: Info = retry_transient(bucket.name(), request_info).await?;
    let last_sequence_at_start = info.state.last_sequence;
    let reader = StreamReader::open(connection, inbound, select_keys(bucket, filter, false)).await?;
    let entries = unfold((reader, subject_prefix(bucket)), move |(mut reader, prefix)| async move {
        loop {
            let (subject, value, revision, age) = match reader.next().await {
                ReadEvent::Message(message) => {
                    let value = (!is_removal(message.headers.as_ref())).then_some(message.payload);
                    (message.subject, value, message.sequence, message.age)
                }
                ReadEvent::Unreadable { subject, sequence } => (subject, None, sequence, Duration::ZERO),
                ReadEvent::CaughtUp => continue,
            };
            // A removal from before the start concerns a value that this watch never reported.
            if value.is_none() && revision <= last_sequence_at_start {
                continue;
            }
            let Some(key) = subject.strip_prefix(&prefix).map(str::to_owned) else { continue };
            return Some((BucketEntry { key, value, revision, age }, (reader, prefix)));
        }
    });
    Ok(entries.boxed())
}
