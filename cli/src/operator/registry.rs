//! The registry of agents as an operator's commands read and change it.

use std::sync::Arc;

use forge_bus::{BusError, SharedBus, jetstream::JetStreamBus, topology::Bucket};
use forge_service::{
    NatsArgs,
    registry::{
        AGENT_QUARANTINE_PREFIX, POOL_QUARANTINE_PREFIX,
        listing::{self, Heartbeat, Quarantines},
    },
};
use tokio::runtime::Runtime;

use crate::{error::CommandError, runtime};

/// An open connection of an operator.
pub struct RegistryConnection {
    runtime: Runtime,
    bus: SharedBus,
}

impl RegistryConnection {
    /// Connects to NATS.
    ///
    /// # Errors
    /// A setting cannot be used, or NATS is unreachable.
    pub fn open(args: &NatsArgs) -> Result<Self, CommandError> {
        let options = args.jetstream_options("forge")?;
        let runtime = runtime::single_worker()?;
        let bus = runtime.block_on(JetStreamBus::connect(options)).map_err(to_command_error)?;
        Ok(Self { runtime, bus: bus as Arc<_> })
    }

    /// Reads the last heartbeat of every agent that the registry still has.
    ///
    /// # Errors
    /// NATS is unreachable, or refuses access to the buckets.
    pub fn heartbeats(&self) -> Result<Vec<Heartbeat>, CommandError> {
        self.block_on(listing::read_heartbeats(self.bus.as_ref()))
    }

    /// Reads all quarantines.
    ///
    /// # Errors
    /// NATS is unreachable, or refuses access to the bucket.
    pub fn quarantines(&self) -> Result<Quarantines, CommandError> {
        self.block_on(listing::read_quarantines(self.bus.as_ref()))
    }

    /// Lifts the quarantine of an agent or of a pool. Returns whether there was one.
    ///
    /// # Errors
    /// NATS is unreachable, or refuses the deletion.
    pub fn lift(&self, name: &str) -> Result<bool, CommandError> {
        self.block_on(async {
            let mut is_lifted = false;
            for prefix in [AGENT_QUARANTINE_PREFIX, POOL_QUARANTINE_PREFIX] {
                let key = format!("{prefix}{name}");
                if self.bus.get(&Bucket::Agents, &key).await?.is_some_and(|entry| entry.value.is_some()) {
                    self.bus.delete(&Bucket::Agents, &key).await?;
                    is_lifted = true;
                }
            }
            Ok(is_lifted)
        })
    }

    fn block_on<T>(&self, future: impl Future<Output = Result<T, BusError>>) -> Result<T, CommandError> {
        self.runtime.block_on(future).map_err(to_command_error)
    }
}

fn to_command_error(error: BusError) -> CommandError {
    CommandError::Other(error.into())
}
