//! Reads treaties and checks the terms of each by themselves.

use forge_contract::strict::{Node, ObjectReader, nearest_name};

use super::{
    fields::{Names, References, check_decimals, optional_fraction, too_many_decimals},
    resolve::millionths,
    treaty_args::{
        AggregateXlArgs, CommissionArgs, CommissionKnotArgs, MAX_REINSTATEMENTS, MAX_STEP, OccurrenceXlArgs,
        ProfitCommissionArgs, QuotaShareArgs, TreatyArgs, TreatyTermsArgs,
    },
};

/// Largest price of a reinstatement, as a fraction of the premium.
const MAX_REINSTATEMENT_PRICE: f64 = 10.0;
/// Largest ratio of a layer's limit or attachment to a premium.
const MAX_RATIO: f64 = 100.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TreatyKind {
    QuotaShare,
    OccurrenceXl,
    AggregateXl,
}

use TreatyKind::{AggregateXl, OccurrenceXl, QuotaShare};

const KINDS: [(&str, TreatyKind); 3] =
    [("quota_share", QuotaShare), ("occurrence_xl", OccurrenceXl), ("aggregate_xl", AggregateXl)];
/// Fields of every treaty.
const COMMON: [&str; 5] = ["name", "step", "kind", "covers", "profit_commission"];
/// Number of knots of a sliding scale.
const SCALE_KNOTS: std::ops::RangeInclusive<usize> = 2..=16;

impl TreatyKind {
    fn name(self) -> &'static str {
        KINDS[self as usize].0
    }

    /// Fields of a treaty of this kind besides the common ones.
    fn terms(self) -> &'static [&'static str] {
        match self {
            QuotaShare => &["groups", "cession", "premium", "commission", "event_limit"],
            OccurrenceXl => &[
                "groups",
                "cession",
                "attachment",
                "limit",
                "aad",
                "aal",
                "reinstatements",
                "premium",
                "placed",
            ],
            AggregateXl => &["attachment", "attachment_ratio", "limit", "limit_ratio", "premium", "placed"],
        }
    }

    /// The message for a key that is not a field of a treaty of this kind.
    fn unknown_key(self, key: &str) -> String {
        if self == AggregateXl && key == "groups" {
            return "is not a term of aggregate_xl: it covers what all groups leave of its lines".to_owned();
        }
        let others = KINDS.iter().filter(|(_, kind)| kind.terms().contains(&key));
        let others: Vec<_> = others.map(|(name, _)| *name).collect();
        let known = COMMON.iter().chain(self.terms()).copied();
        if others.is_empty() {
            return match nearest_name(key, known.clone()) {
                Some(name) => format!("is not a known key: did you mean `{name}`?"),
                None => format!(
                    "is not a known key: the known keys are `{}`",
                    known.collect::<Vec<_>>().join("`, `")
                ),
            };
        }
        let terms = self.terms().join("`, `");
        format!("is a term of {}, not of {}: its terms are `{terms}`", others.join(" and "), self.name())
    }
}

/// Reads a treaty.
pub(super) fn read(
    mut object: ObjectReader<'_, '_>,
    references: &References,
    names: &mut Names,
) -> TreatyArgs {
    let name = names.read(&mut object);
    let step = object.optional_integer("step", 1..=MAX_STEP).unwrap_or(1) as u32;
    let kind = object.required_choice("kind", &KINDS);
    if object.node("covers").is_none() {
        object.missing("covers", "a list of names of lines");
    }
    let covers = read_names(&mut object, "covers", references.lines.as_deref());
    if object.has_error("kind") {
        // The other fields are those of an unknown kind.
        let commission = CommissionArgs::default();
        let terms = QuotaShareArgs { cession: 1.0, premium: None, commission, event_limit: None };
        let terms = TreatyTermsArgs::QuotaShare(terms);
        let covers = covers.unwrap_or_default();
        return TreatyArgs { name, step, covers, groups: None, profit_commission: None, terms };
    }
    let groups = match kind {
        AggregateXl => None,
        _ => read_names(&mut object, "groups", references.groups.as_deref()),
    };
    let terms = match kind {
        QuotaShare => TreatyTermsArgs::QuotaShare(read_quota_share(&mut object, references)),
        OccurrenceXl => TreatyTermsArgs::OccurrenceXl(read_occurrence_xl(&mut object, references)),
        AggregateXl => TreatyTermsArgs::AggregateXl(read_aggregate_xl(&mut object, references)),
    };
    let profit_commission = read_profit_commission(&mut object, &terms);
    object.finish_with(|key| kind.unknown_key(key));
    TreatyArgs { name, step, covers: covers.unwrap_or_default(), groups, profit_commission, terms }
}

