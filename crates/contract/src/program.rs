//! The program: what workers execute. Integers only, self-contained, identified by the hash of its
//! bytes.
//!
//! The kernel compiles a profile's args into a program, and every backend interprets it.
//! docs/determinism.md, sections 5 to 7, defines the meaning of the fields. This module knows no
//! distribution by name.

use crate::{
    digest::Digest,
    treaty::{Proportion, Treaty},
    wire::{DecodeError, WireReader, WireWriter},
};

pub use crate::{
    amount::MAX_AMOUNT,
    table::{AmountTable, CountTable, OCTAVES, SEGMENT_LEFT_BITS, Segment},
};

/// Largest number of occurrences in an iteration, which bounds the time of an iteration on every
/// backend.
pub const MAX_COUNT: u64 = 32_768;
/// Largest number of lines.
pub const MAX_LINES: usize = 16;
/// Largest number of groups.
pub const MAX_GROUPS: usize = 32;
/// Largest number of components in all groups.
pub const MAX_COMPONENTS: usize = 64;
/// Largest number of treaties.
pub const MAX_TREATIES: usize = 32;
/// Largest number of indices.
pub const MAX_INDICES: usize = 8;
/// Largest number of bytes that the tables of a program take, encoded: those of 64 components with
/// 64 segments in an octave, and of 8 indices, with room for counts.
pub const MAX_TABLE_BYTES: u64 = 10 << 20;
/// Fraction bits of an index: 2^24 stands for 1.
pub const INDEX_FRACTION_BITS: u32 = 24;

const MAGIC: &[u8; 4] = b"FKPG";
const VERSION: u32 = 1;

/// A compiled model, ready for execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Minor units per unit of the model's args and results (insurance: 100, eta: 1,000).
    pub units: u32,
    /// Constant added to every iteration's total, in minor units.
    pub base: u64,
    /// Largest total; larger ones are capped. [`MAX_AMOUNT`] when the model has no cap.
    pub cap: u64,
    /// Number of lines of business.
    pub lines: u32,
    /// Whether results hold more than the total and the largest occurrence: what belongs to each
    /// group, line, step and treaty.
    pub details: bool,
    /// Whether results hold the parts of lines and treaties in the total, by amount of the total.
    /// Needs `details`.
    pub allocation: bool,
    /// Factors that are drawn once an iteration, with [`INDEX_FRACTION_BITS`] fraction bits.
    pub indices: Vec<AmountTable>,
    /// The sources of occurrences, in the order of their draws.
    pub groups: Vec<Group>,
    /// The treaties, in the order in which they pay.
    pub treaties: Vec<Treaty>,
}

/// A source of occurrences: the distribution of their number, and what one occurrence is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Distribution of the number of occurrences in an iteration.
    pub counts: CountTable,
    /// Which components an occurrence strikes.
    pub occurrence: Occurrence,
    /// The amounts.
    pub components: Vec<Component>,
}

/// Which components of its group an occurrence strikes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Occurrence {
    /// One of them.
    Claim {
        /// Distribution of the component's number. `None` if there is one component only.
        pick: Option<CountTable>,
    },
    /// All of them.
    Strike,
    /// All of them, once an iteration: the amounts are totals of the year, to which no treaty by
    /// occurrence applies. The count table is not used; it is the constant 0.
    Annual,
}

/// A source of amounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// The line that the amounts belong to.
    pub line: u32,
    /// The index by which amounts are multiplied.
    pub index: Option<u32>,
    /// Whether the amount comes from the draw of the component before it.
    pub same_rank: bool,
    /// What the policy pays for an amount.
    pub terms: Terms,
    /// Distribution of the amount.
    pub amounts: AmountTable,
}

/// What a policy pays for a loss: the part above the deductible up to the limit, and of that a
/// share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Deducted from every amount.
    pub deductible: u64,
    /// Whether the deductible is a franchise: amounts from it on are paid from the first unit.
    pub franchise: bool,
    /// Largest amount after the deductible. [`MAX_AMOUNT`] without a limit.
    pub limit: u64,
    /// Share of the amount after the limit.
    pub share: Proportion,
}

