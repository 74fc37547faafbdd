//! Options of a connection to NATS. Secrets show up neither in `Debug` output nor in errors.

use std::{fmt, path::PathBuf};

use super::{credentials::NatsCredentials, server_urls::without_user_info};
use crate::topology::{Bucket, Queue, TopologySettings};

/// Servers, identity and expectations of a [`JetStreamBus`](crate::JetStreamBus).
#[derive(Clone)]
pub struct JetStreamOptions {
    /// URLs of servers of one cluster, as in `nats://host:4222` or `tls://host:4222`. The client
    /// connects to any of them. They may hold a user and a password, or a token, percent-encoded.
    pub urls: Vec<String>,
    /// Credentials of the NATS user, if the URLs hold none.
    pub credentials: NatsCredentials,
    /// Encryption of the connection.
    pub tls: TlsOptions,
    /// Client name, as the server lists it among its connections.
    pub name: String,
    /// Prefix of reply subjects, for users that may not subscribe to all of `_INBOX.>`; `None`
    /// means `_INBOX`.
    pub inbox_prefix: Option<String>,
    /// Settings that [`prepare`](crate::Bus::prepare) applies to streams and queues.
    pub topology: TopologySettings,
    /// Names of the buckets of job records that [`prepare`](crate::Bus::prepare) creates.
    pub kv_namespaces: Vec<String>,
    /// Whether [`prepare`](crate::Bus::prepare) creates and updates the topology. If not, it only
    /// checks that `required_queues` exist.
    pub manage_topology: bool,
    /// Whether [`prepare`](crate::Bus::prepare) may decide how much storage the topology gets, where
    /// the settings leave that open. A client that may not update streams waits for another one.
    pub decides_storage: bool,
    /// Queues that must exist if this client does not manage the topology.
    pub required_queues: Vec<Queue>,
}

impl JetStreamOptions {
    /// Options for one server without credentials, with the default topology, which the client
    /// manages.
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
            decides_storage: true,
            required_queues: Vec::new(),
        }
    }

    /// The URLs for error texts and logs, without user and password.
    pub(super) fn servers_without_secrets(&self) -> String {
        self.urls.iter().map(|url| without_user_info(url)).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Debug for JetStreamOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JetStreamOptions")
            .field("urls", &self.servers_without_secrets())
            .field("credentials", &self.credentials)
            .field("tls", &self.tls)
            .field("name", &self.name)
            .field("inbox_prefix", &self.inbox_prefix)
            .field("topology", &self.topology)
            .field("kv_namespaces", &self.kv_namespaces)
            .field("manage_topology", &self.manage_topology)
            .field("decides_storage", &self.decides_storage)
            .field("required_queues", &self.required_queues)
            .finish()
    }
}

/// Encryption of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Whether to refuse unencrypted connections.
    pub required: bool,
    /// PEM file of certificate authorities to trust, in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM files of the client certificate and its key, for servers that verify clients.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
}

#[cfg(test)]
mod tests {
    use super::{super::credentials::Secret, *};

    #[test]
    fn debug_output_and_error_texts_hide_secrets() {
        let mut options = JetStreamOptions::new("nats://ann:hush@h:1");
        options.urls.push("hush@h".to_owned());
        let hush = || Secret::Text("hush".to_owned());
        for credentials in [
            NatsCredentials::Password { user: "ann".to_owned(), password: hush() },
            NatsCredentials::Token("hush".to_owned()),
            NatsCredentials::Nkey(hush()),
        ] {
            options.credentials = credentials;
            assert!(!format!("{options:?}").contains("hush"), "{options:?}");
        }
        assert_eq!(options.servers_without_secrets(), "nats://h:1, h");
    }
}
