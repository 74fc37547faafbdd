//! The interface of a vector register, with one implementation for each instruction set, and the
//! table lookup built on it.

use forge_contract::{program::Segment, treaty::Proportion};

use super::super::scalar::amount_of_draw;

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
    fn subtract(self, other: Self) -> Self;
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
    /// `self` where the mask is set, else 0.
    fn select_or_zero(self, mask: Self::Mask) -> Self;
    /// The lanes of the mask: bit i is lane i.
    fn bits_of(mask: Self::Mask) -> u32;

    /// The amounts of `draws`, before the component's cap, in the lanes of `mask`; 0 in the others.
    /// `numbers` holds the number of each lane's table; `None` stands for the first table.
    ///
    /// # Panics
    /// If a number, also of a lane outside the mask, is not that of a table. Implementations that
    /// read only the lanes of the mask need not check the others.
    fn look_up_amounts(
        tables: QuantileTables<'_>,
        numbers: Option<Self>,
        draws: Self,
        mask: Self::Mask,
    ) -> Self;
    /// [`Proportion::of`] of amounts up to 2^53 − 1.
    fn proportion(self, proportion: Proportion) -> Self;
    /// Histogram buckets of amounts up to 2^53 − 1, with 2^`BITS` buckets in an octave: at most 10
    /// bits.
    fn buckets<const BITS: u32>(amounts: Self) -> Self;
}

/// Quantile tables of one size, one after another: at least one.
#[derive(Clone, Copy)]
pub(super) struct QuantileTables<'a> {
    bits: u32,
    segments: &'a [Segment],
}

impl<'a> QuantileTables<'a> {
    /// Tables of `128 · 2^bits` segments each.
    ///
    /// # Panics
    /// If the number of segments is not that of one or several such tables. Vectors read segments
    /// without a check of their own.
    #[inline(always)]
    pub(super) fn new(bits: u32, segments: &'a [Segment]) -> Self {
        assert!((1..=8).contains(&bits) && !segments.is_empty(), "a quantile table has 1 to 8 segment bits");
        assert!(segments.len().is_multiple_of(128 << bits), "a quantile table has 128 · 2^bits segments");
        Self { bits, segments }
    }

    #[inline(always)]
    fn number(self) -> usize {
        self.segments.len() >> (7 + self.bits)
    }

    /// The amount of a draw in a table.
    #[inline(always)]
    pub(super) fn amount(self, number: usize, draw: u64) -> u64 {
        amount_of_draw(self.bits, &self.segments[number << (7 + self.bits)..], draw)
    }
}

/// Operations for [`look_up_amounts`], for instruction sets on which looking up all lanes at once
/// is faster.
pub(super) trait TableLookup: Vector {
    /// Product of the low halves as i32, in i64.
    fn multiply_i32(self, other: Self) -> Self;
    /// Logical shift of each lane by the same lane of `counts`, which is below 64.
    fn shift_right_by(self, counts: Self) -> Self;
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
pub(super) fn look_up_amounts<V: TableLookup>(
    tables: QuantileTables<'_>,
    numbers: Option<V>,
    draws: V,
    mask: V::Mask,
) -> V {
    let (mut indices, y) = V::locate(draws, tables.bits);
    if let Some(numbers) = numbers {
        let is_beyond = numbers.greater_equal_unsigned(V::splat(tables.number() as u64));
        assert!(!V::any(is_beyond), "every lane needs the number of a table");
        indices = indices.add(numbers.multiply_u32(V::splat(128 << tables.bits)));
    }
    // SAFETY: `locate` returns indices below 128 · 2^bits, the length of a table, there is at least
    // one table, and every number is that of a table.
    let (left_slope, curve_shift) = unsafe { V::gather(tables.segments, indices) };
    let bend = y.multiply_i32(curve_shift).shift_right::<31>();
    let slope = left_slope.shift_right::<32>().add(bend);
    let rise = y.multiply_i32(slope);
    // Twice the value, below 2^63: left · 2^32 keeps its sign without an arithmetic shift.
    let twice = left_slope.shift_left::<32>().add(rise).add(rise);
    let amounts = twice.max_signed(V::splat(0)).shift_right_by(curve_shift.shift_right::<32>());
    amounts.shift_right::<1>().select_or_zero(mask)
}

/// What the bits of an amount as f64, shifted right so that `bits` fraction bits remain, have more
/// than its bucket: for the amount 2^bits they are (1023 + bits)·2^bits, and the bucket is 2^bits.
pub(super) const fn bucket_bias(bits: u32) -> u64 {
    (1023 + bits as u64 - 1) << bits
}

/// The integer bits of f64 from 2^52 to 2^53 are the fraction bits: adding it to a smaller number
/// rounds that to an integer.
pub(super) const TWO_52: f64 = (1u64 << 52) as f64;

/// Up to this amount, f64 computes [`Vector::proportion`] exactly: the product with 10^6, and half
/// a million more, are below 2^53. The quotient by a million is below 2^34, and the nearest integer
/// to its approximation is the quotient rounded down or one more.
pub(super) const MAX_FLOAT_PRODUCT_AMOUNT: u64 = (1 << 33) - 1;

/// [`Vector::proportion`], lane by lane.
#[cold]
#[inline(never)]
pub(super) fn proportion_of_each<V: Vector>(amounts: V, proportion: Proportion) -> V {
    let mut lanes = [0; 8];
    amounts.store(&mut lanes);
    for lane in &mut lanes {
        *lane = proportion.of(*lane);
    }
    V::load(&lanes)
}

#[cfg(test)]
mod tests {
    use forge_contract::{amount::MAX_AMOUNT, distribution::Resolution};

    use super::{super::portable::Portable, *};

