//! Provisioning of the topology: creates missing streams, consumers and buckets, and updates those
//! whose configuration differs. Deletes nothing.

use std::{fmt::Debug, iter, time::Duration};

use async_nats::jetstream::{
    self, ErrorCode,
    account::Account,
    consumer::{self, AckPolicy, DeliverPolicy, ReplayPolicy},
    response::Response,
    stream::{self, DiscardPolicy, RetentionPolicy, StorageType},
};
use serde_json::json;
use tokio::time::sleep;

use super::{
    attempt::{AttemptFailure, retry_transient},
    buckets::stream_name,
    connection::{EmptyRequest, NatsConnection},
    options::JetStreamOptions,
    work_queue::consumer_info,
};
use crate::{
    error::BusError,
    retry::RetryPolicy,
    topology::{
        self, Bucket, DUPLICATE_WINDOW, MAX_ACK_PENDING, Queue, Stream, StreamLimits, TopologySettings,
    },
};

/// Storage of which each share is a whole number of bytes.
const STORAGE_UNIT: u64 = 1 << 10;
/// Attempts, after the first, to create a stream for which the server lacks the storage.
const STORAGE_ATTEMPTS: u64 = 8;
/// Delays before them: 2 to 4 s in all.
const STORAGE_POLICY: RetryPolicy = RetryPolicy::new(Duration::from_millis(250), Duration::from_millis(500));
/// Pull requests that one consumer holds open; bounds the number of agents that can wait at one
/// queue.
const MAX_WAITING_PULLS: i64 = 10_000;
/// Consumers of one stream, at least: the queues of shards, or the readers of a few jobs. The
/// account's limit counts those of each stream.
const MIN_CONSUMERS: u64 = 16;

/// Provisions the whole topology; without `manage_topology`, only checks that `required_queues`
/// exist.
pub(super) async fn prepare(connection: &NatsConnection, options: &JetStreamOptions) -> Result<(), BusError> {
    if !options.manage_topology {
        for queue in &options.required_queues {
            retry_transient(queue.consumer(), || consumer_info(connection, *queue)).await?;
        }
        return Ok(());
    }
    let settings = choose_storage(connection, options).await?;
    prepare_storage(connection, options, &settings).await.map_err(|error| describe_full(&settings, error))?;
    // The queues come last: a service without permission to see streams and buckets waits for its
    // queues, and expects the rest to exist then.
    for queue in Queue::ALL {
        let (stream, config) = (queue.stream().name(), consumer_config(queue, &settings));
        retry_transient(queue.consumer(), || ensure_consumer(connection, stream, &config)).await?;
    }
    Ok(())
}

/// Provisions the streams and buckets.
///
/// Returns [`BusError::Full`] if the server or the account lacks the storage.
async fn prepare_storage(
    connection: &NatsConnection,
    options: &JetStreamOptions,
    settings: &TopologySettings,
) -> Result<(), BusError> {
    let buckets = topology::all_buckets(&options.kv_namespaces);
    check_account_limits(connection, settings, Stream::ALL.len() + buckets.len()).await?;
    // Results come first, because they may hold the storage of all.
    for stream in iter::once(Stream::Results).chain(Stream::ALL) {
        provision_stream(connection, &stream_config(stream, settings)).await?;
    }
    for bucket in buckets {
        let limits = bucket.limits(settings, options.kv_namespaces.len());
        provision_stream(connection, &bucket_config(&bucket, settings, limits)).await?;
    }
    Ok(())
}

/// Provisions one stream. While services of a cluster create the same stream at the same time, the
/// server counts its storage once for each, so a lack of storage may be over in a moment.
async fn provision_stream(connection: &NatsConnection, config: &stream::Config) -> Result<(), BusError> {
    let mut failures = 0;
    loop {
        match retry_transient(&config.name, || ensure_stream(connection, config)).await {
            Err(BusError::Full(_)) if failures < STORAGE_ATTEMPTS => failures += 1,
            result => return result,
        }
        sleep(STORAGE_POLICY.delay(failures)).await;
    }
}

