//! Conditions on the amounts of a year: `net >= 120e6 and gross < 2e8`. Compared exactly, in
//! integers.

use std::{cmp::Ordering, fmt, str::FromStr};

use forge_kernel::years::YearFigures;

use crate::audit::ShardPeaks;

/// Upper bound on the digits of a number, and on its decimals once its exponent is applied. Amounts
/// of 64 bits with as many decimals fit into 128 bits.
const MAX_DIGITS: usize = 18;

/// Conditions that all must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YearConditions {
    text: String,
    conditions: Vec<Condition>,
}

/// A condition on one amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Condition {
    amount: YearAmount,
    operator: Operator,
    bound: DecimalNumber,
}

/// An amount of a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum YearAmount {
    Net,
    Gross,
    Ceded,
    Largest,
    ReinstatementPremium,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    AtLeast,
    Above,
    AtMost,
    Below,
    Equal,
}

/// The number `digits · 10^-decimals`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DecimalNumber {
    digits: u128,
    decimals: u32,
}

const AMOUNTS: [(&str, YearAmount); 5] = [
    ("net", YearAmount::Net),
    ("gross", YearAmount::Gross),
    ("ceded", YearAmount::Ceded),
    ("largest", YearAmount::Largest),
    ("reinstatement_premium", YearAmount::ReinstatementPremium),
];

/// Longer operators come before those that they begin with.
const OPERATORS: [(&str, Operator); 5] = [
    (">=", Operator::AtLeast),
    ("<=", Operator::AtMost),
    (">", Operator::Above),
    ("<", Operator::Below),
    ("=", Operator::Equal),
];

impl YearConditions {
    /// Whether a year meets the conditions. `units` are the minor units in a unit.
    pub fn hold(&self, figures: &YearFigures, units: u32) -> bool {
        self.conditions.iter().all(|condition| {
            let order = condition.bound.compare(condition.amount.of(figures), units);
            condition.operator.accepts(order)
        })
    }

    /// Whether a year with at most these amounts can meet the conditions.
    pub fn can_hold(&self, peaks: &ShardPeaks, units: u32) -> bool {
        self.conditions.iter().all(|condition| {
            let peak = match condition.amount {
                YearAmount::Net => Some(peaks.net),
                YearAmount::Gross => peaks.gross,
                YearAmount::Ceded | YearAmount::Largest | YearAmount::ReinstatementPremium => None,
            };
            peak.is_none_or(|peak| match condition.operator {
                Operator::AtMost | Operator::Below => true,
                Operator::AtLeast | Operator::Above => {
                    condition.operator.accepts(condition.bound.compare(peak, units))
                }
                Operator::Equal => condition.bound.compare(peak, units) != Ordering::Less,
            })
        })
    }
}

impl fmt::Display for YearConditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl YearAmount {
    fn of(self, figures: &YearFigures) -> u64 {
        match self {
            Self::Net => figures.net,
            Self::Gross => figures.gross,
            Self::Ceded => figures.treaties.iter().map(|treaty| treaty.amount).sum(),
            Self::Largest => figures.largest,
            Self::ReinstatementPremium => figures.premiums.iter().sum(),
        }
    }
}

impl Operator {
    /// Whether an amount in this order to the bound meets the condition.
    fn accepts(self, order: Ordering) -> bool {
        match self {
            Self::AtLeast => order.is_ge(),
            Self::Above => order.is_gt(),
            Self::AtMost => order.is_le(),
            Self::Below => order.is_lt(),
            Self::Equal => order.is_eq(),
        }
    }
}

impl DecimalNumber {
    /// The order of an amount in minor units to this number of units.
    fn compare(self, amount: u64, units: u32) -> Ordering {
        (u128::from(amount) * 10_u128.pow(self.decimals)).cmp(&(self.digits * u128::from(units)))
    }
}

impl FromStr for YearConditions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let conditions = words.split(|word| *word == "and").map(|words| parse_condition(&words.concat()));
        Ok(Self { text: words.join(" "), conditions: conditions.collect::<Result<_, _>>()? })
    }
}

fn parse_condition(text: &str) -> Result<Condition, String> {
    let names = || AMOUNTS.map(|(name, _)| name).join(", ");
    if text.is_empty() {
        return Err("a condition is missing: write one such as net >= 120e6 on each side of `and`".to_owned());
    }
    let length = text.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(length);
    let amount = AMOUNTS.iter().find(|(known, _)| *known == name);
    let Some(&(_, amount)) = amount else {
        return Err(format!("{text:?} does not begin with the name of an amount: {}", names()));
    };
    let operator = OPERATORS.iter().find_map(|(sign, op)| Some((op, rest.strip_prefix(sign)?)));
    let Some((&operator, number)) = operator else {
        let signs = OPERATORS.map(|(sign, _)| sign).join(", ");
        return Err(format!("{text:?} has no operator after {name}: {signs}"));
    };
    let bound = parse_number(number).ok_or_else(|| {
        format!("{number:?} is not an amount: a number such as 120e6, with at most {MAX_DIGITS} digits")
    })?;
    Ok(Condition { amount, operator, bound })
}