/// Reads the profit commission of a treaty with these terms.
fn read_profit_commission(
    object: &mut ObjectReader<'_, '_>,
    terms: &TreatyTermsArgs,
) -> Option<ProfitCommissionArgs> {
    let node = object.node("profit_commission")?;
    if !matches!(node, Node::Object(_)) {
        let message = format!("must be an object such as {{\"share\": 0.25}}, not {}", node.type_name());
        object.error("profit_commission", message);
        return None;
    }
    let mut profit = object.optional_object("profit_commission");
    let share = optional_fraction(&mut profit, "share").unwrap_or_else(|| {
        profit.missing("share", "the fraction of the profit, greater than 0 and at most 1,");
        1.0
    });
    let margin = profit.optional_number("margin", 0.0..=1.0).unwrap_or(0.0);
    check_decimals(&mut profit, "margin", margin);
    profit.finish();
    if let Some(message) = missing_premium(terms)
        && !object.has_error_within("/profit_commission")
    {
        object.error("profit_commission", message);
    }
    Some(ProfitCommissionArgs { share, margin })
}

/// Why the treaty's own premium, of which its profit is a part, is not known; `None` if it is.
fn missing_premium(terms: &TreatyTermsArgs) -> Option<&'static str> {
    let premium = match terms {
        TreatyTermsArgs::QuotaShare(terms) => terms.premium,
        TreatyTermsArgs::OccurrenceXl(terms) => terms.premium,
        TreatyTermsArgs::AggregateXl(terms)
            if terms.attachment_ratio.is_some() || terms.limit_ratio.is_some() =>
        {
            return Some(
                "is not possible with `attachment_ratio` or `limit_ratio`: `premium` is then that of the covered \
                 lines, and the treaty has no premium of its own, from which a profit could be computed; give the \
                 layer as amounts, `attachment` and `limit`, and as `premium` that of the treaty",
            );
        }
        TreatyTermsArgs::AggregateXl(terms) => terms.premium,
    };
    premium.is_none().then_some("needs `premium`, that of the treaty, from which the profit is computed")
}

/// Reads a list of distinct names, at least one. `known` are the names that exist; where they are
/// not known because of errors, the list is empty.
fn read_names(
    object: &mut ObjectReader<'_, '_>,
    field: &'static str,
    known: Option<&[String]>,
) -> Option<Vec<String>> {
    let Some(known) = known else {
        return object.node(field).map(|_| Vec::new());
    };
    let choices: Vec<_> = known.iter().map(|name| (name.as_str(), name.as_str())).collect();
    let names = object.optional_choices(field, &choices)?;
    if names.is_empty() && !object.has_error_within(&format!("/{field}")) {
        object.error(field, "must have at least one element");
    }
    Some(names.into_iter().map(str::to_owned).collect())
}

fn read_quota_share(object: &mut ObjectReader<'_, '_>, references: &References) -> QuotaShareArgs {
    let cession = optional_fraction(object, "cession").unwrap_or_else(|| {
        object.missing("cession", "the ceded fraction, greater than 0 and at most 1,");
        1.0
    });
    let premium = object.optional_number("premium", references.positive_amount());
    let commission = read_commission(object);
    if matches!(commission, CommissionArgs::Sliding(_))
        && premium.is_none()
        && !object.has_error_within("/commission")
    {
        object.error("commission", "needs `premium`, to which the loss ratios of a sliding scale apply");
    }
    let event_limit = object.optional_number("event_limit", references.positive_amount());
    QuotaShareArgs { cession, premium, commission, event_limit }
}

