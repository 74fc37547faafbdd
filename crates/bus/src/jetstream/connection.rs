//! The connection to NATS: opening it, checking the server, and requests to JetStream's API. Knows
//! no stream and no bucket.

use std::{
    error::Error,
    future::Future,
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_nats::{
    AuthError, Client, ConnectError, ConnectErrorKind, ConnectOptions,
    connection::State,
    jetstream::{
        Context,
        account::Account,
        context::{ContextBuilder, RequestErrorKind},
        response::Response,
    },
    rustls,
};
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    attempt::{AttemptFailure, jetstream_disabled, retry_transient},
    connection_events::ConnectionEvents,
    credentials::NatsCredentials,
    options::JetStreamOptions,
    server_changes::ServerChanges,
    server_clock::ServerClock,
    server_urls::split_credentials,
};
use crate::{error::BusError, retry::RetryPolicy, topology::MIN_SERVER_VERSION};

/// Timeout of one connection attempt, API request or acknowledgement.
const REPLY_TIMEOUT: Duration = Duration::from_secs(3);
/// Delays between attempts to reconnect.
const RECONNECT_POLICY: RetryPolicy = RetryPolicy::new(Duration::from_millis(20), Duration::from_secs(2));
/// Period for which a message that was not stored counts. Every service writes a heartbeat or
/// retries a message more often.
const REFUSAL_PERIOD: Duration = Duration::from_secs(15);
/// Interval between two checks that the server serves JetStream.
const CHECK_INTERVAL: Duration = Duration::from_secs(4);
/// Unacknowledged messages over all publishers at which async-nats would block. Out of reach on
/// purpose: each publisher bounds its own, and publishers that wait for a shared bound while they
/// hold part of it would deadlock.
const MAX_UNACKNOWLEDGED: usize = 1 << 24;

/// A connection that reconnects by itself, without end.
pub(super) struct NatsConnection {
    pub(super) client: Client,
    pub(super) context: Context,
    events: Arc<ConnectionEvents>,
    inbox_prefix: String,
    /// Whether this client may load single messages of streams.
    can_load_messages: bool,
    is_closed: AtomicBool,
    server_clock: ServerClock,
    unreadable_messages: AtomicU64,
    /// Most messages in a pull request that the server is known to allow.
    max_request_batch: AtomicUsize,
    /// When the server last did not store a message, and why.
    refusal: Mutex<Option<(Instant, String)>>,
    /// Whether the options name several servers.
    has_several_urls: bool,
    server_changes: Mutex<ServerChanges>,
}

/// The body of an API request without parameters.
#[derive(Serialize)]
pub(super) struct EmptyRequest {}

/// Checks that a server is at least [`MIN_SERVER_VERSION`].
fn check_version(version: &str) -> Result<(), BusError> {
    let mut numbers = version.split(['.', '-']).map_while(|number| number.parse::<u64>().ok());
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if (major, minor) >= MIN_SERVER_VERSION {
        return Ok(());
    }
    let (min_major, min_minor) = MIN_SERVER_VERSION;
    Err(BusError::Unusable(format!(
        "nats-server {version} is too old: upgrade it to {min_major}.{min_minor} or later, from \
         https://github.com/nats-io/nats-server/releases"
    )))
}

fn reconnect_delay(attempts: usize) -> Duration {
    RECONNECT_POLICY.delay(attempts as u64 + 1)
}

