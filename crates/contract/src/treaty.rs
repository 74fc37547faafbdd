//! Reinsurance treaties: which amounts of a year they cover, and what they pay for them.
//!
//! Terms follow the market's usage: a layer "`limit` xs `attachment`", an annual aggregate
//! deductible (AAD) and limit (AAL), reinstatements that are charged pro rata as to amount (Sundt
//! 1991, "On excess of loss reinsurance with reinstatements", Mitteilungen der SVVM). All amounts
//! are whole minor units up to [`MAX_AMOUNT`]. The kernel passes the amounts of a year through
//! them.

use ethnum::U256;

use crate::{
    amount::MAX_AMOUNT,
    wire::{DecodeError, WireReader, WireWriter},
};

/// Parts of a whole in a [`Proportion`].
const MILLION: u64 = 1_000_000;

/// A fraction with six decimals: a number of millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proportion(pub u32);

impl Proportion {
    /// The whole.
    pub const ONE: Self = Self(MILLION as u32);

    /// This fraction of an amount, at most 1 of it, rounded to the nearest minor unit (halves up).
    #[inline]
    pub fn of(self, amount: u64) -> u64 {
        let parts = u64::from(self.0);
        // The quotient and the remainder separately, so that 64 bits are enough.
        amount / MILLION * parts + (amount % MILLION * parts + MILLION / 2) / MILLION
    }

    /// The whole of which `part` is this fraction, which is not 0, rounded to the nearest minor
    /// unit (halves up). [`Proportion::of`] gives `part` for it.
    pub fn whole_of(self, part: u64) -> u64 {
        let parts = u128::from(self.0);
        ((2 * u128::from(part) * u128::from(MILLION) + parts) / (2 * parts)) as u64
    }
}

/// A set of lines, or of groups: bit i is the i-th one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexSet(pub u32);

impl IndexSet {
    /// Every index.
    pub const ALL: Self = Self(u32::MAX);

    /// Whether the set contains `index`, which is below 32.
    #[inline]
    pub fn contains(self, index: usize) -> bool {
        self.0 >> index & 1 == 1
    }

    /// Whether an index is in both sets.
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// A treaty: the part of the lines' amounts that it covers, and what it pays for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Treaty {
    /// Inuring step. Treaties of a step see the amounts that the steps before have left.
    pub step: u32,
    /// The lines that the treaty covers.
    pub lines: IndexSet,
    /// The groups whose occurrences the treaty covers. An [`TreatyTerms::AggregateXl`] covers all.
    pub groups: IndexSet,
    /// What the treaty pays.
    pub terms: TreatyTerms,
}

/// What a treaty pays for its subject, the sum of the covered lines' amounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreatyTerms {
    /// The same fraction of every occurrence.
    QuotaShare {
        /// Ceded fraction.
        cession: Proportion,
        /// Most that is ceded for one occurrence; [`MAX_AMOUNT`] without a limit.
        event_limit: u64,
    },
    /// The part of every occurrence within a layer.
    OccurrenceXl(OccurrenceLayer),
    /// The part of the year's amount within a layer (stop loss).
    AggregateXl {
        /// The layer.
        layer: Layer,
        /// Proportion of the layer that reinsurers have taken.
        placed: Proportion,
    },
}

/// The layer "`limit` xs `attachment`".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Largest payment; [`MAX_AMOUNT`] without a limit.
    pub limit: u64,
    /// Amount above which the layer pays.
    pub attachment: u64,
}

impl Layer {
    /// The part of an amount within the layer.
    #[inline]
    pub fn part_of(self, amount: u64) -> u64 {
        amount.saturating_sub(self.attachment).min(self.limit)
    }

    /// The amount above which the layer pays no more.
    pub fn top(self) -> u64 {
        self.attachment.saturating_add(self.limit)
    }

    /// Whether both layers pay for a common part of an amount.
    pub fn overlaps(self, other: Self) -> bool {
        self.attachment < other.top() && other.attachment < self.top()
    }
}

