//! Warnings about treaties: layers that cannot pay or always do, limits in the wrong order, and
//! cessions that may exceed their subject.

use forge_contract::program::{MAX_AMOUNT, Program};

use super::{
    checks::covered_pairs,
    commissions::Commission,
    portfolio::{GroupKind, Portfolio, PortfolioTreaty},
    ranges::AmountRange,
    treaty_subjects::{TreatySubject, treaty_subjects},
};
use crate::{
    treaties::{IndexSet, Layer, OccurrenceLayer, Proportion, Treaty, TreatyTerms},
    workload::warning::{WarningList, grouped},
};

/// Adds the warnings about all treaties; `program` is the portfolio's.
pub(super) fn warn(portfolio: &Portfolio, program: &Program, warnings: &mut WarningList) {
    let subjects = treaty_subjects(program);
    for (index, (treaty, reach)) in portfolio.treaties.iter().zip(&subjects).enumerate() {
        let path = format!("/treaties/{index}");
        let earlier = &portfolio.treaties[..index];
        warn_about_annual_components(portfolio, treaty, &path, warnings);
        if let Some((layer, subject)) = layer_and_subject(treaty, reach) {
            warn_about_reach(portfolio, treaty, layer, subject, &path, warnings);
            if let Some(other) = earlier.iter().find(|other| overlap(other, treaty)) {
                let message = format!(
                    "overlaps the layer {:?} of the same step: together they pay more than once for a part of the \
                     subject",
                    other.name
                );
                warnings.push(&format!("{path}/attachment"), message);
            }
        }
        if let Some((other, top)) = layer_below_gap(&portfolio.treaties, treaty) {
            let message = format!(
                "leaves a gap above the layer {other:?} of the same step, which ends at {}",
                in_units(portfolio, top)
            );
            warnings.push(&format!("{path}/attachment"), message);
        }
        warn_about_premium(portfolio, treaty, &path, warnings);
        warn_about_commissions(treaty, &path, warnings);
        if let TreatyTerms::OccurrenceXl(layer) = &treaty.treaty.terms {
            warn_about_annual_limit(portfolio, layer, &path, warnings);
            warn_about_annual_deductible(portfolio, layer, reach.recoveries, &path, warnings);
            if treaty.premium == 0 && layer.reinstatements.iter().any(|price| price.0 > 0) {
                let message = "cost nothing without a premium, of which their prices are fractions; only the technical \
                               premium counts them";
                warnings.push(&format!("{path}/reinstatements"), message);
            }
        }
        if let Some(others) = may_exceed_subject(portfolio, treaty, earlier) {
            let message = format!(
                "may cede more than there is together with {} of the same step: cessions are then cut in the order \
                 of the list",
                others.join(", ")
            );
            warnings.push(&path, message);
        }
    }
}

/// An amount in units of the args, as text.
fn in_units(portfolio: &Portfolio, amount: u64) -> String {
    grouped(amount as f64 / f64::from(portfolio.units))
}

/// Warns of a treaty by occurrence all of whose components are totals of the year.
fn warn_about_annual_components(
    portfolio: &Portfolio,
    treaty: &PortfolioTreaty,
    path: &str,
    warnings: &mut WarningList,
) {
    let needs_occurrences = match treaty.treaty.terms {
        TreatyTerms::OccurrenceXl(_) => true,
        TreatyTerms::QuotaShare { event_limit, .. } => event_limit < MAX_AMOUNT,
        TreatyTerms::AggregateXl { .. } => false,
    };
    let pairs = covered_pairs(portfolio, treaty);
    let is_annual = |group: usize| portfolio.groups[group].kind == GroupKind::Annual;
    if needs_occurrences && pairs.iter().all(|&(group, _)| is_annual(group)) {
        warnings.push(
            &format!("{path}/covers"),
            "covers only totals of the year: a treaty by occurrence pays nothing for them",
        );
    }
}

/// A layer, and the amounts that it applies to: the ceded part of an occurrence, or of a year.
/// `None` for treaties without a layer or without a subject.
fn layer_and_subject(treaty: &PortfolioTreaty, reach: &TreatySubject) -> Option<(Layer, AmountRange)> {
    match &treaty.treaty.terms {
        TreatyTerms::QuotaShare { .. } => None,
        TreatyTerms::OccurrenceXl(layer) => {
            let range = reach.occurrence?;
            let ceded = AmountRange { min: layer.cession.of(range.min), max: layer.cession.of(range.max) };
            Some((layer.layer, ceded))
        }
        TreatyTerms::AggregateXl { layer, .. } => Some((*layer, reach.year)),
    }
}

