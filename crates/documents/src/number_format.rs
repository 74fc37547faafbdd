//! Numbers for human readers: thousands separators, two decimals, percentages, durations, rates.

use std::time::Duration;

/// Formats `1234567` as `1,234,567`.
pub fn format_count(value: u64) -> String {
    insert_separators(&value.to_string())
}

/// Significant digits of amounts below 1.
const SMALL_AMOUNT_DIGITS: usize = 4;
/// Significant digits of the labels of an axis.
const AXIS_DIGITS: usize = 3;
/// Amounts below this have an exponent.
const SMALLEST_DECIMAL: f64 = 1e-9;

/// Formats an amount with thousands separators and two decimals. Amounts below 1 have as many
/// decimals as four significant digits need, so that they are never shown as 0. From 10^12 on the
/// decimals are omitted: they carry no information.
pub fn format_amount(value: f64) -> String {
    let sign = if value < 0.0 { "-" } else { "" };
    let magnitude = value.abs();
    if magnitude > 0.0 && magnitude < 1.0 {
        return format!("{sign}{}", format_significant(magnitude, SMALL_AMOUNT_DIGITS, 2));
    }
    let decimals = if magnitude < 1e12 { 2 } else { 0 };
    let text = format!("{magnitude:.decimals$}");
    match text.split_once('.') {
        Some((whole, decimals)) => format!("{sign}{}.{decimals}", insert_separators(whole)),
        None => format!("{sign}{}", insert_separators(&text)),
    }
}

/// Formats an amount for a table with many columns: whole units from 1,000 on, else two decimals.
pub fn format_rounded(value: f64) -> String {
    let whole = value.abs().round();
    if whole < 1000.0 {
        return format_amount(value);
    }
    let sign = if value < 0.0 { "-" } else { "" };
    format!("{sign}{}", insert_separators(&format!("{whole:.0}")))
}

/// Formats an amount for the axis of a chart, with about three significant digits, and from a
/// million on in millions (M), billions (bn) or trillions (tn).
pub fn format_axis_amount(value: f64) -> String {
    let (scaled, unit) = match value {
        _ if value < 1e6 => (value, ""),
        _ if value < 1e9 => (value / 1e6, " M"),
        _ if value < 1e12 => (value / 1e9, " bn"),
        _ => (value / 1e12, " tn"),
    };
    match scaled {
        0.0 => "0".to_owned(),
        _ if scaled < 999.5 => format!("{}{unit}", format_significant(scaled, AXIS_DIGITS, 0)),
        _ => format!("{}{unit}", insert_separators(&format!("{scaled:.0}"))),
    }
}

/// Formats a positive number with so many significant digits, without zeros at the end beyond
/// `min_decimals`.
fn format_significant(value: f64, digits: usize, min_decimals: usize) -> String {
    if value < SMALLEST_DECIMAL {
        return format!("{value:.*e}", digits - 1);
    }
    // The exponent after rounding to the digits.
    let exponent = format!("{value:.*e}", digits - 1).rsplit('e').next().and_then(|text| text.parse().ok());
    let exponent: i32 = exponent.unwrap_or(0);
    let decimals = usize::try_from(digits as i32 - 1 - exponent).unwrap_or(0).max(min_decimals);
    let mut text = format!("{value:.decimals$}");
    let spare = decimals - min_decimals;
    let zeros = if decimals == 0 { 0 } else { text.len() - text.trim_end_matches('0').len() };
    text.truncate(text.len() - zeros.min(spare));
    text.trim_end_matches('.').to_owned()
}

/// Formats an amount, or `-` for `None`.
pub fn format_optional_amount(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), format_amount)
}

/// Formats a probability as a percentage, with enough decimals to distinguish it from 0% and from
/// 100%. A ratio above 100% or below 0% has two decimals.
pub fn format_percent(probability: f64) -> String {
    let percent = probability * 100.0;
    let distance = percent.min(100.0 - percent);
    match distance {
        0.0 => format!("{percent:.0}%"),
        _ if distance < 0.0 => format!("{percent:.2}%"),
        _ if distance < 0.000_1 && percent < 50.0 => "< 0.0001%".to_owned(),
        _ if distance < 0.000_1 => "> 99.9999%".to_owned(),
        _ if distance < 0.1 => format!("{percent:.4}%"),
        _ => format!("{percent:.2}%"),
    }
}

/// Formats a ratio of any size and sign as a percentage with one decimal.
pub fn format_ratio(ratio: f64) -> String {
    format!("{:.1}%", ratio * 100.0)
}

