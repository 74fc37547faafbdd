//! Which shards planners believe accepted: what the outcomes of a job say, whichever aggregator
//! published them.

use std::collections::BTreeSet;

use forge_bus::Replay;
use forge_contract::{shard::ShardId, task::ShardOutcome};
use forge_service::shard_messages;

/// Reads the stored outcomes, and returns the shards among them that are reported as accepted and
/// `is_open` here. Planners wait for them until they are reopened. An aggregator that could not
/// hold its lease may have accepted them, and the messages with their results may be gone, because
/// each aggregator removes those that do not count for it.
pub(crate) async fn reported_as_accepted(
    mut outcomes: Replay,
    is_open: impl Fn(ShardId) -> bool,
) -> BTreeSet<ShardId> {
    let mut reported = BTreeSet::new();
    while let Some(stored) = outcomes.next_stored().await {
        let Ok(batch) = shard_messages::parse_outcomes(&stored.message.payload) else { continue };
        for outcome in batch.outcomes {
            match outcome {
                ShardOutcome::Accepted { shard_id, .. } if is_open(shard_id) => {
                    reported.insert(shard_id);
                }
                ShardOutcome::Reopened { shard_id } => {
                    reported.remove(&shard_id);
                }
                _ => {}
            }
        }
    }
    reported
}
