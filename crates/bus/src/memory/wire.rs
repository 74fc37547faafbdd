//! What is not stored in the twin: broadcasts, requests and answers.

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
    topology::{self, SERVICE_ENDPOINTS},
};

/// What is answered to a request.
pub(super) type Answer = Result<Message, BusError>;

/// Those who listen and those who serve.
#[derive(Debug, Default)]
pub(super) struct Wire {
    listeners: Vec<(String, UnboundedSender<Message>)>,
    servers: Vec<UnboundedSender<ServiceCall>>,
    turn: usize,
}

impl Wire {
    /// Sends to those who listen now.
    pub(super) fn broadcast(&mut self, message: &Message) {
        self.listeners.retain(|(filter, sender)| {
            !sender.is_closed()
                && (!topology::subject_matches(filter, &message.subject)
                    || sender.send(message.clone()).is_ok())
        });
    }

    pub(super) fn listen(&mut self, subject: &str) -> UnboundedReceiver<Message> {
        let (sender, receiver) = unbounded_channel();
        self.listeners.push((subject.to_owned(), sender));
        receiver
    }

    pub(super) fn serve(&mut self) -> UnboundedReceiver<ServiceCall> {
        let (sender, receiver) = unbounded_channel();
        self.servers.push(sender);
        receiver
    }

    /// Hands a request to the server whose turn it is; `None` if there is none.
    pub(super) fn request(&mut self, message: Message) -> Option<oneshot::Receiver<Answer>> {
        self.servers.retain(|server| !server.is_closed());
        let served =
            SERVICE_ENDPOINTS.iter().any(|(_, filter)| topology::subject_matches(filter, &message.subject));
        if self.servers.is_empty() || !served {
            return None;
        }
        self.turn += 1;
        let (sender, receiver) = oneshot::channel();
        let call = ServiceCall { message, responder: Box::new(Responder(sender)) };
        self.servers[self.turn % self.servers.len()].send(call).ok()?;
        Some(receiver)
    }
}

/// What comes out of a channel, as a stream.
pub(super) fn stream<T: Send + 'static>(receiver: UnboundedReceiver<T>) -> BoxStream<'static, T> {
    unfold(receiver, |mut receiver| async { receiver.recv().await.map(|item| (item, receiver)) }).boxed()
}

#[derive(Debug)]
struct Responder(oneshot::Sender<Answer>);

#[async_trait]
impl CallResponder for Responder {
    async fn reply(self: Box<Self>, payload: Bytes) {
        // Whoever asked may have left.
        self.0.send(Ok(Message::new(String::new(), payload))).ok();
    }

    async fn reply_error(self: Box<Self>, status: u16, reason: String) {
        self.0.send(Err(BusError::Refused { status, reason })).ok();
    }
}