impl Terms {
    /// Everything is paid.
    pub const NONE: Self =
        Self { deductible: 0, franchise: false, limit: MAX_AMOUNT, share: Proportion::ONE };

    /// The amount after deductible and limit, before the share.
    #[inline]
    pub fn limited(&self, amount: u64) -> u64 {
        let above = match self.franchise {
            true if amount >= self.deductible => amount,
            true => 0,
            false => amount.saturating_sub(self.deductible),
        };
        above.min(self.limit)
    }

    /// What is paid for an amount.
    pub fn paid(&self, amount: u64) -> u64 {
        self.share.of(self.limited(amount.min(MAX_AMOUNT)))
    }
}

impl Program {
    /// The components of all groups, in order.
    pub fn components(&self) -> impl Iterator<Item = &Component> {
        self.groups.iter().flat_map(|group| &group.components)
    }

    /// Number of components in all groups.
    pub fn component_count(&self) -> usize {
        self.groups.iter().map(|group| group.components.len()).sum()
    }

    /// Bytes of the encoded tables: nearly all of the program's.
    pub fn table_bytes(&self) -> u64 {
        let of_group = |group: &Group| {
            let pick = match &group.occurrence {
                Occurrence::Claim { pick: Some(pick) } => pick.thresholds.len(),
                _ => 0,
            };
            8 * (group.counts.thresholds.len() + pick) as u64
        };
        let amounts = self.components().map(|component| &component.amounts).chain(&self.indices);
        self.groups.iter().map(of_group).sum::<u64>() + amounts.map(amount_table_bytes).sum::<u64>()
    }

    /// Largest number of amounts in an iteration.
    pub fn max_amounts(&self) -> u64 {
        self.groups.iter().map(Group::max_amounts).sum()
    }

    /// Upper bound on the work of an iteration: its amounts, each as often as treaties see it and
    /// as steps add up its lines.
    pub fn max_work(&self) -> u64 {
        let treaties = self.treaties.len() as u64;
        let sums = (self.steps().len() as u64 + 1) * u64::from(self.lines);
        (self.max_amounts() + 1) * (1 + treaties + sums)
    }

    /// Whether the occurrences of the groups follow in random order. What a treaty with annual
    /// terms pays for an occurrence depends on those before it. Within a group every order is
    /// equally likely, so the order of the groups matters where such a treaty covers several.
    pub fn interleaves(&self) -> bool {
        let covers_groups = |subject| self.normal_subject(subject).groups.0.count_ones() > 1;
        let ordered = self.treaties.iter().filter(|treaty| treaty.has_annual_terms());
        ordered.filter_map(|treaty| self.subject_of(treaty)).any(covers_groups)
    }

    /// SHA-256 of [`Program::encode`].
    pub fn digest(&self) -> Digest {
        Digest::hash_parts(&[&self.encode()])
    }

