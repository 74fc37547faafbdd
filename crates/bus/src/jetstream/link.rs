//! The connection: what it takes to open one, what the server says about it, and how long trouble is borne before it is
//! called an error.

use std::{collections::BTreeMap, error::Error, future::Future, io, sync::Arc, time::Duration};

use async_nats::{
    Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, ServerError,
    connection::State,
    jetstream::{
        self, Context, ErrorCode,
        context::{ContextBuilder, RequestErrorKind},
        response::Response,
    },
    rustls,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::options::{JetStreamOptions, NatsCredentials};
use crate::{error::BusError, topology::MIN_SERVER_VERSION};

/// How long trouble is borne that may pass by itself, the restart of a server above all.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long one answer is waited for.
pub(super) const ANSWER: Duration = Duration::from_secs(3);
/// Acknowledgements that may be out at once, over all publishers. Each of them bounds its own; a bound that they share would
/// have them wait for each other, holding what the others wait for.
const ACKS: usize = 1 << 24;

/// A connection, and what is known about it.
pub(super) struct Link {
    pub(super) client: Client,
    pub(super) context: Context,
    news: Arc<News>,
    inbox_prefix: String,
}

/// What the server has said beside its answers.
#[derive(Default)]
struct News {
    /// Counts connections.
    connections: watch::Sender<u64>,
    /// Subjects that are not permitted: when the server said so, and whether it was about a subscription.
    violations: watch::Sender<BTreeMap<String, (Instant, bool)>>,
}

/// A request of the API without parameters.
#[derive(Serialize)]
pub(super) struct Nothing {}

/// Why one attempt failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It may pass.
    Passing(String),
    /// It will not.
    Lasting(BusError),
}

impl News {
    fn note(&self, event: &Event) {
        match event {
            Event::Connected => {
                self.violations.send_replace(BTreeMap::new());
                self.connections.send_modify(|count| *count += 1);
            }
            Event::ServerError(ServerError::Other(text)) => match violation(text) {
                Some((subject, subscription)) => {
                    tracing::warn!(subject, subscription, "the NATS account does not permit this subject");
                    let entry = (Instant::now(), subscription);
                    self.violations.send_modify(|known| {
                        known.insert(subject.to_owned(), entry);
                    });
                }
                None => tracing::warn!(reason = text, "the NATS server complains"),
            },
            Event::SlowConsumer(_) | Event::ServerError(_) | Event::ClientError(_) => {
                tracing::warn!(reason = %event, "trouble with the NATS connection");
            }
            _ => tracing::info!(%event, "NATS connection"),
        }
    }
}

/// The subject that is not permitted, and whether to subscribe to.
fn violation(text: &str) -> Option<(&str, bool)> {
    let rest = text.get(..22).filter(|start| start.eq_ignore_ascii_case("permissions violation "))?;
    let rest = &text[rest.len()..];
    let subscription = rest.to_ascii_lowercase().starts_with("for subscription");
    Some((rest.split('"').nth(1)?, subscription))
}

/// Whether a server is new enough.
pub(super) fn check_version(version: &str) -> Result<(), BusError> {
    let mut numbers = version.split(['.', '-']).map_while(|number| number.parse::<u64>().ok());
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if (major, minor) >= MIN_SERVER_VERSION {
        return Ok(());
    }
    let (needs_major, needs_minor) = MIN_SERVER_VERSION;
    Err(BusError::Unusable(format!(
        "nats-server {version} is too old: {needs_major}.{needs_minor} or later is needed, from \
         https://github.com/nats-io/nats-server/releases"
    )))
}

async fn connect_options(options: &JetStreamOptions, news: &Arc<News>) -> Result<ConnectOptions, BusError> {
    // The first to say so decides for the process; everybody here says the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let news = news.clone();
    let mut connect = ConnectOptions::new()
        .name(&options.name)
        .max_reconnects(None)
        .connection_timeout(ANSWER)
        .request_timeout(Some(ANSWER))
        .reconnect_delay_callback(|attempts| Duration::from_millis((20 << attempts.min(7)).min(2000) as u64))
        .event_callback(move |event| {
            news.note(&event);
            async {}
        })
        .require_tls(options.tls.required);
    if let Some(prefix) = &options.inbox_prefix {
        connect = connect.custom_inbox_prefix(prefix);
    }
    if let Some(authority) = &options.tls.ca_file {
        connect = connect.add_root_certificates(authority.clone()).require_tls(true);
    }
    if let Some((certificate, key)) = &options.tls.client_certificate {
        connect = connect.add_client_certificate(certificate.clone(), key.clone()).require_tls(true);
    }
    Ok(match &options.credentials {
        NatsCredentials::None => connect,
        NatsCredentials::Password { user, password } => {
            connect.user_and_password(user.clone(), password.clone())
        }
        NatsCredentials::Nkey(seed) => connect.nkey(seed.clone()),
        NatsCredentials::File(path) => connect
            .credentials_file(path)
            .await
            .map_err(|e| BusError::Unusable(format!("the credentials file {}: {e}", path.display())))?,
    })
}

