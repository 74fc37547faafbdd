//! Brings the server's objects into line with the topology.

use std::{fmt::Debug, time::Duration};

use async_nats::jetstream::{
    consumer::{self, AckPolicy, DeliverPolicy, ReplayPolicy},
    stream::{self, DiscardPolicy, RetentionPolicy, StorageType},
};
use serde_json::json;

use super::{
    buckets::stream_name,
    link::{Failure, Link, Nothing},
    options::JetStreamOptions,
    queue,
};
use crate::{
    error::BusError,
    topology::{
        self, Bucket, DUPLICATE_WINDOW, MAX_ACK_PENDING, MAX_MESSAGE_AGE, Queue, Stream, TopologySettings,
    },
};

/// Pull requests that may wait at one queue: one for each agent there may be.
const MAX_WAITING: i64 = 10_000;

/// Creates or updates everything; without `manage_topology`, only checks that `required_queues` exist.
pub(super) async fn prepare(link: &Link, options: &JetStreamOptions) -> Result<(), BusError> {
    if !options.manage_topology {
        for queue in &options.required_queues {
            link.persist(queue.consumer(), || queue::info(link, *queue)).await?;
        }
        return Ok(());
    }
    let settings = &options.topology;
    for stream in Stream::ALL {
        let config = stream_config(stream, settings);
        link.persist(stream.name(), || ensure_stream(link, &config)).await?;
    }
    for queue in Queue::ALL {
        let config = consumer_config(queue, settings);
        link.persist(queue.consumer(), || ensure_consumer(link, queue.stream().name(), &config)).await?;
    }
    for bucket in topology::all_buckets(&options.kv_namespaces) {
        let config = bucket_config(&bucket, settings);
        link.persist(bucket.name(), || ensure_stream(link, &config)).await?;
    }
    Ok(())
}

fn stream_config(stream: Stream, settings: &TopologySettings) -> stream::Config {
    stream::Config {
        name: stream.name().to_owned(),
        subjects: stream.subjects().iter().map(|&subject| subject.to_owned()).collect(),
        retention: if stream.is_work_queue() { RetentionPolicy::WorkQueue } else { RetentionPolicy::Limits },
        // A submitted envelope waits as long as it takes; everything else is of a job, and jobs end.
        max_age: if stream == Stream::Jobs { Duration::ZERO } else { MAX_MESSAGE_AGE },
        discard: DiscardPolicy::New,
        ..common(settings)
    }
}

fn bucket_config(bucket: &Bucket, settings: &TopologySettings) -> stream::Config {
    stream::Config {
        name: stream_name(bucket),
        subjects: vec![format!("$KV.{}.>", bucket.name())],
        retention: RetentionPolicy::Limits,
        max_age: bucket.max_age().unwrap_or_default(),
        max_messages_per_subject: 1,
        discard: DiscardPolicy::New,
        // A rollup of everything may be asked for on any key that one may write: workers would undo their quarantine.
        allow_rollup: false,
        deny_delete: true,
        ..common(settings)
    }
}

fn common(settings: &TopologySettings) -> stream::Config {
    stream::Config {
        max_messages: -1,
        max_bytes: -1,
        max_messages_per_subject: -1,
        max_message_size: -1,
        max_consumers: -1,
        storage: StorageType::File,
        num_replicas: settings.replicas,
        duplicate_window: DUPLICATE_WINDOW,
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
        max_waiting: MAX_WAITING,
        ..consumer::Config::default()
    }
}

/// What differs between the object there is and the one there should be.
#[derive(Default)]
struct Differences {
    changed: bool,
    /// A difference that the server does not let anybody remove.
    fixed: Option<String>,
}

impl Differences {
    fn compare<T: PartialEq + Debug>(&mut self, field: &str, is: &mut T, should: T, fixed: bool) {
        if *is == should {
            return;
        }
        if fixed && self.fixed.is_none() {
            self.fixed = Some(format!("its {field} is {is:?} and should be {should:?}"));
        }
        self.changed = true;
        *is = should;
    }

