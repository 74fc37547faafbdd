//! `forge aggregator`: runs an aggregator.

use std::{sync::Arc, time::Duration};

use clap::Args;
use forge_aggregator::AggregatorSettings;
use forge_bus::topology::Queue;
use forge_service::{IdentityArgs, identity};

use super::{
    service_host::{self, ServiceHost, ServiceHostArgs, ServiceSpec},
    settings::{JobMemoryArgs, NamespaceArgs},
};
use crate::{error::CommandError, shard_retention::ShardRetention, store_args::WritableStoreArgs};

/// Run an aggregator, which collects results, writes artifacts and ends jobs
#[derive(Debug, Args)]
pub struct AggregatorArgs {
    #[command(flatten)]
    store: WritableStoreArgs,
    #[command(flatten)]
    tuning: AggregatorTuning,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    memory: JobMemoryArgs,
    #[command(flatten)]
    namespaces: NamespaceArgs,
    #[command(flatten)]
    host: ServiceHostArgs,
}

/// Options of the aggregator itself, shared with `forge up`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Aggregator")]
pub struct AggregatorTuning {
    /// How long the store may be unavailable before a job fails with storage_failed, in
    /// milliseconds
    #[arg(long, env = "FORGE_STORE_PATIENCE_MS", value_name = "MILLISECONDS", default_value_t = 600_000)]
    store_patience_ms: u64,
    /// Keep the shard results of a job, so that an audit can merge them again (shards.bin, about
    /// 40 kB per shard), if they take at most this many MiB together; 0 keeps none, unlimited (or
    /// no value) keeps all
    #[arg(
        long,
        env = "FORGE_KEEP_SHARDS",
        value_name = "MIB",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = ShardRetention::default(),
        default_missing_value = "unlimited"
    )]
    keep_shards: ShardRetention,
    /// How long the records of ended jobs are kept, in days; 0 means for ever. Artifacts are not
    /// removed
    #[arg(long, env = "FORGE_RECORD_RETENTION_DAYS", value_name = "DAYS", default_value_t = 30)]
    record_retention_days: u32,
    /// Number of agents of one pool in quarantine at which the whole pool goes into quarantine; 0
    /// means never
    #[arg(long, env = "FORGE_POOL_QUARANTINE_AFTER", value_name = "COUNT", default_value_t = 3)]
    pool_quarantine_after: usize,
}

impl AggregatorTuning {
    /// The aggregator's settings.
    pub fn settings(
        &self,
        namespaces: Vec<String>,
        memory: JobMemoryArgs,
        lease: Duration,
    ) -> AggregatorSettings {
        AggregatorSettings {
            store_patience: Duration::from_millis(self.store_patience_ms),
            record_retention: (self.record_retention_days > 0)
                .then(|| Duration::from_secs(u64::from(self.record_retention_days) * 24 * 3600)),
            max_kept_bytes: self.keep_shards.max_bytes(),
            pool_quarantine_after: self.pool_quarantine_after,
            job_memory: memory.bytes(),
            namespaces,
            lease,
            ..AggregatorSettings::default()
        }
    }
}

/// Runs the command.
///
/// # Errors
/// A setting cannot be used, NATS or the store refuses access, or the aggregator failed.
pub fn execute(args: &AggregatorArgs) -> Result<(), CommandError> {
    let identity = identity::load(&args.identity)?;
    let namespaces = args.namespaces.names()?;
    let spec = ServiceSpec {
        name: "forge-aggregator",
        namespaces: namespaces.clone(),
        queues: vec![Queue::Reduce, Queue::End],
        warns_about_durability: true,
    };
    service_host::run(&args.host, spec, async |host: ServiceHost| {
        let Some(store) = host.stop.run_until_cancelled(args.store.open()).await else { return Ok(()) };
        let store = Arc::new(store?);
        host.set_ready();
        let settings = args.tuning.settings(namespaces, args.memory, host.lease);
        tracing::info!(store = %args.store.location.store, "store opened; collecting results");
        let (bus, metrics, stop) = (host.bus.clone(), host.metrics.clone(), host.stop.clone());
        host.finish(forge_aggregator::run(bus, store, identity, settings, metrics, stop).await)
    })
}
