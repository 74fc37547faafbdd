//! The vector register of aarch64: four u64 lanes in two NEON registers. Every CPU of that
//! architecture that runs Rust's Linux targets has NEON, so its intrinsics need no detection.

use std::{arch::aarch64::*, array::from_fn};

use forge_contract::{program::Segment, treaty::Proportion};

use super::{
    super::scalar::locate,
    vector::{
        MAX_FLOAT_PRODUCT_AMOUNT, QuantileTables, TWO_52, TableLookup, Vector, bucket_bias, look_up_amounts,
        proportion_of_each,
    },
};

/// NEON registers in a vector.
const REGISTERS: usize = 2;
const LANES: usize = 2 * REGISTERS;

/// Two lanes in each register.
#[derive(Clone, Copy)]
pub(super) struct Neon([uint64x2_t; REGISTERS]);

/// Every bit of a lane is set, or none.
type Mask = [uint64x2_t; REGISTERS];

macro_rules! neon {
    ($e:expr) => {
        // SAFETY: see the module; loads and stores are within slices, whose length is checked.
        unsafe { $e }
    };
}

/// The registers of a vector, each from its number. A loop instead of `from_fn`, whose closure is
/// not always inlined.
macro_rules! each {
    ($i:ident => $register:expr) => {{
        let mut registers = [neon!(vdupq_n_u64(0)); REGISTERS];
        for ($i, register) in registers.iter_mut().enumerate() {
            *register = neon!($register);
        }
        registers
    }};
}

#[inline(always)]
fn words(register: uint64x2_t) -> uint32x4_t {
    neon!(vreinterpretq_u32_u64(register))
}

#[inline(always)]
fn signed(register: uint64x2_t) -> int64x2_t {
    neon!(vreinterpretq_s64_u64(register))
}

impl Neon {
    /// The bits of each lane's value as f64; exact up to 2^53.
    #[inline(always)]
    fn float_bits(self) -> Self {
        Self(each!(i => vreinterpretq_u64_f64(vcvtq_f64_u64(self.0[i]))))
    }

    /// Shifts all lanes by the same number of bits.
    #[inline(always)]
    fn shift_right_all(self, bits: u32) -> Self {
        Self(each!(i => vshlq_u64(self.0[i], vdupq_n_s64(-i64::from(bits)))))
    }

    /// `self` where the mask is set, else `other`.
    #[inline(always)]
    fn select(self, mask: Mask, other: Self) -> Self {
        Self(each!(i => vbslq_u64(mask[i], self.0[i], other.0[i])))
    }
}

impl Vector for Neon {
    const LANES: usize = LANES;
    type Mask = Mask;

    #[inline(always)]
    fn splat(value: u64) -> Self {
        Self([neon!(vdupq_n_u64(value)); REGISTERS])
    }

    #[inline(always)]
    fn splat32(value: u32) -> Self {
        Self([neon!(vreinterpretq_u64_u32(vdupq_n_u32(value))); REGISTERS])
    }

    #[inline(always)]
    fn load(lanes: &[u64]) -> Self {
        let lanes = &lanes[..LANES];
        Self(each!(i => vld1q_u64(lanes.as_ptr().add(2 * i))))
    }

    #[inline(always)]
    fn store(self, lanes: &mut [u64]) {
        let lanes = &mut lanes[..LANES];
        for (i, register) in self.0.into_iter().enumerate() {
            neon!(vst1q_u64(lanes.as_mut_ptr().add(2 * i), register));
        }
    }

    #[inline(always)]
    fn add32(self, other: Self) -> Self {
        Self(each!(i => vreinterpretq_u64_u32(vaddq_u32(words(self.0[i]), words(other.0[i])))))
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(each!(i => veorq_u64(self.0[i], other.0[i])))
    }

