//! Args that name the levels and return periods of a report.

use std::ops::Bound::Excluded;

use forge_contract::strict::{ObjectReader, number_to_value};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    convergence::level_in_millionths,
    statistics::Level,
    summary::{DEFAULT_RETURN_PERIODS, ReportedTails},
};

/// Most return periods, and most levels.
pub const MAX_REPORTED: usize = 64;
/// Levels where the args name none.
pub const DEFAULT_LEVELS: [f64; 6] = [0.5, 0.9, 0.95, 0.99, 0.995, 0.999];

/// The levels and return periods of the result's tables.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "TailReportArgs")]
pub struct TailReportArgs {
    /// Return periods of exceedance. Default 2, 5, 10, 25, 50, 100, 200, 250, 500, 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(range(min = 2, max = 1_000_000)))]
    pub return_periods: Option<Vec<u64>>,
    /// Levels of value at risk and tail value at risk. Default 0.5, 0.9, 0.95, 0.99, 0.995, 0.999.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(range(min = 0.000_001, max = 0.999_999)))]
    pub levels: Option<Vec<f64>>,
}

impl TailReportArgs {
    /// Reads the args. Lists that are equal to the defaults become `None`.
    pub fn read(mut object: ObjectReader<'_, '_>) -> Self {
        let return_periods = read_return_periods(&mut object);
        let levels = read_levels(&mut object);
        object.finish();
        Self {
            return_periods: return_periods.filter(|periods| *periods != DEFAULT_RETURN_PERIODS),
            levels: levels.filter(|levels| *levels != DEFAULT_LEVELS),
        }
    }

    /// The normal form; `None` where both lists are the defaults.
    pub fn to_value(&self) -> Option<Value> {
        let mut map = Map::new();
        if let Some(periods) = &self.return_periods {
            map.insert("return_periods".into(), periods.clone().into());
        }
        if let Some(levels) = &self.levels {
            let levels: Vec<_> = levels.iter().map(|&level| number_to_value(level)).collect();
            map.insert("levels".into(), levels.into());
        }
        (!map.is_empty()).then_some(Value::Object(map))
    }

    /// The levels and return periods, ascending.
    pub fn reported_tails(&self) -> ReportedTails {
        let mut reported = ReportedTails::default();
        if let Some(periods) = &self.return_periods {
            reported.return_periods.clone_from(periods);
            reported.return_periods.sort_unstable();
        }
        if let Some(levels) = &self.levels {
            reported.levels = levels.iter().filter_map(|&level| level_in_millionths(level)).collect();
            reported.levels.sort_unstable_by_key(|level: &Level| level.numerator);
        }
        reported
    }
}

/// Reads the field `return_periods`: distinct whole numbers.
pub fn read_return_periods(object: &mut ObjectReader<'_, '_>) -> Option<Vec<u64>> {
    let periods = object.optional_numbers("return_periods", 1..=MAX_REPORTED, 2.0..=1e6);
    check_elements(object, "return_periods", periods.as_deref(), |x| {
        (x.trunc() != x).then(|| format!("must be a whole number; it is {x}"))
    });
    periods.map(|periods| periods.iter().map(|&x| x as u64).collect())
}

/// Reads the field `levels`: distinct numbers between 0 and 1 with at most six decimals.
pub fn read_levels(object: &mut ObjectReader<'_, '_>) -> Option<Vec<f64>> {
    let levels = object.optional_numbers("levels", 1..=MAX_REPORTED, (Excluded(0.0), Excluded(1.0)));
    check_elements(object, "levels", levels.as_deref(), |x| {
        level_in_millionths(x).is_none().then(|| format!("must have at most six decimals; it is {x}"))
    });
    levels
}

/// Records an error on every element that repeats an earlier one, or that `fault` finds one with.
fn check_elements(
    object: &mut ObjectReader<'_, '_>,
    name: &str,
    values: Option<&[f64]>,
    fault: impl Fn(f64) -> Option<String>,
) {
    let values = values.unwrap_or_default();
    for (index, &x) in values.iter().enumerate() {
        let path = format!("/{name}/{index}");
        if object.has_error_within(&path) {
            continue;
        }
        let repeats = || values[..index].contains(&x).then(|| "repeats an earlier element".to_owned());
        if let Some(message) = fault(x).or_else(repeats) {
            object.error_at(&path, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use forge_contract::strict::{self, Errors};
    use serde_json::json;

    use super::*;

    fn read(args: &Value) -> Result<TailReportArgs, Vec<String>> {
        let node = strict::parse(args.to_string().as_bytes()).unwrap();
        let mut errors = Errors::new();
        let report = TailReportArgs::read(ObjectReader::open(&node, "/args/report", &mut errors).unwrap());
        let invalid = errors.into_result(report);
        invalid.map_err(|invalid| invalid.into_errors().into_iter().map(|error| error.pointer).collect())
    }

    #[test]
    fn defaults_are_left_out_and_other_lists_keep_their_order() {
        assert_eq!(read(&json!({})).unwrap().to_value(), None);
        let defaults = json!({"levels": DEFAULT_LEVELS, "return_periods": DEFAULT_RETURN_PERIODS});
        let report = read(&defaults).unwrap();
        assert_eq!((report.to_value(), report.reported_tails()), (None, ReportedTails::default()));
        let own = json!({"levels": [0.99, 0.123_456], "return_periods": [7, 3]});
        let report = read(&own).unwrap();
        assert_eq!(report.to_value(), Some(own));
        let reported = report.reported_tails();
        assert_eq!(reported.levels, [Level::new(123_456, 1_000_000), Level::new(990_000, 1_000_000)]);
        assert_eq!(reported.return_periods, [3, 7]);
    }

    #[test]
    fn every_wrong_element_has_an_error() {
        let wrong = json!({"levels": [0.5, 0.5, 1, 0.123_456_7], "return_periods": [1, 2.5, 2]});
        let pointers = ["return_periods/0", "return_periods/1", "levels/2", "levels/1", "levels/3"];
        let expected: Vec<_> = pointers.iter().map(|pointer| format!("/args/report/{pointer}")).collect();
        let mut errors = read(&wrong).unwrap_err();
        errors.sort();
        let mut expected = expected;
        expected.sort();
        assert_eq!(errors, expected);
    }
}
