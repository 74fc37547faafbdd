//! Key-value buckets, laid out as every NATS client lays them out: stream `KV_<bucket>`, subjects `$KV.<bucket>.<key>`.

use std::sync::Arc;

use async_nats::{
    HeaderMap,
    header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_ID},
    jetstream::stream::{DirectGetErrorKind, Info},
};
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, unfold};

use super::{
    convert::age,
    link::{Failure, Link},
    publish::Parcel,
    tail::{Source, Tail},
};
use crate::{
    bus::{BusError, Entry},
    topology::Bucket,
};

/// Says that a message removes its key.
const OPERATION: &str = "KV-Operation";

/// Name of a bucket's stream.
pub(super) fn stream_name(bucket: &Bucket) -> String {
    format!("KV_{}", bucket.name())
}

fn prefix(bucket: &Bucket) -> String {
    format!("$KV.{}.", bucket.name())
}

fn removes(headers: Option<&HeaderMap>) -> bool {
    headers.and_then(|headers| headers.get(OPERATION)).is_some()
}

/// The last message of a key; a removal, too.
async fn last(link: &Link, bucket: &Bucket, key: &str) -> Result<Option<Entry>, Failure> {
    let stream = stream_name(bucket);
    let subject = format!("{}{key}", prefix(bucket));
    let get = async {
        let handle = link.context.get_stream_no_info(&stream).await;
        let handle = handle.map_err(|error| Failure::Passing(error.to_string()))?;
        handle.direct_get_last_for_subject(&subject).await.map_or_else(
            |error| match error.kind() {
                DirectGetErrorKind::NotFound => Ok(None),
                _ => Err(Failure::Passing(format!("{}: {error}", bucket.name()))),
            },
            |found| Ok(Some(found)),
        )
    };
    let found = match link.guard(&format!("$JS.API.DIRECT.GET.{stream}.{subject}"), get).await {
        Err(Failure::Passing(reason)) => {
            // Nobody answers for a bucket that is not there.
            let _: Info = link.api(&format!("STREAM.INFO.{stream}"), &()).await?;
            return Err(Failure::Passing(reason));
        }
        found => found?,
    };
    Ok(found.map(|found| Entry {
        key: key.to_owned(),
        value: (!removes(Some(&found.headers))).then_some(found.payload),
        revision: found.sequence,
        age: age(u64::try_from(found.time.unix_timestamp_nanos()).unwrap_or(u64::MAX)),
    }))
}

/// The value under a key.
pub(super) async fn get(link: &Link, bucket: &Bucket, key: &str) -> Result<Option<Entry>, BusError> {
    let entry = link.persist(bucket.name(), || last(link, bucket, key)).await?;
    Ok(entry.filter(|entry| entry.value.is_some()))
}

/// Writes a change; if `expected` is given, only if that is the number of the key's last change.
async fn write(
    link: &Link,
    bucket: &Bucket,
    key: &str,
    value: Option<Bytes>,
    expected: Option<u64>,
) -> Result<u64, BusError> {
    let mut headers = HeaderMap::new();
    // Sent again under the same id, it cannot lose against itself.
    let unique = link.client.new_inbox();
    headers.insert(NATS_MESSAGE_ID, unique.as_str());
    if let Some(expected) = expected {
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
    }
    if value.is_none() {
        headers.insert(OPERATION, "DEL");
    }
    let parcel = Parcel {
        stream: stream_name(bucket),
        subject: format!("{}{key}", prefix(bucket)),
        headers,
        payload: value.unwrap_or_default(),
    };
    parcel.check(link)?;
    Ok(parcel.store(link).await?.sequence)
}

/// Writes a value.
pub(super) async fn put(link: &Link, bucket: &Bucket, key: &str, value: Bytes) -> Result<u64, BusError> {
    write(link, bucket, key, Some(value), None).await
}

/// Writes a value over the one that is known.
pub(super) async fn compare_and_set(
    link: &Link,
    bucket: &Bucket,
    key: &str,
    value: Bytes,
    expected: Option<u64>,
) -> Result<Option<u64>, BusError> {
    let lost = |error: &BusError| matches!(error, BusError::Refused { status: 409, .. });
    match write(link, bucket, key, Some(value.clone()), Some(expected.unwrap_or(0))).await {
        Err(error) if lost(&error) && expected.is_none() => {
            // There may be a removal, over which a value may be created.
            let found = link.persist(bucket.name(), || last(link, bucket, key)).await?;
            let Some(removal) = found.filter(|entry| entry.value.is_none()) else { return Ok(None) };
            match write(link, bucket, key, Some(value), Some(removal.revision)).await {
                Err(error) if lost(&error) => Ok(None),
                written => written.map(Some),
            }
        }
        Err(error) if lost(&error) => Ok(None),
        written => written.map(Some),
    }
}

/// Removes a key.
pub(super) async fn delete(link: &Link, bucket: &Bucket, key: &str) -> Result<(), BusError> {
    // A removal is written only over a value: else removals of what never was would be kept.
    if get(link, bucket, key).await?.is_some() {
        write(link, bucket, key, None, None).await?;
    }
    Ok(())
}

fn source(bucket: &Bucket, filter: &str, headers_only: bool) -> Source {
    let filters = vec![format!("{}{filter}", prefix(bucket))];
    Source { stream: stream_name(bucket), filters, headers_only }
}

/// The keys there are.
pub(super) async fn keys(link: &Arc<Link>, bucket: &Bucket) -> Result<Vec<String>, BusError> {
    let prefix = prefix(bucket);
    let all = link
        .persist(bucket.name(), || async {
            let tail = Tail::open(link, source(bucket, ">", true)).await.map_err(Failure::Lasting)?;
            tail.read_all().await
        })
        .await?;
    let kept = all.iter().filter(|(message, _)| !removes(message.headers.as_ref()));
    Ok(kept.filter_map(|(message, _)| message.subject.strip_prefix(&prefix).map(str::to_owned)).collect())
}

/// The entries there are and every change after that. Only the last change of a key is stored, so reading on after the
/// last one seen loses nothing that still holds.
pub(super) async fn watch(
    link: &Arc<Link>,
    bucket: &Bucket,
    filter: &str,
) -> Result<BoxStream<'static, Entry>, BusError> {
    let subject = format!("STREAM.INFO.{}", stream_name(bucket));
    let info: Info = link.persist(bucket.name(), || link.api(&subject, &())).await?;
    let before = info.state.last_sequence;
    let tail = Tail::open(link, source(bucket, filter, false)).await?;
    let entries = unfold((tail, prefix(bucket)), move |(mut tail, prefix)| async move {
        loop {
            let (message, origin) = tail.next().await;
            let removal = removes(message.headers.as_ref());
            // A removal from before the start is of a value that nobody was told of.
            if removal && origin.sequence <= before {
                continue;
            }
            let Some(key) = message.subject.strip_prefix(&prefix).map(str::to_owned) else { continue };
            let value = (!removal).then_some(message.payload);
            let entry = Entry { key, value, revision: origin.sequence, age: origin.age() };
            return Some((entry, (tail, prefix)));
        }
    });
    Ok(entries.boxed())
}
