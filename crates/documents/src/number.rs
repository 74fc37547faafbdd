//! Numbers as people read them: thousands separators, two decimals, percentages, durations.

use std::time::Duration;

/// `1234567` as `1,234,567`.
pub fn grouped(value: u64) -> String {
    separated(&value.to_string())
}

/// An amount with thousands separators and two decimals; without decimals from 10^12 on, where they say nothing.
pub fn amount(value: f64) -> String {
    let sign = if value < 0.0 { "-" } else { "" };
    let decimals = if value.abs() < 1e12 { 2 } else { 0 };
    let text = format!("{:.decimals$}", value.abs());
    match text.split_once('.') {
        Some((whole, decimals)) => format!("{sign}{}.{decimals}", separated(whole)),
        None => format!("{sign}{}", separated(&text)),
    }
}

/// An amount, or a dash where there is none.
pub fn amount_or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), amount)
}

/// A probability as a percentage, with as many decimals as it needs to be told from 0 and from 1.
pub fn percent(probability: f64) -> String {
    let percent = probability * 100.0;
    let near = percent.min(100.0 - percent);
    match near {
        0.0 => format!("{percent:.0}%"),
        _ if near < 0.000_1 && percent < 50.0 => "< 0.0001%".to_owned(),
        _ if near < 0.000_1 => "> 99.9999%".to_owned(),
        _ if near < 0.1 => format!("{percent:.4}%"),
        _ => format!("{percent:.2}%"),
    }
}

/// A level such as 0.995 as `99.5%`.
pub fn level(level: f64) -> String {
    // Levels have at most six decimals: the seventh digit of the percentage is noise.
    let percent = format!("{:.6}", level * 100.0);
    format!("{}%", percent.trim_end_matches('0').trim_end_matches('.'))
}

/// A duration in the unit that suits it.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match duration.as_secs() {
        0 if seconds < 0.1 => format!("{:.1} ms", seconds * 1e3),
        0 => format!("{:.0} ms", seconds * 1e3),
        1..120 => format!("{seconds:.1} s"),
        whole @ 120..7200 => format!("{} min {} s", whole / 60, whole % 60),
        whole @ 7200..172_800 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        whole => format!("{} days", grouped(whole / 86_400)),
    }
}

/// A rate with three significant digits or so: `18.2 million`.
pub fn rounded_rate(rate: f64) -> String {
    match rate {
        _ if rate >= 1e9 => format!("{:.2} billion", rate / 1e9),
        _ if rate >= 1e6 => format!("{:.1} million", rate / 1e6),
        _ => grouped(rate.max(0.0) as u64),
    }
}

fn separated(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        assert_eq!(
            [0, 12, 123, 1234, 123_456, 1_234_567].map(grouped),
            ["0", "12", "123", "1,234", "123,456", "1,234,567"]
        );
        assert_eq!([0.0, 0.005, 999.999, -1234.5].map(amount), ["0.00", "0.01", "1,000.00", "-1,234.50"]);
        assert_eq!([999_999_999_999.99, 1e12].map(amount), ["999,999,999,999.99", "1,000,000,000,000"]);
    }

    #[test]
    fn percentages_never_show_a_rare_event_as_impossible() {
        assert_eq!(
            [0.0, 1.0, 0.1325, 0.000_5, 1e-5, 1e-9].map(percent),
            ["0%", "100%", "13.25%", "0.0500%", "0.0010%", "< 0.0001%"]
        );
        assert_eq!([0.999_5, 1.0 - 1e-9].map(percent), ["99.9500%", "> 99.9999%"]);
        assert_eq!([0.5, 0.995, 0.999_999].map(level), ["50%", "99.5%", "99.9999%"]);
    }

    #[test]
    fn durations_suit_their_length() {
        let shown = |ms| duration(Duration::from_millis(ms));
        assert_eq!(
            [5, 150, 12_340, 200_000, 7_260_000, 200_000_000].map(shown),
            ["5.0 ms", "150 ms", "12.3 s", "3 min 20 s", "2 h 1 min", "2 days"]
        );
        assert_eq!(
            [1234.0, 18_234_567.0, 2.5e9].map(rounded_rate),
            ["1,234", "18.2 million", "2.50 billion"]
        );
    }
}
