//! The program: what workers execute. Integers only, self-contained, named by the hash of its bytes.
//!
//! The kernel compiles a profile's args into a program; every backend interprets it. The meaning of the fields is
//! in docs/determinism.md, sections 5 and 6. Nothing here knows a distribution by name.

use crate::{
    digest::Digest,
    wire::{DecodeError, Reader, Writer},
};

/// Amounts are whole minor units and saturate here: 2^53 − 1.
pub const MAX_AMOUNT: u64 = (1 << 53) - 1;
/// A program has at most this many components.
pub const MAX_COMPONENTS: usize = 16;
/// No count table yields more than this, so that an iteration ends in bounded time on every backend.
pub const MAX_COUNT: u64 = 32_768;
/// Octaves on either side of a quantile table.
pub const OCTAVES: usize = 64;
/// Bits of a quantile table entry's `left`: its magnitude is below 2^29.
pub const SEGMENT_LEFT_BITS: u32 = 29;

const MAGIC: &[u8; 4] = b"FKPG";
const VERSION: u32 = 1;

/// Maps one u64 draw to a count: `offset` plus the number of thresholds that are ≤ the draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountTable {
    /// Added to every count.
    pub offset: u32,
    /// `floor(2^64 · CDF(offset + i))`, never decreasing.
    pub thresholds: Vec<u64>,
}

impl CountTable {
    /// The count for a draw.
    pub fn count(&self, draw: u64) -> u32 {
        self.offset + self.thresholds.partition_point(|&threshold| threshold <= draw) as u32
    }
}

/// One segment of a quantile table: a quadratic in integers.
/// For y in [0, 2^31): amount = max(0, left·2^31 + y·(slope + (y·curve >> 31))) >> shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Segment {
    /// Value at the segment's lower end, in units of 2^(31 − shift) minor units.
    pub left: i32,
    /// Coefficient of y.
    pub slope: i32,
    /// Coefficient of y².
    pub curve: i32,
    /// Right shift from the scaled value to whole minor units, 5 to 61.
    pub shift: u32,
}

/// One source of occurrences: how many, and how large each is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Number of occurrences in an iteration.
    pub counts: CountTable,
    /// Amount of an occurrence: `2 · 64 · 2^segment_bits` segments; the lower half of the draws first, and in either
    /// half ascending in the distance from its end.
    pub amounts: Vec<Segment>,
    /// Amounts are cut to at most this; [`MAX_AMOUNT`] when the model has no cap.
    pub cap: u64,
}

/// A compiled model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Minor units in one unit of the model's args and results (insurance: 100, eta: 1,000).
    pub units: u32,
    /// log2 of the segments in an octave, the same for all tables: 1 to 8.
    pub segment_bits: u32,
    /// Added to every iteration's total, in minor units.
    pub base: u64,
    /// Totals are cut to at most this; [`MAX_AMOUNT`] when the model has no cap.
    pub cap: u64,
    /// Sources of occurrences, in draw order.
    pub components: Vec<Component>,
}

impl Program {
    /// The distinct caps below [`MAX_AMOUNT`], ascending: amounts on which probability may pile up, so that results
    /// count the iterations that fall exactly on them.
    pub fn marks(&self) -> Vec<u64> {
        let caps = self.components.iter().map(|c| c.cap).chain([self.cap]);
        let mut marks: Vec<u64> = caps.filter(|&cap| cap < MAX_AMOUNT).collect();
        marks.sort_unstable();
        marks.dedup();
        marks
    }

    /// Segments in one component's table.
    pub fn segments(&self) -> usize {
        (2 * OCTAVES) << self.segment_bits
    }

    /// SHA-256 of [`Program::encode`].
    pub fn digest(&self) -> Digest {
        Digest::hash_parts(&[&self.encode()])
    }

