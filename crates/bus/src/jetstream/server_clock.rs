//! The server's clock as far as this process knows it. Ages of messages and entries are differences
//! between two times of the server, so the clock of this machine does not count.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::{Deserialize, Deserializer};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::Instant;

/// Estimates the server's time from the latest reply that stated it.
#[derive(Debug, Default)]
pub(super) struct ServerClock(Mutex<Option<ClockReading>>);

/// A time of the server since 1970, and when it was received.
#[derive(Debug, Clone, Copy)]
struct ClockReading {
    time: Duration,
    received_at: Instant,
}

impl ServerClock {
    /// Records the time that a reply stated, if it did.
    pub(super) fn record(&self, timestamp: Option<ServerTimestamp>) {
        if let Some(ServerTimestamp(time)) = timestamp {
            *self.0.lock() = Some(ClockReading { time, received_at: Instant::now() });
        }
    }

    /// Time since a moment of the server's clock, in nanoseconds since 1970; zero if it lies in the
    /// future. Before the first reply that states a time, the clock of this machine stands in.
    #[expect(clippy::disallowed_methods, reason = "no server has stated its time yet")]
    pub(super) fn time_since(&self, nanoseconds: u64) -> Duration {
        let now = match *self.0.lock() {
            Some(ClockReading { time, received_at }) => time + received_at.elapsed(),
            None => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        };
        now.saturating_sub(Duration::from_nanos(nanoseconds))
    }
}

/// The time that a reply of the server states, since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerTimestamp(Duration);

impl<'de> Deserialize<'de> for ServerTimestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = OffsetDateTime::parse(&text, &Rfc3339).map_err(serde::de::Error::custom)?;
        let since_epoch = (time - OffsetDateTime::UNIX_EPOCH).try_into();
        since_epoch.map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn nanoseconds(timestamp: &str) -> u64 {
        let time = OffsetDateTime::parse(timestamp, &Rfc3339).unwrap();
        time.unix_timestamp_nanos().try_into().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn ages_are_measured_by_the_servers_clock_alone() {
        // The clock of this machine is years ahead of that of this server.
        let clock = ServerClock::default();
        let timestamp = serde_json::from_str(r#""2020-01-01T00:00:10.123456789Z""#).unwrap();
        clock.record(Some(timestamp));
        clock.record(None);
        let written = nanoseconds("2020-01-01T00:00:09.123456789Z");
        assert_eq!(clock.time_since(written), Duration::from_secs(1));
        advance(Duration::from_secs(5)).await;
        assert_eq!(clock.time_since(written), Duration::from_secs(6));
        assert_eq!(clock.time_since(nanoseconds("2020-01-01T00:01:00Z")), Duration::ZERO);
    }

    #[test]
    fn without_a_reply_the_clock_of_this_machine_stands_in() {
        let clock = ServerClock::default();
        assert!(clock.time_since(nanoseconds("2020-01-01T00:00:00Z")) > Duration::from_secs(365 * 24 * 3600));
        assert_eq!(clock.time_since(u64::MAX), Duration::ZERO);
    }
}