/// Reads digits, with a point and an exponent if there are any; `None` for anything else, and for a
/// number of more than [`MAX_DIGITS`] digits or decimals.
fn parse_number(text: &str) -> Option<DecimalNumber> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, decimals) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{decimals}");
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u128 = digits.parse().ok()?;
    let shift = exponent.checked_sub(decimals.len() as i32)?;
    if shift.unsigned_abs() as usize > MAX_DIGITS {
        return None;
    }
    match u32::try_from(shift) {
        Ok(zeros) if zeros as usize + digits.len() > MAX_DIGITS => None,
        Ok(zeros) => Some(DecimalNumber { digits: value * 10_u128.pow(zeros), decimals: 0 }),
        Err(_) => Some(DecimalNumber { digits: value, decimals: shift.unsigned_abs() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn year(net: u64, gross: u64) -> YearFigures {
        YearFigures {
            year: 0,
            gross,
            net,
            lines: Vec::new(),
            groups: Vec::new(),
            treaties: Vec::new(),
            premiums: Vec::new(),
            largest: 5,
            largest_group: None,
        }
    }

    fn holds(text: &str, net: u64, gross: u64) -> bool {
        text.parse::<YearConditions>().unwrap().hold(&year(net, gross), 100)
    }

    #[test]
    fn amounts_are_compared_exactly() {
        assert!(holds("net >= 120e6", 12_000_000_000, 0) && !holds("net>=120e6", 11_999_999_999, 0));
        assert!(holds("net = 0.29", 29, 0) && holds("net = 2.9E-1", 29, 0) && !holds("net = 0.29", 30, 0));
        assert!(holds("net > 0.295", 30, 0) && !holds("net > 0.295", 29, 0) && !holds("net = 0.295", 30, 0));
        assert!(holds("net <= 0.3 and gross > 4", 30, 401) && !holds("net <= .3 and gross > 4", 30, 400));
        assert!(holds("net < 1 and largest = 0.05 and ceded = 0", 99, 0));
        let largest = "net < 999999999999999999".parse::<YearConditions>().unwrap();
        assert!(largest.hold(&year(u64::MAX, 0), 1000));
    }

    #[test]
    fn shards_are_passed_over_only_if_no_year_can_meet_the_conditions() {
        let peaks = ShardPeaks { net: 1000, gross: Some(5000) };
        let can_hold = |text: &str| text.parse::<YearConditions>().unwrap().can_hold(&peaks, 100);
        for text in
            ["net >= 10", "net > 9.99", "net = 10", "net = 3", "net < 1e-9", "gross >= 50", "largest > 99"]
        {
            assert!(can_hold(text), "{text}");
        }
        for text in
            ["net >= 10.01", "net > 10", "net = 10.001", "gross > 50 and net > 1", "net > 1 and gross > 50"]
        {
            assert!(!can_hold(text), "{text}");
        }
        let without = ShardPeaks { net: 1000, gross: None };
        assert!("gross > 50".parse::<YearConditions>().unwrap().can_hold(&without, 100));
    }

    #[test]
    fn errors_name_what_is_wrong() {
        for (text, expected) in [
            ("", "a condition is missing"),
            ("net > 1 and", "a condition is missing"),
            ("and net > 1", "a condition is missing"),
            ("loss > 1", "\"loss>1\" does not begin with the name of an amount: net, gross, ceded"),
            ("net", "\"net\" has no operator after net: >=, <=, >, <, ="),
            ("net => 1", "\">1\" is not an amount"),
            ("net == 1", "\"=1\" is not an amount"),
            ("net > 1,000", "\"1,000\" is not an amount"),
            ("net > -1", "\"-1\" is not an amount"),
            ("net > 1e19", "\"1e19\" is not an amount"),
            ("net > 1e-19", "\"1e-19\" is not an amount"),
            ("net > 1e9999999999", "is not an amount"),
            ("net > .", "\".\" is not an amount"),
            ("net > 1 or net < 0", "\"1ornet<0\" is not an amount"),
            ("net > 1 gross > 2", "\"1gross>2\" is not an amount"),
        ] {
            let error = text.parse::<YearConditions>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