    /// Encodes the program in its canonical bytes (docs/determinism.md, section 6).
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = WireWriter::new(MAGIC, VERSION);
        writer.u32(self.units);
        writer.u64(self.base);
        writer.u64(self.cap);
        writer.u32(self.lines);
        writer.u32(u32::from(self.details) + 2 * u32::from(self.allocation));
        writer.u32(self.indices.len() as u32);
        self.indices.iter().for_each(|index| index.encode(&mut writer));
        writer.u32(self.groups.len() as u32);
        self.groups.iter().for_each(|group| group.encode(&mut writer));
        writer.u32(self.treaties.len() as u32);
        self.treaties.iter().for_each(|treaty| treaty.encode(&mut writer));
        writer.finish()
    }

    /// Decodes canonical bytes.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are truncated or violate a rule of [`Program::validate`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = WireReader::new(bytes, MAGIC, VERSION)?;
        let units = reader.u32()?;
        let (base, cap) = (reader.u64()?, reader.u64()?);
        let lines = reader.u32()?;
        let flags = reader.u32()?;
        if flags > 3 {
            return Err(DecodeError::invalid("a program has an unknown flag"));
        }
        let indices = decode_list(&mut reader, MAX_INDICES, AmountTable::decode)?;
        let groups = decode_list(&mut reader, MAX_GROUPS, Group::decode)?;
        let treaties = decode_list(&mut reader, MAX_TREATIES, Treaty::decode)?;
        reader.finish()?;
        let (details, allocation) = (flags & 1 == 1, flags & 2 == 2);
        let program = Self { units, base, cap, lines, details, allocation, indices, groups, treaties };
        program.validate()?;
        Ok(program)
    }

    /// Checks the rules that every backend relies on: amounts in range, bounded counts, and no
    /// overflow within a segment.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] with the violated rule.
    pub fn validate(&self) -> Result<(), DecodeError> {
        rule(self.units >= 1, "units must be at least 1")?;
        rule(self.base <= MAX_AMOUNT, "the base must be at most 2^53 - 1")?;
        rule((1..=MAX_AMOUNT).contains(&self.cap), "caps must be 1 to 2^53 - 1")?;
        rule((1..=MAX_LINES).contains(&(self.lines as usize)), "a program must have 1 to 16 lines")?;
        rule(self.details || !self.allocation, "an allocation needs details")?;
        rule(self.indices.len() <= MAX_INDICES, "a program must have at most 8 indices")?;
        rule((1..=MAX_GROUPS).contains(&self.groups.len()), "a program must have 1 to 32 groups")?;
        rule(self.treaties.len() <= MAX_TREATIES, "a program must have at most 32 treaties")?;
        let components = self.component_count();
        rule(components <= MAX_COMPONENTS, "a program must have at most 64 components")?;
        rule(self.max_amounts() <= MAX_COUNT, "an iteration must have at most 32,768 occurrences")?;
        rule(self.table_bytes() <= MAX_TABLE_BYTES, "the tables of a program must have at most 10 MiB")?;
        self.indices.iter().try_for_each(|index| index.validate(false))?;
        for group in &self.groups {
            group.validate()?;
            let in_range = |c: &Component| {
                c.line < self.lines && c.index.is_none_or(|index| (index as usize) < self.indices.len())
            };
            let rule_text = "a component must belong to a line and an index of the program";
            rule(group.components.iter().all(in_range), rule_text)?;
        }
        self.treaties.iter().try_for_each(Treaty::validate)?;
        // A treaty on the year's amount leaves occurrences as they are, so what is left of each
        // after it is not known.
        let follows = |later: &Treaty| {
            let precedes = |earlier: &Treaty| {
                earlier.annual_attachment().is_some()
                    && later.annual_attachment().is_none()
                    && earlier.step < later.step
                    && earlier.lines.intersects(later.lines)
            };
            self.treaties.iter().any(precedes)
        };
        let rule_text = "on a line, only treaties on the year's amount may follow one on the year's amount";
        rule(!self.treaties.iter().any(follows), rule_text)
    }
}

impl Group {
    /// Largest number of amounts in an iteration.
    pub fn max_amounts(&self) -> u64 {
        let components = self.components.len() as u64;
        match self.occurrence {
            Occurrence::Claim { .. } => self.counts.max_count(),
            Occurrence::Strike => self.counts.max_count() * components,
            Occurrence::Annual => components,
        }
    }

    fn validate(&self) -> Result<(), DecodeError> {
        rule(!self.components.is_empty(), "a group must have a component")?;
        rule(self.counts.thresholds.is_sorted(), "thresholds must not decrease")?;
        match &self.occurrence {
            Occurrence::Claim { pick } => {
                let components = self.components.len() as u64;
                rule(pick.is_some() == (components > 1), "several components need a pick, and one none")?;
                let largest = pick.as_ref().map_or(0, CountTable::max_count);
                rule(largest < components, "a pick must choose a component of its group")?;
                let sorted = pick.as_ref().is_none_or(|pick| pick.thresholds.is_sorted());
                rule(sorted, "thresholds must not decrease")?;
            }
            Occurrence::Strike => {}
            Occurrence::Annual => {
                rule(self.counts.max_count() == 0, "an annual group has no occurrences")?;
            }
        }
        let own_rank = |(at, c): (usize, &Component)| {
            !c.same_rank || (at > 0 && !matches!(self.occurrence, Occurrence::Claim { .. }))
        };
        let rule_text = "the same rank needs a component before it that is struck too";
        rule(self.components.iter().enumerate().all(own_rank), rule_text)?;
        let mut drawn_together = self.components.chunk_by(|_, next| next.same_rank);
        drawn_together.try_for_each(|components| {
            components.iter().try_for_each(|component| component.validate(components.len() > 1))
        })
    }

