//! The work of each agent: a line of its shards, each as long as its execution took.

use std::time::Duration;

use forge_documents::number_format::{format_count, format_duration};
use maud::{Markup, html};

use crate::{
    job_view::{AgentWork, ExecutedShard},
    text,
};

/// Agents that are drawn.
const MAX_AGENTS: usize = 50;
/// Marks on one line. More shards are drawn several to a mark.
const MAX_MARKS: usize = 200;
/// Width of a line in units of the drawing.
const WIDTH: f64 = 1000.0;

/// The lines of all agents, on one scale.
pub fn section(agents: &[AgentWork]) -> Markup {
    let longest = agents.iter().map(AgentWork::busy_ms).fold(0.0, f64::max);
    let shards: usize = agents.iter().map(|agent| agent.shards.len()).sum();
    html! {
        section { h2 { "Work by agent" }
            p class="note" {
                (count(shards, "shard")) " by " (count(agents.len(), "agent"))
                ". A mark is as long as the shard took its agent. Shards stand in their order; when each began is not recorded."
            }
            ul class="work" {
                @for agent in agents.iter().take(MAX_AGENTS) { li {
                    p {
                        code title=(agent.agent) { (text::short_id(&agent.agent)) }
                        " " (agent.pool) " · " (text::cut(&agent.backend))
                        span { (count(agent.shards.len(), "shard")) " · " (duration(agent.busy_ms())) }
                    }
                    (line(agent, longest))
                } }
            }
            @if agents.len() > MAX_AGENTS {
                p class="note" { "The busiest " (MAX_AGENTS) " of " (count(agents.len(), "agent")) ". executions.json has all." }
            }
            ul class="legend" { li class="executed" { "executed" } li class="verified" { "confirmed by another agent" } }
        }
    }
}

fn line(agent: &AgentWork, longest: f64) -> Markup {
    let per_mark = agent.shards.len().div_ceil(MAX_MARKS).max(1);
    let scale = if longest > 0.0 { WIDTH / longest } else { 0.0 };
    let mut end = 0.0;
    let marks = agent.shards.chunks(per_mark).map(|shards| {
        let start = end;
        end += shards.iter().map(|shard| shard.wall_ms).sum::<f64>();
        (shards, scale * start, scale * (end - start))
    });
    let label = format!("{} in {}", count(agent.shards.len(), "shard"), duration(agent.busy_ms()));
    html! {
        svg class="line" viewBox=(format_args!("0 0 {WIDTH} 20")) preserveAspectRatio="none" role="img" aria-label=(label) {
            @for (shards, x, width) in marks {
                rect class=(mark_class(shards)) x=(format_args!("{x:.2}")) y="0" width=(format_args!("{width:.2}")) height="20" {
                    title { (mark_title(shards)) }
                }
            }
        }
    }
}

fn mark_class(shards: &[ExecutedShard]) -> &'static str {
    if shards.iter().all(|shard| shard.is_verified) { "verified" } else { "executed" }
}

fn mark_title(shards: &[ExecutedShard]) -> String {
    let wall_ms = shards.iter().map(|shard| shard.wall_ms).sum();
    let iterations = shards.iter().fold(0, |sum: u64, shard| sum.saturating_add(shard.iterations));
    let verified = shards.iter().filter(|shard| shard.is_verified).count();
    let name = match shards {
        [shard] => format!("shard {}", shard.id),
        [first, .., last] => format!("shards {} to {}", first.id, last.id),
        [] => String::new(),
    };
    format!("{name}: {}, {} iterations, {verified} confirmed", duration(wall_ms), format_count(iterations))
}

fn duration(milliseconds: f64) -> String {
    let duration = Duration::try_from_secs_f64(milliseconds / 1e3);
    duration.map_or_else(|_| "-".to_owned(), format_duration)
}

fn count(count: usize, noun: &str) -> String {
    format!("{} {noun}{}", format_count(count as u64), if count == 1 { "" } else { "s" })
}
