//! The settings that all services share, as groups of command-line options. Every option can also
//! be set by an environment variable, which `--help` names. This module checks values and reads the
//! named files; it never opens a connection.

mod effective;
mod error;
mod nats;
mod path_parser;

use std::{
    net::{AddrParseError, SocketAddr},
    path::PathBuf,
};

use clap::{Args, ValueEnum};
use tracing_subscriber::filter::Targets;

pub(crate) use self::nats::read_text;
use self::path_parser::path_parser;
pub use self::{
    effective::{EffectiveSetting, SettingOrigin, effective_settings, render_text},
    error::ConfigError,
    nats::{NatsArgs, TopologyArgs},
};

/// Options of the health and metrics server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Health and metrics")]
pub struct HttpArgs {
    /// Address to serve /healthz, /readyz and /metrics on, such as 127.0.0.1:9464; without it they
    /// are not served
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

/// An optional socket address. An alias, because clap would otherwise reject the empty value, which
/// stands for none.
pub type OptionalAddress = Option<SocketAddr>;

fn address(text: &str) -> Result<OptionalAddress, AddrParseError> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

/// Options of logs and traces.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logs and traces")]
pub struct TelemetryArgs {
    /// Log filter: off, error, warn, info, debug or trace, for all targets or for one, as in
    /// info,forge_bus=debug
    #[arg(long, env = "FORGE_LOG", value_name = "FILTER", default_value = "info", value_parser = filter)]
    pub log: Targets,
    /// Log format on standard error; auto is text on a terminal and json elsewhere
    #[arg(long, env = "FORGE_LOG_FORMAT", value_name = "FORMAT", default_value = "auto")]
    pub log_format: LogFormat,
    /// Collector to export traces to over OTLP/HTTP, such as http://127.0.0.1:4318; without it
    /// traces are not exported
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", hide_env_values = true, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

/// Parses a log filter. Rejects a bare word that is not a level: it would be taken for a target
/// name and silence everything else.
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

/// Format of the logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One line of text per event.
    Text,
    /// One JSON object per event.
    Json,
}

/// Options of the agent's identity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Identity")]
pub struct IdentityArgs {
    /// File with the seed of a NATS user nkey (SU…), which names this agent and signs its messages;
    /// without it the process generates a key that lasts until it ends
    #[arg(long, env = "FORGE_IDENTITY", value_name = "FILE", value_parser = path_parser())]
    pub identity: Option<PathBuf>,
}

#[cfg(test)]
mod tests;
