//! `forge agents`: lists agents and what is in quarantine.

use clap::Args;
use forge_contract::agent::AgentRecord;
use forge_documents::number_format::format_duration;
use forge_service::{
    NatsArgs,
    registry::listing::{Heartbeat, QuarantineReason, Quarantines},
};
use serde::Serialize;

use super::registry::RegistryConnection;
use crate::{
    context::ContextArgs,
    error::CommandError,
    output::{self, OutputFormat, TextStyle},
    text::table,
};

/// Characters of an agent's id in the table, which the ids of a cluster differ in.
const SHORT_ID: usize = 9;

/// List live agents by role and pool; needs the NATS credential of an operator
#[derive(Debug, Args)]
pub struct AgentsArgs {
    /// List agents that left or fell silent too, as far as the registry still has them
    #[arg(long)]
    all: bool,
    /// Output format: text is a table, json is one agent per line with its whole id
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
    #[command(flatten)]
    nats: NatsArgs,
    #[command(flatten)]
    _context: ContextArgs,
}

/// One agent as a line of JSON.
#[derive(Serialize)]
struct AgentLine<'a> {
    role: &'static str,
    #[serde(flatten)]
    record: &'a AgentRecord,
    /// Seconds since the last heartbeat.
    last_seen_seconds: f64,
    /// Whether the agent has not left, and its last heartbeat is recent.
    live: bool,
    /// Why the agent or its pool is in quarantine; null if neither is.
    quarantine: Option<QuarantineReason>,
}

/// Runs the command.
///
/// # Errors
/// NATS is unreachable, or refuses access to the registry.
pub fn execute(args: &AgentsArgs) -> Result<(), CommandError> {
    let connection = RegistryConnection::open(&args.nats)?;
    let (mut agents, quarantines) = (connection.heartbeats()?, connection.quarantines()?);
    agents.retain(|agent| args.all || agent.is_recent());
    match args.format {
        OutputFormat::Json => output::print(to_json_lines(&agents, &quarantines).as_bytes()),
        OutputFormat::Text => {
            let (style, width) = (TextStyle::of_stdout(), table::output_width());
            output::print(render_agents(&agents, &quarantines, style, width).as_bytes())
        }
    }
}

fn to_json_lines<'a>(agents: &'a [Heartbeat], quarantines: &Quarantines) -> String {
    let line = |agent: &'a Heartbeat| AgentLine {
        role: agent.role,
        record: &agent.record,
        last_seen_seconds: agent.age.as_millis() as f64 / 1e3,
        live: agent.is_live(),
        quarantine: quarantines.reason(&agent.record),
    };
    output::to_json_lines(agents.iter().map(line))
}

