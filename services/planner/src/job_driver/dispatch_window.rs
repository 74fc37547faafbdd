//! The dispatch window: how many shards of a job may be in flight. Pure.

use std::time::Duration;

use forge_service::registry::LiveCapacity;

/// Work that is dispatched in advance for every slot, as expected execution time.
const QUEUED_WORK_PER_SLOT: Duration = Duration::from_millis(50);
/// Bounds on the in-flight shards per slot. With 2, a slot finds its next shard in the queue when
/// it returns one.
const MIN_SHARDS_PER_SLOT: f64 = 2.0;
const MAX_SHARDS_PER_SLOT: f64 = 256.0;
/// Upper bound on a job's in-flight shards, however many agents there are.
const MAX_IN_FLIGHT: usize = 16_384;

/// Upper bound on a job's in-flight shards. Leaves work queued for agents that join later, and
/// fills every agent's batch twice.
///
/// `live` counts the live agents of the job's target, `mean_shard_time` is the mean execution time
/// of its shards (`None` before the first result), and `max_agents` comes from the policy (0 means
/// no maximum).
pub fn dispatch_window(live: LiveCapacity, mean_shard_time: Option<Duration>, max_agents: u32) -> usize {
    let mean = mean_shard_time.unwrap_or(QUEUED_WORK_PER_SLOT).as_secs_f64().max(1e-6);
    let shards = (QUEUED_WORK_PER_SLOT.as_secs_f64() / mean).clamp(MIN_SHARDS_PER_SLOT, MAX_SHARDS_PER_SLOT);
    // Without live agents the window is that of one slot, so that the first agent finds work.
    let slots = live.slots.max(1) as usize;
    let window = (slots * shards as usize).max(live.shards as usize * 2).min(MAX_IN_FLIGHT);
    // An agent cannot be kept from a queue, but with at most `max_agents` shards in flight no more
    // than that many agents can execute one.
    if max_agents == 0 { window } else { window.min(max_agents as usize) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn live(slots: u32, shards: u32) -> LiveCapacity {
        LiveCapacity { agents: 1, slots, shards }
    }

    #[test]
    fn window_holds_two_shards_per_slot_until_a_shard_time_is_known() {
        assert_eq!(dispatch_window(live(4, 4), None, 0), 8);
        assert_eq!(dispatch_window(live(4, 4), Some(60_000 * MILLISECOND), 0), 8);
    }

    #[test]
    fn window_grows_as_shards_get_shorter() {
        assert_eq!(dispatch_window(live(4, 4), Some(5 * MILLISECOND), 0), 4 * 10);
        assert_eq!(dispatch_window(live(4, 4), Some(MILLISECOND / 10), 0), 4 * 256);
        assert_eq!(dispatch_window(live(4, 4), Some(Duration::ZERO), 0), 4 * 256);
    }

    #[test]
    fn window_fills_every_batch_twice() {
        assert_eq!(dispatch_window(live(1, 64), Some(60_000 * MILLISECOND), 0), 128);
    }

    #[test]
    fn window_leaves_work_for_the_first_agent() {
        assert_eq!(dispatch_window(LiveCapacity::default(), None, 0), 2);
    }

    #[test]
    fn window_is_bounded_by_the_policy_and_in_total() {
        assert_eq!(dispatch_window(live(4, 4), None, 3), 3);
        assert_eq!(dispatch_window(live(4, 4), None, 9), 8);
        assert_eq!(dispatch_window(live(1000, 1000), Some(Duration::ZERO), 0), MAX_IN_FLIGHT);
        assert_eq!(dispatch_window(live(u32::MAX, u32::MAX), Some(Duration::ZERO), 0), MAX_IN_FLIGHT);
    }
}
