//! The interface of a vector register, with one implementation for each instruction set, and the
//! table lookup built on it.

use forge_contract::program::Segment;

/// A register of `LANES` u64 lanes, also read as `2 · LANES` u32 lanes. Arithmetic wraps.
///
/// Implementations over CPU intrinsics must run only on CPUs that have them, which
/// [`super::InstructionSet`] ensures. Every method is inlined into a function compiled for the
/// instruction set.
pub(super) trait Vector: Copy {
    /// Number of u64 lanes: 4 or 8.
    const LANES: usize;
    /// A flag for each u64 lane.
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
    /// Joins u32 lanes to u64 lanes, with the low halves from `low`. Implementations differ in the
    /// order of the lanes, but each uses the same order in all calls.
    fn pair(low: Self, high: Self) -> [Self; 2];

    fn add(self, other: Self) -> Self;
    fn and(self, other: Self) -> Self;
    fn shift_left<const BITS: u32>(self) -> Self;
    fn shift_right<const BITS: u32>(self) -> Self;
    /// Product of the low halves as u32.
    fn multiply_u32(self, other: Self) -> Self;
    /// Smaller lane; both are below 2^63.
    fn min(self, other: Self) -> Self;
    /// Larger lane, as i64.
    fn max_signed(self, other: Self) -> Self;

    /// Lanes with `self > other`, as i64.
    fn greater_than(self, other: Self) -> Self::Mask;
    /// Lanes with `self ≥ other`, as u64.
    fn greater_equal_unsigned(self, other: Self) -> Self::Mask;
    fn equal(self, other: Self) -> Self::Mask;
    /// `self + 1` where the mask is set, else `self`.
    fn increment(self, mask: Self::Mask) -> Self;
    fn mask_and(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// `a` and not `b`.
    fn mask_and_not(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    fn any(mask: Self::Mask) -> bool;
    fn count_set(mask: Self::Mask) -> u32;
    /// Writes `LANES` values, first the lanes of the mask in their order, and returns their number.
    fn compress(self, mask: Self::Mask, lanes: &mut [u64]) -> usize;

    /// The amounts of `draws`, before the component's cap, in the lanes of `mask`; 0 in the others.
    /// `table` has `128 · 2^bits` segments.
    fn look_up_amounts(table: &[Segment], bits: u32, draws: Self, mask: Self::Mask) -> Self;
    /// Histogram buckets of amounts up to 2^53 − 1.
    fn buckets(amounts: Self) -> Self;
}

/// Operations for [`look_up_amounts`], for instruction sets on which looking up all lanes at once
/// is faster.
pub(super) trait TableLookup: Vector {
    /// Product of the low halves as i32, in i64.
    fn multiply_i32(self, other: Self) -> Self;
    /// Logical shift of each lane by the same lane of `counts`, which is below 64.
    fn shift_right_by(self, counts: Self) -> Self;
    /// `self` where the mask is set, else 0.
    fn select_or_zero(self, mask: Self::Mask) -> Self;
    /// Locates draws in a quantile table: the indices of their segments, and their positions y,
    /// below 2^31.
    fn locate(draws: Self, bits: u32) -> (Self, Self);
    /// Reads a segment for each lane: `left` and `slope`, then `curve` and `shift`, in the low and
    /// high half of each u64.
    ///
    /// # Safety
    /// Every index must be within the table.
    unsafe fn gather(table: &[Segment], indices: Self) -> (Self, Self);
}

/// [`Vector::look_up_amounts`] for all lanes at once (docs/determinism.md, section 7).
#[inline(always)]
pub(super) fn look_up_amounts<V: TableLookup>(table: &[Segment], bits: u32, draws: V, mask: V::Mask) -> V {
    debug_assert_eq!(table.len(), 128 << bits);
    let (indices, y) = V::locate(draws, bits);
    // SAFETY: `locate` returns indices below 128 · 2^bits, the length that `Program::validate`
    // requires of every table.
    let (left_slope, curve_shift) = unsafe { V::gather(table, indices) };
    let bend = y.multiply_i32(curve_shift).shift_right::<31>();
    let slope = left_slope.shift_right::<32>().add(bend);
    let rise = y.multiply_i32(slope);
    // Twice the value, below 2^63: left · 2^32 keeps its sign without an arithmetic shift.
    let twice = left_slope.shift_left::<32>().add(rise).add(rise);
    let amounts = twice.max_signed(V::splat(0)).shift_right_by(curve_shift.shift_right::<32>());
    amounts.shift_right::<1>().select_or_zero(mask)
}

/// The bits of an amount as f64, shifted right by this, are its bucket plus [`BUCKET_BIAS`]: ten
/// fraction bits remain, and an octave has 2^10 buckets.
pub(super) const BUCKET_SHIFT: u32 = 52 - 10;
/// For the amount 1,024 = 2^10 the shifted bits are (1023 + 10)·1024, and the bucket is 1,024.
pub(super) const BUCKET_BIAS: u64 = (1023 + 10 - 1) << 10;
