//! Broadcasts, subscriptions, requests and replies of the in-process bus. Stores nothing.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, unfold};
use tokio::sync::{
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    oneshot,
};

use crate::{
    bus::{CallResponder, ServiceCall},
    error::BusError,
    message::Message,
    topology::{SERVICE_ENDPOINTS, subject_matches},
};

/// The reply to a request.
pub(super) type CallReply = Result<Message, BusError>;

/// Current subscribers, and current instances of the microservice.
#[derive(Debug, Default)]
pub(super) struct CoreMessaging {
    /// Filters and channels of subscribers.
    subscribers: Vec<(String, UnboundedSender<Message>)>,
    instances: Vec<UnboundedSender<ServiceCall>>,
    /// Number of requests so far, to distribute them among the instances in turn.
    request_count: usize,
}

impl CoreMessaging {
    /// Sends a message to all current subscribers.
    pub(super) fn broadcast(&mut self, message: &Message) {
        self.subscribers.retain(|(filter, sender)| {
            !sender.is_closed()
                && (!subject_matches(filter, &message.subject) || sender.send(message.clone()).is_ok())
        });
    }

    pub(super) fn subscribe(&mut self, filter: &str) -> UnboundedReceiver<Message> {
        let (sender, receiver) = unbounded_channel();
        self.subscribers.push((filter.to_owned(), sender));
        receiver
    }

    pub(super) fn serve(&mut self) -> UnboundedReceiver<ServiceCall> {
        let (sender, receiver) = unbounded_channel();
        self.instances.push(sender);
        receiver
    }

    /// Hands a request to the next instance; `None` if none serves its subject.
    pub(super) fn request(&mut self, message: Message) -> Option<oneshot::Receiver<CallReply>> {
        self.instances.retain(|instance| !instance.is_closed());
        let is_endpoint =
            SERVICE_ENDPOINTS.iter().any(|(_, filter)| subject_matches(filter, &message.subject));
        if self.instances.is_empty() || !is_endpoint {
            return None;
        }
        self.request_count += 1;
        let (sender, receiver) = oneshot::channel();
        let call = ServiceCall { message, responder: Box::new(MemoryResponder(sender)) };
        self.instances[self.request_count % self.instances.len()].send(call).ok()?;
        Some(receiver)
    }
}

/// Turns a channel into a stream.
pub(super) fn into_stream<T: Send + 'static>(receiver: UnboundedReceiver<T>) -> BoxStream<'static, T> {
    unfold(receiver, |mut receiver| async { receiver.recv().await.map(|item| (item, receiver)) }).boxed()
}

#[derive(Debug)]
struct MemoryResponder(oneshot::Sender<CallReply>);

#[async_trait]
impl CallResponder for MemoryResponder {
    async fn reply(self: Box<Self>, payload: Bytes) {
        // Sending fails if the caller has timed out.
        self.0.send(Ok(Message::new(String::new(), payload))).ok();
    }

    async fn reply_error(self: Box<Self>, status: u16, reason: String) {
        self.0.send(Err(BusError::Refused { status, reason })).ok();
    }
}
