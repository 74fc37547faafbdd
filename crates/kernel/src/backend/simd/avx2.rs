//! The vector register of AVX2: four u64 lanes.

use std::arch::x86_64::*;

use forge_contract::{program::Segment, treaty::Proportion};

use super::{
    super::scalar::locate,
    vector::{
        MAX_FLOAT_PRODUCT_AMOUNT, QuantileTables, TWO_52, TableLookup, Vector, bucket_bias, look_up_amounts,
        proportion_of_each,
    },
};

/// Bits of the f64 2^52. With an integer below 2^52 in the fraction bits, they are the f64 2^52 +
/// that integer.
const TWO_52_BITS: u64 = TWO_52.to_bits();
/// Bits of the f64 2^84.
const TWO_84: u64 = 0x4530_0000_0000_0000;

/// Four lanes of a 256-bit register.
#[derive(Clone, Copy)]
pub(super) struct Avx2(__m256i);

// SAFETY of all intrinsics below: this type is used only where AVX2 was detected
// (`InstructionSet::Avx2`).
macro_rules! avx2 {
    ($e:expr) => {
        // SAFETY: see above; loads and stores are within the slices, whose length is checked.
        unsafe { $e }
    };
}

/// A byte shuffle that applies the order `low` to every 8 bytes.
#[inline(always)]
fn byte_order(low: i64) -> __m256i {
    let high = low + 0x0808_0808_0808_0808;
    avx2!(_mm256_set_epi64x(high, low, high, low))
}

impl Avx2 {
    #[inline(always)]
    fn sign_flipped(self) -> __m256i {
        avx2!(_mm256_xor_si256(self.0, _mm256_set1_epi64x(i64::MIN)))
    }

    /// The bits of each lane's value as f64; exact below 2^53.
    #[inline(always)]
    fn float_bits(self) -> __m256i {
        avx2!({
            let high = _mm256_or_si256(_mm256_srli_epi64::<32>(self.0), _mm256_set1_epi64x(TWO_84 as i64));
            let low = _mm256_blend_epi32::<0b1010_1010>(self.0, _mm256_set1_epi64x(TWO_52_BITS as i64));
            let bias = _mm256_set1_pd(f64::from_bits(TWO_84) + TWO_52);
            let high = _mm256_sub_pd(_mm256_castsi256_pd(high), bias);
            _mm256_castpd_si256(_mm256_add_pd(high, _mm256_castsi256_pd(low)))
        })
    }
}

impl Vector for Avx2 {
    const LANES: usize = 4;
    type Mask = __m256i;

    #[inline(always)]
    fn splat(value: u64) -> Self {
        Self(avx2!(_mm256_set1_epi64x(value as i64)))
    }

    #[inline(always)]
    fn splat32(value: u32) -> Self {
        Self(avx2!(_mm256_set1_epi32(value as i32)))
    }

    #[inline(always)]
    fn load(lanes: &[u64]) -> Self {
        assert!(lanes.len() >= Self::LANES);
        Self(avx2!(_mm256_loadu_si256(lanes.as_ptr().cast())))
    }

    #[inline(always)]
    fn store(self, lanes: &mut [u64]) {
        assert!(lanes.len() >= Self::LANES);
        avx2!(_mm256_storeu_si256(lanes.as_mut_ptr().cast(), self.0))
    }

    #[inline(always)]
    fn add32(self, other: Self) -> Self {
        Self(avx2!(_mm256_add_epi32(self.0, other.0)))
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(avx2!(_mm256_xor_si256(self.0, other.0)))
    }

    #[inline(always)]
    fn rotate_left32<const BITS: u32>(self) -> Self {
        avx2!({
            Self(match BITS {
                16 => _mm256_shuffle_epi8(self.0, byte_order(0x0504_0706_0100_0302)),
                8 => _mm256_shuffle_epi8(self.0, byte_order(0x0605_0407_0201_0003)),
                12 => _mm256_or_si256(_mm256_slli_epi32::<12>(self.0), _mm256_srli_epi32::<20>(self.0)),
                7 => _mm256_or_si256(_mm256_slli_epi32::<7>(self.0), _mm256_srli_epi32::<25>(self.0)),
                _ => unreachable!("ChaCha rotates by 16, 12, 8 and 7"),
            })
        })
    }

    #[inline(always)]
    fn pair(low: Self, high: Self) -> [Self; 2] {
        avx2!([Self(_mm256_unpacklo_epi32(low.0, high.0)), Self(_mm256_unpackhi_epi32(low.0, high.0))])
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(avx2!(_mm256_add_epi64(self.0, other.0)))
    }

