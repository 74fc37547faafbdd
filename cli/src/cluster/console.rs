//! `forge console`: web pages that show a cluster. A build without the feature `console` refuses
//! the command.

#[cfg(feature = "console")]
mod server;
#[cfg(not(feature = "console"))]
mod unsupported;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use clap::Args;
use forge_service::{ConfigError, NatsArgs, TelemetryArgs};

#[cfg(feature = "console")]
pub use self::server::{serve, start_local};
#[cfg(not(feature = "console"))]
pub use self::unsupported::{serve, start_local};
use super::settings::NamespaceArgs;
use crate::{context::ContextArgs, error::CommandError, store_args::StoreArgs};

/// Port by default.
const PORT: u16 = 8225;
/// Address by default.
const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);

const EXAMPLES: &str = "\
Examples:
  forge console
  forge console --context prod
  forge console --listen 0.0.0.0:8225 --host console.example.com

The console only reads. It has no login and no TLS: anyone who can reach its address sees every
job with its args and artifacts. Beyond loopback, put it behind a proxy that has both.";

/// Serve web pages that show jobs, agents and artifacts of a cluster
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ConsoleArgs {
    /// Address to listen on. One beyond the loopback interface needs --host
    #[arg(long, env = "FORGE_CONSOLE_LISTEN", value_name = "ADDRESS", default_value_t = DEFAULT_ADDRESS)]
    listen: SocketAddr,
    /// Name or address under which browsers reach the console, besides those of loopback;
    /// repeatable. Requests for any other are refused, because another site's page could have sent
    /// them
    #[arg(
        long = "host",
        env = "FORGE_CONSOLE_HOSTS",
        value_name = "NAME",
        value_delimiter = ',',
        value_parser = parse_host
    )]
    hosts: Vec<String>,
    #[command(flatten)]
    namespaces: NamespaceArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    nats: NatsArgs,
    #[command(flatten)]
    telemetry: TelemetryArgs,
    #[command(flatten)]
    _context: ContextArgs,
}

/// Parses the host of a URL, without a port.
fn parse_host(text: &str) -> Result<String, String> {
    let address = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = (1..=253).contains(&text.len()) && text.bytes().all(is_name_byte);
    if is_name || address.parse::<Ipv6Addr>().is_ok() {
        return Ok(address.to_owned());
    }
    Err("must be a host name or an address, without scheme and port".to_owned())
}

/// Runs the command.
///
/// # Errors
/// A setting cannot be used, the address is taken, NATS is unreachable, or the build has no
/// console.
pub fn execute(args: &ConsoleArgs) -> Result<(), CommandError> {
    if !args.listen.ip().is_loopback() && args.hosts.is_empty() {
        let reason = format!(
            "{} is not on the loopback interface, so other machines can read every job there; if they may, give \
             --host with the name under which browsers reach the console",
            args.listen.ip()
        );
        return Err(ConfigError::new("--listen", reason).into());
    }
    serve(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_without_ports() {
        let host = |text: &str| parse_host(text).ok();
        assert_eq!(host("console.example.com").as_deref(), Some("console.example.com"));
        assert_eq!(host("192.0.2.7").as_deref(), Some("192.0.2.7"));
        assert_eq!(host("[2001:db8::1]").as_deref(), Some("2001:db8::1"));
        assert_eq!(host("2001:db8::1").as_deref(), Some("2001:db8::1"));
        for invalid in ["", "*", "a:80", "http://a", "a/b", "a b", "[::1]:80", "ä.example"] {
            assert_eq!(host(invalid), None, "{invalid}");
        }
    }
}
