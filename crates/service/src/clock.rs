//! Wall-clock time: the only module of the services that reads it. Durations within a process are
//! measured with tokio's `Instant` instead, which never jumps, and which tests can pause.

use std::time::Duration;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::Instant;

/// The wall clock that a process reads: by default that of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock(Option<SimulatedTime>);

/// A time of a simulated clock, and when it showed that time.
#[derive(Debug, Clone, Copy)]
struct SimulatedTime {
    time: OffsetDateTime,
    at: Instant,
}

impl Clock {
    /// A clock that shows `since_epoch` now, as time since 1970 in UTC, and follows tokio's time
    /// from there. Two of them may differ, as the clocks of two machines do.
    ///
    /// # Panics
    /// When the time lies after the year 9999.
    pub fn simulated(since_epoch: Duration) -> Self {
        Self(Some(SimulatedTime { time: OffsetDateTime::UNIX_EPOCH + since_epoch, at: Instant::now() }))
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(self) -> OffsetDateTime {
        self.0.map_or_else(OffsetDateTime::now_utc, |simulated| simulated.time + simulated.at.elapsed())
    }

    /// Returns the current time in UTC as RFC 3339 with milliseconds, as in
    /// `2026-11-23T04:21:23.123Z`.
    pub fn now_rfc3339(self) -> String {
        format_rfc3339(self.now())
    }

    /// Returns the current date in UTC and the one after it, each as in `2026-11-23`.
    pub fn today_and_tomorrow(self) -> (String, String) {
        let now = self.now();
        (format_date(now), format_date(now + Duration::from_secs(24 * 3600)))
    }

    /// Returns the time that has passed since an RFC 3339 timestamp; zero if the timestamp is
    /// malformed or in the future, as it can be when another machine's clock wrote it.
    pub fn elapsed_since(self, timestamp: &str) -> Duration {
        let Ok(since) = OffsetDateTime::parse(timestamp, &Rfc3339) else { return Duration::ZERO };
        (self.now() - since).try_into().unwrap_or_default()
    }
}

fn format_date(time: OffsetDateTime) -> String {
    format!("{:04}-{:02}-{:02}", time.year(), u8::from(time.month()), time.day())
}

fn format_rfc3339(time: OffsetDateTime) -> String {
    format!(
        "{}T{:02}:{:02}:{:02}.{:03}Z",
        format_date(time),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_with_milliseconds() {
        let time = OffsetDateTime::from_unix_timestamp_nanos(1_700_000_000_007_999_999).unwrap();
        assert_eq!(format_rfc3339(time), "2023-11-14T22:13:20.007Z");
        let clock = Clock::default();
        assert!(clock.now_rfc3339().as_str() > "2026");
        let (today, tomorrow) = clock.today_and_tomorrow();
        assert!(clock.now_rfc3339() >= today && today < tomorrow);
    }

    #[test]
    fn elapsed_time_is_zero_for_malformed_and_future_timestamps() {
        let clock = Clock::default();
        assert!(clock.elapsed_since("2020-01-01T00:00:00.000Z") > Duration::from_secs(365 * 24 * 3600));
        assert!(clock.elapsed_since(&clock.now_rfc3339()) < Duration::from_secs(60));
        assert_eq!(clock.elapsed_since("9999-01-01T00:00:00.000Z"), Duration::ZERO);
        assert_eq!(clock.elapsed_since("yesterday"), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_simulated_clock_follows_tokios_time() {
        let clock = Clock::simulated(Duration::from_secs(1_700_000_000));
        assert_eq!(clock.now_rfc3339(), "2023-11-14T22:13:20.000Z");
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.now_rfc3339(), "2023-11-14T22:14:50.000Z");
        assert_eq!(clock.elapsed_since("2023-11-14T22:13:20.000Z"), Duration::from_secs(90));
    }
}