    #[inline(always)]
    fn rotate_left32<const BITS: u32>(self) -> Self {
        Self(each!(i => {
            let x = words(self.0[i]);
            vreinterpretq_u64_u32(match BITS {
                16 => vreinterpretq_u32_u16(vrev32q_u16(vreinterpretq_u16_u32(x))),
                12 => vsriq_n_u32::<20>(vshlq_n_u32::<12>(x), x),
                8 => vsriq_n_u32::<24>(vshlq_n_u32::<8>(x), x),
                7 => vsriq_n_u32::<25>(vshlq_n_u32::<7>(x), x),
                _ => unreachable!("ChaCha rotates by 16, 12, 8 and 7"),
            })
        }))
    }

    #[inline(always)]
    fn pair(low: Self, high: Self) -> [Self; 2] {
        [
            Self(each!(i => vreinterpretq_u64_u32(vzip1q_u32(words(low.0[i]), words(high.0[i]))))),
            Self(each!(i => vreinterpretq_u64_u32(vzip2q_u32(words(low.0[i]), words(high.0[i]))))),
        ]
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(each!(i => vaddq_u64(self.0[i], other.0[i])))
    }

    #[inline(always)]
    fn subtract(self, other: Self) -> Self {
        Self(each!(i => vsubq_u64(self.0[i], other.0[i])))
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Self(each!(i => vandq_u64(self.0[i], other.0[i])))
    }

    #[inline(always)]
    fn shift_left<const BITS: u32>(self) -> Self {
        Self(each!(i => vshlq_u64(self.0[i], vdupq_n_s64(i64::from(BITS)))))
    }

    #[inline(always)]
    fn shift_right<const BITS: u32>(self) -> Self {
        self.shift_right_all(BITS)
    }

    #[inline(always)]
    fn multiply_u32(self, other: Self) -> Self {
        Self(each!(i => vmull_u32(vmovn_u64(self.0[i]), vmovn_u64(other.0[i]))))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        other.select(Self::greater_than(self, other), self)
    }

    #[inline(always)]
    fn max_signed(self, other: Self) -> Self {
        self.select(Self::greater_than(self, other), other)
    }

    #[inline(always)]
    fn greater_than(self, other: Self) -> Mask {
        each!(i => vcgtq_s64(signed(self.0[i]), signed(other.0[i])))
    }

    #[inline(always)]
    fn greater_equal_unsigned(self, other: Self) -> Mask {
        each!(i => vcgeq_u64(self.0[i], other.0[i]))
    }

    #[inline(always)]
    fn equal(self, other: Self) -> Mask {
        each!(i => vceqq_u64(self.0[i], other.0[i]))
    }

    #[inline(always)]
    fn increment(self, mask: Mask) -> Self {
        self.subtract(Self(mask))
    }

    #[inline(always)]
    fn mask_and(a: Mask, b: Mask) -> Mask {
        each!(i => vandq_u64(a[i], b[i]))
    }

    #[inline(always)]
    fn mask_and_not(a: Mask, b: Mask) -> Mask {
        each!(i => vbicq_u64(a[i], b[i]))
    }

    #[inline(always)]
    fn any(mask: Mask) -> bool {
        let mut any = mask[0];
        for register in &mask[1..] {
            any = neon!(vorrq_u64(any, *register));
        }
        neon!(vmaxvq_u32(words(any))) != 0
    }

    #[inline(always)]
    fn count_set(mask: Mask) -> u32 {
        // A set lane is −1.
        let mut sum = neon!(vdupq_n_s64(0));
        for register in mask {
            sum = neon!(vsubq_s64(sum, signed(register)));
        }
        neon!(vaddvq_s64(sum)) as u32
    }

    #[inline(always)]
    fn select_or_zero(self, mask: Mask) -> Self {
        self.and(Self(mask))
    }

    #[inline(always)]
    fn bits_of(mask: Mask) -> u32 {
        let mut bits = 0;
        for (i, register) in mask.into_iter().enumerate() {
            let [low, high] = neon!([vgetq_lane_u64::<0>(register), vgetq_lane_u64::<1>(register)]);
            bits |= ((low & 1) | (high & 2)) << (2 * i);
        }
        bits as u32
    }