/// The settings with the storage that this installation uses. Services of a cluster may start at
/// the same time, so the first one that creates the stream of results decides, and the others
/// follow.
///
/// Returns [`BusError::Missing`] if others have to decide and have not.
async fn choose_storage(
    connection: &NatsConnection,
    options: &JetStreamOptions,
) -> Result<TopologySettings, BusError> {
    let topology = &options.topology;
    let mut settings = *topology;
    if !settings.may_use_less_storage {
        return Ok(settings);
    }
    let mut failures = 0;
    loop {
        let results = bytes_of_results(connection).await?;
        if !options.decides_storage && results.is_none_or(is_reservation) {
            let missing =
                "the stream FORGE_RESULTS: a planner or an aggregator decides how much storage it gets";
            return Err(BusError::Missing(missing.to_owned()));
        }
        if let Some(bytes) = results {
            return Ok(TopologySettings { storage_bytes: storage_of_results(bytes), ..settings });
        }
        let reason = match reserve_storage(connection, &settings).await {
            Ok(()) => break,
            // Another service has just created the stream.
            Err(_) if bytes_of_results(connection).await?.is_some() => continue,
            Err(BusError::Full(reason)) => reason,
            Err(error) => return Err(error),
        };
        let less = settings.storage_bytes / 2;
        if less < TopologySettings::MIN_STORAGE_BYTES {
            // The server may count the storage of a stream before it answers about it.
            if failures == STORAGE_ATTEMPTS {
                return Err(insufficient_storage(&settings, &reason));
            }
            failures += 1;
            sleep(STORAGE_POLICY.delay(failures)).await;
            continue;
        }
        settings.storage_bytes = less;
    }
    if settings.storage_bytes < topology.storage_bytes {
        tracing::warn!(
            storage_mib = settings.storage_bytes >> 20,
            "JetStream offers less storage than the default, so large jobs wait for space sooner. To use more, raise \
             max_file_store and set FORGE_STORAGE_MIB"
        );
    }
    Ok(settings)
}

/// Reserves the storage of all streams and buckets for the stream of results, which gives it back
/// when it is provisioned.
///
/// Returns [`BusError::Full`] if the server or the account lacks the storage.
async fn reserve_storage(connection: &NatsConnection, settings: &TopologySettings) -> Result<(), BusError> {
    check_account_limits(connection, settings, Stream::ALL.len()).await?;
    let max_bytes = i64::try_from(settings.storage_bytes).unwrap_or(i64::MAX);
    let config = stream::Config { max_bytes, ..stream_config(Stream::Results, settings) };
    let request = format!("STREAM.CREATE.{}", config.name);
    let create = || connection.request_api::<stream::Info>(&request, &config);
    retry_transient(&config.name, create).await.map(drop)
}