fn connect_options(
    options: &JetStreamOptions,
    credentials: Arc<NatsCredentials>,
    events: &Arc<ConnectionEvents>,
) -> ConnectOptions {
    // The first caller sets the provider of the process, and every caller in it sets this one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let events = events.clone();
    let answer = move |nonce: Vec<u8>| {
        let credentials = Arc::clone(&credentials);
        async move { credentials.answer(&nonce).map_err(AuthError::new) }
    };
    let mut connect = ConnectOptions::with_auth_callback(answer)
        .name(&options.name)
        .max_reconnects(None)
        .connection_timeout(REPLY_TIMEOUT)
        .request_timeout(Some(REPLY_TIMEOUT))
        .reconnect_delay_callback(reconnect_delay)
        .event_callback(move |event| {
            events.record(&event);
            async {}
        })
        .require_tls(options.tls.required);
    if let Some(prefix) = &options.inbox_prefix {
        connect = connect.custom_inbox_prefix(prefix);
    }
    if let Some(ca_file) = &options.tls.ca_file {
        connect = connect.add_root_certificates(ca_file.clone()).require_tls(true);
    }
    if let Some((certificate, key)) = &options.tls.client_certificate {
        connect = connect.add_client_certificate(certificate.clone(), key.clone()).require_tls(true);
    }
    connect
}

/// The addresses to connect to, and the credentials to use. Checks that they can be read now.
fn addresses_and_credentials(
    options: &JetStreamOptions,
) -> Result<(Vec<String>, Arc<NatsCredentials>), BusError> {
    let (addresses, of_url) = split_credentials(&options.urls)?;
    let credentials = match (of_url, options.credentials.clone()) {
        (of_url, NatsCredentials::None) => of_url,
        (NatsCredentials::None, given) => given,
        _ => {
            return Err(BusError::Unusable(
                "credentials are given both in the URL of the NATS server and beside it: give one of them"
                    .to_owned(),
            ));
        }
    };
    credentials.answer(&[])?;
    Ok((addresses, Arc::new(credentials)))
}

/// Whether a connection failed because one side rejected the other's certificate or found none.
/// Retrying does not help.
fn is_certificate_error(error: &ConnectError) -> bool {
    let is_tls = |error: &(dyn Error + 'static)| {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        error.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>())
    };
    let sources = std::iter::successors(error.source(), |&error| error.source());
    error.kind() == ConnectErrorKind::Tls || sources.into_iter().any(is_tls)
}

impl NatsConnection {
    /// Connects, without retrying, and checks the server's version and, if the caller manages the
    /// topology, JetStream.
    pub(super) async fn open(options: &JetStreamOptions) -> Result<Arc<Self>, BusError> {
        let connection = Self::connect(options).await?;
        if options.manage_topology {
            connection.check_jetstream().await?;
        }
        Ok(connection)
    }

