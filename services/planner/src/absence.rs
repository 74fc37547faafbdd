//! Whether a job's shards have takers. Keeps the time for which they had none, and says when that is worth telling. Reads no
//! clock.

use std::time::Duration;

/// How long nobody has to be there before it is said, and after how long it is said again.
const SAY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// The times without a live agent that takes a job's shards.
#[derive(Debug, Default)]
pub struct Absence {
    /// Those that are over.
    past: Duration,
    /// When the present one began.
    since: Option<Duration>,
    /// When it was said last.
    said: Option<Duration>,
}

impl Absence {
    /// Told at `now` whether there is a live agent; answers whether it is to be said that there is none.
    pub fn look(&mut self, live: bool, now: Duration) -> bool {
        if live {
            self.past += self.since.take().map_or(Duration::ZERO, |since| now.saturating_sub(since));
            self.said = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        let due = self.said.map_or(since + SAY.0, |said| said + SAY.1);
        if now >= due {
            self.said = Some(now);
        }
        now >= due
    }

    /// The time until `now` in which nobody was there.
    pub fn total(&self, now: Duration) -> Duration {
        self.past + self.since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_without_anybody_add_up() {
        let (mut absence, second) = (Absence::default(), Duration::from_secs(1));
        let looks = [(true, 10, 0), (false, 12, 0), (false, 40, 28), (true, 50, 38), (true, 60, 38)];
        for (live, now, total) in looks {
            absence.look(live, now * second);
            assert_eq!(absence.total(now * second), total * second, "{now}");
        }
        absence.look(false, 61 * second);
        absence.look(true, 71 * second);
        assert_eq!(absence.total(75 * second), 48 * second);
    }

    #[test]
    fn that_nobody_is_there_is_said_once_a_minute() {
        let (mut absence, second) = (Absence::default(), Duration::from_secs(1));
        let mut said = |live, from: u32, to: u32| -> Vec<u32> {
            (from..to).filter(|&now| absence.look(live, now * second)).collect()
        };
        assert_eq!(said(false, 100, 240), [105, 165, 225]);
        assert_eq!(said(true, 240, 250), [0; 0]);
        assert_eq!(said(false, 250, 260), [255]);
    }
}