/// The bytes of the stream of results; `None` if it does not exist.
async fn bytes_of_results(connection: &NatsConnection) -> Result<Option<u64>, BusError> {
    let request = format!("STREAM.INFO.{}", Stream::Results.name());
    let request_info = || connection.request_api::<stream::Info>(&request, &EmptyRequest {});
    match retry_transient(Stream::Results.name(), request_info).await {
        Ok(info) => Ok(Some(u64::try_from(info.config.max_bytes).unwrap_or(0))),
        Err(BusError::Missing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a stream of results of this size has the storage of all streams, and was not provisioned
/// yet: no share is a power of two.
fn is_reservation(max_bytes: u64) -> bool {
    max_bytes.is_power_of_two()
}

/// The storage of which the stream of results has this share, or all, if it is reserved.
fn storage_of_results(max_bytes: u64) -> u64 {
    let whole = TopologySettings { storage_bytes: STORAGE_UNIT, ..TopologySettings::default() };
    let share = Stream::Results.limits(&whole).max_bytes;
    if is_reservation(max_bytes) { max_bytes } else { max_bytes / share * STORAGE_UNIT }
}

/// Checks that the account may use as much storage, and as many streams and consumers, as the
/// topology needs. Without a limit of storage of its own it is bound by the server's
/// `max_file_store`, which shows when a stream is created.
async fn check_account_limits(
    connection: &NatsConnection,
    settings: &TopologySettings,
    streams: usize,
) -> Result<(), BusError> {
    let account: Account =
        retry_transient("JetStream", || connection.request_api("INFO", &EmptyRequest {})).await?;
    let limit =
        |limit: Option<i64>| limit.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0);
    let (storage, limits) = (limit(account.limits.max_storage), &account.limits);
    if let Some(storage) = storage.filter(|storage| *storage < settings.storage_bytes) {
        return Err(BusError::Full(format!("this NATS account is limited to {} MiB", storage >> 20)));
    }
    for (name, needed, limit) in [
        ("max_streams", streams as u64, limit(limits.max_streams)),
        ("max_consumers", MIN_CONSUMERS, limit(limits.max_consumers)),
    ] {
        if let Some(limit) = limit.filter(|limit| *limit < needed) {
            return Err(BusError::Unusable(format!(
                "the limit {name} of this NATS account is {limit}, and must be at least {needed}"
            )));
        }
    }
    Ok(())
}

/// Explains why a stream could not get its storage.
fn describe_full(settings: &TopologySettings, error: BusError) -> BusError {
    match error {
        BusError::Full(reason) => insufficient_storage(settings, &reason),
        error => error,
    }
}

fn insufficient_storage(settings: &TopologySettings, reason: &str) -> BusError {
    BusError::Unusable(format!(
        "JetStream lacks the storage of {} MiB that is configured (--storage-mib, FORGE_STORAGE_MIB): \
         {reason}; lower the setting of all services, or raise the server's max_file_store",
        settings.storage_bytes >> 20
    ))
}

fn stream_config(stream: Stream, settings: &TopologySettings) -> stream::Config {
    stream::Config {
        name: stream.name().to_owned(),
        subjects: stream.subjects().iter().map(|&subject| subject.to_owned()).collect(),
        retention: if stream.is_work_queue() { RetentionPolicy::WorkQueue } else { RetentionPolicy::Limits },
        ..limited_config(settings, stream.limits(settings))
    }
}

fn bucket_config(bucket: &Bucket, settings: &TopologySettings, limits: StreamLimits) -> stream::Config {
    stream::Config {
        name: stream_name(bucket),
        subjects: vec![format!("$KV.{}.>", bucket.name())],
        retention: RetentionPolicy::Limits,
        // A new value replaces the old one.
        discard_new_per_subject: false,
        // A client may request a rollup of the whole bucket on any key that it may write. With
        // rollups, a worker could erase its quarantine.
        allow_rollup: false,
        deny_delete: true,
        allow_message_ttl: bucket.has_expiring_values(),
        ..limited_config(settings, limits)
    }
}

/// The configuration that all streams and buckets share, with their limits. What exceeds them is
/// refused, so that its publisher gets an error and nothing stored is lost.
fn limited_config(settings: &TopologySettings, limits: StreamLimits) -> stream::Config {
    stream::Config {
        max_messages: limits.max_messages.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX)),
        max_bytes: i64::try_from(limits.max_bytes).unwrap_or(i64::MAX),
        max_messages_per_subject: limits
            .max_messages_per_subject
            .map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX)),
        max_message_size: i32::try_from(limits.max_message_bytes).unwrap_or(i32::MAX),
        max_age: limits.max_age.unwrap_or_default(),
        discard: DiscardPolicy::New,
        discard_new_per_subject: limits.max_messages_per_subject.is_some(),
        max_consumers: -1,
        storage: StorageType::File,
        num_replicas: settings.replicas,
        // The server requires a window that is no longer than the age.
        duplicate_window: limits.max_age.map_or(DUPLICATE_WINDOW, |age| age.min(DUPLICATE_WINDOW)),
        allow_direct: true,
        ..stream::Config::default()
    }
}