    /// Connects, without retrying, and checks the server's version.
    pub(super) async fn connect(options: &JetStreamOptions) -> Result<Arc<Self>, BusError> {
        let events = Arc::new(ConnectionEvents::default());
        let (addresses, credentials) = addresses_and_credentials(options)?;
        let connect = connect_options(options, credentials, &events);
        let servers = options.servers_without_secrets();
        let client = connect.connect(addresses).await.map_err(|error| match error.kind() {
            ConnectErrorKind::ServerParse => {
                BusError::Unusable(format!("not the URL of a NATS server: {servers}"))
            }
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                BusError::Unusable(format!("the NATS server at {servers} does not accept these credentials"))
            }
            _ if is_certificate_error(&error) => {
                BusError::Unusable(format!("no encrypted connection to NATS at {servers}: {error}"))
            }
            _ => BusError::Unavailable(format!("no NATS server answers at {servers}: {error}")),
        })?;
        check_version(&client.server_info().version)?;
        let context = ContextBuilder::new()
            .timeout(REPLY_TIMEOUT)
            .ack_timeout(REPLY_TIMEOUT)
            .max_ack_inflight(MAX_UNACKNOWLEDGED)
            .build(client.clone());
        let manages_topology = options.manage_topology;
        let inbox_prefix = options.inbox_prefix.clone().unwrap_or_else(|| "_INBOX".to_owned());
        let connection = Arc::new(Self {
            client,
            context,
            events,
            inbox_prefix,
            can_load_messages: options.manage_topology,
            server_clock: ServerClock::default(),
            is_closed: AtomicBool::new(false),
            unreadable_messages: AtomicU64::new(0),
            max_request_batch: AtomicUsize::new(usize::MAX),
            refusal: Mutex::default(),
            has_several_urls: options.urls.len() > 1,
            server_changes: Mutex::new(ServerChanges::new()),
        });
        if manages_topology && connection.has_other_servers() {
            tokio::spawn(watch_server(Arc::downgrade(&connection)));
        }
        Ok(connection)
    }

    async fn check_jetstream(&self) -> Result<(), BusError> {
        if !self.client.server_info().jetstream && self.client.server_info().cluster.is_none() {
            return Err(jetstream_disabled("on this server"));
        }
        let _: Account = retry_transient("JetStream", || self.request_api("INFO", &EmptyRequest {})).await?;
        Ok(())
    }

    /// Whether there is a connection at this moment.
    pub(super) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Whether the server has denied a subscription since the last connect.
    pub(super) fn has_denied_subscription(&self) -> bool {
        self.events.has_denied_subscription()
    }

    /// Ends this connection and makes another.
    pub(super) async fn reconnect(&self) {
        // It fails if the task of the connection has ended.
        if let Err(error) = self.client.force_reconnect().await {
            tracing::warn!(%error, "cannot reconnect to NATS");
            self.mark_closed();
        }
    }

    /// Notes that the task of the connection has ended, and does not reconnect.
    pub(super) fn mark_closed(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// Whether [`Self::mark_closed`] was called.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Whether this client may load single messages of streams. Services may; workers and clients
    /// lack the permission, and read only what services publish.
    pub(super) fn can_load_messages(&self) -> bool {
        self.can_load_messages
    }

    /// Counts and logs a message that is stepped over.
    pub(super) fn report_unreadable(&self, stream: &str, sequence: u64, subject: &str) {
        let count = self.unreadable_messages.fetch_add(1, Ordering::Relaxed) + 1;
        // A publisher of such messages must not be able to fill the log.
        if count.is_power_of_two() {
            tracing::warn!(
                stream,
                sequence,
                subject,
                count,
                "stepped over a message whose headers cannot be read"
            );
        } else {
            tracing::debug!(stream, sequence, subject, "stepped over a message whose headers cannot be read");
        }
    }

    /// Number of calls of [`Self::report_unreadable`].
    pub(super) fn unreadable_messages(&self) -> u64 {
        self.unreadable_messages.load(Ordering::Relaxed)
    }

    /// Notes that the server did not store a message.
    pub(super) fn report_refusal(&self, reason: &str) {
        *self.refusal.lock() = Some((Instant::now(), reason.to_owned()));
    }

    /// Why the server did not store a message within [`REFUSAL_PERIOD`].
    pub(super) fn storage_refusal(&self) -> Option<String> {
        let refusal = self.refusal.lock();
        refusal.as_ref().filter(|(at, _)| at.elapsed() < REFUSAL_PERIOD).map(|(_, reason)| reason.clone())
    }

    fn has_other_servers(&self) -> bool {
        self.has_several_urls || self.client.server_info().cluster.is_some()
    }

    /// Reconnects to another server if there is one, at most every eight seconds. A server
    /// that is separated from its cluster accepts connections and serves nothing; another one may.
    pub(super) async fn leave_server(&self) {
        if !self.has_other_servers() || !self.is_connected() {
            return;
        }
        let Some(changes) = self.server_changes.lock().next() else { return };
        let server = self.client.server_info().server_name;
        // Without a leader no server serves, and the connection goes round among all of them.
        if changes.is_power_of_two() {
            tracing::warn!(
                server,
                changes,
                "this NATS server does not serve JetStream; connecting to another one"
            );
        } else {
            tracing::debug!(server, changes, "no NATS server serves JetStream; connecting to another one");
        }
        self.reconnect().await;
    }

    /// The server's clock, by which the age of messages is measured.
    pub(super) fn server_clock(&self) -> &ServerClock {
        &self.server_clock
    }

    /// The server's limit for payload and headers of a message, in bytes.
    pub(super) fn max_payload(&self) -> usize {
        self.client.server_info().max_payload
    }

    /// Most messages in a pull request.
    pub(super) fn max_request_batch(&self) -> usize {
        self.max_request_batch.load(Ordering::Relaxed)
    }

    /// Notes that the server allows no more messages in a pull request than this.
    pub(super) fn lower_max_request_batch(&self, limit: usize) {
        let before = self.max_request_batch.fetch_min(limit, Ordering::Relaxed);
        if limit < before {
            tracing::info!(limit, "the NATS server limits the messages of a request (max_request_batch)");
        }
    }

    /// A receiver of the number of connections: it changes with every reconnect.
    pub(super) fn connection_count(&self) -> watch::Receiver<u64> {
        self.events.connection_count()
    }

    /// Resolves once the server denies publishing to `subject`, or denies the inbox of the reply.
    pub(super) async fn permission_violation(&self, subject: &str) -> BusError {
        self.events.violation(subject, &self.inbox_prefix).await
    }

    /// Runs `work`, which publishes to `subject`, and fails as soon as the server denies that,
    /// instead of waiting for the timeout of the reply.
    pub(super) async fn fail_if_denied<T>(
        &self,
        subject: &str,
        work: impl Future<Output = Result<T, AttemptFailure>>,
    ) -> Result<T, AttemptFailure> {
        tokio::select! {
            biased;
            result = work => result,
            error = self.permission_violation(subject) => Err(AttemptFailure::Permanent(error)),
        }
    }

    /// Sends one request to JetStream's API, on `$JS.API.<subject>`.
    pub(super) async fn request_api<T: DeserializeOwned>(
        &self,
        subject: &str,
        body: &(impl Serialize + ?Sized),
    ) -> Result<T, AttemptFailure> {
        match self.call_api(subject, body).await? {
            Response::Ok(response) => Ok(response),
            Response::Err { error } => Err(AttemptFailure::from_api(subject, &error)),
        }
    }

    /// As [`Self::request_api`], but returns error replies as they are.
    pub(super) async fn call_api<T: DeserializeOwned>(
        &self,
        subject: &str,
        body: &(impl Serialize + ?Sized),
    ) -> Result<Response<T>, AttemptFailure> {
        let full_subject = format!("$JS.API.{subject}");
        let mut connection_count = self.connection_count();
        let request = async {
            tokio::select! {
                biased;
                response = self.context.request(subject.to_owned(), body) => {
                    response.map_err(|error| match error.kind() {
                        RequestErrorKind::NoResponders => {
                            AttemptFailure::transient("JetStream does not answer: is it enabled?")
                        }
                        _ => AttemptFailure::Transient(format!("{full_subject}: {error}")),
                    })
                }
                // No reply arrives any more.
                _ = connection_count.changed() => Err(AttemptFailure::transient("the connection was lost")),
            }
        };
        self.fail_if_denied(&full_subject, request).await
    }
}

/// Leaves a server that twice in a row does not answer a request to JetStream. Each connection
/// checks its own server, also one over which only requests of others arrive. Ends with the
/// connection.
async fn watch_server(connection: Weak<NatsConnection>) {
    let mut failed_before = false;
    loop {
        sleep(CHECK_INTERVAL).await;
        let Some(connection) = connection.upgrade().filter(|connection| !connection.is_closed()) else {
            return;
        };
        let answer = connection.request_api::<Account>("INFO", &EmptyRequest {}).await;
        let fails = connection.is_connected() && matches!(answer, Err(AttemptFailure::Transient(_)));
        if fails && failed_before {
            connection.leave_server().await;
        }
        failed_before = fails;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_older_than_the_minimum_are_rejected() {
        let Err(BusError::Unusable(text)) = check_version("2.9.10") else { panic!() };
        assert!(text.starts_with("nats-server 2.9.10 is too old: upgrade it to 2.14 or later"), "{text}");
        assert!(check_version("2.13.9").is_err() && check_version("").is_err());
        assert!(check_version("2.14.0-RC.1").is_ok() && check_version("2.15.1").is_ok());
        assert!(check_version("3.0.0").is_ok());
    }
}
