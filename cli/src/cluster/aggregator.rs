//! `forge aggregator`.

use std::{sync::Arc, time::Duration};

use clap::Args;
use forge_aggregator::AggregatorSettings;
use forge_bus::topology::Queue;
use forge_service::{IdentityArgs, identity};

use super::{
    config::{NamespaceArgs, StoreArgs, refused},
    host::{self, Host, HostArgs, Purpose},
};
use crate::failure::Failure;

/// Start an aggregator: takes in results, writes artifacts, ends jobs
#[derive(Debug, Args)]
pub struct AggregatorArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    tuning: AggregatorTuning,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    namespaces: NamespaceArgs,
    #[command(flatten)]
    host: HostArgs,
}

/// How jobs are taken in.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Aggregator")]
pub struct AggregatorTuning {
    /// How long the store may be away before a job fails with storage_failed, in milliseconds
    #[arg(long, env = "FORGE_STORE_PATIENCE_MS", value_name = "MILLISECONDS", default_value_t = 600_000)]
    store_patience_ms: u64,
    /// Keep every shard's result (shards.bin, some 40 kB a shard), so that an audit can merge them again
    #[arg(long, env = "FORGE_KEEP_SHARDS")]
    keep_shards: bool,
}

impl AggregatorTuning {
    /// The aggregator's settings.
    pub fn settings(&self, namespaces: Vec<String>, lease: Duration) -> AggregatorSettings {
        AggregatorSettings {
            store_patience: Duration::from_millis(self.store_patience_ms),
            keep_shards: self.keep_shards,
            namespaces,
            lease,
            ..AggregatorSettings::default()
        }
    }
}

/// Carries out the command.
///
/// # Errors
/// The settings cannot be used, or NATS or the store cannot be as they are.
pub fn execute(args: &AggregatorArgs) -> Result<(), Failure> {
    let identity = identity::load(&args.identity).map_err(refused)?;
    let namespaces = args.namespaces.names().map_err(refused)?;
    let purpose = Purpose {
        name: "forge-aggregator",
        namespaces: namespaces.clone(),
        queues: vec![Queue::Reduce, Queue::End],
        production: true,
    };
    host::run(&args.host, purpose, async |host: Host| {
        let Some(store) = host.stop.run_until_cancelled(args.store.open()).await else { return Ok(()) };
        let store = Arc::new(store?);
        let settings = args.tuning.settings(namespaces, host.lease);
        tracing::info!(store = %args.store.store, "the store is open");
        let (bus, metrics, stop) = (host.bus.clone(), host.metrics.clone(), host.stop.clone());
        host.ended(forge_aggregator::run(bus, store, identity, settings, metrics, stop).await)
    })
}
