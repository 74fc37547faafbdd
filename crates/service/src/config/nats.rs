//! How NATS is reached.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use forge_bus::{
    jetstream::{JetStreamOptions, NatsCredentials, TlsOptions},
    topology::TopologySettings,
};

use super::{ConfigError, file};

/// How NATS is reached, and how streams are kept there.
#[derive(Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "NATS")]
pub struct NatsArgs {
    /// Servers, separated by commas; nats:// or tls://
    #[arg(
        long,
        env = "FORGE_NATS_URL",
        value_name = "URL",
        value_delimiter = ',',
        default_value = "nats://127.0.0.1:4222"
    )]
    pub nats_url: Vec<String>,
    /// Credentials file (JWT and seed)
    #[arg(long, env = "FORGE_NATS_CREDS", value_name = "FILE", value_parser = file())]
    pub nats_creds: Option<PathBuf>,
    /// User, with a password
    #[arg(long, env = "FORGE_NATS_USER", value_name = "NAME")]
    pub nats_user: Option<String>,
    /// The user's password; rather by the environment or a file, since everyone on a machine can read command lines
    #[arg(long, env = "FORGE_NATS_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    pub nats_password: Option<String>,
    /// File with the user's password
    #[arg(long, env = "FORGE_NATS_PASSWORD_FILE", value_name = "FILE", value_parser = file())]
    pub nats_password_file: Option<PathBuf>,
    /// File with the seed of a user nkey (SU…)
    #[arg(long, env = "FORGE_NATS_NKEY_FILE", value_name = "FILE", value_parser = file())]
    pub nats_nkey: Option<PathBuf>,
    /// Certificates of the authorities that may vouch for the server (PEM); the system's without it
    #[arg(long, env = "FORGE_NATS_CA", value_name = "FILE", value_parser = file())]
    pub nats_ca: Option<PathBuf>,
    /// Certificate to show to the server (PEM)
    #[arg(long, env = "FORGE_NATS_CERT", value_name = "FILE", value_parser = file())]
    pub nats_cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, env = "FORGE_NATS_KEY", value_name = "FILE", value_parser = file())]
    pub nats_key: Option<PathBuf>,
    /// Prefix of the subjects on which answers are received, where permissions ask for one
    #[arg(long, env = "FORGE_NATS_INBOX_PREFIX", value_name = "SUBJECT")]
    pub nats_inbox_prefix: Option<String>,
    /// Copies of every stream and bucket in a cluster
    #[arg(
        long,
        env = "FORGE_REPLICAS",
        value_name = "COUNT",
        default_value = "1",
        value_parser = PossibleValuesParser::new(["1", "3", "5"]).map(|text| text.parse::<usize>().unwrap_or(1))
    )]
    pub replicas: usize,
    /// How long a message is left to its receiver without a sign of life, in milliseconds; at least 500
    #[arg(
        long,
        env = "FORGE_LEASE_MS",
        value_name = "MILLISECONDS",
        default_value_t = 30_000,
        value_parser = clap::value_parser!(u64).range(500..=86_400_000)
    )]
    pub lease_ms: u64,
}

// URLs may hold passwords too.
impl fmt::Debug for NatsArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsArgs").finish_non_exhaustive()
    }
}

impl NatsArgs {
    /// Streams are kept so.
    pub fn topology_settings(&self) -> TopologySettings {
        TopologySettings { replicas: self.replicas, lease: Duration::from_millis(self.lease_ms) }
    }

    /// Checks how the settings go together and reads the files that hold secrets: how the bus is reached under a name, whether
    /// it creates what is missing (`manage_topology`), and the buckets of job records. The queues that are checked otherwise
    /// (`required_queues`) are the caller's to add.
    ///
    /// # Errors
    /// [`ConfigError`] names the option that is too much, missing, or names a file that cannot be read.
    pub fn jetstream_options(
        &self,
        name: impl Into<String>,
        manage_topology: bool,
        kv_namespaces: Vec<String>,
    ) -> Result<JetStreamOptions, ConfigError> {
        let urls: Vec<String> =
            self.nats_url.iter().map(|url| url.trim().to_owned()).filter(|url| !url.is_empty()).collect();
        if urls.is_empty() {
            return Err(ConfigError::new("--nats-url", "names no server"));
        }
        Ok(JetStreamOptions {
            urls,
            credentials: self.credentials()?,
            tls: self.tls()?,
            name: name.into(),
            inbox_prefix: self.inbox_prefix()?,
            topology: self.topology_settings(),
            kv_namespaces,
            manage_topology,
            required_queues: Vec::new(),
        })
    }

