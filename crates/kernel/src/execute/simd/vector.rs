//! The vector register as the SIMD backend sees it. One implementation an instruction set; no algorithm here.

use forge_contract::program::Segment;

/// A register of `LANES` u64 lanes, also read as `2 · LANES` u32 lanes. Arithmetic wraps.
///
/// Implementations over CPU intrinsics must only be reached on a CPU that has them: [`super::Level`] sees to that.
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
    /// Logical shift of each lane by the other's lane, which is below 64.
    fn shift_right_by(self, counts: Self) -> Self;
    /// Product of the low halves read as i32, as i64.
    fn multiply_i32(self, other: Self) -> Self;
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
    /// `self` where the mask is set, else 0.
    fn keep(self, mask: Self::Mask) -> Self;
    /// `self + 1` where the mask is set, else `self`.
    fn increment(self, mask: Self::Mask) -> Self;
    fn both(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// `a` without `b`.
    fn without(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    fn any(mask: Self::Mask) -> bool;
    fn count(mask: Self::Mask) -> u32;

    /// Where draws fall in a table of `2 · 64 · 2^bits` segments: the segment's index, and the place y in it, below 2^31
    /// (docs/determinism.md, section 7).
    fn locate(draws: Self, bits: u32) -> (Self, Self);
    /// Reads one segment a lane: (`left` and `slope`, `curve` and `shift`), low and high half of each u64.
    ///
    /// # Safety
    /// Every index is within the table.
    unsafe fn gather(table: &[Segment], indices: Self) -> (Self, Self);
    /// Histogram buckets of amounts up to 2^53 − 1.
    fn buckets(amounts: Self) -> Self;
}

/// log2 of the buckets in an octave of the histogram, and bias of the f64 exponent: the bits of an amount as f64,
/// shifted down to ten fraction bits, are its bucket plus a constant.
pub(super) const BUCKET_SHIFT: u32 = 52 - 10;
/// That constant: for 1,024 = 2^10 the shifted bits are (1023 + 10)·1024 and the bucket is 1,024.
pub(super) const BUCKET_BIAS: u64 = (1023 + 10 - 1) << 10;