fn consumer_config(queue: Queue, settings: &TopologySettings) -> consumer::Config {
    consumer::Config {
        name: Some(queue.consumer().to_owned()),
        durable_name: Some(queue.consumer().to_owned()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        replay_policy: ReplayPolicy::Instant,
        ack_wait: settings.lease,
        max_deliver: queue.max_deliveries().map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX)),
        filter_subject: queue.filter().unwrap_or_default(),
        max_ack_pending: MAX_ACK_PENDING,
        max_waiting: MAX_WAITING_PULLS,
        ..consumer::Config::default()
    }
}

/// Differences between the configuration on the server and the desired one.
#[derive(Default)]
struct ConfigDiff {
    is_changed: bool,
    /// Describes the first difference in a field that the server does not allow to change.
    immutable: Option<String>,
}

impl ConfigDiff {
    /// Sets `current` to `desired`, and notes the difference if there is one.
    fn apply<T: PartialEq + Debug>(&mut self, field: &str, current: &mut T, desired: T) {
        self.is_changed |= *current != desired;
        if *current != desired {
            tracing::debug!(field, ?current, ?desired, "a configuration on the server differs");
        }
        *current = desired;
    }

    /// Notes a difference in a field that cannot be changed.
    fn check_immutable<T: PartialEq + Debug>(&mut self, field: &str, current: &T, desired: &T) {
        if current != desired && self.immutable.is_none() {
            self.immutable = Some(format!("its {field} is {current:?} and should be {desired:?}"));
        }
    }

    /// Whether an update is necessary; an error if an update cannot help.
    fn needs_update(self, object: &str) -> Result<bool, AttemptFailure> {
        match self.immutable {
            Some(difference) => Err(AttemptFailure::Permanent(BusError::Unusable(format!(
                "{object} cannot be used: {difference}, which cannot be changed: delete it, with its content"
            )))),
            None => Ok(self.is_changed),
        }
    }
}

async fn ensure_stream(connection: &NatsConnection, desired: &stream::Config) -> Result<(), AttemptFailure> {
    let name = &desired.name;
    let info = connection.request_api(&format!("STREAM.INFO.{name}"), &EmptyRequest {}).await;
    let mut config = match info {
        Ok(stream::Info { config, .. }) => config,
        Err(AttemptFailure::Permanent(BusError::Missing(_))) => {
            let _: stream::Info = connection.request_api(&format!("STREAM.CREATE.{name}"), desired).await?;
            return Ok(());
        }
        Err(failure) => return Err(failure),
    };
    let mut diff = ConfigDiff::default();
    diff.check_immutable("retention", &config.retention, &desired.retention);
    diff.check_immutable("storage", &config.storage, &desired.storage);
    diff.apply("subjects", &mut config.subjects, desired.subjects.clone());
    diff.apply("replicas", &mut config.num_replicas, desired.num_replicas);
    diff.apply("max_age", &mut config.max_age, desired.max_age);
    diff.apply("discard", &mut config.discard, desired.discard);
    let (current, wanted) = (&mut config.discard_new_per_subject, desired.discard_new_per_subject);
    diff.apply("discard_new_per_subject", current, wanted);
    diff.apply("max_msgs", &mut config.max_messages, desired.max_messages);
    diff.apply("max_bytes", &mut config.max_bytes, desired.max_bytes);
    diff.apply("max_msg_size", &mut config.max_message_size, desired.max_message_size);
    diff.apply("duplicate_window", &mut config.duplicate_window, desired.duplicate_window);
    diff.apply("allow_direct", &mut config.allow_direct, desired.allow_direct);
    diff.apply("allow_rollup", &mut config.allow_rollup, desired.allow_rollup);
    diff.apply("allow_msg_ttl", &mut config.allow_message_ttl, desired.allow_message_ttl);
    let (current, wanted) = (&mut config.max_messages_per_subject, desired.max_messages_per_subject);
    diff.apply("max_msgs_per_subject", current, wanted);
    if diff.needs_update(&format!("the stream {name}"))? {
        tracing::info!(stream = name, "updating the stream's configuration");
        let _: stream::Info = connection.request_api(&format!("STREAM.UPDATE.{name}"), &config).await?;
    }
    Ok(())
}

