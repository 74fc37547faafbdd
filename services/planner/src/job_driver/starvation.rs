//! Measures how long a job is starved: has no live agent to execute its shards. Also decides when
//! to warn about that. Pure: reads no clock.

use std::time::Duration;

/// Delay before the first "no live agents" warning of a starvation period.
const STARVATION_WARNING_DELAY: Duration = Duration::from_secs(5);
/// Interval between its repeats.
const STARVATION_WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The periods in which a job had no live agent. Times are durations since any fixed origin.
#[derive(Debug, Default)]
pub struct Starvation {
    /// Sum of the periods that are over.
    past: Duration,
    /// Start of the current period.
    since: Option<Duration>,
    /// Last warning in the current period.
    last_warning: Option<Duration>,
}

impl Starvation {
    /// Records whether the job has a live agent at `now`. Returns whether to warn that it has none.
    pub fn observe(&mut self, has_agents: bool, now: Duration) -> bool {
        if has_agents {
            self.past = self.total(now);
            self.since = None;
            self.last_warning = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        let next_warning = match self.last_warning {
            Some(last) => last + STARVATION_WARNING_INTERVAL,
            None => since + STARVATION_WARNING_DELAY,
        };
        let warn = now >= next_warning;
        if warn {
            self.last_warning = Some(now);
        }
        warn
    }

    /// Total starved time until `now`.
    pub fn total(&self, now: Duration) -> Duration {
        self.past + self.since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn starved_periods_add_up() {
        let mut starvation = Starvation::default();
        let observations = [(true, 10, 0), (false, 12, 0), (false, 40, 28), (true, 50, 38), (true, 60, 38)];
        for (has_agents, now, total) in observations {
            starvation.observe(has_agents, now * SECOND);
            assert_eq!(starvation.total(now * SECOND), total * SECOND, "{now}");
        }
        starvation.observe(false, 61 * SECOND);
        starvation.observe(true, 71 * SECOND);
        assert_eq!(starvation.total(75 * SECOND), 48 * SECOND);
    }

    #[test]
    fn starvation_is_warned_about_after_5_seconds_and_then_every_minute() {
        let mut starvation = Starvation::default();
        let mut warnings = |has_agents, from: u32, to: u32| -> Vec<u32> {
            (from..to).filter(|&now| starvation.observe(has_agents, now * SECOND)).collect()
        };
        assert_eq!(warnings(false, 100, 240), [105, 165, 225]);
        assert_eq!(warnings(true, 240, 250), [0; 0]);
        assert_eq!(warnings(false, 250, 260), [255]);
    }
}