/// Reads the commission of a quota share: a fraction, or the knots of a sliding scale.
fn read_commission(object: &mut ObjectReader<'_, '_>) -> CommissionArgs {
    match object.node("commission") {
        Some(Node::Array(_)) => {}
        None | Some(Node::Number(_)) => {
            let rate = object.optional_number("commission", 0.0..=1.0).unwrap_or(0.0);
            check_decimals(object, "commission", rate);
            return CommissionArgs::Flat(rate);
        }
        Some(other) => {
            let message = format!(
                "must be a number from 0 to 1, or a list of {} to {} objects such as {{\"loss_ratio\": 0.6, \
                 \"rate\": 0.3}} (a sliding scale), not {}",
                SCALE_KNOTS.start(),
                SCALE_KNOTS.end(),
                other.type_name()
            );
            object.error("commission", message);
            return CommissionArgs::default();
        }
    }
    let knots = object.optional_objects("commission", SCALE_KNOTS, read_knot).unwrap_or_default();
    for (at, pair) in knots.windows(2).enumerate() {
        let path = format!("/commission/{}/loss_ratio", at + 1);
        if pair[1].loss_ratio <= pair[0].loss_ratio && !object.has_error_within("/commission") {
            let (before, ratio) = (pair[0].loss_ratio, pair[1].loss_ratio);
            object.error_at(&path, format!("must be above that of the knot before, {before}; it is {ratio}"));
        }
    }
    CommissionArgs::Sliding(knots)
}

fn read_knot(mut object: ObjectReader<'_, '_>) -> CommissionKnotArgs {
    let loss_ratio = object.required_number("loss_ratio", 0.0..=MAX_RATIO);
    check_decimals(&mut object, "loss_ratio", loss_ratio);
    let rate = object.required_number("rate", 0.0..=1.0);
    check_decimals(&mut object, "rate", rate);
    object.finish();
    CommissionKnotArgs { loss_ratio, rate }
}

fn read_occurrence_xl(object: &mut ObjectReader<'_, '_>, references: &References) -> OccurrenceXlArgs {
    let amount = references.positive_amount();
    let reinstatements =
        object.optional_numbers("reinstatements", 0..=MAX_REINSTATEMENTS, 0.0..=MAX_REINSTATEMENT_PRICE);
    for (index, &price) in reinstatements.iter().flatten().enumerate() {
        let path = format!("/reinstatements/{index}");
        if millionths(price).is_none() && !object.has_error_within(&path) {
            object.error_at(&path, too_many_decimals(price));
        }
    }
    let terms = OccurrenceXlArgs {
        cession: optional_fraction(object, "cession").unwrap_or(1.0),
        attachment: object.required_number("attachment", 0.0..=references.largest),
        limit: object.optional_number("limit", amount.clone()),
        aad: object.optional_number("aad", amount.clone()),
        aal: object.optional_number("aal", amount.clone()),
        reinstatements,
        premium: object.optional_number("premium", amount),
        placed: optional_fraction(object, "placed").unwrap_or(1.0),
    };
    if object.node("reinstatements").is_some() && terms.limit.is_none() {
        object.error("reinstatements", "needs `limit`, the amount that is reinstated");
    }
    terms
}

fn read_aggregate_xl(object: &mut ObjectReader<'_, '_>, references: &References) -> AggregateXlArgs {
    let amount = references.positive_amount();
    let terms = AggregateXlArgs {
        attachment: object.optional_number("attachment", 0.0..=references.largest),
        attachment_ratio: object.optional_number("attachment_ratio", 0.0..=MAX_RATIO),
        limit: object.optional_number("limit", amount.clone()),
        limit_ratio: object.optional_number("limit_ratio", 1e-6..=MAX_RATIO),
        premium: object.optional_number("premium", amount),
        placed: optional_fraction(object, "placed").unwrap_or(1.0),
    };
    let ratios = [("attachment_ratio", terms.attachment_ratio), ("limit_ratio", terms.limit_ratio)];
    for (name, ratio) in ratios {
        let Some(ratio) = ratio else { continue };
        check_decimals(object, name, ratio);
        if terms.premium.is_none() {
            object.error(name, "needs `premium`, that of the covered lines, of which it is a fraction");
        }
    }
    if let (Some(ratio), Some(premium)) = (terms.limit_ratio, terms.premium)
        && ratio * premium < references.minor_unit / 2.0
        && !object.has_error("limit_ratio")
        && !object.has_error("premium")
    {
        let message = format!("gives a limit of 0: {ratio} of the premium, {premium}, is below a minor unit");
        object.error("limit_ratio", message);
    }
    if terms.attachment.is_some() && terms.attachment_ratio.is_some() {
        object.error("attachment_ratio", "is not allowed together with `attachment`: give one of them");
    }
    if terms.attachment.is_none() && terms.attachment_ratio.is_none() {
        object.missing(
            "attachment",
            "an amount, or `attachment_ratio` with the `premium` of the covered lines,",
        );
    }
    if terms.limit.is_some() && terms.limit_ratio.is_some() {
        object.error("limit_ratio", "is not allowed together with `limit`: give one of them");
    }
    terms
}