/// Creates or updates a consumer. If the server or the account allows fewer unacknowledged
/// messages, the consumer has as many as that.
async fn ensure_consumer(
    connection: &NatsConnection,
    stream: &str,
    desired: &consumer::Config,
) -> Result<(), AttemptFailure> {
    let Some(limit) = try_ensure_consumer(connection, stream, desired).await? else { return Ok(()) };
    let allowed = consumer::Config { max_ack_pending: limit, ..desired.clone() };
    match try_ensure_consumer(connection, stream, &allowed).await? {
        None => Ok(()),
        Some(limit) => Err(AttemptFailure::Transient(format!("the limit max_ack_pending is now {limit}"))),
    }
}

/// Creates or updates a consumer. Returns the limit if that allows fewer unacknowledged messages.
async fn try_ensure_consumer(
    connection: &NatsConnection,
    stream: &str,
    desired: &consumer::Config,
) -> Result<Option<i64>, AttemptFailure> {
    let name = desired.durable_name.as_deref().unwrap_or_default();
    let info = connection.request_api(&format!("CONSUMER.INFO.{stream}.{name}"), &EmptyRequest {}).await;
    let (config, action) = match info {
        Ok(consumer::Info { mut config, .. }) => {
            let mut diff = ConfigDiff::default();
            diff.check_immutable("ack policy", &config.ack_policy, &desired.ack_policy);
            diff.check_immutable("deliver policy", &config.deliver_policy, &desired.deliver_policy);
            diff.check_immutable("max_waiting", &config.max_waiting, &desired.max_waiting);
            diff.apply("filter", &mut config.filter_subject, desired.filter_subject.clone());
            diff.apply("ack_wait", &mut config.ack_wait, desired.ack_wait);
            diff.apply("max_deliver", &mut config.max_deliver, desired.max_deliver);
            diff.apply("max_ack_pending", &mut config.max_ack_pending, desired.max_ack_pending);
            if !diff.needs_update(&format!("the consumer {name} of stream {stream}"))? {
                return Ok(None);
            }
            tracing::info!(stream, consumer = name, "updating the consumer's configuration");
            (config, "update")
        }
        Err(AttemptFailure::Permanent(BusError::Missing(_))) => (desired.clone(), "create"),
        Err(failure) => return Err(failure),
    };
    let mut subject = format!("CONSUMER.CREATE.{stream}.{name}");
    if !desired.filter_subject.is_empty() {
        subject = format!("{subject}.{}", desired.filter_subject);
    }
    let body = json!({ "stream_name": stream, "config": config, "action": action });
    match connection.call_api::<consumer::Info>(&subject, &body).await? {
        Response::Ok(_) => Ok(None),
        Response::Err { error } => match max_ack_pending(&error) {
            Some(limit) if limit < desired.max_ack_pending => Ok(Some(limit)),
            _ => Err(AttemptFailure::from_api(&subject, &error)),
        },
    }
}

/// The limit in an error: `consumer max ack pending exceeds system limit of 100`.
fn max_ack_pending(error: &jetstream::Error) -> Option<i64> {
    if error.error_code() != ErrorCode::CONSUMER_MAX_PENDING_ACK_EXCESS {
        return None;
    }
    let text = error.to_string();
    let limit = text.split(" limit of ").nth(1)?;
    limit.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok().filter(|limit| *limit > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_storage_follows_from_the_stream_of_results() {
        for storage_mib in [8, 16, 256, 300, 512, 4096, 40 << 10] {
            let settings =
                TopologySettings { storage_bytes: storage_mib << 20, ..TopologySettings::default() };
            let provisioned = Stream::Results.limits(&settings).max_bytes;
            assert_eq!(storage_of_results(provisioned), settings.storage_bytes, "{storage_mib} MiB");
        }
        assert_eq!(storage_of_results(8 << 20), 8 << 20);
    }
}
