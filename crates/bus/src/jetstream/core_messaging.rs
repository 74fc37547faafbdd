//! Messaging over core NATS, which stores nothing: broadcasts, subscriptions, requests, and the
//! microservice that replies to them.

use std::{sync::Arc, time::Duration};

use async_nats::{
    RequestErrorKind,
    client::Request,
    service::{self, NATS_SERVICE_ERROR, NATS_SERVICE_ERROR_CODE, Service, ServiceExt, endpoint::Endpoint},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{BoxStream, SelectAll, StreamExt, select_all, unfold};

use super::{
    attempt::{AttemptFailure, RetryBudget},
    connection::NatsConnection,
    convert::{check_size, decode_message, encode_headers, from_nats},
    inbound_connection::InboundConnection,
};
use crate::{
    bus::{CallResponder, ServiceCall},
    error::BusError,
    message::Message,
    topology::{SERVICE_ENDPOINTS, SERVICE_NAME},
};

/// A subject without subscribers: the server's reply to a request on it takes one round trip.
const NO_RESPONDER_SUBJECT: &str = "forge.v1.nobody";
/// Bound on waiting for that reply.
const ROUND_TRIP_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends a message to all current subscribers.
pub(super) async fn broadcast(connection: &NatsConnection, message: Message) -> Result<(), BusError> {
    let headers = encode_headers(&message.headers)?;
    check_size(&headers, &message.payload, connection.max_payload())?;
    let sent = connection.client.publish_with_headers(message.subject, headers, message.payload).await;
    sent.map_err(|error| BusError::Unavailable(format!("sending a broadcast: {error}")))
}

/// Waits until the server has processed earlier subscriptions of this connection. Needs permission
/// for [`NO_RESPONDER_SUBJECT`], which `manages_topology` stands for; without it only flushes.
async fn await_subscriptions(connection: &NatsConnection, manages_topology: bool) {
    // Errors are ignored: subscriptions are made again with each new connection.
    connection.client.flush().await.ok();
    if manages_topology {
        let request = Request::new().timeout(Some(ROUND_TRIP_TIMEOUT));
        connection.client.send_request(NO_RESPONDER_SUBJECT, request).await.ok();
    }
}

/// Subscribes to the messages that match a filter.
pub(super) async fn subscribe(
    connection: &NatsConnection,
    filter: &str,
    manages_topology: bool,
) -> Result<BoxStream<'static, Message>, BusError> {
    let subscriber = connection.client.subscribe(filter.to_owned()).await;
    let subscriber =
        subscriber.map_err(|error| BusError::Unavailable(format!("subscribing to {filter}: {error}")))?;
    await_subscriptions(connection, manages_topology).await;
    Ok(subscriber.map(from_nats).boxed())
}

/// Sends a request and waits for its reply.
pub(super) async fn request(
    connection: &NatsConnection,
    message: Message,
    timeout: Duration,
) -> Result<Message, BusError> {
    let headers = encode_headers(&message.headers)?;
    check_size(&headers, &message.payload, connection.max_payload())?;
    let subject = message.subject;
    let mut request = Request::new().payload(message.payload).timeout(Some(timeout));
    if !headers.is_empty() {
        request = request.headers(headers);
    }
    let send = async {
        connection.client.send_request(subject.clone(), request).await.map_err(|error| {
            AttemptFailure::Permanent(match error.kind() {
                RequestErrorKind::NoResponders => {
                    BusError::NoResponse(format!("no service listens on {subject}"))
                }
                RequestErrorKind::TimedOut => {
                    BusError::NoResponse(format!("{subject} within {} s", timeout.as_secs_f64()))
                }
                _ => BusError::Unavailable(format!("{subject}: {error}")),
            })
        })
    };
    let reply = connection.fail_if_denied(&subject, send).await.map_err(AttemptFailure::into_error)?;
    let header = |name: &str| reply.headers.as_ref()?.get(name).map(|value| value.as_str().to_owned());
    if let Some(reason) = header(NATS_SERVICE_ERROR) {
        let status = header(NATS_SERVICE_ERROR_CODE).and_then(|code| code.parse().ok()).unwrap_or(500);
        return Err(BusError::Refused { status, reason });
    }
    let mut message = from_nats(reply);
    // The inbox of the reply means nothing to the caller.
    message.subject = String::new();
    Ok(message)
}

