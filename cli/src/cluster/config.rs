//! Settings that only some services have, and showing those in effect.

use std::{fmt, time::Duration};

use clap::{ArgMatches, Args, Command, parser::ValueSource};
use forge_service::{ConfigError, config};
use forge_store::{ObjectLock, RetentionMode, S3Options, Store, StoreError, StoreLocation};

use crate::{failure::Failure, output};

/// Shows the settings in effect, secrets hidden, in place of running the service.
#[derive(Debug, Clone, Copy, Args)]
pub struct PrintArgs {
    /// Print the settings in effect, where each comes from, and end
    #[arg(long)]
    pub print_config: bool,
}

/// Prints the settings in effect of a command, if it was asked to; answers whether it was.
///
/// # Errors
/// Standard output cannot be written.
pub fn print_config(command: &Command, matches: &ArgMatches) -> Result<bool, Failure> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(false) };
    if !matches.try_get_one::<bool>("print_config").ok().flatten().copied().unwrap_or(false) {
        return Ok(false);
    }
    let Some(command) = command.find_subcommand(name) else { return Ok(false) };
    output::print(config::render_text(&config::effective_settings(command, matches)).as_bytes())?;
    Ok(true)
}

/// Whether nobody gave an option of the command.
pub fn is_default(matches: &ArgMatches, id: &str) -> bool {
    let source = matches.subcommand().and_then(|(_, matches)| matches.value_source(id));
    source.is_none_or(|source| source == ValueSource::DefaultValue)
}

/// Where job records are.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Jobs")]
pub struct NamespaceArgs {
    /// Key-value buckets that envelopes may name for their records, separated by commas; the first is the default
    #[arg(
        long,
        env = "FORGE_KV_NAMESPACES",
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "jobs"
    )]
    pub kv_namespaces: Vec<String>,
}

impl NamespaceArgs {
    /// The names.
    ///
    /// # Errors
    /// [`ConfigError`] when there is none, or one cannot be a bucket's name.
    pub fn names(&self) -> Result<Vec<String>, ConfigError> {
        let safe = |name: &String| {
            (1..=64).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
                && !name.starts_with("forge_")
        };
        match self.kv_namespaces.iter().find(|name| !safe(name)) {
            None if !self.kv_namespaces.is_empty() => Ok(self.kv_namespaces.clone()),
            wrong => Err(ConfigError::new(
                "--kv-namespaces",
                format!(
                    "must be names of 1 to 64 characters out of A-Z, a-z, 0-9, _ and -, which do not start with forge_; \
                     {:?} is not",
                    wrong.map_or("", String::as_str)
                ),
            )),
        }
    }
}

/// Where artifacts are.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Artifacts")]
pub struct StoreArgs {
    /// Where artifacts are stored: s3://bucket[/prefix], or a directory. The endpoint and keys of S3 come from
    /// AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_CA_BUNDLE
    #[arg(long, env = "FORGE_STORE", value_name = "PLACE", default_value = "forge-out")]
    pub store: StoreLocation,
    /// Keep artifacts from being deleted for so many days: governance:DAYS or compliance:DAYS. S3 only; the bucket is created
    /// with Object Lock if there is none
    #[arg(long, env = "FORGE_OBJECT_LOCK", value_name = "MODE:DAYS")]
    pub object_lock: Option<Lock>,
}

/// A text that says how long artifacts are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock(ObjectLock);

impl std::str::FromStr for Lock {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "must be governance:DAYS or compliance:DAYS, with 1 to 36500 days".to_owned();
        let (mode, days) = text.split_once(':').ok_or_else(wrong)?;
        let mode = match mode {
            "governance" => RetentionMode::Governance,
            "compliance" => RetentionMode::Compliance,
            _ => return Err(wrong()),
        };
        let days = days.parse().ok().filter(|days| (1..=36_500).contains(days)).ok_or_else(wrong)?;
        Ok(Self(ObjectLock { mode, days }))
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{}", self.0.mode, self.0.days)
    }
}

impl StoreArgs {
    fn options(&self) -> Result<S3Options, ConfigError> {
        let mut options = S3Options::from_env().map_err(|error| ConfigError::new("AWS_*", error))?;
        options.object_lock = self.object_lock.map(|lock| lock.0);
        if self.object_lock.is_some() && !matches!(self.store, StoreLocation::S3 { .. }) {
            return Err(ConfigError::new("--object-lock", "needs --store s3://bucket"));
        }
        Ok(options)
    }

    /// Opens the store for writing; one that does not answer is waited for.
    ///
    /// # Errors
    /// [`Failure::Input`] when the store cannot be used as it is.
    pub async fn open(&self) -> Result<Store, Failure> {
        let options = self.options().map_err(refused)?;
        loop {
            match Store::open(&self.store, &options).await {
                Ok(store) => return Ok(store),
                Err(error @ StoreError::Unavailable { .. }) => {
                    tracing::warn!(%error, "the store is not there yet");
                }
                Err(error) => return Err(Failure::Input(format!("--store: {error}"))),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Opens the store for reading.
    ///
    /// # Errors
    /// [`Failure::Input`] when there is none, or it cannot be read.
    pub async fn open_for_reading(&self) -> Result<Store, Failure> {
        let options = self.options().map_err(refused)?;
        let store = Store::open_for_reading(&self.store, &options).await;
        store.map_err(|error| Failure::Input(format!("--store: {error}")))
    }
}

/// A setting that cannot be used, as the command line reports it.
pub fn refused(error: ConfigError) -> Failure {
    Failure::Input(error.to_string())
}