    /// Whether to update; an error if that would be in vain.
    fn settle(self, object: &str) -> Result<bool, Failure> {
        match self.fixed {
            Some(what) => Err(Failure::Lasting(BusError::Unusable(format!(
                "{object} cannot be used: {what}, which cannot be changed: remove it, with its content"
            )))),
            None => Ok(self.changed),
        }
    }
}

async fn ensure_stream(link: &Link, should: &stream::Config) -> Result<(), Failure> {
    let name = &should.name;
    let found: Result<stream::Info, Failure> = link.api(&format!("STREAM.INFO.{name}"), &Nothing {}).await;
    let mut config = match found {
        Ok(info) => info.config,
        Err(Failure::Lasting(BusError::Missing(_))) => {
            let _: stream::Info = link.api(&format!("STREAM.CREATE.{name}"), should).await?;
            return Ok(());
        }
        Err(failure) => return Err(failure),
    };
    let mut differences = Differences::default();
    differences.compare("retention", &mut config.retention, should.retention, true);
    differences.compare("storage", &mut config.storage, should.storage, true);
    differences.compare("subjects", &mut config.subjects, should.subjects.clone(), false);
    differences.compare("replicas", &mut config.num_replicas, should.num_replicas, false);
    differences.compare("max_age", &mut config.max_age, should.max_age, false);
    differences.compare("discard", &mut config.discard, should.discard, false);
    differences.compare("duplicate_window", &mut config.duplicate_window, should.duplicate_window, false);
    differences.compare("allow_direct", &mut config.allow_direct, should.allow_direct, false);
    differences.compare("allow_rollup", &mut config.allow_rollup, should.allow_rollup, false);
    let (is, wants) = (&mut config.max_messages_per_subject, should.max_messages_per_subject);
    differences.compare("max_msgs_per_subject", is, wants, false);
    if differences.settle(&format!("the stream {name}"))? {
        tracing::info!(stream = name, "the stream's configuration is brought into line");
        let _: stream::Info = link.api(&format!("STREAM.UPDATE.{name}"), &config).await?;
    }
    Ok(())
}

async fn ensure_consumer(link: &Link, stream: &str, should: &consumer::Config) -> Result<(), Failure> {
    let name = should.durable_name.as_deref().unwrap_or_default();
    let found: Result<consumer::Info, Failure> =
        link.api(&format!("CONSUMER.INFO.{stream}.{name}"), &Nothing {}).await;
    let (mut config, action) = match found {
        Ok(info) => (info.config, "update"),
        Err(Failure::Lasting(BusError::Missing(_))) => (should.clone(), "create"),
        Err(failure) => return Err(failure),
    };
    if action == "update" {
        let mut differences = Differences::default();
        differences.compare("ack policy", &mut config.ack_policy, should.ack_policy, true);
        differences.compare("deliver policy", &mut config.deliver_policy, should.deliver_policy, true);
        differences.compare("max_waiting", &mut config.max_waiting, should.max_waiting, true);
        differences.compare("filter", &mut config.filter_subject, should.filter_subject.clone(), false);
        differences.compare("ack_wait", &mut config.ack_wait, should.ack_wait, false);
        differences.compare("max_deliver", &mut config.max_deliver, should.max_deliver, false);
        differences.compare("max_ack_pending", &mut config.max_ack_pending, should.max_ack_pending, false);
        if !differences.settle(&format!("the consumer {name} of stream {stream}"))? {
            return Ok(());
        }
        tracing::info!(stream, consumer = name, "the consumer's configuration is brought into line");
    }
    let mut subject = format!("CONSUMER.CREATE.{stream}.{name}");
    if !should.filter_subject.is_empty() {
        subject = format!("{subject}.{}", should.filter_subject);
    }
    let body = json!({ "stream_name": stream, "config": config, "action": action });
    let _: consumer::Info = link.api(&subject, &body).await?;
    Ok(())
}