    fn credentials(&self) -> Result<NatsCredentials, ConfigError> {
        let creds = given_path(self.nats_creds.as_deref());
        let user = given(self.nats_user.as_deref());
        let nkey = given_path(self.nats_nkey.as_deref());
        let password = self.password()?;
        match (creds, user, nkey) {
            (None, None, None) if password.is_some() => {
                Err(ConfigError::new("--nats-user", "is missing: a password is given"))
            }
            (None, None, None) => Ok(NatsCredentials::None),
            (Some(path), None, None) => {
                read("--nats-creds", path)?;
                Ok(NatsCredentials::File(path.to_owned()))
            }
            (None, Some(user), None) => {
                let missing =
                    || ConfigError::new("--nats-password-file", "is missing: --nats-user needs a password");
                let password = password.ok_or_else(missing)?;
                Ok(NatsCredentials::Password { user: user.to_owned(), password })
            }
            (None, None, Some(path)) => Ok(NatsCredentials::Nkey(read("--nats-nkey", path)?)),
            (Some(_), ..) => Err(too_many("--nats-creds")),
            (None, ..) => Err(too_many("--nats-nkey")),
        }
    }

    fn password(&self) -> Result<Option<String>, ConfigError> {
        match (given(self.nats_password.as_deref()), given_path(self.nats_password_file.as_deref())) {
            (Some(_), Some(_)) => Err(ConfigError::new(
                "--nats-password-file",
                "cannot be given together with --nats-password (FORGE_NATS_PASSWORD)",
            )),
            (None, Some(path)) => Ok(Some(read("--nats-password-file", path)?)),
            (password, None) => Ok(password.map(str::to_owned)),
        }
    }

    fn tls(&self) -> Result<TlsOptions, ConfigError> {
        let path = |path: &Option<PathBuf>| given_path(path.as_deref()).map(Path::to_owned);
        let client = match (path(&self.nats_cert), path(&self.nats_key)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(ConfigError::new("--nats-key", "is missing: --nats-cert needs it"));
            }
            (None, Some(_)) => {
                return Err(ConfigError::new("--nats-cert", "is missing: --nats-key needs it"));
            }
        };
        let ca = path(&self.nats_ca);
        let files =
            [("--nats-ca", ca.as_deref())].into_iter().chain(client.iter().flat_map(|(certificate, key)| {
                [("--nats-cert", Some(certificate.as_path())), ("--nats-key", Some(key.as_path()))]
            }));
        for (field, path) in files {
            if let Some(path) = path {
                read(field, path)?;
            }
        }
        Ok(TlsOptions { required: ca.is_some() || client.is_some(), ca_file: ca, client_certificate: client })
    }

    fn inbox_prefix(&self) -> Result<Option<String>, ConfigError> {
        let Some(prefix) = given(self.nats_inbox_prefix.as_deref()) else { return Ok(None) };
        let token = |token: &str| {
            !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic() && !b"*>".contains(&byte))
        };
        if prefix.split('.').all(token) {
            Ok(Some(prefix.to_owned()))
        } else {
            Err(ConfigError::new(
                "--nats-inbox-prefix",
                "must be a subject without wildcards, as in _INBOX_worker",
            ))
        }
    }
}

fn too_many(field: &str) -> ConfigError {
    ConfigError::new(field, "only one of --nats-creds, --nats-user and --nats-nkey can be given")
}

/// An empty text is none: that is how Compose and Helm leave a variable out.
fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

fn given_path(path: Option<&Path>) -> Option<&Path> {
    path.filter(|path| !path.as_os_str().is_empty())
}

/// The text of a file, without the white space around it.
pub(crate) fn read(field: &str, path: &Path) -> Result<String, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|error| ConfigError::new(field, format!("{} cannot be read: {error}", path.display())))?;
    Ok(text.trim().to_owned())
}
