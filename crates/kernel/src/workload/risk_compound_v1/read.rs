//! Reads the args and checks every field by itself. Names must exist; what fields mean together is
//! checked elsewhere.

use std::ops::Bound::Excluded;

use forge_contract::strict::ObjectReader;

use super::{
    args::{
        AnnualArgs, AnnualGroupArgs, CapitalArgs, ClaimArgs, ClaimGroupArgs, GroupArgs, MAX_COMPONENTS,
        MAX_GROUPS, MAX_INDICES, MAX_LINES, MAX_TREATIES, PolicyTermsArgs, RankArgs, ReportArgs, RiskArgs,
        StrikeArgs, StrikeGroupArgs, default_decimals, default_level, default_measure,
    },
    checks,
    counts::CountArgs,
    event_tables::EventGroupArgs,
    fields::{NAME, Names, References, check_decimals, is_name, optional_fraction},
    portfolio::CapitalMeasure,
    read_events, read_treaties,
    severities::{IndexArgs, SeverityArgs},
};
use crate::workload::{
    Budget,
    reported_tails::{read_levels, read_return_periods},
};

const MEASURES: [(&str, CapitalMeasure); 2] = [("var", CapitalMeasure::Var), ("tvar", CapitalMeasure::Tvar)];

impl RiskArgs {
    /// Reads the args; errors go to the collector of `object`. Args with errors must not be used.
    pub fn read(mut object: ObjectReader<'_, '_>) -> Self {
        let budget = Budget::read(&mut object);
        let decimals = object.optional_integer("decimals", 0..=4);
        let decimals = decimals.map_or_else(default_decimals, |decimals| decimals as u32);
        let is_valid = !object.has_error("decimals");
        let references = References::new(&mut object, is_valid.then_some(decimals));
        check_lines(&mut object);
        let indices = read_indices(&mut object);
        let groups = read_groups(&mut object, &references);
        let mut names = Names::new("treaty");
        let treaties = object.optional_objects("treaties", 0..=MAX_TREATIES, |treaty| {
            read_treaties::read(treaty, &references, &mut names)
        });
        let capital = object.node("capital").is_some();
        let args = Self {
            iterations: budget.iterations,
            decimals,
            treaties: treaties.unwrap_or_default(),
            capital: capital.then(|| read_capital(object.optional_object("capital"), &references)),
            report: read_report(object.optional_object("report")),
            convergence: budget.convergence.clone(),
            lines: references.lines.unwrap_or_default(),
            groups,
            indices,
        };
        checks::check(&args, &mut object);
        if !["/groups", "/indices"].iter().any(|path| object.has_error_within(path)) {
            budget.check_draws(args.expected_draws(), &mut object);
        }
        object.finish();
        args
    }
}

/// Records errors of the names of lines.
fn check_lines(object: &mut ObjectReader<'_, '_>) {
    if object.node("lines").is_none() {
        object.missing("lines", "a list of the names of the lines");
    }
    let lines = object.optional_strings("lines", 1..=MAX_LINES, NAME, is_name).unwrap_or_default();
    for (index, name) in lines.iter().enumerate() {
        if let Some(first) = lines[..index].iter().position(|earlier| earlier == name) {
            let message = format!("repeats element {first} of the list: names must differ");
            object.error_at(&format!("/lines/{index}"), message);
        }
    }
}

fn read_indices(object: &mut ObjectReader<'_, '_>) -> Vec<IndexArgs> {
    let mut names = Names::new("index");
    let indices = object.optional_objects("indices", 0..=MAX_INDICES, |index| {
        IndexArgs::read(index, |object| names.read(object))
    });
    indices.unwrap_or_default()
}

fn read_groups(object: &mut ObjectReader<'_, '_>, references: &References) -> Vec<GroupArgs> {
    if object.node("groups").is_none() {
        object.missing("groups", "a list of the sources of losses");
    }
    let mut names = Names::new("group");
    let groups = object
        .optional_objects("groups", 1..=MAX_GROUPS, |group| read_group(group, references, &mut names))
        .unwrap_or_default();
    let components: usize = groups.iter().map(GroupArgs::size).sum();
    if components > MAX_COMPONENTS {
        let message =
            format!("must have at most {MAX_COMPONENTS} components together; they have {components}");
        object.error("groups", message);
    }
    groups
}