    #[inline(always)]
    fn subtract(self, other: Self) -> Self {
        Self(avx2!(_mm256_sub_epi64(self.0, other.0)))
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Self(avx2!(_mm256_and_si256(self.0, other.0)))
    }

    #[inline(always)]
    fn shift_left<const BITS: u32>(self) -> Self {
        Self(avx2!(_mm256_sll_epi64(self.0, _mm_cvtsi32_si128(BITS as i32))))
    }

    #[inline(always)]
    fn shift_right<const BITS: u32>(self) -> Self {
        Self(avx2!(_mm256_srl_epi64(self.0, _mm_cvtsi32_si128(BITS as i32))))
    }

    #[inline(always)]
    fn multiply_u32(self, other: Self) -> Self {
        Self(avx2!(_mm256_mul_epu32(self.0, other.0)))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(avx2!(_mm256_blendv_epi8(self.0, other.0, _mm256_cmpgt_epi64(self.0, other.0))))
    }

    #[inline(always)]
    fn max_signed(self, other: Self) -> Self {
        Self(avx2!(_mm256_blendv_epi8(other.0, self.0, _mm256_cmpgt_epi64(self.0, other.0))))
    }

    #[inline(always)]
    fn greater_than(self, other: Self) -> Self::Mask {
        avx2!(_mm256_cmpgt_epi64(self.0, other.0))
    }

    #[inline(always)]
    fn greater_equal_unsigned(self, other: Self) -> Self::Mask {
        avx2!({
            let below = _mm256_cmpgt_epi64(other.sign_flipped(), self.sign_flipped());
            _mm256_xor_si256(below, _mm256_set1_epi64x(-1))
        })
    }

    #[inline(always)]
    fn equal(self, other: Self) -> Self::Mask {
        avx2!(_mm256_cmpeq_epi64(self.0, other.0))
    }

    #[inline(always)]
    fn increment(self, mask: Self::Mask) -> Self {
        Self(avx2!(_mm256_sub_epi64(self.0, mask)))
    }

    #[inline(always)]
    fn mask_and(a: Self::Mask, b: Self::Mask) -> Self::Mask {
        avx2!(_mm256_and_si256(a, b))
    }

    #[inline(always)]
    fn mask_and_not(a: Self::Mask, b: Self::Mask) -> Self::Mask {
        avx2!(_mm256_andnot_si256(b, a))
    }

    #[inline(always)]
    fn any(mask: Self::Mask) -> bool {
        avx2!(_mm256_testz_si256(mask, mask) == 0)
    }

    #[inline(always)]
    fn count_set(mask: Self::Mask) -> u32 {
        avx2!(_mm256_movemask_pd(_mm256_castsi256_pd(mask)) as u32).count_ones()
    }

    #[inline(always)]
    fn select_or_zero(self, mask: Self::Mask) -> Self {
        Self(avx2!(_mm256_and_si256(self.0, mask)))
    }

    #[inline(always)]
    fn bits_of(mask: Self::Mask) -> u32 {
        avx2!(_mm256_movemask_pd(_mm256_castsi256_pd(mask)) as u32)
    }

    #[inline(always)]
    fn proportion(self, proportion: Proportion) -> Self {
        if Self::any(Self::greater_than(self, Self::splat(MAX_FLOAT_PRODUCT_AMOUNT))) {
            return proportion_of_each(self, proportion);
        }
        avx2!({
            let (magic, million) = (_mm256_set1_pd(TWO_52), _mm256_set1_pd(1e6));
            let bits = _mm256_or_si256(self.0, _mm256_castpd_si256(magic));
            let amounts = _mm256_sub_pd(_mm256_castsi256_pd(bits), magic);
            let product = _mm256_mul_pd(amounts, _mm256_set1_pd(proportion.0.into()));
            let product = _mm256_add_pd(product, _mm256_set1_pd(500_000.0));
            let nearest = _mm256_add_pd(_mm256_mul_pd(product, _mm256_set1_pd(1e-6)), magic);
            let quotient = _mm256_sub_pd(nearest, magic);
            let is_above = _mm256_cmp_pd::<_CMP_LT_OQ>(product, _mm256_mul_pd(quotient, million));
            let quotient = _mm256_xor_si256(_mm256_castpd_si256(nearest), _mm256_castpd_si256(magic));
            Self(_mm256_add_epi64(quotient, _mm256_castpd_si256(is_above)))
        })
    }

    #[inline(always)]
    fn look_up_amounts(
        tables: QuantileTables<'_>,
        numbers: Option<Self>,
        draws: Self,
        mask: Self::Mask,
    ) -> Self {
        look_up_amounts(tables, numbers, draws, mask)
    }

