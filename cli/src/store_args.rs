//! Options that name the artifact store, shared by the aggregator and the commands that read
//! artifacts.

use std::time::Duration;

use clap::{
    Args,
    builder::{OsStringValueParser, TypedValueParser},
};
use forge_bus::retry::RetryPolicy;
use forge_service::ConfigError;
use forge_store::{ObjectLock, RetentionMode, S3Options, Store, StoreError, StoreLocation};

use crate::error::CommandError;

/// Longest retention period of Object Lock, in days.
const MAX_RETENTION_DAYS: u32 = 36_500;
/// Between the attempts to open a store that does not respond.
const OPEN_POLICY: RetryPolicy = RetryPolicy::new(Duration::from_secs(1), Duration::from_secs(5));

/// The artifact store.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Artifacts")]
pub struct StoreArgs {
    /// Artifact store: s3://bucket[/prefix], or a directory. S3 also uses AWS_ENDPOINT_URL,
    /// AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE and AWS_CA_BUNDLE
    #[arg(
        long,
        env = "FORGE_STORE",
        value_name = "LOCATION",
        default_value = "forge-out",
        value_parser = store_location()
    )]
    pub store: StoreLocation,
}

/// The artifact store, for writing.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Artifacts")]
pub struct WritableStoreArgs {
    #[command(flatten)]
    pub location: StoreArgs,
    /// Retain artifacts with S3 Object Lock: governance:DAYS or compliance:DAYS. A missing bucket
    /// is created with Object Lock enabled
    #[arg(long, env = "FORGE_OBJECT_LOCK", value_name = "MODE:DAYS")]
    pub object_lock: Option<ObjectLockArg>,
}

/// Value of `--object-lock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectLockArg(ObjectLock);

impl std::str::FromStr for ObjectLockArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid =
            || format!("must be governance:DAYS or compliance:DAYS, with 1 to {MAX_RETENTION_DAYS} days");
        let (mode, days) = text.split_once(':').ok_or_else(invalid)?;
        let mode = match mode {
            "governance" => RetentionMode::Governance,
            "compliance" => RetentionMode::Compliance,
            _ => return Err(invalid()),
        };
        let days = days.parse().ok().filter(|days| (1..=MAX_RETENTION_DAYS).contains(days));
        Ok(Self(ObjectLock { mode, days: days.ok_or_else(invalid)? }))
    }
}

impl StoreArgs {
    /// Opens the store for reading, without retries.
    ///
    /// # Errors
    /// [`CommandError::Input`] if there is no such store or it cannot be read.
    pub async fn open_for_reading(&self) -> Result<Store, CommandError> {
        let store = Store::open_for_reading(&self.store, &s3_options(&self.store)?).await;
        store.map_err(|error| CommandError::Input(format!("--store: {error}")))
    }
}

impl WritableStoreArgs {
    /// Opens the store for writing, and retries for as long as it does not respond.
    ///
    /// # Errors
    /// [`CommandError::Input`] if the settings are wrong or the store refuses access.
    pub async fn open(&self) -> Result<Store, CommandError> {
        let location = &self.location.store;
        let object_lock = self.object_lock.map(|lock| lock.0);
        let options = S3Options { object_lock, ..s3_options(location)? };
        if self.object_lock.is_some() && !matches!(location, StoreLocation::S3 { .. }) {
            return Err(ConfigError::new("--object-lock", "requires --store s3://bucket").into());
        }
        let mut failures = 0;
        loop {
            match Store::open(location, &options).await {
                Ok(store) => return Ok(store),
                Err(error @ StoreError::Unavailable { .. }) => {
                    failures += 1;
                    let delay = OPEN_POLICY.delay(failures);
                    tracing::warn!(%error, ?delay, "opening the store failed; retrying");
                    tokio::time::sleep(delay).await;
                }
                Err(error) => return Err(CommandError::Input(format!("--store: {error}"))),
            }
        }
    }
}

/// The parser of a store's location.
pub fn store_location() -> impl TypedValueParser<Value = StoreLocation> {
    OsStringValueParser::new().try_map(StoreLocation::from_os_string)
}

/// Access to the location, if it is in a bucket: as the environment and the files of the AWS tools
/// describe it.
///
/// # Errors
/// [`ConfigError`] if a variable or the profile cannot be used.
pub fn s3_options(location: &StoreLocation) -> Result<S3Options, ConfigError> {
    match location {
        StoreLocation::S3 { .. } => S3Options::from_env().map_err(|error| ConfigError::new("AWS_*", error)),
        StoreLocation::Directory(_) | StoreLocation::Memory => Ok(S3Options::default()),
    }
}