/// Whether a connection failed because one side does not accept the other's certificate, or has none. Waiting helps nothing.
fn is_about_certificates(error: &ConnectError) -> bool {
    let is_tls = |error: &(dyn Error + 'static)| {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        error.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>())
    };
    let sources = std::iter::successors(error.source(), |&error| error.source());
    error.kind() == ConnectErrorKind::Tls || sources.into_iter().any(is_tls)
}

impl Link {
    /// Connects, once, and checks the server's version. From then on connections are made anew without end.
    pub(super) async fn open(options: &JetStreamOptions) -> Result<Arc<Self>, BusError> {
        let news = Arc::new(News::default());
        let connect = connect_options(options, &news).await?;
        let servers = options.servers();
        let client = connect.connect(options.urls.clone()).await.map_err(|error| match error.kind() {
            ConnectErrorKind::ServerParse => {
                BusError::Unusable(format!("not the URL of a NATS server: {servers}"))
            }
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                BusError::Unusable(format!("the NATS server at {servers} does not accept these credentials"))
            }
            _ if is_about_certificates(&error) => {
                BusError::Unusable(format!("no encrypted connection to NATS at {servers}: {error}"))
            }
            _ => BusError::Unavailable(format!("no NATS server answers at {servers}: {error}")),
        })?;
        check_version(&client.server_info().version)?;
        let context = ContextBuilder::new()
            .timeout(ANSWER)
            .ack_timeout(ANSWER)
            .max_ack_inflight(ACKS)
            .build(client.clone());
        let inbox_prefix = options.inbox_prefix.clone().unwrap_or_else(|| "_INBOX".to_owned());
        let link = Arc::new(Self { client, context, news, inbox_prefix });
        if options.manage_topology {
            link.check_jetstream().await?;
        }
        Ok(link)
    }

    async fn check_jetstream(&self) -> Result<(), BusError> {
        if !self.client.server_info().jetstream && self.client.server_info().cluster.is_none() {
            return Err(BusError::Unusable(disabled("on this server")));
        }
        let _: jetstream::account::Account =
            self.persist("JetStream", || self.api("INFO", &Nothing {})).await?;
        Ok(())
    }

    /// Whether there is a connection.
    pub(super) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// A counter of connections.
    pub(super) fn connections(&self) -> watch::Receiver<u64> {
        self.news.connections.subscribe()
    }

    /// Resolves when the server says that `subject` is not permitted, or that answers cannot come.
    pub(super) async fn forbidden(&self, subject: &str) -> BusError {
        let since = Instant::now();
        let mut violations = self.news.violations.subscribe();
        let concerns = |named: &str, when: Instant, subscription: bool| {
            if subscription {
                named.starts_with(&self.inbox_prefix)
            } else {
                when >= since && named == subject
            }
        };
        let known = violations
            .wait_for(|known| known.iter().any(|(named, (when, sub))| concerns(named, *when, *sub)))
            .await
            .expect("the sender is held here");
        let (named, (_, subscription)) =
            known.iter().find(|(named, (when, sub))| concerns(named, *when, *sub)).expect("just found");
        let what = if *subscription { "subscribe to" } else { "publish to" };
        BusError::Unusable(format!("this NATS account is not permitted to {what} {named}"))
    }

    /// Does `work`, which publishes to `subject`, unless that is not permitted.
    pub(super) async fn guard<T>(
        &self,
        subject: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            done = work => done,
            error = self.forbidden(subject) => Err(Failure::Lasting(error)),
        }
    }

    /// Repeats `attempt` while its failures may pass, as long as [`PATIENCE`].
    pub(super) async fn persist<T, F, R>(&self, what: &str, mut attempt: F) -> Result<T, BusError>
    where
        F: FnMut() -> R,
        R: Future<Output = Result<T, Failure>>,
    {
        let mut trouble = Trouble::default();
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::Passing(reason)) => trouble.bear(what, reason).await?,
            }
        }
    }

    /// A request of JetStream's API.
    pub(super) async fn api<T: DeserializeOwned>(
        &self,
        subject: &str,
        body: &(impl Serialize + ?Sized),
    ) -> Result<T, Failure> {
        let full = format!("$JS.API.{subject}");
        let request = async {
            let response: Response<T> =
                self.context.request(subject.to_owned(), body).await.map_err(|error| match error.kind() {
                    RequestErrorKind::NoResponders => {
                        Failure::Passing("JetStream does not answer: is it enabled?".to_owned())
                    }
                    _ => Failure::Passing(format!("{full}: {error}")),
                })?;
            match response {
                Response::Ok(response) => Ok(response),
                Response::Err { error } => Err(Failure::from_api(subject, &error)),
            }
        };
        self.guard(&full, request).await
    }
}