/// Warns of a layer that never pays, or is always exhausted.
fn warn_about_reach(
    portfolio: &Portfolio,
    treaty: &PortfolioTreaty,
    layer: Layer,
    subject: AmountRange,
    path: &str,
    warnings: &mut WarningList,
) {
    let (article, what) = match treaty.treaty.terms {
        TreatyTerms::AggregateXl { .. } => ("a", "year"),
        _ => ("an", "occurrence"),
    };
    if subject.max == 0 {
        let message =
            "has nothing to pay for: policy terms and earlier steps leave nothing of what it covers";
        warnings.push(&format!("{path}/covers"), message);
    } else if subject.max <= layer.attachment {
        let message = format!(
            "is never reached: the subject of {article} {what} is at most {}",
            in_units(portfolio, subject.max)
        );
        warnings.push(&format!("{path}/attachment"), message);
    }
    let top = layer.attachment.saturating_add(layer.limit);
    if layer.limit < MAX_AMOUNT && subject.min >= top {
        let message = format!(
            "is exhausted by every {what}: its subject is at least {}",
            in_units(portfolio, subject.min)
        );
        warnings.push(&format!("{path}/limit"), message);
    }
}

/// Warns of an annual aggregate deductible that the recoveries of a year never exceed, or that is
/// as large as what limit and reinstatements allow.
fn warn_about_annual_deductible(
    portfolio: &Portfolio,
    layer: &OccurrenceLayer,
    recoveries: u64,
    path: &str,
    warnings: &mut WarningList,
) {
    let OccurrenceLayer { layer: Layer { limit, .. }, annual, .. } = layer;
    // Without any recovery another warning says so.
    if annual.attachment == 0 || recoveries == 0 {
        return;
    }
    let message = if recoveries <= annual.attachment {
        format!(
            "is never exceeded: the layer's parts of all occurrences of a year are at most {}",
            in_units(portfolio, recoveries)
        )
    } else if annual.limit < MAX_AMOUNT && annual.attachment > annual.limit {
        format!(
            "is above the most that the treaty pays in a year, {}: it pays nothing before the layer is exhausted {} \
             times in a year",
            in_units(portfolio, annual.limit),
            annual.attachment / limit
        )
    } else {
        return;
    };
    warnings.push(&format!("{path}/aad"), message);
}

/// Warns of an annual aggregate limit that is below the limit of an occurrence, or above what the
/// reinstatements allow.
fn warn_about_annual_limit(
    portfolio: &Portfolio,
    layer: &OccurrenceLayer,
    path: &str,
    warnings: &mut WarningList,
) {
    let limit = layer.layer.limit;
    if layer.annual.limit < limit && limit < MAX_AMOUNT {
        let message = format!(
            "is below the limit of an occurrence, {}: no occurrence can be paid in full",
            in_units(portfolio, limit)
        );
        warnings.push(&format!("{path}/aal"), message);
    }
}

/// Warns of a layer that costs more than it pays for an occurrence or in a year.
fn warn_about_premium(
    portfolio: &Portfolio,
    treaty: &PortfolioTreaty,
    path: &str,
    warnings: &mut WarningList,
) {
    let Some(ComparedLayer { layer, .. }) = ComparedLayer::of(treaty) else { return };
    if layer.limit < MAX_AMOUNT && treaty.premium > layer.limit {
        let message = format!(
            "is above the limit, {}: a rate on line of {:.0}%, which only layers have that pay many times a year",
            in_units(portfolio, layer.limit),
            treaty.premium as f64 / layer.limit as f64 * 100.0
        );
        warnings.push(&format!("{path}/premium"), message);
    }
}

/// Warns of commissions without effect, of scales that reward losses, and of a profit that leaves
/// out a part of the premium.
fn warn_about_commissions(treaty: &PortfolioTreaty, path: &str, warnings: &mut WarningList) {
    let (commission, of_profit) = (format!("{path}/commission"), format!("{path}/profit_commission"));
    if treaty.commission != Commission::Flat(Proportion(0)) && treaty.premium == 0 {
        let message = "has no effect without `premium`: it is a fraction of the ceded premium";
        warnings.push(&commission, message);
    }
    if let Commission::Sliding(knots) = &treaty.commission
        && knots.windows(2).any(|pair| pair[1].1.0 > pair[0].1.0)
    {
        warnings.push(&commission, "rises with the loss ratio: the reinsurer pays back more in bad years");
    }
    if let TreatyTerms::OccurrenceXl(layer) = &treaty.treaty.terms
        && treaty.profit_commission.is_some()
        && layer.reinstatements.iter().any(|price| price.0 > 0)
    {
        warnings.push(&of_profit, "leaves reinstatement premiums out of the profit");
    }
}

/// A layer of a tower, with what it has in common with the other layers: step, covers, kind and
/// cession.
#[derive(Clone, Copy)]
struct ComparedLayer {
    tower: (u32, IndexSet, IndexSet, bool, Proportion),
    layer: Layer,
    placed: Proportion,
}

