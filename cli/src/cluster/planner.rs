//! `forge planner`.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use forge_bus::topology::Queue;
use forge_contract::quota::Quotas;
use forge_planner::PlannerSettings;
use forge_service::ConfigError;

use super::{
    config::{NamespaceArgs, refused},
    host::{self, Host, HostArgs, Purpose},
};
use crate::failure::Failure;

/// Start a planner: validates envelopes, plans them, hands out their shards
#[derive(Debug, Args)]
pub struct PlannerArgs {
    #[command(flatten)]
    tuning: PlannerTuning,
    #[command(flatten)]
    namespaces: NamespaceArgs,
    #[command(flatten)]
    host: HostArgs,
}

/// How jobs are handed out.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Planner")]
pub struct PlannerTuning {
    /// Jobs that are handed out at once
    #[arg(long, env = "FORGE_MAX_JOBS", value_name = "COUNT", default_value_t = 256)]
    max_jobs: usize,
    /// How long a job waits for policy.min_agents, in milliseconds
    #[arg(long, env = "FORGE_AGENTS_WAIT_MS", value_name = "MILLISECONDS", default_value_t = 30_000)]
    agents_wait_ms: u64,
    /// A shard that has not come back for so long is handed out again, in milliseconds; twice as long at every attempt
    #[arg(long, env = "FORGE_SHARD_PATIENCE_MS", value_name = "MILLISECONDS", default_value_t = 300_000)]
    shard_patience_ms: u64,
    /// How much each submitter may have: a JSON file (docs/operations.md). Without it, as much as it likes
    #[arg(long, env = "FORGE_QUOTAS", value_name = "FILE")]
    quotas: Option<PathBuf>,
}

impl PlannerTuning {
    /// How much each submitter may have.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read, with everything that is wrong in it.
    pub fn quotas(&self) -> Result<Arc<Quotas>, ConfigError> {
        let Some(path) = self.quotas.as_deref().filter(|path| !path.as_os_str().is_empty()) else {
            return Ok(Arc::default());
        };
        read_quotas(path)
            .map(Arc::new)
            .map_err(|error| ConfigError::new("--quotas", format!("{}: {error}", path.display())))
    }

    /// The planner's settings.
    pub fn settings(&self, namespaces: Vec<String>, quotas: Arc<Quotas>, lease: Duration) -> PlannerSettings {
        PlannerSettings {
            max_jobs: self.max_jobs,
            agent_wait: Duration::from_millis(self.agents_wait_ms),
            shard_patience: Duration::from_millis(self.shard_patience_ms),
            namespaces,
            quotas,
            lease,
            ..PlannerSettings::default()
        }
    }
}

fn read_quotas(path: &Path) -> Result<Quotas, String> {
    let bytes = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    Quotas::parse(&bytes).map_err(|invalid| format!("is not valid:\n{invalid}"))
}

/// Carries out the command.
///
/// # Errors
/// The settings cannot be used, or NATS cannot be as it is.
pub fn execute(args: &PlannerArgs) -> Result<(), Failure> {
    let namespaces = args.namespaces.names().map_err(refused)?;
    let quotas = args.tuning.quotas().map_err(refused)?;
    let queues =
        Queue::ALL.into_iter().filter(|queue| matches!(queue, Queue::Jobs | Queue::Shards(_))).collect();
    let purpose = Purpose { name: "forge-planner", namespaces: namespaces.clone(), queues, production: true };
    host::run(&args.host, purpose, async |host: Host| {
        let settings = args.tuning.settings(namespaces, quotas, host.lease);
        let ended = forge_planner::run(host.bus.clone(), settings, host.metrics.clone(), host.stop.clone());
        host.ended(ended.await)
    })
}