fn read_group(mut object: ObjectReader<'_, '_>, references: &References, names: &mut Names) -> GroupArgs {
    const KINDS: &str = "`annual`, or `count` and `claims`, or `count` and `strikes`, or `events`";
    let name = names.read(&mut object);
    let size = 1..=MAX_COMPONENTS;
    let annual = object.optional_objects("annual", size.clone(), |c| read_annual(c, references));
    let claims = object.optional_objects("claims", size.clone(), |c| read_claim(c, references));
    let strikes = object.optional_objects("strikes", size, |c| read_strike(c, references));
    let events = object.node("events").is_some();
    let events = events.then(|| read_events::read(object.optional_object("events"), references));
    let given = ["annual", "claims", "strikes", "events"].map(|kind| object.node(kind).is_some());
    let kinds = given.iter().filter(|is_given| **is_given).count();
    let has_count = object.node("count").is_some();
    if kinds > 1 {
        object.error_at("", format!("must have only one of {KINDS}"));
    } else if kinds == 0 && !object.has_unknown_key() {
        object.error_at("", format!("has no components: it must have {KINDS}"));
    }
    let group = if let Some(events) = events.filter(|_| kinds == 1) {
        if has_count {
            object.error("count", "is not allowed with `events`: their rates give the number of occurrences");
        }
        GroupArgs::Events(EventGroupArgs { name, events })
    } else if given[0] || (kinds == 0 && !has_count) {
        if has_count {
            object.error("count", "is not allowed with `annual`: totals of the year are no occurrences");
        }
        GroupArgs::Annual(AnnualGroupArgs { name, annual: annual.unwrap_or_default() })
    } else {
        let count = CountArgs::read(&mut object, "count");
        if given[2] {
            GroupArgs::Strikes(StrikeGroupArgs { name, count, strikes: strikes.unwrap_or_default() })
        } else {
            GroupArgs::Claims(ClaimGroupArgs { name, count, claims: claims.unwrap_or_default() })
        }
    };
    object.finish();
    group
}

fn read_annual(mut object: ObjectReader<'_, '_>, references: &References) -> AnnualArgs {
    let annual = AnnualArgs {
        line: references.read_line(&mut object),
        amount: SeverityArgs::read(&mut object, "amount", references.largest),
        index: references.read_index(&mut object),
    };
    object.finish();
    annual
}

fn read_claim(mut object: ObjectReader<'_, '_>, references: &References) -> ClaimArgs {
    let claim = ClaimArgs {
        line: references.read_line(&mut object),
        weight: object.optional_number("weight", 1e-9..=1e9).unwrap_or(1.0),
        severity: SeverityArgs::read(&mut object, "severity", references.largest),
        terms: read_policy_terms(&mut object, references),
    };
    object.finish();
    claim
}

fn read_strike(mut object: ObjectReader<'_, '_>, references: &References) -> StrikeArgs {
    let strike = StrikeArgs {
        line: references.read_line(&mut object),
        severity: SeverityArgs::read(&mut object, "severity", references.largest),
        rank: object.optional_choice("rank", &[("same", RankArgs::Same)]),
        terms: read_policy_terms(&mut object, references),
    };
    let is_first = object.pointer_of("rank").ends_with("/strikes/0/rank");
    if is_first && strike.rank.is_some() && !object.has_error("rank") {
        object.error("rank", "is not allowed for the first component: none before it has a draw to share");
    }
    object.finish();
    strike
}

fn read_policy_terms(object: &mut ObjectReader<'_, '_>, references: &References) -> PolicyTermsArgs {
    let amount = references.positive_amount();
    let terms = PolicyTermsArgs {
        deductible: object.optional_number("deductible", amount.clone()),
        franchise: object.optional_number("franchise", amount.clone()),
        limit: object.optional_number("limit", amount),
        share: optional_fraction(object, "share").unwrap_or(1.0),
        index: references.read_index(object),
    };
    if terms.deductible.is_some() && terms.franchise.is_some() {
        object.error("franchise", "is not allowed together with `deductible`: give one of them");
    }
    terms
}

fn read_capital(mut object: ObjectReader<'_, '_>, references: &References) -> CapitalArgs {
    let capital = CapitalArgs {
        own_funds: object.required_number("own_funds", references.positive_amount()),
        measure: object.optional_choice("measure", &MEASURES).unwrap_or_else(default_measure),
        level: object.optional_number("level", (Excluded(0.0), Excluded(1.0))).unwrap_or_else(default_level),
    };
    check_decimals(&mut object, "level", capital.level);
    object.finish();
    capital
}

fn read_report(mut object: ObjectReader<'_, '_>) -> ReportArgs {
    let default = ReportArgs::default();
    let return_periods = read_return_periods(&mut object);
    let levels = read_levels(&mut object);
    let report = ReportArgs {
        allocation: object.optional_bool("allocation").unwrap_or(default.allocation),
        return_periods: return_periods.unwrap_or(default.return_periods),
        levels: levels.unwrap_or(default.levels),
    };
    object.finish();
    report
}
