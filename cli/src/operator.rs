//! Commands of operators: they read and change the registry of agents, which clients may not do.
//! They need a NATS credential that may (docs/operations.md, "Quarantine").

mod agents;
mod quarantine;
mod registry;

pub use self::{agents::AgentsArgs, quarantine::QuarantineArgs};

/// The function that runs each command.
pub mod commands {
    pub use super::{agents::execute as agents, quarantine::execute as quarantine};
}
