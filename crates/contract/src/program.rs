//! The program: what workers execute. Integers only, self-contained, identified by the hash of its
//! bytes.
//!
//! The kernel compiles a profile's args into a program, and every backend interprets it.
//! docs/determinism.md, sections 5 and 6, defines the meaning of the fields. This module knows no
//! distribution by name.

use crate::{
    digest::Digest,
    wire::{DecodeError, WireReader, WireWriter},
};

/// Largest amount, in minor units: 2^53 − 1. Larger amounts saturate.
pub const MAX_AMOUNT: u64 = (1 << 53) - 1;
/// Largest number of components in a program.
pub const MAX_COMPONENTS: usize = 16;
/// Largest number of occurrences in an iteration, which bounds the time of an iteration on every
/// backend.
pub const MAX_COUNT: u64 = 32_768;
/// Number of octaves in each half of a quantile table.
pub const OCTAVES: usize = 64;
/// Bit width of a segment's `left`: its magnitude is below 2^29.
pub const SEGMENT_LEFT_BITS: u32 = 29;

const MAGIC: &[u8; 4] = b"FKPG";
const VERSION: u32 = 1;

/// Maps a uniform u64 draw to a count: `offset` plus the number of thresholds ≤ the draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountTable {
    /// Smallest count.
    pub offset: u32,
    /// `floor(2^64 · CDF(offset + i))`, non-decreasing.
    pub thresholds: Vec<u64>,
}

impl CountTable {
    /// Returns the count that `draw` maps to.
    pub fn count(&self, draw: u64) -> u32 {
        self.offset + self.thresholds.partition_point(|&threshold| threshold <= draw) as u32
    }
}

/// One segment of a quantile table: a quadratic polynomial in integers. For y in [0, 2^31):
/// amount = max(0, left·2^31 + y·(slope + (y·curve >> 31))) >> shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Segment {
    /// Value at the lower end of the segment, in units of 2^(31 − shift) minor units.
    pub left: i32,
    /// Coefficient of y.
    pub slope: i32,
    /// Coefficient of y², in units of 2^−31.
    pub curve: i32,
    /// Number of bits by which the scaled value is shifted right to give whole minor units: 5 to
    /// 61.
    pub shift: u32,
}

/// A source of occurrences: the distribution of their number and of their amounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Distribution of the number of occurrences in an iteration.
    pub counts: CountTable,
    /// Quantile table of the amount: `2 · 64 · 2^segment_bits` segments, the lower half of the
    /// draws first. Within each half, segments are ordered by distance from the end of the
    /// distribution.
    pub amounts: Vec<Segment>,
    /// Largest amount; larger ones are capped. [`MAX_AMOUNT`] when the model has no cap.
    pub cap: u64,
}

/// A compiled model, ready for execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Minor units per unit of the model's args and results (insurance: 100, eta: 1,000).
    pub units: u32,
    /// log2 of the number of segments in an octave, common to all tables: 1 to 8.
    pub segment_bits: u32,
    /// Constant added to every iteration's total, in minor units.
    pub base: u64,
    /// Largest total; larger ones are capped. [`MAX_AMOUNT`] when the model has no cap.
    pub cap: u64,
    /// The sources of occurrences, in the order of their draws.
    pub components: Vec<Component>,
}

impl Program {
    /// The distinct caps below [`MAX_AMOUNT`], in ascending order. Probability may accumulate at
    /// these amounts, so results count the iterations that fall exactly on them.
    pub fn marks(&self) -> Vec<u64> {
        let caps = self.components.iter().map(|c| c.cap).chain([self.cap]);
        let mut marks: Vec<u64> = caps.filter(|&cap| cap < MAX_AMOUNT).collect();
        marks.sort_unstable();
        marks.dedup();
        marks
    }

    /// Number of segments in a component's quantile table.
    pub fn segments_per_table(&self) -> usize {
        (2 * OCTAVES) << self.segment_bits
    }

    /// SHA-256 of [`Program::encode`].
    pub fn digest(&self) -> Digest {
        Digest::hash_parts(&[&self.encode()])
    }

