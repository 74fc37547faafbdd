//! The messages of a stream in order, without gaps and without end: an ordered consumer that is made anew after the last
//! message seen, whenever something happens to it.

use std::sync::Arc;

use async_nats::{
    Message,
    jetstream::consumer::{AckPolicy, Config, DeliverPolicy, Info, ReplayPolicy},
};
use serde_json::json;
use tokio::time::Duration;

use super::{
    convert::Origin,
    link::{Failure, Link, Trouble},
    requests::{Incoming, Requests, Until},
};
use crate::error::BusError;

/// Messages asked for at once.
const BATCH: usize = 512;
/// How long a consumer is kept by the server that nobody asks for messages.
const ABANDONED: Duration = Duration::from_secs(30);

/// What is read.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) stream: String,
    pub(super) filters: Vec<String>,
    pub(super) headers_only: bool,
}

/// A reader of a stream.
pub(super) struct Tail {
    link: Arc<Link>,
    source: Source,
    /// Number of the last message seen.
    after: u64,
    live: Option<Live>,
    trouble: Trouble,
}

/// A consumer on the server.
struct Live {
    link: Arc<Link>,
    stream: String,
    name: String,
    requests: Requests,
    /// Deliveries so far; a gap in their numbers is a loss.
    deliveries: u64,
}

impl Tail {
    /// Starts at the first message that is stored.
    pub(super) async fn open(link: &Arc<Link>, source: Source) -> Result<Self, BusError> {
        let what = source.stream.clone();
        let live = link.persist(&what, || Live::create(link, &source, 0)).await?;
        Ok(Self { link: link.clone(), source, after: 0, live: Some(live), trouble: Trouble::default() })
    }

    /// The next message.
    pub(super) async fn next(&mut self) -> (Message, Origin) {
        loop {
            let reason = match self.step().await {
                Ok(Some(found)) => {
                    self.trouble.over();
                    return found;
                }
                Ok(None) => continue,
                Err(Failure::Passing(reason)) => reason,
                Err(Failure::Lasting(error)) => error.to_string(),
            };
            self.live = None;
            tracing::debug!(stream = self.source.stream, reason, "reading on with a new consumer");
            if let Err(error) = self.trouble.bear(&self.source.stream, reason).await {
                tracing::warn!(%error, "still trying to read on");
            }
        }
    }

    /// What is there now, and no more.
    pub(super) async fn read_all(mut self) -> Result<Vec<(Message, Origin)>, Failure> {
        let mut found = Vec::new();
        loop {
            let live = self.live()?;
            if live.requests.open_count() == 0 {
                live.requests.ask(BATCH, Until::Now).await?;
            }
            match live.requests.next().await {
                Incoming::Message(message) => found.extend(self.take(*message)?),
                Incoming::Ended => return Ok(found),
                Incoming::Lost => return Err(Failure::Passing("the connection was lost".to_owned())),
                Incoming::Gone(reason) => return Err(Failure::Passing(reason)),
                Incoming::Refused(error) => return Err(Failure::Lasting(error)),
            }
        }
    }

    fn live(&mut self) -> Result<&mut Live, Failure> {
        self.live.as_mut().ok_or_else(|| Failure::Passing("no consumer".to_owned()))
    }

    async fn step(&mut self) -> Result<Option<(Message, Origin)>, Failure> {
        if self.live.is_none() {
            self.live = Some(Live::create(&self.link, &self.source, self.after).await?);
        }
        let live = self.live()?;
        let incoming = match live.requests.ready() {
            Some(incoming) => incoming,
            None => {
                if live.requests.open_count() == 0 {
                    live.requests.ask(BATCH, Until::Full).await?;
                }
                live.requests.next().await
            }
        };
        match incoming {
            Incoming::Message(message) => {
                if live.requests.open_count() == BATCH / 2 {
                    live.requests.ask(BATCH, Until::Full).await?;
                }
                self.take(*message)
            }
            Incoming::Ended | Incoming::Lost => Ok(None),
            Incoming::Gone(reason) => Err(Failure::Passing(reason)),
            Incoming::Refused(error) => Err(Failure::Lasting(error)),
        }
    }

    /// Accepts a message if it is the next one.
    fn take(&mut self, message: Message) -> Result<Option<(Message, Origin)>, Failure> {
        let Some(origin) = message.reply.as_ref().and_then(|reply| Origin::read(reply)) else {
            return Ok(None);
        };
        let live = self.live()?;
        live.deliveries += 1;
        if origin.delivery != live.deliveries {
            return Err(Failure::Passing("messages were lost on their way".to_owned()));
        }
        if origin.sequence <= self.after {
            return Ok(None);
        }
        self.after = origin.sequence;
        Ok(Some((message, origin)))
    }
}

impl Live {
    async fn create(link: &Arc<Link>, source: &Source, after: u64) -> Result<Self, Failure> {
        let stream = &source.stream;
        let name = link.client.new_inbox().rsplit('.').next().unwrap_or("forge").to_owned();
        let requests = Requests::open(link, stream, &name).await?;
        let mut config = Config {
            name: Some(name.clone()),
            deliver_policy: match after {
                0 => DeliverPolicy::All,
                _ => DeliverPolicy::ByStartSequence { start_sequence: after + 1 },
            },
            ack_policy: AckPolicy::None,
            replay_policy: ReplayPolicy::Instant,
            max_deliver: 1,
            headers_only: source.headers_only,
            inactive_threshold: ABANDONED,
            num_replicas: 1,
            memory_storage: true,
            ..Config::default()
        };
        let mut subject = format!("CONSUMER.CREATE.{stream}.{name}");
        // With one filter it is part of the subject: accounts may be limited to it.
        match source.filters.as_slice() {
            [filter] => {
                config.filter_subject = filter.clone();
                subject = format!("{subject}.{filter}");
            }
            filters => config.filter_subjects = filters.to_vec(),
        }
        let body = json!({ "stream_name": stream, "config": config, "action": "create" });
        let _: Info = link.api(&subject, &body).await?;
        Ok(Self { link: link.clone(), stream: stream.clone(), name, requests, deliveries: 0 })
    }
}

impl Drop for Live {
    /// Removes the consumer, if that can be done; the server forgets it after [`ABANDONED`] anyway.
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !self.link.is_connected() {
            return;
        }
        let client = self.link.client.clone();
        let subject = format!("$JS.API.CONSUMER.DELETE.{}.{}", self.stream, self.name);
        runtime.spawn(async move { client.publish(subject, "".into()).await });
    }
}
