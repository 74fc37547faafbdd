//! Starts the console: as a command of its own, or beside the services of `forge up`.

use std::{io, net::SocketAddr, sync::Arc};

use forge_bus::{SharedBus, jetstream::JetStreamBus};
use forge_console::{ConsoleSettings, StoreAccess};
use forge_service::{ConfigError, http_server, shutdown, telemetry};
use forge_store::{Store, StoreLocation};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{ConsoleArgs, DEFAULT_ADDRESS};
use crate::{error::CommandError, output, runtime, store_args::s3_options};

/// Serves the console until a signal stops it.
///
/// # Errors
/// A setting cannot be used, the address is taken, or NATS is unreachable.
pub fn serve(args: &ConsoleArgs) -> Result<(), CommandError> {
    let location = &args.store.store;
    let settings = ConsoleSettings {
        namespaces: args.namespaces.names()?,
        hosts: args.hosts.clone(),
        store: StoreAccess::new(location.clone(), s3_options(location)?),
    };
    let options = args.nats.jetstream_options("forge-console")?;
    runtime::single_worker()?.block_on(async {
        let _telemetry = telemetry::init("forge-console", &args.telemetry)?;
        let stop = shutdown::stop_on_signals();
        let cannot_bind = |error: io::Error| {
            ConfigError::new("--listen", format!("binding {} failed: {error}", args.listen))
        };
        let listener = http_server::bind(args.listen).await.map_err(cannot_bind)?;
        let address = listener.local_addr().map_err(cannot_bind)?;
        let bus = JetStreamBus::connect(options).await.map_err(|error| CommandError::Other(error.into()))?;
        announce(address);
        forge_console::run(listener, bus, settings, stop).await;
        Ok(())
    })
}

/// Serves the console on the loopback interface in a background task until `stop`, on the default
/// port or, if that is taken, another one. Without a free port there is no console, and a warning
/// says so.
pub async fn start_local(
    bus: SharedBus,
    location: &StoreLocation,
    store: &Arc<Store>,
    namespaces: Vec<String>,
    stop: CancellationToken,
) {
    let (listener, address) = match bind_local().await {
        Ok(bound) => bound,
        Err(error) => {
            tracing::warn!(%error, "binding an address for the console failed; there is none");
            return;
        }
    };
    announce(address);
    let store = StoreAccess::opened(location.clone(), store.as_ref().clone());
    let settings = ConsoleSettings { namespaces, hosts: Vec::new(), store };
    tokio::spawn(forge_console::run(listener, bus, settings, stop));
}

async fn bind_local() -> io::Result<(TcpListener, SocketAddr)> {
    let listener = match http_server::bind(DEFAULT_ADDRESS).await {
        Ok(listener) => listener,
        Err(_) => http_server::bind(SocketAddr::new(DEFAULT_ADDRESS.ip(), 0)).await?,
    };
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn announce(address: SocketAddr) {
    output::print_to_stderr(&format!("the console is at http://{address}/"));
}
