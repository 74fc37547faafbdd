//! The settings that services have in common, as groups of command line options. Every option can be given by an environment
//! variable too, which `--help` names. Values are checked here; files are read where they are named, nothing is connected.

mod effective;
mod nats;

use std::{
    fmt,
    net::{AddrParseError, SocketAddr},
    path::PathBuf,
};

use clap::{
    Args, ValueEnum,
    builder::{OsStringValueParser, TypedValueParser},
};
use tracing_subscriber::filter::Targets;

pub(crate) use self::nats::read;
pub use self::{
    effective::{EffectiveSetting, SettingOrigin, effective_settings, render_json, render_text},
    nats::NatsArgs,
};

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct ConfigError {
    /// The option, as in `--nats-creds`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl ConfigError {
    /// An error in an option.
    pub fn new(field: impl Into<String>, message: impl fmt::Display) -> Self {
        Self { field: field.into(), message: message.to_string() }
    }
}

/// Where health and metrics are served.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Health and metrics")]
pub struct HttpArgs {
    /// Address that serves /healthz, /readyz and /metrics, as in 127.0.0.1:9464; not served without it
    #[arg(
        long,
        env = "FORGE_HTTP",
        value_name = "ADDRESS",
        default_value = "",
        hide_default_value = true,
        value_parser = address
    )]
    pub http: OptionalAddress,
}

/// An address, or none. An alias, so that clap takes an empty value for none.
pub type OptionalAddress = Option<SocketAddr>;

fn address(text: &str) -> Result<OptionalAddress, AddrParseError> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

/// What is logged, and how.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logs and traces")]
pub struct TelemetryArgs {
    /// What is logged: off, error, warn, info, debug or trace, for all or by target, as in info,forge_bus=debug
    #[arg(long, env = "FORGE_LOG", value_name = "FILTER", default_value = "info", value_parser = filter)]
    pub log: Targets,
    /// How it is written to standard error; auto is text on a terminal and json elsewhere
    #[arg(long, env = "FORGE_LOG_FORMAT", value_name = "FORMAT", default_value = "auto")]
    pub log_format: LogFormat,
    /// Collector that traces are sent to over OTLP/HTTP, as in http://127.0.0.1:4318; not sent without it
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

/// Takes any path. An empty one is none: that is how Compose and Helm leave a variable out, and clap's own parser refuses it.
fn file() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// Reads a filter. A word that is no level would be taken for the name of a target, and everything else be silent.
fn filter(text: &str) -> Result<Targets, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |word: &str| LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
    for part in text.split(',').map(str::trim) {
        if !part.contains('=') && !is_level(part) {
            return Err(format!("`{part}` is neither a level ({}) nor target=level", LEVELS.join(", ")));
        }
    }
    text.parse().map_err(|error| format!("{error}"))
}

/// How logs are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// A line of text an event.
    Text,
    /// A JSON object an event.
    Json,
}

/// Who the process is towards the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Identity")]
pub struct IdentityArgs {
    /// File with the seed of a NATS user nkey (SU…), which names this agent and signs what it returns; without it the
    /// process makes a key that ends with it
    #[arg(long, env = "FORGE_IDENTITY", value_name = "FILE", value_parser = file())]
    pub identity: Option<PathBuf>,
}

#[cfg(test)]
mod tests;
