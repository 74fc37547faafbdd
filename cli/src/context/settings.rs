//! The settings of a context, and the variables that they stand for.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::Args;
use forge_contract::ids::Submitter;
use forge_store::StoreLocation;
use serde::{Deserialize, Serialize};

use crate::{error::CommandError, local_path::local_path};

/// Variable of the submitter.
pub const SUBMITTER_VARIABLE: &str = "FORGE_SUBMITTER";
/// Variable of the store.
pub const STORE_VARIABLE: &str = "FORGE_STORE";
/// Longest name of a context.
const MAX_NAME_LENGTH: usize = 64;

/// Name of a context.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContextName(String);

impl ContextName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContextName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if (1..=MAX_NAME_LENGTH).contains(&text.len()) && text.bytes().all(is_allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("must be 1 to {MAX_NAME_LENGTH} letters, digits, `_`, `.` and `-`"))
    }
}

impl TryFrom<String> for ContextName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ContextName> for String {
    fn from(name: ContextName) -> Self {
        name.0
    }
}

impl fmt::Display for ContextName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a deployment is, and as whom to reach it: options of `forge context add`, and the entry of
/// the file.
#[derive(Debug, Clone, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextSettings {
    /// NATS servers, separated by commas: nats:// or tls://, without a password
    #[arg(long, value_name = "URL", value_parser = parse_nats_url)]
    pub nats: String,
    /// Credentials file (JWT and seed)
    #[arg(long, value_name = "FILE", value_parser = local_path(), conflicts_with_all = ["user", "nkey"])]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<PathBuf>,
    /// User name
    #[arg(long, value_name = "NAME", requires = "password_file")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// File with the user's password
    #[arg(long, value_name = "FILE", value_parser = local_path(), requires = "user")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// File with the seed of a user nkey (SU…)
    #[arg(long, value_name = "FILE", value_parser = local_path(), conflicts_with = "user")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nkey: Option<PathBuf>,
    /// Certificates of the authorities trusted to sign the server's certificate (PEM)
    #[arg(long, value_name = "FILE", value_parser = local_path())]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Client certificate (PEM)
    #[arg(long, value_name = "FILE", value_parser = local_path(), requires = "key")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Key of the client certificate (PEM)
    #[arg(long, value_name = "FILE", value_parser = local_path(), requires = "cert")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Prefix of the subjects on which replies are received
    #[arg(long, value_name = "SUBJECT")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbox_prefix: Option<String>,
    /// Submitter to which jobs are charged
    #[arg(long, value_name = "NAME", value_parser = parse_submitter)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitter: Option<String>,
    /// Artifact store: s3://bucket[/prefix], or a directory
    #[arg(long, value_name = "LOCATION", value_parser = parse_store)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
}

/// Refuses URLs with a password or a token, which belong into a file.
fn parse_nats_url(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("must name at least one server".to_owned()),
        text if text.contains('@') => Err(
            "holds a credential: contexts hold none; give --credentials, --nkey, or --user and --password-file"
                .to_owned(),
        ),
        text => Ok(text.to_owned()),
    }
}

fn parse_submitter(text: &str) -> Result<String, String> {
    text.parse::<Submitter>().map(|submitter| submitter.to_string()).map_err(|error| error.to_string())
}

/// The location in its text, which is absolute if it is a directory: the context is used from
/// elsewhere.
fn parse_store(text: &str) -> Result<String, String> {
    let location = StoreLocation::from_os_string(text.into()).map_err(|error| error.to_string())?;
    match location {
        StoreLocation::Memory => Err("memory: is no store of a deployment".to_owned()),
        StoreLocation::S3 { .. } => Ok(text.to_owned()),
        StoreLocation::Directory(path) => {
            let path = std::path::absolute(path).map_err(|error| error.to_string())?;
            path.to_str().map(str::to_owned).ok_or_else(|| "must be UTF-8".to_owned())
        }
    }
}

impl ContextSettings {
    /// The settings with absolute paths.
    ///
    /// # Errors
    /// [`CommandError::Input`] names the option whose file cannot be read.
    pub fn resolved(&self) -> Result<Self, CommandError> {
        let mut resolved = self.clone();
        let paths = [
            ("--credentials", &mut resolved.credentials),
            ("--password-file", &mut resolved.password_file),
            ("--nkey", &mut resolved.nkey),
            ("--ca", &mut resolved.ca),
            ("--cert", &mut resolved.cert),
            ("--key", &mut resolved.key),
        ];
        for (option, path) in paths {
            if let Some(path) = path {
                *path = readable_file(path)
                    .map_err(|error| CommandError::Input(format!("{option}: {}: {error}", path.display())))?;
            }
        }
        Ok(resolved)
    }

    /// The variables that the settings stand for, with their values.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let settings = [
            ("FORGE_NATS_URL", Some(self.nats.clone())),
            ("FORGE_NATS_CREDS", path(&self.credentials)),
            ("FORGE_NATS_USER", self.user.clone()),
            ("FORGE_NATS_PASSWORD_FILE", path(&self.password_file)),
            ("FORGE_NATS_NKEY_FILE", path(&self.nkey)),
            ("FORGE_NATS_CA", path(&self.ca)),
            ("FORGE_NATS_CERT", path(&self.cert)),
            ("FORGE_NATS_KEY", path(&self.key)),
            ("FORGE_NATS_INBOX_PREFIX", self.inbox_prefix.clone()),
            (SUBMITTER_VARIABLE, self.submitter.clone()),
            (STORE_VARIABLE, self.store.clone()),
        ];
        settings.into_iter().filter_map(|(variable, value)| Some((variable, value?))).collect()
    }
}

/// The absolute path of a file that can be read.
fn readable_file(path: &Path) -> std::io::Result<PathBuf> {
    fs::File::open(path)?;
    std::path::absolute(path)
}
