//! Pull requests to one consumer: an inbox that stays open, and messages asked for as they can be used. Nothing that has
//! arrived is lost when a future is dropped: it stays in the inbox.

use std::{sync::Arc, time::Duration};

use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::{sync::watch, time::timeout};

use super::link::{Failure, Link};
use crate::error::BusError;

/// How long a request stays open. Also after its asker is gone, where a cluster of servers cannot see that.
const EXPIRES: Duration = Duration::from_secs(10);
/// How often the server says that it still has an open request.
const HEARTBEAT: Duration = Duration::from_secs(4);
/// Silence after which a request is given up.
const SILENCE: Duration = Duration::from_secs(9);
/// Bytes to be sent in answer to one request, at most; a larger message is an exception.
const BYTES: usize = 16 << 20;

/// How a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// At once with what is there, be it nothing.
    Now,
    /// With what is there, as soon as there is something.
    Some,
    /// When all that was asked for is there, or after a while.
    Full,
}

/// What came.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A message of the stream.
    Message(Box<Message>),
    /// Nothing more comes without another request: what was there has come.
    Ended,
    /// The same, after a connection was lost: there may be more.
    Lost,
    /// The consumer cannot be reached: it may be gone.
    Gone(String),
    /// It is not permitted.
    Refused(BusError),
}

/// The pull requests of one receiver.
pub(super) struct Requests {
    link: Arc<Link>,
    next_subject: String,
    inbox: String,
    subscriber: Subscriber,
    connections: watch::Receiver<u64>,
    /// Number of the last request, and of the last that was given up.
    last: u64,
    given_up: u64,
    /// Messages asked for and still to come.
    open: usize,
}

impl Requests {
    pub(super) async fn open(link: &Arc<Link>, stream: &str, consumer: &str) -> Result<Self, Failure> {
        let inbox = link.client.new_inbox();
        let subscriber = link
            .client
            .subscribe(format!("{inbox}.*"))
            .await
            .map_err(|error| Failure::Passing(format!("subscribing: {error}")))?;
        Ok(Self {
            link: link.clone(),
            next_subject: format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"),
            inbox,
            subscriber,
            connections: link.connections(),
            last: 0,
            given_up: 0,
            open: 0,
        })
    }

    /// Messages asked for and still to come.
    pub(super) fn open_count(&self) -> usize {
        self.open
    }

    /// Asks for messages.
    pub(super) async fn ask(&mut self, batch: usize, until: Until) -> Result<(), Failure> {
        let (no_wait, expires) = match until {
            Until::Now => (true, Duration::ZERO),
            Until::Some => (true, EXPIRES),
            Until::Full => (false, EXPIRES),
        };
        let heartbeat = if expires.is_zero() { Duration::ZERO } else { HEARTBEAT };
        let bytes = BYTES.max(2 * self.link.client.server_info().max_payload);
        let body = format!(
            r#"{{"batch":{batch},"max_bytes":{bytes},"no_wait":{no_wait},"expires":{},"idle_heartbeat":{}}}"#,
            expires.as_nanos(),
            heartbeat.as_nanos(),
        );
        if self.open == 0 {
            self.connections.mark_unchanged();
        }
        let reply = format!("{}.{}", self.inbox, self.last + 1);
        self.link
            .client
            .publish_with_reply(self.next_subject.clone(), reply, Bytes::from(body))
            .await
            .map_err(|error| Failure::Passing(error.to_string()))?;
        self.last += 1;
        self.open += batch;
        Ok(())
    }

    /// What has come already.
    pub(super) fn ready(&mut self) -> Option<Incoming> {
        while let Some(message) = self.subscriber.next().now_or_never() {
            if let Some(incoming) = self.sort(message) {
                return Some(incoming);
            }
        }
        None
    }

    /// Waits for what comes next; needs an open request.
    pub(super) async fn next(&mut self) -> Incoming {
        loop {
            let message = tokio::select! {
                biased;
                message = timeout(SILENCE, self.subscriber.next()) => message,
                _ = self.connections.changed() => {
                    self.give_up();
                    return Incoming::Lost;
                }
                error = self.link.forbidden(&self.next_subject) => {
                    self.give_up();
                    return Incoming::Refused(error);
                }
            };
            let Ok(message) = message else {
                self.give_up();
                return if self.link.is_connected() {
                    Incoming::Lost
                } else {
                    Incoming::Gone("the NATS server cannot be reached".to_owned())
                };
            };
            if let Some(incoming) = self.sort(message) {
                return incoming;
            }
        }
    }

    /// Counts on nothing any longer.
    pub(super) fn give_up(&mut self) {
        self.given_up = self.last;
        self.open = 0;
    }

    /// Tells messages from what the server says about requests.
    fn sort(&mut self, message: Option<Message>) -> Option<Incoming> {
        let Some(message) = message else {
            self.give_up();
            return Some(Incoming::Gone("the connection is closed".to_owned()));
        };
        let Some(status) = message.status else {
            self.open = self.open.saturating_sub(1);
            return Some(Incoming::Message(Box::new(message)));
        };
        let number = message.subject.rsplit('.').next().and_then(|number| number.parse::<u64>().ok());
        if status.as_u16() == 100 || number.is_none_or(|number| number <= self.given_up) {
            return None;
        }
        let text = message.description.as_deref().unwrap_or_default();
        let pending = message.headers.as_ref().and_then(|headers| headers.get("Nats-Pending-Messages"));
        let pending = pending.and_then(|pending| pending.as_str().parse::<usize>().ok());
        match status.as_u16() {
            // All messages of a request have come, which was seen already.
            409 if text.contains("Batch Completed") && pending.unwrap_or(0) == 0 => None,
            404 | 408 | 409 if !text.contains("Consumer Deleted") && !text.contains("Exceeded") => {
                self.open = self.open.saturating_sub(pending.unwrap_or(self.open));
                Some(Incoming::Ended)
            }
            status => {
                self.give_up();
                Some(Incoming::Gone(format!("the server answers {status} {text}")))
            }
        }
    }
}
