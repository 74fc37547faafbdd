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
    link::{Failure, Link, Nothing},
    publish::Parcel,
    tail::{Source, Tail},
};
use crate::{bus::BucketEntry, error::BusError, topology::Bucket};

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

/// The last change of a key, be it a removal, and the id under which it was written.
async fn last(link: &Link, bucket: &Bucket, key: &str) -> Result<Option<(BucketEntry, String)>, Failure> {
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
            let _: Info = link.api(&format!("STREAM.INFO.{stream}"), &Nothing {}).await?;
            return Err(Failure::Passing(reason));
        }
        found => found?,
    };
    Ok(found.map(|found| {
        let entry = BucketEntry {
            key: key.to_owned(),
            value: (!removes(Some(&found.headers))).then_some(found.payload),
            revision: found.sequence,
            age: age(u64::try_from(found.time.unix_timestamp_nanos()).unwrap_or(u64::MAX)),
        };
        let id = found.headers.get(NATS_MESSAGE_ID).map(|id| id.as_str().to_owned());
        (entry, id.unwrap_or_default())
    }))
}

/// The value under a key.
pub(super) async fn get(link: &Link, bucket: &Bucket, key: &str) -> Result<Option<BucketEntry>, BusError> {
    let entry = link.persist(bucket.name(), || last(link, bucket, key)).await?;
    Ok(entry.map(|(entry, _)| entry).filter(|entry| entry.value.is_some()))
}

/// Writes a change under an id; if `expected` is given, only if that is the number of the key's last change.
async fn write(
    link: &Link,
    bucket: &Bucket,
    key: &str,
    value: Option<Bytes>,
    expected: Option<u64>,
    id: &str,
) -> Result<u64, BusError> {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, id);
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
    write(link, bucket, key, Some(value), None, &link.client.new_inbox()).await
}

/// Writes a value over the one that is known.
pub(super) async fn compare_and_set(
    link: &Link,
    bucket: &Bucket,
    key: &str,
    value: Bytes,
    expected: Option<u64>,
) -> Result<Option<u64>, BusError> {
    let id = link.client.new_inbox();
    let lost = |error: &BusError| matches!(error, BusError::Refused { status: 409, .. });
    let mut revision = expected.unwrap_or(0);
    loop {
        match write(link, bucket, key, Some(value.clone()), Some(revision), &id).await {
            Err(error) if lost(&error) => {}
            written => return written.map(Some),
        }
        let Some((entry, writer)) = link.persist(bucket.name(), || last(link, bucket, key)).await? else {
            return Ok(None);
        };
        // The server compares numbers before ids: what was sent twice, its first answer lost, loses against itself.
        if writer == id {
            return Ok(Some(entry.revision));
        }
        // Over a removal a value may be created.
        if expected.is_some() || entry.value.is_some() || entry.revision == revision {
            return Ok(None);
        }
        revision = entry.revision;
    }
}

/// Removes a key.
pub(super) async fn delete(link: &Link, bucket: &Bucket, key: &str) -> Result<(), BusError> {
    // A removal is written only over a value: else removals of what never was would be kept.
    if get(link, bucket, key).await?.is_some() {
        write(link, bucket, key, None, None, &link.client.new_inbox()).await?;
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
) -> Result<BoxStream<'static, BucketEntry>, BusError> {
    let subject = format!("STREAM.INFO.{}", stream_name(bucket));
    let info: Info = link.persist(bucket.name(), || link.api(&subject, &Nothing {})).await?;
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
            let entry = BucketEntry { key, value, revision: origin.sequence, age: origin.age() };
            return Some((entry, (tail, prefix)));
        }
    });
    Ok(entries.boxed())
}