    /// The canonical bytes (docs/determinism.md, section 6).
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new(MAGIC, VERSION);
        out.u32(self.units);
        out.u32(self.segment_bits);
        out.u64(self.base);
        out.u64(self.cap);
        out.u32(self.components.len() as u32);
        for component in &self.components {
            out.u64(component.cap);
            out.u32(component.counts.offset);
            out.u32(component.counts.thresholds.len() as u32);
            component.counts.thresholds.iter().for_each(|&t| out.u64(t));
            for segment in &component.amounts {
                out.i32(segment.left);
                out.i32(segment.slope);
                out.i32(segment.curve);
                out.u32(segment.shift);
            }
        }
        out.finish()
    }

    /// Reads canonical bytes back.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are cut, or break a rule that execution relies on (see [`Program::validate`]).
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes, MAGIC, VERSION)?;
        let (units, segment_bits) = (input.u32()?, input.u32()?);
        let (base, cap) = (input.u64()?, input.u64()?);
        let count = input.u32()? as usize;
        if !(1..=8).contains(&segment_bits) || !(1..=MAX_COMPONENTS).contains(&count) {
            return Err(DecodeError::invalid("a program has 1 to 16 components and 1 to 8 segment bits"));
        }
        let segments = (2 * OCTAVES) << segment_bits;
        let components =
            (0..count).map(|_| decode_component(&mut input, segments)).collect::<Result<Vec<_>, _>>()?;
        input.finish()?;
        let program = Self { units, segment_bits, base, cap, components };
        program.validate()?;
        Ok(program)
    }

    /// Checks what every backend relies on: amounts in range, bounded counts, no overflow inside a segment.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] with the rule that is broken.
    pub fn validate(&self) -> Result<(), DecodeError> {
        let rule = |holds: bool, message: &str| {
            if holds { Ok(()) } else { Err(DecodeError::invalid(message)) }
        };
        rule(self.units >= 1, "units are at least 1")?;
        rule((1..=8).contains(&self.segment_bits), "segment bits are 1 to 8")?;
        rule(self.base <= MAX_AMOUNT, "the base is at most 2^53 - 1")?;
        rule((1..=MAX_AMOUNT).contains(&self.cap), "caps are 1 to 2^53 - 1")?;
        rule((1..=MAX_COMPONENTS).contains(&self.components.len()), "a program has 1 to 16 components")?;
        let most = |c: &Component| u64::from(c.counts.offset) + c.counts.thresholds.len() as u64;
        let occurrences: u64 = self.components.iter().map(most).sum();
        rule(occurrences <= MAX_COUNT, "an iteration has at most 32,768 occurrences")?;
        for component in &self.components {
            rule((1..=MAX_AMOUNT).contains(&component.cap), "caps are 1 to 2^53 - 1")?;
            rule(component.counts.thresholds.is_sorted(), "thresholds never decrease")?;
            rule(component.amounts.len() == self.segments(), "a table has 128 · 2^segment_bits segments")?;
            rule(component.amounts.iter().all(Segment::is_safe), "a segment can overflow")?;
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

fn decode_component(input: &mut Reader<'_>, segments: usize) -> Result<Component, DecodeError> {
    let (cap, offset) = (input.u64()?, input.u32()?);
    let thresholds = input.u32()? as usize;
    if thresholds > input.remaining() / 8 || segments > input.remaining() / 16 {
        return Err(DecodeError::invalid("a table is longer than the bytes that are left"));
    }
    let thresholds = (0..thresholds).map(|_| input.u64()).collect::<Result<_, _>>()?;
    let segment = |input: &mut Reader<'_>| {
        Ok(Segment { left: input.i32()?, slope: input.i32()?, curve: input.i32()?, shift: input.u32()? })
    };
    let amounts = (0..segments).map(|_| segment(input)).collect::<Result<_, DecodeError>>()?;
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
    fn counts_are_thresholds_not_above_the_draw() {
        let table = program().components.remove(0).counts;
        assert_eq!([9, 10, 19, 20, u64::MAX].map(|draw| table.count(draw)), [1, 2, 2, 4, 4]);
    }

    #[test]
    fn round_trips_and_rejects_what_could_overflow() {
        let good = program();
        assert_eq!(Program::decode(&good.encode()), Ok(good.clone()));
        assert_eq!(good.marks(), [50, 70]);
        let break_it: [fn(&mut Program); 7] = [
            |p| p.cap = MAX_AMOUNT + 1,
            |p| p.base = MAX_AMOUNT + 1,
            |p| p.components[0].counts.thresholds = vec![2, 1],
            |p| p.components[0].counts.offset = 40_000,
            |p| p.components[0].amounts[3].shift = 62,
            |p| p.components[0].amounts[3].left = i32::MIN,
            |p| (p.components[0].amounts[255].slope, p.components[0].amounts[255].curve) = (1 << 30, 1 << 30),
        ];
        for change in break_it {
            let mut bad = good.clone();
            change(&mut bad);
            assert!(Program::decode(&bad.encode()).is_err());
        }
        assert!(Program::decode(&good.encode()[..100]).is_err());
    }
}
