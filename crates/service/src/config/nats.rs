//! Options of the connection to NATS.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{
    Args, Command, FromArgMatches,
    builder::{PossibleValuesParser, TypedValueParser},
};
use forge_bus::{
    jetstream::{JetStreamOptions, NatsCredentials, Secret, TlsOptions},
    topology::TopologySettings,
};

use super::{error::ConfigError, path_parser::path_parser};

/// Options of the connection to NATS.
#[derive(Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "NATS")]
pub struct NatsArgs {
    /// NATS servers, separated by commas: nats:// or tls://, with user:password@ or token@ before
    /// the host if there is no other credential
    #[arg(
        long,
        env = "FORGE_NATS_URL",
        hide_env_values = true,
        value_name = "URL",
        value_delimiter = ',',
        default_value = "nats://127.0.0.1:4222"
    )]
    pub nats_url: Vec<String>,
    /// Credentials file (JWT and seed)
    #[arg(long, env = "FORGE_NATS_CREDS", value_name = "FILE", value_parser = path_parser())]
    pub nats_creds: Option<PathBuf>,
    /// User name; needs a password
    #[arg(long, env = "FORGE_NATS_USER", value_name = "NAME")]
    pub nats_user: Option<String>,
    /// The user's password; prefer the variable or a file, since every user of a machine can read
    /// its command lines
    #[arg(long, env = "FORGE_NATS_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    pub nats_password: Option<String>,
    /// File with the user's password
    #[arg(long, env = "FORGE_NATS_PASSWORD_FILE", value_name = "FILE", value_parser = path_parser())]
    pub nats_password_file: Option<PathBuf>,
    /// File with the seed of a user nkey (SU…)
    #[arg(long, env = "FORGE_NATS_NKEY_FILE", value_name = "FILE", value_parser = path_parser())]
    pub nats_nkey: Option<PathBuf>,
    /// Certificates of the authorities trusted to sign the server's certificate (PEM); without it,
    /// the system's
    #[arg(long, env = "FORGE_NATS_CA", value_name = "FILE", value_parser = path_parser())]
    pub nats_ca: Option<PathBuf>,
    /// Client certificate (PEM)
    #[arg(long, env = "FORGE_NATS_CERT", value_name = "FILE", value_parser = path_parser())]
    pub nats_cert: Option<PathBuf>,
    /// Key of the client certificate (PEM)
    #[arg(long, env = "FORGE_NATS_KEY", value_name = "FILE", value_parser = path_parser())]
    pub nats_key: Option<PathBuf>,
    /// Prefix of the subjects on which replies are received, if permissions require one
    #[arg(long, env = "FORGE_NATS_INBOX_PREFIX", value_name = "SUBJECT")]
    pub nats_inbox_prefix: Option<String>,
}

/// Options of the streams and buckets, for services.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "NATS")]
pub struct TopologyArgs {
    /// Replicas of every stream and bucket in a NATS cluster
    #[arg(
        long,
        env = "FORGE_REPLICAS",
        value_name = "COUNT",
        default_value = "1",
        value_parser = PossibleValuesParser::new(["1", "3", "5"]).map(|text| text.parse::<usize>().unwrap_or(1))
    )]
    pub replicas: usize,
    /// Lease of a message in milliseconds, at least 500: unless renewed, the message is redelivered
    /// when it expires
    #[arg(
        long,
        env = "FORGE_LEASE_MS",
        value_name = "MILLISECONDS",
        default_value_t = 30_000,
        value_parser = clap::value_parser!(u64).range(500..=86_400_000)
    )]
    pub lease_ms: u64,
    /// Disk space of all streams and buckets together on each NATS server, in MiB; the same for all
    /// services [default: 4096, or less where JetStream offers less]
    #[arg(
        long,
        env = "FORGE_STORAGE_MIB",
        value_name = "MIB",
        value_parser = clap::value_parser!(u64).range(256..=1 << 30)
    )]
    pub storage_mib: Option<u64>,
}

impl TopologyArgs {
    /// The settings of the streams and buckets.
    pub fn settings(&self) -> TopologySettings {
        TopologySettings {
            replicas: self.replicas,
            lease: Duration::from_millis(self.lease_ms),
            storage_bytes: self.storage_mib.map_or(TopologySettings::DEFAULT_STORAGE_BYTES, |mib| mib << 20),
            may_use_less_storage: self.storage_mib.is_none(),
            ..TopologySettings::default()
        }
    }
}

// Prints no field: URLs can hold passwords too.
impl fmt::Debug for NatsArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsArgs").finish_non_exhaustive()
    }
}

impl NatsArgs {
    /// The settings of the environment variables, for a caller that is no command.
    ///
    /// # Errors
    /// [`ConfigError`] if the value of a variable cannot be parsed.
    pub fn from_variables() -> Result<Self, ConfigError> {
        let matches = Self::augment_args(Command::new("forge")).try_get_matches_from(["forge"]);
        matches
            .and_then(|matches| Self::from_arg_matches(&matches))
            .map_err(|error| ConfigError::new("a variable FORGE_NATS_*", error.to_string().trim()))
    }

