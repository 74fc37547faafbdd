//! `forge agents`: lists live agents.

use clap::Args;
use forge_contract::agent::{AgentRecord, AgentState};
use forge_service::NatsArgs;
use serde::Serialize;

use super::registry::{Heartbeat, Quarantines, RegistryConnection};
use crate::{
    error::CommandError,
    output::{self, OutputFormat},
    text::table,
};

/// List live agents by pool; needs the NATS credential of an operator
#[derive(Debug, Args)]
pub struct AgentsArgs {
    /// Output format: text is a table, json is one agent per line
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
    #[command(flatten)]
    nats: NatsArgs,
}

/// One agent as a line of JSON.
#[derive(Serialize)]
struct AgentLine<'a> {
    role: &'static str,
    #[serde(flatten)]
    record: &'a AgentRecord,
    /// `agent` or `pool` if the agent or its pool is in quarantine.
    quarantine: Option<&'static str>,
}

/// Runs the command.
///
/// # Errors
/// NATS is unreachable, or refuses access to the registry.
pub fn execute(args: &AgentsArgs) -> Result<(), CommandError> {
    let connection = RegistryConnection::open(&args.nats)?;
    let (mut agents, quarantines) = (connection.live_agents()?, connection.quarantines()?);
    agents.sort_by(|a, b| sort_key(a).cmp(&sort_key(b)));
    match args.format {
        OutputFormat::Json => output::print(to_json_lines(&agents, &quarantines).as_bytes()),
        OutputFormat::Text => {
            output::print(format!("{}\n", render_agents(&agents, &quarantines).join("\n")).as_bytes())
        }
    }
}

fn sort_key(agent: &Heartbeat) -> (&'static str, String, &str) {
    (agent.role, pool_text(&agent.record), agent.record.agent_id.as_str())
}

fn pool_text(record: &AgentRecord) -> String {
    record.pool.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)
}

fn to_json_lines(agents: &[Heartbeat], quarantines: &Quarantines) -> String {
    let line = |agent: &Heartbeat| {
        let record = &agent.record;
        let line = AgentLine { role: agent.role, record, quarantine: quarantines.reason(record) };
        serde_json::to_string(&line).expect("an agent record always serialises") + "\n"
    };
    agents.iter().map(line).collect()
}

fn render_agents(agents: &[Heartbeat], quarantines: &Quarantines) -> Vec<String> {
    let header = ["Agent", "Role", "Pool", "Target", "Version", "State"];
    let row = |agent: &Heartbeat| {
        let record = &agent.record;
        let state = match (quarantines.reason(record), record.state) {
            (Some("pool"), _) => "pool in quarantine",
            (Some(_), _) => "in quarantine",
            (None, AgentState::Live) => "live",
            (None, AgentState::Left) => "left",
        };
        let target = serde_json::to_value(record.target).expect("a target always serialises");
        let target = target.as_str().unwrap_or_default().to_owned();
        let (id, role) = (record.agent_id.to_string(), agent.role.to_owned());
        vec![id, role, pool_text(record), target, record.version.clone(), state.to_owned()]
    };
    table::render_table(&header, &agents.iter().map(row).collect::<Vec<_>>())
}