/// Serves the endpoints of the microservice over a connection of its own. A request whose headers
/// cannot be read interrupts that connection; it recovers, or is opened again.
pub(super) async fn serve(
    inbound: Arc<InboundConnection>,
) -> Result<BoxStream<'static, ServiceCall>, BusError> {
    let endpoints = EndpointRequests::open(&inbound).await?;
    let calls = unfold((endpoints, inbound), |(mut endpoints, inbound)| async {
        let request = loop {
            match endpoints.requests.next().await {
                // Not a request: a client can make the reply to another request arrive here.
                Some(request) if request.message.reply.is_none() => {}
                Some(request) => break request,
                None => endpoints = reopen_endpoints(endpoints, &inbound).await,
            }
        };
        let received = &request.message;
        let message = decode_message(&received.subject, received.headers.as_ref(), received.payload.clone());
        let responder = Box::new(JetStreamResponder(request));
        Some((ServiceCall { message, responder }, (endpoints, inbound)))
    });
    Ok(calls.boxed())
}

/// The requests to the microservice, until the task of their connection ends.
struct EndpointRequests {
    requests: SelectAll<Endpoint>,
    connection: Arc<NatsConnection>,
    _guard: ServiceGuard,
}

impl EndpointRequests {
    async fn open(inbound: &InboundConnection) -> Result<Self, BusError> {
        let unavailable = |error: async_nats::Error| {
            BusError::Unavailable(format!("serving the endpoints of {SERVICE_NAME}: {error}"))
        };
        let connection = inbound.get().await.map_err(AttemptFailure::into_error)?;
        let service = connection
            .client
            .service_builder()
            .description("Submits, reports and cancels jobs of Forge Kernel")
            .start(SERVICE_NAME, env!("CARGO_PKG_VERSION"))
            .await
            .map_err(unavailable)?;
        let mut endpoints = Vec::new();
        for (name, subject) in SERVICE_ENDPOINTS {
            endpoints.push(service.endpoint_builder().name(name).add(subject).await.map_err(unavailable)?);
        }
        await_subscriptions(&connection, connection.can_load_messages()).await;
        Ok(Self { requests: select_all(endpoints), connection, _guard: ServiceGuard(Some(service)) })
    }
}

/// Opens the endpoints again, through failures of any duration.
async fn reopen_endpoints(ended: EndpointRequests, inbound: &InboundConnection) -> EndpointRequests {
    ended.connection.mark_closed();
    drop(ended);
    let mut budget = RetryBudget::default();
    loop {
        let reason = match EndpointRequests::open(inbound).await {
            Ok(endpoints) => return endpoints,
            Err(error) => error.to_string(),
        };
        if let Err(error) = budget.back_off("serving the endpoints", reason).await {
            tracing::warn!(%error, "serving the API failed; retrying");
        }
    }
}

/// Stops the microservice when the stream of its calls is dropped.
struct ServiceGuard(Option<Service>);

impl Drop for ServiceGuard {
    fn drop(&mut self) {
        if let (Some(service), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(service.stop());
        }
    }
}

#[derive(Debug)]
struct JetStreamResponder(service::Request);

impl JetStreamResponder {
    async fn send(self, reply: Result<Bytes, service::error::Error>) {
        if let Err(error) = self.0.respond(reply).await {
            tracing::debug!(%error, "sending a reply failed; the caller will time out");
        }
    }
}

#[async_trait]
impl CallResponder for JetStreamResponder {
    async fn reply(self: Box<Self>, payload: Bytes) {
        self.send(Ok(payload)).await;
    }

    async fn reply_error(self: Box<Self>, status: u16, reason: String) {
        let status_text = reason.replace(['\r', '\n'], " ");
        self.send(Err(service::error::Error { status: status_text, code: usize::from(status) })).await;
    }
}