fn disabled(place: &str) -> String {
    format!("JetStream is disabled {place}: start nats-server with -js, or with a jetstream block")
}

impl Failure {
    /// What the server answered to a request of its API.
    pub(super) fn from_api(subject: &str, error: &jetstream::Error) -> Self {
        match error.error_code() {
            ErrorCode::STREAM_NOT_FOUND | ErrorCode::CONSUMER_NOT_FOUND => {
                Self::Lasting(BusError::Missing(object(subject)))
            }
            ErrorCode::JETSTREAM_NOT_ENABLED => Self::Lasting(BusError::Unusable(disabled("on this server"))),
            ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
                Self::Lasting(BusError::Unusable(disabled("for this account")))
            }
            _ if error.code() == 503 => Self::Passing(error.to_string()),
            _ => Self::Lasting(BusError::Unusable(format!("{subject}: {error}"))),
        }
    }
}

/// The object that a request of the API is about, for people.
fn object(subject: &str) -> String {
    let tokens: Vec<&str> = subject.split('.').collect();
    match tokens.as_slice() {
        ["CONSUMER", "MSG", "NEXT", stream, consumer, ..] | ["CONSUMER", _, stream, consumer, ..] => {
            format!("the consumer {consumer} of stream {stream}")
        }
        [_, _, name, ..] => match name.strip_prefix("KV_") {
            Some(bucket) => format!("the bucket {bucket}"),
            None => format!("the stream {name}"),
        },
        _ => subject.to_owned(),
    }
}

/// How long there has been trouble.
#[derive(Debug, Default)]
pub(super) struct Trouble(Option<(Instant, u32)>);

impl Trouble {
    /// There is none any longer.
    pub(super) fn over(&mut self) {
        self.0 = None;
    }

    /// Waits a while, longer each time; an error when [`PATIENCE`] is at its end.
    pub(super) async fn bear(&mut self, what: &str, reason: String) -> Result<(), BusError> {
        let (since, times) = self.0.unwrap_or((Instant::now(), 0));
        if since.elapsed() > PATIENCE {
            self.over();
            return Err(BusError::Unavailable(format!("{what}: {reason}")));
        }
        self.0 = Some((since, times + 1));
        sleep(Duration::from_millis((20 << times.min(6)).min(1000))).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_named() {
        let Err(BusError::Unusable(text)) = check_version("2.9.10") else { panic!() };
        assert!(text.starts_with("nats-server 2.9.10 is too old: 2.14 or later is needed"), "{text}");
        assert!(check_version("2.13.9").is_err() && check_version("").is_err());
        assert!(check_version("2.14.0-RC.1").is_ok() && check_version("2.15.1").is_ok());
        assert!(check_version("3.0.0").is_ok());
    }

    #[test]
    fn violations_are_read() {
        let publish = "Permissions Violation for Publish to \"a.b\"";
        assert_eq!(violation(publish), Some(("a.b", false)));
        let subscribe = "Permissions Violation for Subscription to \"c.>\" using queue \"q\"";
        assert_eq!(violation(subscribe), Some(("c.>", true)));
        assert_eq!(violation("maximum payload exceeded"), None);
    }

    #[test]
    fn objects_are_named() {
        assert_eq!(object("CONSUMER.INFO.FORGE_SHARDS.w"), "the consumer w of stream FORGE_SHARDS");
        assert_eq!(object("STREAM.INFO.KV_jobs"), "the bucket jobs");
    }
}