    /// Results for each amount: a proportion, a fine and a coarse bucket.
    type Compute = fn(Proportion, &[u64], &mut [[u64; 3]]);

    #[inline(always)]
    fn compute<V: Vector>(proportion: Proportion, amounts: &[u64], results: &mut [[u64; 3]]) {
        for (amounts, results) in amounts.chunks_exact(V::LANES).zip(results.chunks_exact_mut(V::LANES)) {
            let amounts = V::load(amounts);
            let mut lanes = [[0; 8]; 3];
            amounts.proportion(proportion).store(&mut lanes[0]);
            V::buckets::<10>(amounts).store(&mut lanes[1]);
            V::buckets::<8>(amounts).store(&mut lanes[2]);
            for (lane, result) in results.iter_mut().enumerate() {
                *result = lanes.map(|lanes| lanes[lane]);
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi2,lzcnt,popcnt")]
    fn compute_avx2(proportion: Proportion, amounts: &[u64], results: &mut [[u64; 3]]) {
        compute::<super::super::avx2::Avx2>(proportion, amounts, results);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512cd,avx512dq,avx2,bmi2,lzcnt,popcnt")]
    fn compute_avx512(proportion: Proportion, amounts: &[u64], results: &mut [[u64; 3]]) {
        compute::<super::super::avx512::Avx512>(proportion, amounts, results);
    }

    fn levels() -> Vec<Compute> {
        let mut levels: Vec<Compute> = vec![compute::<Portable>];
        #[cfg(target_arch = "aarch64")]
        levels.push(compute::<super::super::neon::Neon>);
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the features were detected; CPUs with AVX2 have the others.
                levels.push(|p, amounts, results| unsafe { compute_avx2(p, amounts, results) });
            }
            if is_x86_feature_detected!("avx512cd") && is_x86_feature_detected!("avx512dq") {
                // SAFETY: as above.
                levels.push(|p, amounts, results| unsafe { compute_avx512(p, amounts, results) });
            }
        }
        levels
    }

    /// The amounts of draws in a table of two, of one segment bit each.
    fn look_up<V: Vector>(segments: &[Segment], number: u64) {
        let tables = QuantileTables::new(1, segments);
        let every = V::greater_than(V::splat(1), V::splat(0));
        let mut amounts = [0; 8];
        V::look_up_amounts(tables, Some(V::splat(number)), V::splat(u64::MAX), every).store(&mut amounts);
        assert_eq!(amounts[..V::LANES], vec![number + 1; V::LANES]);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi2,lzcnt,popcnt")]
    fn look_up_avx2(segments: &[Segment], number: u64) {
        look_up::<super::super::avx2::Avx2>(segments, number);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512cd,avx512dq,avx2,bmi2,lzcnt,popcnt")]
    fn look_up_avx512(segments: &[Segment], number: u64) {
        look_up::<super::super::avx512::Avx512>(segments, number);
    }

    #[test]
    fn only_segments_of_tables_are_read() {
        let mut lookups: Vec<fn(&[Segment], u64)> = vec![look_up::<Portable>];
        #[cfg(target_arch = "aarch64")]
        lookups.push(look_up::<super::super::neon::Neon>);
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the features were detected; CPUs with AVX2 have the others.
                lookups.push(|segments, number| unsafe { look_up_avx2(segments, number) });
            }
            if is_x86_feature_detected!("avx512cd") && is_x86_feature_detected!("avx512dq") {
                // SAFETY: as above.
                lookups.push(|segments, number| unsafe { look_up_avx512(segments, number) });
            }
        }
        let segment = |table: usize| Segment { left: 32 * (table as i32 + 1), slope: 0, curve: 0, shift: 36 };
        let segments: Vec<_> = (0..512).map(|at| segment(at / 256)).collect();
        for look_up in lookups {
            look_up(&segments, 0);
            look_up(&segments, 1);
            for (length, number) in [(512, 2), (512, 1 << 32), (512, u64::MAX), (256, 1), (511, 0), (0, 0)] {
                let panics = std::panic::catch_unwind(|| look_up(&segments[..length], number));
                assert!(panics.is_err(), "{length} segments, table {number}");
            }
        }
    }

    #[test]
    fn proportions_and_buckets_are_exact() {
        let edges = (0..=53).flat_map(|bits| {
            let power = 1u64 << bits;
            [power - 1, power, power + 1, 3 * power / 2]
        });
        let millions = [1, 2, 3, 4_294_967_295, 4_294_967_296, 9_007_199_254];
        let around = millions.into_iter().flat_map(|quotient: u64| {
            let multiple = quotient * 1_000_000;
            [multiple - 1, multiple, multiple + 1, multiple + 499_999, multiple + 500_000, multiple + 500_001]
        });
        let mut state = 1u64;
        let random = (0..4000).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> (11 + state % 40)
        });
        let mut amounts: Vec<_> = edges.chain(around).chain(random).filter(|&a| a <= MAX_AMOUNT).collect();
        amounts.resize(amounts.len().next_multiple_of(8), MAX_AMOUNT);
        for parts in [0, 1, 2, 3, 333_333, 499_999, 500_000, 500_001, 850_000, 999_999, 1_000_000] {
            let proportion = Proportion(parts);
            for level in levels() {
                let mut results = vec![[0; 3]; amounts.len()];
                level(proportion, &amounts, &mut results);
                for (&amount, &result) in amounts.iter().zip(&results) {
                    let bucket = |resolution: Resolution| resolution.bucket_of(amount) as u64;
                    let expected =
                        [proportion.of(amount), bucket(Resolution::FINE), bucket(Resolution::COARSE)];
                    assert_eq!(result, expected, "{parts} parts of {amount}");
                }
            }
        }
    }
}
