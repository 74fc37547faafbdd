//! The vector register as the SIMD backend sees it. One implementation an instruction set; no algorithm here.

use forge_contract::program::Segment;

/// A register of `LANES` u64 lanes, also read as `2 · LANES` u32 lanes. Arithmetic wraps.
///
/// Implementations over CPU intrinsics must only be reached on a CPU that has them: [`super::InstructionSet`] sees to that.
/// Every method is inlined into a function compiled for the instruction set.
pub(super) trait Vector: Copy {
    /// Number of u64 lanes: 4 or 8.
    const LANES: usize;
    /// One bit or lane for each u64 lane.
    type Mask: Copy;

    fn splat(value: u64) -> Self;
    fn splat32(value: u32) -> Self;
    /// Reads `LANES` values.
    fn load(lanes: &[u64]) -> Self;
    /// Writes `LANES` values.
    fn store(self, lanes: &mut [u64]);

    fn add32(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    fn rotate_left32<const BITS: u32>(self) -> Self;
    /// Pairs u32 lanes to u64: `low` gives the low halves. Which lanes come first is the implementation's, the same for
    /// all calls.
    fn pair(low: Self, high: Self) -> [Self; 2];

    fn add(self, other: Self) -> Self;
    fn and(self, other: Self) -> Self;
    fn shift_left<const BITS: u32>(self) -> Self;
    fn shift_right<const BITS: u32>(self) -> Self;
    /// Product of the low halves read as u32.
    fn multiply_u32(self, other: Self) -> Self;
    /// Smaller lane; both are below 2^63.
    fn min(self, other: Self) -> Self;
    /// Larger lane, as i64.
    fn max_signed(self, other: Self) -> Self;

    /// Lanes with `self > other`, as i64.
    fn above(self, other: Self) -> Self::Mask;
    /// Lanes with `self ≥ other`, as u64.
    fn at_least_unsigned(self, other: Self) -> Self::Mask;
    fn equal(self, other: Self) -> Self::Mask;
    /// `self + 1` where the mask is set, else `self`.
    fn increment(self, mask: Self::Mask) -> Self;
    fn both(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// `a` without `b`.
    fn without(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    fn any(mask: Self::Mask) -> bool;
    fn count(mask: Self::Mask) -> u32;

    /// The amounts of draws, before the component's cap, in the lanes `here`; 0 elsewhere. `table` has `128 · 2^bits`
    /// segments.
    fn price(table: &[Segment], bits: u32, draws: Self, here: Self::Mask) -> Self;
    /// Histogram buckets of amounts up to 2^53 − 1.
    fn buckets(amounts: Self) -> Self;
}

/// How a vector register looks segments up: what [`Vector::price`] takes where it pays to keep all lanes together.
pub(super) trait Lookup: Vector {
    /// Product of the low halves read as i32, as i64.
    fn multiply_i32(self, other: Self) -> Self;
    /// Logical shift of each lane by the other's lane, which is below 64.
    fn shift_right_by(self, counts: Self) -> Self;
    /// `self` where the mask is set, else 0.
    fn keep(self, mask: Self::Mask) -> Self;
    /// Where draws fall in a table: the segment's index, and the place y in it, below 2^31.
    fn locate(draws: Self, bits: u32) -> (Self, Self);
    /// Reads one segment a lane: (`left` and `slope`, `curve` and `shift`), low and high half of each u64.
    ///
    /// # Safety
    /// Every index is within the table.
    unsafe fn gather(table: &[Segment], indices: Self) -> (Self, Self);
}

/// [`Vector::price`] with all lanes together (docs/determinism.md, section 7).
#[inline(always)]
pub(super) fn price<V: Lookup>(table: &[Segment], bits: u32, draws: V, here: V::Mask) -> V {
    debug_assert_eq!(table.len(), 128 << bits);
    let (indices, y) = V::locate(draws, bits);
    // SAFETY: `locate` yields indices below 128 · 2^bits, which `Program::check` made the length of every table.
    let (left_slope, curve_shift) = unsafe { V::gather(table, indices) };
    let bend = y.multiply_i32(curve_shift).shift_right::<31>();
    let slope = left_slope.shift_right::<32>().add(bend);
    let rise = y.multiply_i32(slope);
    // Twice the value, below 2^63: left · 2^32 keeps its sign without an arithmetic shift.
    let twice = left_slope.shift_left::<32>().add(rise).add(rise);
    let amounts = twice.max_signed(V::splat(0)).shift_right_by(curve_shift.shift_right::<32>());
    amounts.shift_right::<1>().keep(here)
}

/// log2 of the buckets in an octave of the histogram, and bias of the f64 exponent: the bits of an amount as f64,
/// shifted down to ten fraction bits, are its bucket plus a constant.
pub(super) const BUCKET_SHIFT: u32 = 52 - 10;
/// That constant: for 1,024 = 2^10 the shifted bits are (1023 + 10)·1024 and the bucket is 1,024.
pub(super) const BUCKET_BIAS: u64 = (1023 + 10 - 1) << 10;
