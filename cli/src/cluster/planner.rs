//! `forge planner`: runs a planner.

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
    service_host::{self, ServiceHost, ServiceHostArgs, ServiceSpec},
    settings::{JobMemoryArgs, NamespaceArgs},
};
use crate::error::CommandError;

/// Run a planner, which validates envelopes, plans jobs and dispatches shards
#[derive(Debug, Args)]
pub struct PlannerArgs {
    #[command(flatten)]
    tuning: PlannerTuning,
    #[command(flatten)]
    memory: JobMemoryArgs,
    #[command(flatten)]
    namespaces: NamespaceArgs,
    #[command(flatten)]
    host: ServiceHostArgs,
}

/// Options of the planner itself, shared with `forge up`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Planner")]
pub struct PlannerTuning {
    /// Maximum number of jobs in progress at this planner
    #[arg(long, env = "FORGE_MAX_JOBS", value_name = "COUNT", default_value_t = 256)]
    max_jobs: usize,
    /// How long a job waits for policy.min_agents before it fails, in milliseconds
    #[arg(long, env = "FORGE_AGENTS_WAIT_MS", value_name = "MILLISECONDS", default_value_t = 30_000)]
    agents_wait_ms: u64,
    /// How long to wait for a shard's result before dispatching the shard again, in milliseconds;
    /// doubles with every attempt, to at most 16 times
    #[arg(long, env = "FORGE_SHARD_PATIENCE_MS", value_name = "MILLISECONDS", default_value_t = 300_000)]
    shard_patience_ms: u64,
    /// JSON file with the quotas of submitters, see docs/guides/quotas.md [default: no limits]
    #[arg(long, env = "FORGE_QUOTAS", value_name = "FILE")]
    quotas: Option<PathBuf>,
}

impl PlannerTuning {
    /// The quotas of submitters. An empty path means no file, because Compose and Helm cannot leave
    /// a variable unset.
    ///
    /// # Errors
    /// [`ConfigError`] if the file cannot be read, or with every error in it.
    pub fn quotas(&self) -> Result<Arc<Quotas>, ConfigError> {
        let Some(path) = self.quotas.as_deref().filter(|path| !path.as_os_str().is_empty()) else {
            return Ok(Arc::default());
        };
        read_quotas(path)
            .map(Arc::new)
            .map_err(|error| ConfigError::new("--quotas", format!("{}: {error}", path.display())))
    }

    /// The planner's settings.
    pub fn settings(
        &self,
        namespaces: Vec<String>,
        quotas: Arc<Quotas>,
        memory: JobMemoryArgs,
        lease: Duration,
    ) -> PlannerSettings {
        PlannerSettings {
            max_jobs: self.max_jobs,
            agent_wait: Duration::from_millis(self.agents_wait_ms),
            shard_patience: Duration::from_millis(self.shard_patience_ms),
            namespaces,
            quotas,
            job_memory: memory.bytes(),
            lease,
            ..PlannerSettings::default()
        }
    }
}

fn read_quotas(path: &Path) -> Result<Quotas, String> {
    let bytes = fs::read(path).map_err(|error| format!("cannot read the file: {error}"))?;
    Quotas::parse(&bytes).map_err(|errors| format!("the quotas are not valid:\n{errors}"))
}

/// Runs the command.
///
/// # Errors
/// A setting cannot be used, NATS refuses access, or the planner failed.
pub fn execute(args: &PlannerArgs) -> Result<(), CommandError> {
    let namespaces = args.namespaces.names()?;
    let quotas = args.tuning.quotas()?;
    let queues =
        Queue::ALL.into_iter().filter(|queue| matches!(queue, Queue::Jobs | Queue::Shards(..))).collect();
    let spec = ServiceSpec {
        name: "forge-planner",
        namespaces: namespaces.clone(),
        queues,
        warns_about_durability: true,
    };
    service_host::run(&args.host, spec, async |host: ServiceHost| {
        let settings = args.tuning.settings(namespaces, quotas, args.memory, host.lease);
        host.set_ready_when(Arc::clone(&settings.answering));
        let result = forge_planner::run(host.bus.clone(), settings, host.metrics.clone(), host.stop.clone());
        host.finish(result.await)
    })
}
