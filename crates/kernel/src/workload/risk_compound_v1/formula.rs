//! The model in words and formulas, in the names of the args.

/// What the args mean together, in paragraphs.
pub const FORMULA: &[&str] = &[
    "Net annual loss = gross annual loss − payments of all treaties. The gross annual loss of one of the lines is \
     the sum, over the groups, of its losses in a year: one amount (annual), or the claims or strikes of N \
     occurrences, where N follows the count of the group. A claim belongs to one component, chosen by weight; a \
     strike hits all components of the group. A component with rank same takes the draw of the component before it.",
    "The events of a table occur N times, where N is poisson with the sum m of the rates as its mean, or \
     negative_binomial with the variance m · (1 + contagion · m): the frequency. Each occurrence is one event, chosen in \
     proportion to its rate. Each line of the losses has one of its amounts for each event. No terms apply to them.",
    "Loss of a component, on its line = share · min(limit, max(0, index · X − deductible)), where X follows the \
     severity. Indices are drawn once a year, for the whole portfolio. With a franchise in place of the deductible, \
     the limit applies to index · X if that is at least the franchise, and the loss is 0 otherwise. What is not \
     given does not apply.",
    "Treaties pay in ascending order of step, and those of a step see what the steps before have left. The subject S \
     of a treaty is what they have left of an occurrence of its groups on the lines that it covers, and of the year \
     on these lines for an aggregate_xl. A payment is cut to what is left of the subject.",
    "A quota_share pays min(event_limit, cession · S) for every occurrence; without an event_limit it pays cession · \
     S of annual amounts too.",
    "An occurrence_xl takes r = min(limit, max(0, cession · S − attachment)) of every occurrence; of the sum R of \
     the year's r it pays placed · min(A, max(0, R − aad)). The annual limit A is the smaller of aal and limit · (1 + \
     number of reinstatements); a list of reinstatements that is not given sets no limit.",
    "An aggregate_xl pays placed · min(limit, max(0, S − attachment)) for the year. Its attachment_ratio and \
     limit_ratio state attachment and limit as fractions of premium.",
    "Premiums and commissions are reported and change no loss. The ceded premium P is cession · premium for a \
     quota_share, else placed · premium; an aggregate_xl with a ratio has none. An amount r of the k-th of the \
     reinstatements costs placed · premium · its price · r / limit. The commission is P · rate; in a sliding scale the \
     rate is linear in the loss_ratio, payment / P, between two knots, and constant outside. The profit_commission is \
     share · max(0, P · (1 − margin) − commission − payment).",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use schemars::SchemaGenerator;
    use serde_json::{Map, Value};

    use super::FORMULA;
    use crate::workload::risk_compound_v1::PROFILE;

    /// Definitions whose members the formula does not name. Members of the args, of their capital
    /// and of their report have a row of their own with a meaning in a report, and laws have a
    /// name.
    const ELSEWHERE: [&str; 6] =
        ["RiskArgs", "CapitalArgs", "ReportArgs", "CountArgs", "SeverityArgs", "IndexArgs"];

    /// Adds the names of all members of a schema, and the values of those that have one of a few.
    fn collect_names(schema: &Value, names: &mut BTreeSet<String>) {
        match schema {
            Value::Object(members) => {
                let properties = members.get("properties").and_then(Value::as_object);
                names.extend(properties.into_iter().flat_map(Map::keys).cloned());
                names.extend(members.get("const").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|member| collect_names(member, names));
            }
            Value::Array(items) => items.iter().for_each(|item| collect_names(item, names)),
            _ => {}
        }
    }

    #[test]
    fn every_arg_of_components_and_treaties_is_in_the_formula() {
        let mut generator = SchemaGenerator::default();
        (PROFILE.args_schema)(&mut generator);
        let definitions = generator.definitions();
        let mut names = BTreeSet::new();
        let of_model = |name: &str| name.ends_with("Args") && !ELSEWHERE.contains(&name);
        for (_, schema) in definitions.iter().filter(|(name, _)| of_model(name)) {
            collect_names(schema, &mut names);
        }
        // What they are, not what they do.
        names.retain(|name| !["kind", "name"].contains(&name.as_str()));
        assert!(
            ["event_limit", "aad", "quota_share", "same", "loss_ratio"].iter().all(|&n| names.contains(n))
        );
        let text = FORMULA.join(" ");
        let is_part_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words: BTreeSet<_> = text.split(|c: char| !is_part_of_word(c)).collect();
        let missing: Vec<_> = names.iter().filter(|name| !words.contains(name.as_str())).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
