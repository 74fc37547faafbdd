//! Measures how long a job is starved: has no live agent to execute its shards. Pure: reads no
//! clock. Patience for overdue shards and the decision to give a submission back depend on it.

use std::time::Duration;

/// The periods in which a job had no live agent. Times are durations since any fixed origin.
#[derive(Debug, Default)]
pub struct Starvation {
    /// Sum of the periods that are over.
    past: Duration,
    /// Start of the current period; `None` while there is a live agent.
    since: Option<Duration>,
}

impl Starvation {
    /// Records whether the job has a live agent at `now`.
    pub fn observe(&mut self, has_agents: bool, now: Duration) {
        if has_agents {
            self.past = self.total(now);
            self.since = None;
        } else {
            self.since.get_or_insert(now);
        }
    }

    /// Total starved time until `now`.
    pub fn total(&self, now: Duration) -> Duration {
        self.past + self.current(now)
    }

    /// Length of the current period until `now`; zero while there is a live agent.
    pub fn current(&self, now: Duration) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn starved_periods_add_up() {
        let mut starvation = Starvation::default();
        let observations = [
            (true, 10, 0, 0),
            (false, 12, 0, 0),
            (false, 40, 28, 28),
            (true, 50, 0, 38),
            (true, 60, 0, 38),
            (false, 61, 0, 38),
            (true, 71, 0, 48),
        ];
        for (has_agents, now, current, total) in observations {
            starvation.observe(has_agents, now * SECOND);
            let found = (starvation.current(now * SECOND), starvation.total(now * SECOND));
            assert_eq!(found, (current * SECOND, total * SECOND), "{now}");
        }
    }
}