    /// Encodes the program in its canonical bytes (docs/determinism.md, section 6).
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = WireWriter::new(MAGIC, VERSION);
        writer.u32(self.units);
        writer.u32(self.segment_bits);
        writer.u64(self.base);
        writer.u64(self.cap);
        writer.u32(self.components.len() as u32);
        for component in &self.components {
            writer.u64(component.cap);
            writer.u32(component.counts.offset);
            writer.u32(component.counts.thresholds.len() as u32);
            component.counts.thresholds.iter().for_each(|&t| writer.u64(t));
            for segment in &component.amounts {
                writer.i32(segment.left);
                writer.i32(segment.slope);
                writer.i32(segment.curve);
                writer.u32(segment.shift);
            }
        }
        writer.finish()
    }

    /// Decodes canonical bytes.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are truncated or violate a rule of [`Program::validate`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = WireReader::new(bytes, MAGIC, VERSION)?;
        let (units, segment_bits) = (reader.u32()?, reader.u32()?);
        let (base, cap) = (reader.u64()?, reader.u64()?);
        let count = reader.u32()? as usize;
        if !(1..=8).contains(&segment_bits) || !(1..=MAX_COMPONENTS).contains(&count) {
            return Err(DecodeError::invalid("a program has 1 to 16 components and 1 to 8 segment bits"));
        }
        let segments = (2 * OCTAVES) << segment_bits;
        let components =
            (0..count).map(|_| decode_component(&mut reader, segments)).collect::<Result<Vec<_>, _>>()?;
        reader.finish()?;
        let program = Self { units, segment_bits, base, cap, components };
        program.validate()?;
        Ok(program)
    }

    /// Checks the rules that every backend relies on: amounts in range, bounded counts, and no
    /// overflow within a segment.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] with the violated rule.
    pub fn validate(&self) -> Result<(), DecodeError> {
        let rule = |holds: bool, message: &str| {
            if holds { Ok(()) } else { Err(DecodeError::invalid(message)) }
        };
        rule(self.units >= 1, "units must be at least 1")?;
        rule((1..=8).contains(&self.segment_bits), "segment bits must be 1 to 8")?;
        rule(self.base <= MAX_AMOUNT, "the base must be at most 2^53 - 1")?;
        rule((1..=MAX_AMOUNT).contains(&self.cap), "caps must be 1 to 2^53 - 1")?;
        rule(
            (1..=MAX_COMPONENTS).contains(&self.components.len()),
            "a program must have 1 to 16 components",
        )?;
        let max_count = |c: &Component| u64::from(c.counts.offset) + c.counts.thresholds.len() as u64;
        let occurrences: u64 = self.components.iter().map(max_count).sum();
        rule(occurrences <= MAX_COUNT, "an iteration must have at most 32,768 occurrences")?;
        for component in &self.components {
            rule((1..=MAX_AMOUNT).contains(&component.cap), "caps must be 1 to 2^53 - 1")?;
            rule(component.counts.thresholds.is_sorted(), "thresholds must not decrease")?;
            rule(
                component.amounts.len() == self.segments_per_table(),
                "a table must have 128 · 2^segment_bits segments",
            )?;
            rule(component.amounts.iter().all(Segment::is_safe), "a segment must not overflow")?;
        }
        Ok(())
    }
}

impl Segment {
    fn is_safe(&self) -> bool {
        self.left.unsigned_abs() < 1 << SEGMENT_LEFT_BITS
            && u64::from(self.slope.unsigned_abs()) + u64::from(self.curve.unsigned_abs()) < 3 << 29
            && (5..=61).contains(&self.shift)
    }
}

fn decode_component(reader: &mut WireReader<'_>, segments: usize) -> Result<Component, DecodeError> {
    let (cap, offset) = (reader.u64()?, reader.u32()?);
    let thresholds = reader.u32()? as usize;
    if thresholds > reader.remaining() / 8 || segments > reader.remaining() / 16 {
        return Err(DecodeError::invalid("a table is longer than the remaining bytes"));
    }
    let thresholds = (0..thresholds).map(|_| reader.u64()).collect::<Result<_, _>>()?;
    let segment = |reader: &mut WireReader<'_>| {
        Ok(Segment { left: reader.i32()?, slope: reader.i32()?, curve: reader.i32()?, shift: reader.u32()? })
    };
    let amounts = (0..segments).map(|_| segment(reader)).collect::<Result<_, DecodeError>>()?;
    Ok(Component { counts: CountTable { offset, thresholds }, amounts, cap })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> Program {
        let segment = Segment { left: 5, slope: 3, curve: -1, shift: 31 };
        let counts = CountTable { offset: 1, thresholds: vec![10, 20, 20] };
        let component = Component { counts, amounts: vec![segment; 256], cap: 70 };
        Program { units: 100, segment_bits: 1, base: 0, cap: 50, components: vec![component] }
    }

    #[test]
    fn a_count_is_the_number_of_thresholds_not_above_the_draw() {
        let table = program().components.remove(0).counts;
        assert_eq!([9, 10, 19, 20, u64::MAX].map(|draw| table.count(draw)), [1, 2, 2, 4, 4]);
    }

    #[test]
    fn programs_round_trip_and_unsafe_ones_are_rejected() {
        let good = program();
        assert_eq!(Program::decode(&good.encode()), Ok(good.clone()));
        assert_eq!(good.marks(), [50, 70]);
        let corruptions: [fn(&mut Program); 7] = [
            |p| p.cap = MAX_AMOUNT + 1,
            |p| p.base = MAX_AMOUNT + 1,
            |p| p.components[0].counts.thresholds = vec![2, 1],
            |p| p.components[0].counts.offset = 40_000,
            |p| p.components[0].amounts[3].shift = 62,
            |p| p.components[0].amounts[3].left = i32::MIN,
            |p| (p.components[0].amounts[255].slope, p.components[0].amounts[255].curve) = (1 << 30, 1 << 30),
        ];
        for change in corruptions {
            let mut bad = good.clone();
            change(&mut bad);
            assert!(Program::decode(&bad.encode()).is_err());
        }
        assert!(Program::decode(&good.encode()[..100]).is_err());
    }
}
