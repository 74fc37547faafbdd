//! How to reach the server. Secrets do not show in `Debug` nor in errors.

use std::{fmt, path::PathBuf};

use crate::topology::{Bucket, Queue, TopologySettings};

/// Where the server is, who we are, and what is expected of it.
#[derive(Clone)]
pub struct JetStreamOptions {
    /// Servers, any of which will do: `nats://host:4222`, or `tls://host:4222`.
    pub urls: Vec<String>,
    /// Who we are.
    pub credentials: NatsCredentials,
    /// How the connection is encrypted.
    pub tls: TlsOptions,
    /// What the server's lists of connections call us.
    pub name: String,
    /// Prefix of the subjects by which answers come, for accounts that may not subscribe to all of `_INBOX.>`.
    pub inbox_prefix: Option<String>,
    /// What the operator chose.
    pub topology: TopologySettings,
    /// Buckets of job records to prepare.
    pub kv_namespaces: Vec<String>,
    /// Whether [`crate::Bus::prepare`] creates what is missing. If not, it checks that the `required_queues` exist.
    pub manage_topology: bool,
    /// The queues that are checked where nothing is created.
    pub required_queues: Vec<Queue>,
}

impl JetStreamOptions {
    /// One server, no credentials, everything else as usual for a planner.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            credentials: NatsCredentials::None,
            tls: TlsOptions::default(),
            name: "forge".to_owned(),
            inbox_prefix: None,
            topology: TopologySettings::default(),
            kv_namespaces: vec![Bucket::default_jobs().name().to_owned()],
            manage_topology: true,
            required_queues: Vec::new(),
        }
    }

    /// The servers, for people: without what stands before an `@`.
    pub(super) fn servers(&self) -> String {
        self.urls.iter().map(|url| without_secrets(url)).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Debug for JetStreamOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("urls", &self.servers())
            .field("credentials", &self.credentials)
            .field("tls", &self.tls)
            .field("name", &self.name)
            .field("inbox_prefix", &self.inbox_prefix)
            .field("topology", &self.topology)
            .field("kv_namespaces", &self.kv_namespaces)
            .field("manage_topology", &self.manage_topology)
            .field("required_queues", &self.required_queues)
            .finish()
    }
}

fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
}

/// Who we are to the server.
#[derive(Clone, Default)]
pub enum NatsCredentials {
    /// Nobody in particular, or as the URL says.
    #[default]
    None,
    /// A user with a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// The seed of an nkey: `SU…`.
    Nkey(String),
    /// A credentials file: a JWT and the seed of an nkey.
    File(PathBuf),
}

impl fmt::Debug for NatsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Password { user, .. } => write!(f, "Password({user:?}, …)"),
            Self::Nkey(_) => f.write_str("Nkey(…)"),
            Self::File(path) => write!(f, "File({path:?})"),
        }
    }
}

/// How the connection is encrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Refuse a connection in the clear. Certificates of the system's authorities are taken, and of `authority`.
    pub required: bool,
    /// A PEM file with the certificates of an authority.
    pub ca_file: Option<PathBuf>,
    /// PEM files of our own certificate and its key, for servers that ask.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show() {
        let mut options = JetStreamOptions::new("nats://ann:hush@h:1");
        options.urls.push("hush@h".to_owned());
        for credentials in [
            NatsCredentials::Password { user: "ann".to_owned(), password: "hush".to_owned() },
            NatsCredentials::Nkey("hush".to_owned()),
        ] {
            options.credentials = credentials;
            assert!(!format!("{options:?}").contains("hush"), "{options:?}");
        }
        assert_eq!(options.servers(), "nats://h:1, h");
    }
}