    #[inline(always)]
    fn buckets<const BITS: u32>(amounts: Self) -> Self {
        avx2!({
            let shifted = _mm256_srl_epi64(amounts.float_bits(), _mm_cvtsi32_si128(52 - BITS as i32));
            let bucket = _mm256_sub_epi64(shifted, _mm256_set1_epi64x(bucket_bias(BITS) as i64));
            let small = _mm256_cmpgt_epi64(_mm256_set1_epi64x(1 << BITS), amounts.0);
            Self(_mm256_blendv_epi8(bucket, amounts.0, small))
        })
    }
}

impl TableLookup for Avx2 {
    #[inline(always)]
    fn multiply_i32(self, other: Self) -> Self {
        Self(avx2!(_mm256_mul_epi32(self.0, other.0)))
    }

    #[inline(always)]
    fn shift_right_by(self, counts: Self) -> Self {
        Self(avx2!(_mm256_srlv_epi64(self.0, counts.0)))
    }

    /// AVX2 cannot count the leading zeros of lanes. The upper 52 bits of the distance convert
    /// exactly to an f64, whose exponent is the octave and whose fraction holds segment and
    /// position, provided that enough bits follow the leading one. If any lane has fewer, which
    /// happens for at most one draw in 2^13, all lanes are located one by one.
    #[inline(always)]
    fn locate(draws: Self, bits: u32) -> (Self, Self) {
        avx2!({
            let upper = _mm256_cmpgt_epi64(_mm256_setzero_si256(), draws.0);
            let distance = _mm256_xor_si256(draws.0, upper);
            // w >> 12 with w = 2 · distance + 1.
            let top = _mm256_srli_epi64::<11>(distance);
            let scaled = _mm256_or_si256(top, _mm256_set1_epi64x(TWO_52_BITS as i64));
            let float = _mm256_sub_pd(_mm256_castsi256_pd(scaled), _mm256_set1_pd(TWO_52));
            let float = _mm256_castpd_si256(float);
            let deep = _mm256_cmpgt_epi64(_mm256_set1_epi64x(1 << (bits + 31)), top);
            // An f64 in [2^51, 2^52) is octave 63.
            let bias = ((1023 + 51 - 63) << bits) as i64;
            let index = _mm256_srl_epi64(float, _mm_cvtsi32_si128(52 - bits as i32));
            let index = _mm256_sub_epi64(index, _mm256_set1_epi64x(bias));
            let half = _mm256_and_si256(upper, _mm256_set1_epi64x(64 << bits));
            let index = _mm256_add_epi64(index, half);
            let position = _mm256_srl_epi64(float, _mm_cvtsi32_si128(21 - bits as i32));
            let position =
                _mm256_and_si256(_mm256_xor_si256(position, upper), _mm256_set1_epi64x((1 << 31) - 1));
            if _mm256_testz_si256(deep, deep) == 0 {
                return locate_each(draws, bits);
            }
            (Self(index), Self(position))
        })
    }

    #[inline(always)]
    unsafe fn gather(table: &[Segment], indices: Self) -> (Self, Self) {
        let mut index = [0; Self::LANES];
        indices.store(&mut index);
        let base = table.as_ptr();
        // SAFETY: the caller guarantees the indices, and a segment is 16 bytes without padding.
        let entry = |lane: usize| unsafe { base.add(index[lane] as usize).cast() };
        avx2!({
            let a = _mm256_castsi128_si256(_mm_loadu_si128(entry(0)));
            let a = _mm256_inserti128_si256::<1>(a, _mm_loadu_si128(entry(2)));
            let b = _mm256_castsi128_si256(_mm_loadu_si128(entry(1)));
            let b = _mm256_inserti128_si256::<1>(b, _mm_loadu_si128(entry(3)));
            (Self(_mm256_unpacklo_epi64(a, b)), Self(_mm256_unpackhi_epi64(a, b)))
        })
    }
}

#[cold]
#[inline(never)]
fn locate_lanes(draws: [u64; 4], bits: u32) -> ([u64; 4], [u64; 4]) {
    let located = draws.map(|draw| locate(draw, bits));
    (located.map(|l| l.0 as u64), located.map(|l| l.1))
}

#[inline(always)]
fn locate_each(draws: Avx2, bits: u32) -> (Avx2, Avx2) {
    let mut lanes = [0; 4];
    draws.store(&mut lanes);
    let (indices, positions) = locate_lanes(lanes, bits);
    (Avx2::load(&indices), Avx2::load(&positions))
}
