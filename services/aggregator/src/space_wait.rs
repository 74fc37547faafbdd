//! Noticing that a job makes no progress because there is no space for results.

use std::time::Duration;

use forge_bus::{Bus, topology::Stream};
use forge_service::{result_limit::max_result_bytes, result_space::ResultVolume};
use tokio::time::Instant;

/// Time without progress before the space is checked.
const PATIENCE: Duration = Duration::from_secs(3);
/// Interval between two checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(3);

/// Whether a job waits for space.
#[derive(Debug, Default)]
pub(crate) struct SpaceWait {
    checked: Option<Instant>,
    reason: Option<String>,
}

impl SpaceWait {
    /// Returns why a job waits that has made no progress for this time, if it waits for space:
    /// because results are refused, or because planners hand out no more of its shards. An error of
    /// the bus counts as no answer.
    pub async fn observe(&mut self, bus: &dyn Bus, idle: Duration, volume: ResultVolume) -> Option<&str> {
        if idle < PATIENCE {
            *self = Self::default();
            return None;
        }
        if self.checked.is_none_or(|checked| checked.elapsed() >= CHECK_INTERVAL) {
            self.checked = Some(Instant::now());
            let space = bus.stream_space(Stream::Results).await.unwrap_or_default();
            let max_result = max_result_bytes(bus.max_payload());
            // A job that has all results waits for verdicts.
            let is_short = volume.is_incomplete()
                && (space.is_full() || volume.room(space.free_bytes(), max_result) == 0);
            self.reason = is_short.then(|| describe(space.used_percent()));
        }
        self.reason.as_deref()
    }
}

fn describe(used: u64) -> String {
    format!(
        "{used}% of the space for results ({}) is in use: cancel this job or others, or wait until others end",
        Stream::Results.name()
    )
}

#[cfg(test)]
mod tests {
    use forge_bus::{
        MemoryBus, Message,
        topology::{TopologySettings, result_subject},
    };
    use forge_contract::{
        ids::{JobUid, PoolName},
        shard::ShardId,
    };
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_job_without_progress_waits_for_space_while_the_stream_of_results_is_full() {
        let storage_bytes = TopologySettings::MIN_STORAGE_BYTES;
        let bus = MemoryBus::new(TopologySettings { storage_bytes, ..TopologySettings::default() });
        bus.prepare().await.unwrap();
        let (mut wait, volume) = (SpaceWait::default(), ResultVolume::new(1, 300_000, 2));
        let publish = async |index| {
            let shard = ShardId { height: 0, index };
            let subject = result_subject(&PoolName::default(), JobUid([1; 16]), shard);
            bus.publish(Message::new(subject, vec![0; 300_000]), &index.to_string()).await
        };
        assert_eq!(wait.observe(bus.as_ref(), PATIENCE, volume).await, None);
        let mut index = 0;
        while publish(index).await.is_ok() {
            index += 1;
        }
        assert_eq!(wait.observe(bus.as_ref(), PATIENCE, volume).await, None, "it was checked a moment ago");
        advance(CHECK_INTERVAL).await;
        let complete = ResultVolume::new(3, 900_000, 0);
        assert_eq!(wait.observe(bus.as_ref(), PATIENCE, complete).await, None, "it waits for verdicts");
        advance(CHECK_INTERVAL).await;
        let reason = wait.observe(bus.as_ref(), PATIENCE, volume).await.unwrap();
        assert!(reason.contains("FORGE_RESULTS") && reason.contains("cancel"), "{reason}");
        assert_eq!(wait.observe(bus.as_ref(), Duration::ZERO, volume).await, None, "it makes progress");
        bus.purge(Stream::Results, ">").await.unwrap();
        assert_eq!(wait.observe(bus.as_ref(), PATIENCE, volume).await, None);
        advance(CHECK_INTERVAL).await;
        assert_eq!(wait.observe(bus.as_ref(), PATIENCE, complete).await, None, "it waits for verdicts");
        // A job that holds most of the space gets no more of it, and others do.
        let stored = index * 85 / 100;
        for index in index..index + stored {
            publish(index).await.unwrap();
        }
        let of_job = |stored| ResultVolume::new(stored, stored * 300_000, 1000);
        for (stored, is_waiting) in [(stored, true), (1, false)] {
            advance(CHECK_INTERVAL).await;
            let reason = wait.observe(bus.as_ref(), PATIENCE, of_job(stored)).await;
            assert_eq!(reason.is_some(), is_waiting, "{stored}: {reason:?}");
        }
    }
}