/// A layer on every occurrence, with the annual terms of its recoveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OccurrenceLayer {
    /// Proportion of the subject that the layer applies to, taken before the attachment.
    pub cession: Proportion,
    /// The layer of one occurrence.
    pub layer: Layer,
    /// The layer of the year's recoveries: the annual aggregate deductible is its attachment, and
    /// its limit is the smaller of the annual aggregate limit and the capacity, which is the limit
    /// of an occurrence times one more than the number of reinstatements.
    pub annual: Layer,
    /// Proportion of the layer that reinsurers have taken.
    pub placed: Proportion,
    /// Price of each reinstatement, as a fraction of the premium.
    pub reinstatements: Vec<Proportion>,
    /// Premium of the whole layer; 0 where none is stated.
    pub premium: u64,
}

impl OccurrenceLayer {
    /// What the layer pays, of the whole layer, for a year with these recoveries of occurrences.
    #[inline]
    pub fn paid(&self, recoveries: u64) -> u64 {
        self.annual.part_of(recoveries)
    }

    /// The amounts reinstated, in the order of the reinstatements, of the whole layer, when it has
    /// paid `paid`. The limit of an occurrence that is used for the k-th time is reinstated k-th.
    pub fn reinstated(&self, paid: u64) -> impl Iterator<Item = u64> {
        let limit = self.layer.limit;
        (0..self.reinstatements.len() as u64).map(move |k| paid.saturating_sub(k * limit).min(limit))
    }

    /// The reinstatement premium of the placed part, when the whole layer has paid `paid`: pro rata
    /// as to amount, rounded once to the nearest minor unit (halves up), then placed.
    pub fn reinstatement_premium(&self, paid: u64) -> u64 {
        // Below 2^53, 2^24 and 2^6: 64 reinstatements, so the sum is below 2^83.
        let weighted: u128 = self
            .reinstated(paid)
            .zip(&self.reinstatements)
            .map(|(amount, price)| u128::from(amount) * u128::from(price.0))
            .sum();
        let divisor = u128::from(self.layer.limit) * u128::from(MILLION);
        let rounded = match (2 * u128::from(self.premium)).checked_mul(weighted) {
            Some(product) if product < u128::MAX >> 1 => (product + divisor) / (2 * divisor),
            _ => {
                let product = U256::from(2 * u128::from(self.premium)) * U256::from(weighted);
                let rounded = (product + U256::from(divisor)) / U256::from(2 * divisor);
                rounded.min(U256::from(MAX_AMOUNT)).as_u128()
            }
        };
        self.placed.of(rounded.min(MAX_AMOUNT.into()) as u64)
    }
}

/// No limit within a year, and no deductible.
const NO_ANNUAL_TERMS: Layer = Layer { limit: MAX_AMOUNT, attachment: 0 };

/// Largest price of a reinstatement: ten times the premium.
const MAX_REINSTATEMENT_PRICE: u32 = 10_000_000;
/// Largest number of reinstatements.
pub const MAX_REINSTATEMENTS: usize = 64;

impl Treaty {
    /// Whether what the treaty pays for an occurrence depends on the occurrences before it.
    pub fn has_annual_terms(&self) -> bool {
        matches!(&self.terms, TreatyTerms::OccurrenceXl(layer) if layer.annual != NO_ANNUAL_TERMS)
    }

    /// The attachment of a layer on the year's amount, where the retained amounts accumulate.
    pub(crate) fn annual_attachment(&self) -> Option<u64> {
        match &self.terms {
            TreatyTerms::AggregateXl { layer, .. } => Some(layer.attachment),
            _ => None,
        }
    }

    pub(crate) fn encode(&self, writer: &mut WireWriter) {
        writer.u32(self.step);
        writer.u32(self.lines.0);
        writer.u32(self.groups.0);
        match &self.terms {
            TreatyTerms::QuotaShare { cession, event_limit } => {
                writer.u32(0);
                writer.u32(cession.0);
                writer.u64(*event_limit);
            }
            TreatyTerms::OccurrenceXl(layer) => {
                writer.u32(1);
                writer.u32(layer.cession.0);
                layer.layer.encode(writer);
                layer.annual.encode(writer);
                writer.u32(layer.placed.0);
                writer.u64(layer.premium);
                writer.u32(layer.reinstatements.len() as u32);
                layer.reinstatements.iter().for_each(|price| writer.u32(price.0));
            }
            TreatyTerms::AggregateXl { layer, placed } => {
                writer.u32(2);
                layer.encode(writer);
                writer.u32(placed.0);
            }
        }
    }