    #[inline(always)]
    fn proportion(self, proportion: Proportion) -> Self {
        if Self::any(Self::greater_than(self, Self::splat(MAX_FLOAT_PRODUCT_AMOUNT))) {
            return proportion_of_each(self, proportion);
        }
        let (magic, million) = neon!((vdupq_n_f64(TWO_52), vdupq_n_f64(1e6)));
        Self(each!(i => {
            let product = vmulq_f64(vcvtq_f64_u64(self.0[i]), vdupq_n_f64(proportion.0.into()));
            let product = vaddq_f64(product, vdupq_n_f64(500_000.0));
            let nearest = vaddq_f64(vmulq_f64(product, vdupq_n_f64(1e-6)), magic);
            let quotient = vsubq_f64(nearest, magic);
            let is_above = vcltq_f64(product, vmulq_f64(quotient, million));
            vaddq_u64(vcvtq_u64_f64(quotient), is_above)
        }))
    }

    #[inline(always)]
    fn look_up_amounts(tables: QuantileTables<'_>, numbers: Option<Self>, draws: Self, mask: Mask) -> Self {
        look_up_amounts(tables, numbers, draws, mask)
    }

    #[inline(always)]
    fn buckets<const BITS: u32>(amounts: Self) -> Self {
        let bucket = amounts.float_bits().shift_right_all(52 - BITS).subtract(Self::splat(bucket_bias(BITS)));
        amounts.select(Self::greater_than(Self::splat(1 << BITS), amounts), bucket)
    }
}

impl TableLookup for Neon {
    #[inline(always)]
    fn multiply_i32(self, other: Self) -> Self {
        Self(each!(i => {
            let product = vmull_s32(vmovn_s64(signed(self.0[i])), vmovn_s64(signed(other.0[i])));
            vreinterpretq_u64_s64(product)
        }))
    }

    #[inline(always)]
    fn shift_right_by(self, counts: Self) -> Self {
        Self(each!(i => vshlq_u64(self.0[i], vnegq_s64(signed(counts.0[i])))))
    }

    /// NEON cannot count the leading zeros of u64 lanes. The upper 52 bits of the distance convert
    /// exactly to an f64, whose exponent is the octave and whose fraction holds segment and
    /// position, provided that enough bits follow the leading one. If any lane has fewer, which
    /// happens for at most one draw in 2^13, all lanes are located one by one.
    #[inline(always)]
    fn locate(draws: Self, bits: u32) -> (Self, Self) {
        let upper = Self::greater_than(Self::splat(0), draws);
        let distance = draws.xor(Self(upper));
        // w >> 12 with w = 2 · distance + 1.
        let top = distance.shift_right::<11>();
        if Self::any(Self::greater_than(Self::splat(1 << (bits + 31)), top)) {
            return locate_each(draws, bits);
        }
        let float = top.float_bits();
        // An f64 in [2^51, 2^52) is octave 63.
        let bias = (1023 + 51 - 63) << bits;
        let half = Self::splat(64 << bits).select_or_zero(upper);
        let index = float.shift_right_all(52 - bits).subtract(Self::splat(bias)).add(half);
        let position = float.shift_right_all(21 - bits).xor(Self(upper)).and(Self::splat((1 << 31) - 1));
        (index, position)
    }

    #[inline(always)]
    unsafe fn gather(table: &[Segment], indices: Self) -> (Self, Self) {
        let mut index = [0; LANES];
        indices.store(&mut index);
        // SAFETY: the caller guarantees the indices, and a segment is 16 bytes without padding.
        let entry = |lane: usize| unsafe { vld1q_u64(table.as_ptr().add(index[lane] as usize).cast()) };
        let entries: [uint64x2_t; LANES] = from_fn(entry);
        (
            Self(each!(i => vzip1q_u64(entries[2 * i], entries[2 * i + 1]))),
            Self(each!(i => vzip2q_u64(entries[2 * i], entries[2 * i + 1]))),
        )
    }
}

#[cold]
#[inline(never)]
fn locate_each(draws: Neon, bits: u32) -> (Neon, Neon) {
    let mut lanes = [0; LANES];
    draws.store(&mut lanes);
    let located = lanes.map(|draw| locate(draw, bits));
    (Neon::load(&located.map(|l| l.0 as u64)), Neon::load(&located.map(|l| l.1)))
}
