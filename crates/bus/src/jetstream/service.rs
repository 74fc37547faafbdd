//! What is not stored: broadcasts, requests, and the micro service that answers them.

use std::{sync::Arc, time::Duration};

use async_nats::{
    RequestErrorKind,
    client::Request,
    service::{self, NATS_SERVICE_ERROR, NATS_SERVICE_ERROR_CODE, Service, ServiceExt},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, select_all, unfold};

use super::{
    convert::{check_size, received, to_headers, to_message},
    link::{Failure, Link},
};
use crate::{
    bus::{CallResponder, ServiceCall},
    error::BusError,
    message::Message,
    topology::{SERVICE_ENDPOINTS, SERVICE_NAME},
};

/// A subject on which nobody listens: being told so takes one round trip.
const NOBODY: &str = "forge.v1.nobody";

/// Sends a message to whoever listens.
pub(super) async fn broadcast(link: &Link, message: Message) -> Result<(), BusError> {
    let headers = to_headers(&message.headers)?;
    check_size(&headers, &message.payload, link.client.server_info().max_payload)?;
    let sent = link.client.publish_with_headers(message.subject, headers, message.payload).await;
    sent.map_err(|error| BusError::Unavailable(format!("not sent: {error}")))
}

/// Waits until the server has seen what was subscribed to before.
async fn settled(link: &Link, manage_topology: bool) {
    // Passing trouble is no matter: subscriptions are made again with each connection.
    link.client.flush().await.ok();
    if manage_topology {
        let request = Request::new().timeout(Some(Duration::from_secs(1)));
        link.client.send_request(NOBODY, request).await.ok();
    }
}

/// The messages sent to a subject from now on.
pub(super) async fn subscribe(
    link: &Arc<Link>,
    subject: &str,
    manage_topology: bool,
) -> Result<BoxStream<'static, Message>, BusError> {
    let subscriber = link.client.subscribe(subject.to_owned()).await;
    let subscriber = subscriber.map_err(|error| BusError::Unavailable(format!("{subject}: {error}")))?;
    settled(link, manage_topology).await;
    Ok(subscriber.map(received).boxed())
}

/// Sends a request and waits for its answer.
pub(super) async fn request(link: &Link, message: Message, limit: Duration) -> Result<Message, BusError> {
    let headers = to_headers(&message.headers)?;
    check_size(&headers, &message.payload, link.client.server_info().max_payload)?;
    let subject = message.subject;
    let mut request = Request::new().payload(message.payload).timeout(Some(limit));
    if !headers.is_empty() {
        request = request.headers(headers);
    }
    let ask = async {
        link.client.send_request(subject.clone(), request).await.map_err(|error| {
            Failure::Lasting(match error.kind() {
                RequestErrorKind::NoResponders => BusError::NoResponse(format!("nobody serves {subject}")),
                RequestErrorKind::TimedOut => {
                    BusError::NoResponse(format!("{subject}: none within {} s", limit.as_secs_f64()))
                }
                _ => BusError::Unavailable(format!("{subject}: {error}")),
            })
        })
    };
    let answer = match link.guard(&subject, ask).await {
        Ok(answer) => answer,
        Err(Failure::Lasting(error)) => return Err(error),
        Err(Failure::Passing(reason)) => return Err(BusError::Unavailable(reason)),
    };
    let header = |name: &str| answer.headers.as_ref()?.get(name).map(|value| value.as_str().to_owned());
    if let Some(reason) = header(NATS_SERVICE_ERROR) {
        let status = header(NATS_SERVICE_ERROR_CODE).and_then(|code| code.parse().ok()).unwrap_or(500);
        return Err(BusError::Refused { status, reason });
    }
    let mut message = received(answer);
    message.subject = String::new();
    Ok(message)
}

/// Serves the endpoints.
pub(super) async fn serve(
    link: &Arc<Link>,
    manage_topology: bool,
) -> Result<BoxStream<'static, ServiceCall>, BusError> {
    let trouble =
        |error: async_nats::Error| BusError::Unavailable(format!("serving {SERVICE_NAME}: {error}"));
    let service = link
        .client
        .service_builder()
        .description("Submits, reports and cancels jobs of Forge Kernel")
        .start(SERVICE_NAME, env!("CARGO_PKG_VERSION"))
        .await
        .map_err(trouble)?;
    let mut endpoints = Vec::new();
    for (name, subject) in SERVICE_ENDPOINTS {
        endpoints.push(service.endpoint_builder().name(name).add(subject).await.map_err(trouble)?);
    }
    settled(link, manage_topology).await;
    let requests = (select_all(endpoints), Running(Some(service)));
    let calls = unfold(requests, |(mut endpoints, service)| async {
        let request = endpoints.next().await?;
        let sent = &request.message;
        let message = to_message(&sent.subject, sent.headers.as_ref(), sent.payload.clone());
        Some((ServiceCall { message, responder: Box::new(Responder(request)) }, (endpoints, service)))
    });
    Ok(calls.boxed())
}

/// A service that lives as long as the stream of its calls.
struct Running(Option<Service>);

impl Drop for Running {
    fn drop(&mut self) {
        if let (Some(service), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(service.stop());
        }
    }
}

#[derive(Debug)]
struct Responder(service::Request);

impl Responder {
    async fn send(self, answer: Result<Bytes, service::error::Error>) {
        if let Err(error) = self.0.respond(answer).await {
            tracing::debug!(%error, "an answer is lost");
        }
    }
}

#[async_trait]
impl CallResponder for Responder {
    async fn reply(self: Box<Self>, payload: Bytes) {
        self.send(Ok(payload)).await;
    }

    async fn reply_error(self: Box<Self>, status: u16, reason: String) {
        let status_text = reason.replace(['\r', '\n'], " ");
        self.send(Err(service::error::Error { status: status_text, code: usize::from(status) })).await;
    }
}