    pub(crate) fn decode(reader: &mut WireReader<'_>) -> Result<Self, DecodeError> {
        let step = reader.u32()?;
        let (lines, groups) = (IndexSet(reader.u32()?), IndexSet(reader.u32()?));
        let terms = match reader.u32()? {
            0 => TreatyTerms::QuotaShare { cession: Proportion(reader.u32()?), event_limit: reader.u64()? },
            1 => {
                let cession = Proportion(reader.u32()?);
                let (layer, annual) = (Layer::decode(reader)?, Layer::decode(reader)?);
                let (placed, premium) = (Proportion(reader.u32()?), reader.u64()?);
                let count = reader.u32()? as usize;
                if count > MAX_REINSTATEMENTS {
                    return Err(DecodeError::invalid("a treaty has at most 64 reinstatements"));
                }
                let prices = (0..count).map(|_| reader.u32().map(Proportion));
                let reinstatements = prices.collect::<Result<_, _>>()?;
                TreatyTerms::OccurrenceXl(OccurrenceLayer {
                    cession,
                    layer,
                    annual,
                    placed,
                    reinstatements,
                    premium,
                })
            }
            2 => {
                TreatyTerms::AggregateXl { layer: Layer::decode(reader)?, placed: Proportion(reader.u32()?) }
            }
            _ => return Err(DecodeError::invalid("a treaty has an unknown kind")),
        };
        Ok(Self { step, lines, groups, terms })
    }

    /// Checks the rules that execution relies on: amounts and fractions in range.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] with the violated rule.
    pub(crate) fn validate(&self) -> Result<(), DecodeError> {
        let rule = |holds: bool, message: &str| {
            if holds { Ok(()) } else { Err(DecodeError::invalid(message)) }
        };
        let is_fraction = |proportion: Proportion| proportion.0 <= Proportion::ONE.0;
        let is_layer =
            |layer: Layer| (1..=MAX_AMOUNT).contains(&layer.limit) && layer.attachment <= MAX_AMOUNT;
        let fraction_rule = "a treaty's fractions must be at most 1";
        let layer_rule = "a layer must have a limit of 1 to 2^53 - 1 and an attachment of at most 2^53 - 1";
        match &self.terms {
            TreatyTerms::QuotaShare { cession, event_limit } => {
                rule(is_fraction(*cession), fraction_rule)?;
                rule((1..=MAX_AMOUNT).contains(event_limit), "an event limit must be 1 to 2^53 - 1")
            }
            TreatyTerms::OccurrenceXl(layer) => {
                rule(is_fraction(layer.cession) && is_fraction(layer.placed), fraction_rule)?;
                rule(is_layer(layer.layer) && is_layer(layer.annual), layer_rule)?;
                rule(layer.premium <= MAX_AMOUNT, "a premium must be at most 2^53 - 1")?;
                let prices = layer.reinstatements.iter().all(|price| price.0 <= MAX_REINSTATEMENT_PRICE);
                rule(prices, "a reinstatement must cost at most ten times the premium")?;
                let count = layer.reinstatements.len();
                rule(count <= MAX_REINSTATEMENTS, "a treaty has at most 64 reinstatements")?;
                let limited = count == 0 || layer.layer.limit < MAX_AMOUNT;
                rule(limited, "a layer with reinstatements must have a limit")
            }
            TreatyTerms::AggregateXl { layer, placed } => {
                rule(is_fraction(*placed), fraction_rule)?;
                rule(is_layer(*layer), layer_rule)
            }
        }
    }
}

impl Layer {
    fn encode(self, writer: &mut WireWriter) {
        writer.u64(self.limit);
        writer.u64(self.attachment);
    }

    fn decode(reader: &mut WireReader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { limit: reader.u64()?, attachment: reader.u64()? })
    }
}