impl ComparedLayer {
    /// `None` for a treaty that is no layer.
    fn of(treaty: &PortfolioTreaty) -> Option<Self> {
        let (is_by_occurrence, cession, layer, placed) = match &treaty.treaty.terms {
            TreatyTerms::QuotaShare { .. } => return None,
            TreatyTerms::OccurrenceXl(layer) => (true, layer.cession, layer.layer, layer.placed),
            TreatyTerms::AggregateXl { layer, placed } => (false, Proportion::ONE, *layer, *placed),
        };
        let Treaty { step, lines, groups, .. } = treaty.treaty;
        Some(Self { tower: (step, lines, groups, is_by_occurrence, cession), layer, placed })
    }

    fn top(&self) -> u64 {
        self.layer.attachment.saturating_add(self.layer.limit)
    }
}

/// Whether two layers on the same subject overlap, and are placed so that more than the whole of a
/// part is ceded.
fn overlap(a: &PortfolioTreaty, b: &PortfolioTreaty) -> bool {
    let Some((a, b)) = ComparedLayer::of(a).zip(ComparedLayer::of(b)) else { return false };
    a.tower == b.tower && a.placed.0 + b.placed.0 > Proportion::ONE.0 && a.layer.overlaps(b.layer)
}

/// The name and the top of the layer below this one of the same tower, if it ends below the
/// attachment.
fn layer_below_gap<'a>(treaties: &'a [PortfolioTreaty], treaty: &PortfolioTreaty) -> Option<(&'a str, u64)> {
    let this = ComparedLayer::of(treaty)?;
    let layers = treaties.iter().filter_map(|other| Some((other.name.as_str(), ComparedLayer::of(other)?)));
    let below = layers
        .filter(|(_, other)| other.tower == this.tower && other.layer.attachment < this.layer.attachment);
    let highest = below.map(|(name, other)| (name, other.top())).max_by_key(|(_, top)| *top);
    highest.filter(|(_, top)| *top < this.layer.attachment)
}

/// The treaties listed before that cover a common part of a step's subject, where they and `treaty`
/// may cede more than there is. Only treaties by occurrence: of those on the year's amount, too
/// little is known.
fn may_exceed_subject(
    portfolio: &Portfolio,
    treaty: &PortfolioTreaty,
    earlier: &[PortfolioTreaty],
) -> Option<Vec<String>> {
    let is_by_occurrence =
        |treaty: &PortfolioTreaty| !matches!(treaty.treaty.terms, TreatyTerms::AggregateXl { .. });
    let pairs = covered_pairs(portfolio, treaty);
    let has_common_part = |other: &PortfolioTreaty| {
        let covers = &other.treaty;
        pairs.iter().any(|&(group, line)| covers.groups.contains(group) && covers.lines.contains(line))
    };
    let mut treaties: Vec<&PortfolioTreaty> = earlier
        .iter()
        .filter(|other| other.treaty.step == treaty.treaty.step)
        .filter(|other| is_by_occurrence(other) && has_common_part(other))
        .collect();
    if treaties.is_empty() || !is_by_occurrence(treaty) {
        return None;
    }
    treaties.push(treaty);
    // The cession less the subject is greatest where a layer or an event limit ends.
    let subjects = treaties.iter().map(|treaty| exhausting_subject(treaty)).chain([MAX_AMOUNT]);
    // Every cession may be half a minor unit more than its exact value.
    let exceeds = |subject: u64| {
        treaties.iter().map(|t| most_ceded(t, subject)).sum::<u64>() > subject + treaties.len() as u64
    };
    subjects.into_iter().any(exceeds).then(|| {
        treaties.pop();
        treaties.iter().map(|treaty| format!("{:?}", treaty.name)).collect()
    })
}

/// The smallest subject of an occurrence for which a treaty pays the most.
fn exhausting_subject(treaty: &PortfolioTreaty) -> u64 {
    let (fraction, amount) = match &treaty.treaty.terms {
        TreatyTerms::QuotaShare { cession, event_limit } => (*cession, *event_limit),
        TreatyTerms::OccurrenceXl(layer) => {
            (layer.cession, layer.layer.attachment.saturating_add(layer.layer.limit))
        }
        TreatyTerms::AggregateXl { layer, .. } => (Proportion::ONE, layer.attachment),
    };
    let subject = u128::from(amount) * u128::from(Proportion::ONE.0) / u128::from(fraction.0.max(1));
    u64::try_from(subject).unwrap_or(MAX_AMOUNT).min(MAX_AMOUNT)
}

/// The most that a treaty cedes for an occurrence of this subject.
fn most_ceded(treaty: &PortfolioTreaty, subject: u64) -> u64 {
    match &treaty.treaty.terms {
        TreatyTerms::QuotaShare { cession, event_limit } => cession.of(subject).min(*event_limit),
        TreatyTerms::OccurrenceXl(layer) => layer.placed.of(layer.layer.part_of(layer.cession.of(subject))),
        TreatyTerms::AggregateXl { .. } => 0,
    }
}