/// Formats a level such as 0.995 as `99.5%`.
pub fn format_level(level: f64) -> String {
    // A level has at most six decimals; any further digits of the percentage are rounding noise.
    let percent = format!("{:.6}", level * 100.0);
    format!("{}%", percent.trim_end_matches('0').trim_end_matches('.'))
}

/// Formats a duration in the unit that suits its length.
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match duration.as_secs() {
        0 if seconds < 0.1 => format!("{:.1} ms", seconds * 1e3),
        0 => format!("{:.0} ms", seconds * 1e3),
        1..120 => format!("{seconds:.1} s"),
        whole @ 120..7200 => format!("{} min {} s", whole / 60, whole % 60),
        whole @ 7200..172_800 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        whole => format!("{} days", format_count(whole / 86_400)),
    }
}

/// Formats a number of bytes in kB or MB.
pub fn format_bytes(bytes: u64) -> String {
    match bytes {
        0..1000 => format!("{bytes} bytes"),
        1000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// Formats a rate or a number with about three significant digits, such as `18.2 million`.
pub fn format_rate(rate: f64) -> String {
    match rate {
        _ if rate >= 1e15 => format!("{rate:.2e}"),
        _ if rate >= 1e12 => format!("{:.2} trillion", rate / 1e12),
        _ if rate >= 1e9 => format!("{:.2} billion", rate / 1e9),
        _ if rate >= 1e6 => format!("{:.1} million", rate / 1e6),
        _ => format_count(rate.max(0.0) as u64),
    }
}

fn insert_separators(digits: &str) -> String {
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
            [0, 12, 123, 1234, 123_456, 1_234_567].map(format_count),
            ["0", "12", "123", "1,234", "123,456", "1,234,567"]
        );
        assert_eq!(
            [0.0, 0.5, 999.999, -1234.5].map(format_amount),
            ["0.00", "0.50", "1,000.00", "-1,234.50"]
        );
        assert_eq!(
            [0.005, 0.001_038, -0.123_456, 0.999_96, 1e-7, 3e-12].map(format_amount),
            ["0.005", "0.001038", "-0.1235", "1.00", "0.0000001", "3.000e-12"]
        );
        assert_eq!(
            [999_999_999_999.99, 1e12].map(format_amount),
            ["999,999,999,999.99", "1,000,000,000,000"]
        );
        assert_eq!(
            [0.0, 999.4, 999.6, -1234.5, 1_000_000.4].map(format_rounded),
            ["0.00", "999.40", "1,000", "-1,235", "1,000,000"]
        );
        assert_eq!([999, 1000, 2_345_678].map(format_bytes), ["999 bytes", "1.0 kB", "2.3 MB"]);
    }

    #[test]
    fn labels_of_an_axis_are_short() {
        assert_eq!(
            [0.0, 0.001, 0.010_44, 1.0, 12.34, 999.9, 1000.0, 123_456.0].map(format_axis_amount),
            ["0", "0.001", "0.0104", "1", "12.3", "1,000", "1,000", "123,456"]
        );
        assert_eq!(
            [1e6, 23.46e6, 1e9, 10e9, 123.4e9, 1e12, 90.07e12, 9e15].map(format_axis_amount),
            ["1 M", "23.5 M", "1 bn", "10 bn", "123 bn", "1 tn", "90.1 tn", "9,000 tn"]
        );
    }

    #[test]
    fn rare_events_are_never_formatted_as_0_percent() {
        assert_eq!(
            [0.0, 1.0, 0.1325, 0.000_5, 1e-5, 1e-9].map(format_percent),
            ["0%", "100%", "13.25%", "0.0500%", "0.0010%", "< 0.0001%"]
        );
        assert_eq!([1.5, 12.0, -0.25].map(format_percent), ["150.00%", "1200.00%", "-25.00%"]);
        assert_eq!([0.999_5, 1.0 - 1e-9].map(format_percent), ["99.9500%", "> 99.9999%"]);
        assert_eq!([0.5, 0.995, 0.999_999].map(format_level), ["50%", "99.5%", "99.9999%"]);
    }

    #[test]
    fn durations_are_formatted_in_a_suitable_unit() {
        let format_ms = |ms| format_duration(Duration::from_millis(ms));
        assert_eq!(
            [5, 150, 12_340, 200_000, 7_260_000, 200_000_000].map(format_ms),
            ["5.0 ms", "150 ms", "12.3 s", "3 min 20 s", "2 h 1 min", "2 days"]
        );
        assert_eq!([1234.0, 18_234_567.0, 2.5e9].map(format_rate), ["1,234", "18.2 million", "2.50 billion"]);
        assert_eq!([2e12, 2e15].map(format_rate), ["2.00 trillion", "2.00e15"]);
    }
}