/// A table of agents, and one of quarantines if there are any, in lines of at most `width`.
fn render_agents(agents: &[Heartbeat], quarantines: &Quarantines, style: TextStyle, width: usize) -> String {
    let header = ["Agent", "Role", "Pool", "Host", "Backend", "Adapter", "Slots", "Seen", "State"];
    let row = |agent: &Heartbeat| {
        let record = &agent.record;
        let cells = [
            &table::cut(record.agent_id.as_str(), SHORT_ID),
            agent.role,
            agent.pool(),
            &record.host,
            &record.backend,
            record.adapter.as_deref().unwrap_or("-"),
            &record.slots.to_string(),
            &format!("{} ago", format_duration(agent.age)),
            // The table of quarantines says whether its pool is the reason.
            agent.state(quarantines),
        ];
        cells.map(str::to_owned).to_vec()
    };
    let rows: Vec<_> = agents.iter().map(row).collect();
    let mut text = match rows.is_empty() {
        true => "no agent is live: start services, or list earlier ones with --all\n".to_owned(),
        false => format!("{}\n", table::render_text_table(&header, &rows, width).join("\n")),
    };
    let mut rows = quarantines.rows();
    if !rows.is_empty() {
        rows.iter_mut()
            .filter(|row| quarantines.agents.contains_key(&row[0]))
            .for_each(|row| row[0] = table::cut(&row[0], SHORT_ID));
        let lines = table::render_text_table(&["Quarantined", "Pool", "Reason"], &rows, width);
        let title = style.alarm("In quarantine (forge quarantine ls shows whole ids)");
        text += &format!("\n{title}\n{}\n", lines.join("\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use forge_contract::agent::Identity;
    use serde_json::{Value, json};

    use super::*;

    fn id(seed: u8) -> String {
        Identity::from_random([seed; 32]).id().to_string()
    }

    fn heartbeat(seed: u8, seconds: u64, host: &str, adapter: Option<&str>) -> Heartbeat {
        let record = json!({"schema": AgentRecord::SCHEMA, "agent_id": id(seed), "pool": "default",
            "state": "live", "target": "gpu", "backend": "gpu", "adapter": adapter, "slots": 2, "batch": 16,
            "kernel": 1, "version": "0.1.0", "host": host});
        let record = serde_json::from_value(record).unwrap();
        Heartbeat { role: "worker", record, age: Duration::from_secs(seconds) }
    }

    /// The second agent is in quarantine.
    fn quarantines() -> Quarantines {
        let record = json!({"schema": "forge.quarantine.v1", "agent_id": id(2), "pool": "default",
            "job_uid": "ab".repeat(16), "shard_id": "0-7", "claimed": "00".repeat(32),
            "correct": "11".repeat(32), "verifier_id": id(3)});
        let agents = [(id(2), serde_json::from_value(record).unwrap())].into();
        Quarantines { agents, ..Quarantines::default() }
    }

    #[test]
    fn agents_are_listed_with_host_adapter_age_and_quarantine_in_lines_that_fit() {
        let adapter = format!("NVIDIA H200\u{1b}[2J {}", "x".repeat(100));
        let agents = [
            heartbeat(1, 2, "node-1", Some(&adapter)),
            heartbeat(2, 3, "node-2", None),
            heartbeat(4, 60, "node-3", None),
        ];
        let text = render_agents(&agents, &quarantines(), TextStyle::Plain, 100);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.iter().all(|line| line.chars().count() <= 100 && !line.contains('\u{1b}')), "{text}");
        let is_live = ["node-1", "NVIDIA H200", "2.0 s ago", "live", &id(1)[..8]];
        assert!(is_live.iter().all(|part| lines[1].contains(part)), "{text}");
        assert!(lines[2].contains("node-2") && lines[2].ends_with("quarantined"), "{text}");
        assert!(lines[3].ends_with("silent"), "{text}");
        let reason = format!("wrong result of shard 0-7 of job {}", "ab".repeat(16));
        assert!(lines.last().unwrap().ends_with(&reason), "{text}");
        assert!(!lines.last().unwrap().contains(&id(2)), "{text}");
    }

    #[test]
    fn quarantines_whose_record_cannot_be_read_are_listed_by_their_key() {
        let key = format!("quarantine.{}", id(1));
        let unreadable = [(key.clone(), "missing field `schema`".to_owned())].into();
        let quarantines = Quarantines { unreadable, ..Quarantines::default() };
        let agents = [heartbeat(1, 2, "node-1", None)];
        let text = render_agents(&agents, &quarantines, TextStyle::Plain, 160);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].ends_with("quarantined"), "{text}");
        let last = lines.last().unwrap();
        assert!(
            last.contains(&format!("  {key}  ")) && last.ends_with("unreadable: missing field `schema`"),
            "{text}"
        );
        let line: Value = serde_json::from_str(&to_json_lines(&agents, &quarantines)).unwrap();
        let reason = json!({"scope": "agent", "reason": "unreadable: missing field `schema`"});
        assert_eq!(line["quarantine"], reason);
    }

    #[test]
    fn json_has_whole_ids_ages_and_reasons() {
        let agents = [heartbeat(1, 2, "node-1", None), heartbeat(2, 60, "node-2", None)];
        let text = to_json_lines(&agents, &quarantines());
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["agent_id"], &lines[0]["last_seen_seconds"]), (&json!(id(1)), &json!(2.0)));
        assert_eq!((&lines[0]["live"], &lines[0]["quarantine"]), (&json!(true), &Value::Null));
        assert_eq!(lines[1]["live"], false);
        let reason = format!("wrong result of shard 0-7 of job {}", "ab".repeat(16));
        assert_eq!(lines[1]["quarantine"], json!({"scope": "agent", "reason": reason}));
    }

    #[test]
    fn without_agents_the_text_says_what_to_do() {
        let text = render_agents(&[], &Quarantines::default(), TextStyle::Plain, 100);
        assert!(text.contains("--all"), "{text}");
    }
}