    fn encode(&self, writer: &mut WireWriter) {
        let kind = match &self.occurrence {
            Occurrence::Claim { .. } => 0,
            Occurrence::Strike => 1,
            Occurrence::Annual => 2,
        };
        writer.u32(kind);
        self.counts.encode(writer);
        writer.u32(self.components.len() as u32);
        if let Occurrence::Claim { pick: Some(pick) } = &self.occurrence {
            pick.encode(writer);
        }
        self.components.iter().for_each(|component| component.encode(writer));
    }

    fn decode(reader: &mut WireReader<'_>) -> Result<Self, DecodeError> {
        let kind = reader.u32()?;
        let counts = CountTable::decode(reader)?;
        let count = reader.u32()? as usize;
        if !(1..=MAX_COMPONENTS).contains(&count) {
            return Err(DecodeError::invalid("a group must have 1 to 64 components"));
        }
        let occurrence = match kind {
            0 if count == 1 => Occurrence::Claim { pick: None },
            0 => Occurrence::Claim { pick: Some(CountTable::decode(reader)?) },
            1 => Occurrence::Strike,
            2 => Occurrence::Annual,
            _ => return Err(DecodeError::invalid("a group has an unknown kind")),
        };
        let components = (0..count).map(|_| Component::decode(reader)).collect::<Result<_, _>>()?;
        Ok(Self { counts, occurrence, components })
    }
}

impl Component {
    fn validate(&self, shares_draw: bool) -> Result<(), DecodeError> {
        let Terms { deductible, franchise, limit, share } = self.terms;
        rule(deductible <= MAX_AMOUNT, "a deductible must be at most 2^53 - 1")?;
        rule(!franchise || deductible > 0, "a franchise must be an amount")?;
        rule((1..=MAX_AMOUNT).contains(&limit), "caps must be 1 to 2^53 - 1")?;
        rule(share.0 <= Proportion::ONE.0, "a share must be at most 1")?;
        self.amounts.validate(shares_draw)
    }

    fn encode(&self, writer: &mut WireWriter) {
        writer.u32(self.line);
        writer.u32(self.index.map_or(0, |index| index + 1));
        writer.u32(u32::from(self.same_rank) + 2 * u32::from(self.terms.franchise));
        writer.u64(self.terms.deductible);
        writer.u64(self.terms.limit);
        writer.u32(self.terms.share.0);
        self.amounts.encode(writer);
    }

    fn decode(reader: &mut WireReader<'_>) -> Result<Self, DecodeError> {
        let (line, index, flags) = (reader.u32()?, reader.u32()?, reader.u32()?);
        if flags > 3 {
            return Err(DecodeError::invalid("a component has an unknown flag"));
        }
        let (deductible, limit) = (reader.u64()?, reader.u64()?);
        let terms = Terms { deductible, limit, franchise: flags & 2 == 2, share: Proportion(reader.u32()?) };
        let amounts = AmountTable::decode(reader)?;
        Ok(Self { line, index: index.checked_sub(1), same_rank: flags & 1 == 1, terms, amounts })
    }
}

fn amount_table_bytes(table: &AmountTable) -> u64 {
    match table {
        AmountTable::Quantiles { segments, .. } => 16 * segments.len() as u64,
        AmountTable::Steps { thresholds, amounts } | AmountTable::Linear { thresholds, amounts } => {
            8 * (thresholds.len() + amounts.len()) as u64
        }
    }
}

fn rule(holds: bool, message: &str) -> Result<(), DecodeError> {
    if holds { Ok(()) } else { Err(DecodeError::invalid(message)) }
}

fn decode_list<T>(
    reader: &mut WireReader<'_>,
    max: usize,
    decode: impl Fn(&mut WireReader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let length = reader.u32()? as usize;
    if length > max {
        return Err(DecodeError::invalid(format!("a list has {length} entries, more than {max}")));
    }
    (0..length).map(|_| decode(reader)).collect()
}

#[cfg(test)]
mod tests;
