//! Wall-clock time: the only module of the services that reads it. Durations within a process are
//! measured with `Instant` instead, which never jumps.

use std::time::Duration;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Returns the current time in UTC as RFC 3339 with milliseconds, as in `2026-11-23T04:21:23.123Z`.
pub fn now_rfc3339() -> String {
    format_rfc3339(OffsetDateTime::now_utc())
}

/// Returns the current date in UTC and the one after it, each as in `2026-11-23`.
pub fn today_and_tomorrow() -> (String, String) {
    let now = OffsetDateTime::now_utc();
    (format_date(now), format_date(now + Duration::from_secs(24 * 3600)))
}

/// Returns the time that has passed since an RFC 3339 timestamp; zero if the timestamp is malformed
/// or in the future, as it can be when another machine's clock wrote it.
pub fn elapsed_since(timestamp: &str) -> Duration {
    let Ok(since) = OffsetDateTime::parse(timestamp, &Rfc3339) else { return Duration::ZERO };
    (OffsetDateTime::now_utc() - since).try_into().unwrap_or_default()
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
        assert!(now_rfc3339().as_str() > "2026");
        let (today, tomorrow) = today_and_tomorrow();
        assert!(now_rfc3339() >= today && today < tomorrow);
    }

    #[test]
    fn elapsed_time_is_zero_for_malformed_and_future_timestamps() {
        assert!(elapsed_since("2020-01-01T00:00:00.000Z") > Duration::from_secs(365 * 24 * 3600));
        assert!(elapsed_since(&now_rfc3339()) < Duration::from_secs(60));
        assert_eq!(elapsed_since("9999-01-01T00:00:00.000Z"), Duration::ZERO);
        assert_eq!(elapsed_since("yesterday"), Duration::ZERO);
    }
}