    /// Returns the connection options for a client called `name`. Checks that the settings are
    /// consistent and that the files that hold secrets can be read. The client requires no queue
    /// and does not manage the topology; a service changes that in the returned options.
    ///
    /// # Errors
    /// [`ConfigError`] names the option that conflicts with another, is missing, or names an
    /// unreadable file.
    pub fn jetstream_options(&self, name: impl Into<String>) -> Result<JetStreamOptions, ConfigError> {
        let urls: Vec<String> =
            self.nats_url.iter().map(|url| url.trim().to_owned()).filter(|url| !url.is_empty()).collect();
        if urls.is_empty() {
            return Err(ConfigError::new("--nats-url", "must name at least one server"));
        }
        Ok(JetStreamOptions {
            urls,
            credentials: self.credentials()?,
            tls: self.tls()?,
            name: name.into(),
            inbox_prefix: self.inbox_prefix()?,
            topology: TopologySettings::default(),
            kv_namespaces: Vec::new(),
            manage_topology: false,
            decides_storage: true,
            required_queues: Vec::new(),
        })
    }

    fn credentials(&self) -> Result<NatsCredentials, ConfigError> {
        let creds = non_empty_path(self.nats_creds.as_deref());
        let user = non_empty(self.nats_user.as_deref());
        let nkey = non_empty_path(self.nats_nkey.as_deref());
        let password = self.password()?;
        match (creds, user, nkey) {
            (None, None, None) if password.is_some() => {
                Err(ConfigError::new("--nats-user", "is missing: a password is set without a user"))
            }
            (None, None, None) => Ok(NatsCredentials::None),
            (Some(path), None, None) => {
                read_text("--nats-creds", path)?;
                Ok(NatsCredentials::File(path.to_owned()))
            }
            (None, Some(user), None) => {
                let missing = || {
                    ConfigError::new("--nats-password-file", "is missing: --nats-user requires a password")
                };
                let password = password.ok_or_else(missing)?;
                Ok(NatsCredentials::Password { user: user.to_owned(), password })
            }
            (None, None, Some(path)) => Ok(NatsCredentials::Nkey(secret_file("--nats-nkey", path)?)),
            (Some(_), ..) => Err(conflicting_credentials("--nats-creds")),
            (None, ..) => Err(conflicting_credentials("--nats-nkey")),
        }
    }

    fn password(&self) -> Result<Option<Secret>, ConfigError> {
        match (non_empty(self.nats_password.as_deref()), non_empty_path(self.nats_password_file.as_deref())) {
            (Some(_), Some(_)) => Err(ConfigError::new(
                "--nats-password-file",
                "conflicts with --nats-password (FORGE_NATS_PASSWORD); set only one of them",
            )),
            (None, Some(path)) => Ok(Some(secret_file("--nats-password-file", path)?)),
            (password, None) => Ok(password.map(|text| Secret::Text(text.to_owned()))),
        }
    }

    fn tls(&self) -> Result<TlsOptions, ConfigError> {
        let path = |path: &Option<PathBuf>| non_empty_path(path.as_deref()).map(Path::to_owned);
        let client = match (path(&self.nats_cert), path(&self.nats_key)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(ConfigError::new("--nats-key", "is missing: --nats-cert requires it"));
            }
            (None, Some(_)) => {
                return Err(ConfigError::new("--nats-cert", "is missing: --nats-key requires it"));
            }
        };
        let ca = path(&self.nats_ca);
        let files =
            [("--nats-ca", ca.as_deref())].into_iter().chain(client.iter().flat_map(|(certificate, key)| {
                [("--nats-cert", Some(certificate.as_path())), ("--nats-key", Some(key.as_path()))]
            }));
        for (field, path) in files {
            if let Some(path) = path {
                read_text(field, path)?;
            }
        }
        Ok(TlsOptions { required: ca.is_some() || client.is_some(), ca_file: ca, client_certificate: client })
    }

    fn inbox_prefix(&self) -> Result<Option<String>, ConfigError> {
        let Some(prefix) = non_empty(self.nats_inbox_prefix.as_deref()) else { return Ok(None) };
        let token = |token: &str| {
            !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic() && !b"*>".contains(&byte))
        };
        if prefix.split('.').all(token) {
            Ok(Some(prefix.to_owned()))
        } else {
            Err(ConfigError::new(
                "--nats-inbox-prefix",
                "must be a subject without wildcards, such as _INBOX_worker",
            ))
        }
    }
}

fn conflicting_credentials(field: &str) -> ConfigError {
    ConfigError::new(
        field,
        "conflicts with another option: set only one of --nats-creds, --nats-user and --nats-nkey",
    )
}

/// Treats the empty string as unset: Compose and Helm set an unused variable to it.
fn non_empty(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

fn non_empty_path(path: Option<&Path>) -> Option<&Path> {
    path.filter(|path| !path.as_os_str().is_empty())
}

/// A file that holds a secret, which must be readable now and is read for every connection.
fn secret_file(field: &str, path: &Path) -> Result<Secret, ConfigError> {
    read_text(field, path)?;
    Ok(Secret::File(path.to_owned()))
}

/// Reads a text file and trims white space; `field` is the option that names it.
pub(crate) fn read_text(field: &str, path: &Path) -> Result<String, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|error| ConfigError::new(field, format!("reading {} failed: {error}", path.display())))?;
    Ok(text.trim().to_owned())
}
