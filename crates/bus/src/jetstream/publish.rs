//! Storing messages: every one under an id, so that it can be sent again when it is not known whether it arrived.

use std::{collections::VecDeque, future::IntoFuture};

use async_nats::{
    HeaderMap,
    header::NATS_MESSAGE_ID,
    jetstream::{
        Error,
        context::{PublishAckFuture, PublishError, PublishErrorKind},
        message::PublishMessage,
        publish::PublishAck,
        stream::Info,
    },
};
use bytes::Bytes;

use super::{
    convert::{check_size, to_headers},
    link::{Failure, Link, Nothing, Trouble},
};
use crate::{error::BusError, message::Message, topology};

/// Messages of one publisher that are on their way at once.
const IN_FLIGHT: usize = 512;

/// A message that is ready to be sent, as often as it takes.
pub(super) struct Parcel {
    pub(super) stream: String,
    pub(super) subject: String,
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
}

impl Parcel {
    /// A message for the stream of its subject.
    pub(super) fn new(link: &Link, message: Message, id: &str) -> Result<Self, BusError> {
        let stream = topology::Stream::for_subject(&message.subject)
            .ok_or_else(|| BusError::Unusable(format!("no stream stores {}", message.subject)))?;
        let mut headers = to_headers(&message.headers)?;
        headers.insert(NATS_MESSAGE_ID, id);
        let parcel = Self {
            stream: stream.name().to_owned(),
            subject: message.subject,
            headers,
            payload: message.payload,
        };
        parcel.check(link)?;
        Ok(parcel)
    }

    /// Checks its size.
    pub(super) fn check(&self, link: &Link) -> Result<(), BusError> {
        check_size(&self.headers, &self.payload, link.client.server_info().max_payload)
    }

    async fn send(&self, link: &Link) -> Result<PublishAckFuture, Failure> {
        let message = PublishMessage::build().headers(self.headers.clone()).payload(self.payload.clone());
        match link.context.send_publish(self.subject.clone(), message).await {
            Ok(ack) => Ok(ack),
            Err(error) => Err(self.failure(link, &error).await),
        }
    }

    async fn acknowledged(&self, link: &Link, ack: PublishAckFuture) -> Result<PublishAck, Failure> {
        let mut connections = link.connections();
        let acknowledged = async {
            tokio::select! {
                biased;
                ack = ack.into_future() => match ack {
                    Ok(ack) => Ok(ack),
                    Err(error) => Err(self.failure(link, &error).await),
                },
                _ = connections.changed() => Err(Failure::Passing("the connection was lost".to_owned())),
            }
        };
        link.guard(&self.subject, acknowledged).await
    }

    async fn failure(&self, link: &Link, error: &PublishError) -> Failure {
        match error.kind() {
            PublishErrorKind::WrongLastSequence | PublishErrorKind::WrongLastMessageId => {
                Failure::Lasting(BusError::Refused { status: 409, reason: error.to_string() })
            }
            // Nobody listens on the subject: the stream is missing, or the server has not found it yet.
            PublishErrorKind::StreamNotFound => {
                let info: Result<Info, Failure> =
                    link.api(&format!("STREAM.INFO.{}", self.stream), &Nothing {}).await;
                match info {
                    Err(Failure::Lasting(BusError::Missing(what))) => {
                        Failure::Lasting(BusError::Missing(what))
                    }
                    _ => Failure::Passing(error.to_string()),
                }
            }
            PublishErrorKind::Other => {
                let source =
                    std::error::Error::source(error).and_then(|source| source.downcast_ref::<Error>());
                match source {
                    Some(source) => Failure::from_api(&self.subject, source),
                    None => Failure::Passing(error.to_string()),
                }
            }
            _ => Failure::Passing(error.to_string()),
        }
    }

    /// Stores it; sent again under the same id while that is in doubt.
    pub(super) async fn store(&self, link: &Link) -> Result<PublishAck, BusError> {
        link.persist(&self.subject, || async {
            let ack = self.send(link).await?;
            self.acknowledged(link, ack).await
        })
        .await
    }
}

/// Stores all, in order. When one fails, it and all after it are sent again.
pub(super) async fn store_all(link: &Link, parcels: &[Parcel]) -> Result<(), BusError> {
    let mut trouble = Trouble::default();
    let mut done = 0;
    while done < parcels.len() {
        match burst(link, &parcels[done..]).await {
            (stored, Ok(())) => done += stored,
            (_, Err(Failure::Lasting(error))) => return Err(error),
            (stored, Err(Failure::Passing(reason))) => {
                if stored > 0 {
                    trouble.over();
                }
                done += stored;
                trouble.bear(&parcels[done].subject, reason).await?;
            }
        }
    }
    Ok(())
}

/// Sends until something fails; answers how many are stored.
async fn burst(link: &Link, parcels: &[Parcel]) -> (usize, Result<(), Failure>) {
    let mut acks: VecDeque<PublishAckFuture> = VecDeque::new();
    let mut stored = 0;
    loop {
        while acks.len() < IN_FLIGHT
            && let Some(parcel) = parcels.get(stored + acks.len())
        {
            match parcel.send(link).await {
                Ok(ack) => acks.push_back(ack),
                Err(failure) => return (stored, Err(failure)),
            }
        }
        let Some(ack) = acks.pop_front() else { return (stored, Ok(())) };
        if let Err(failure) = parcels[stored].acknowledged(link, ack).await {
            return (stored, Err(failure));
        }
        stored += 1;
    }
}
