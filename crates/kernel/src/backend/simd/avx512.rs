//! The vector register of AVX-512 (F, CD, DQ): eight u64 lanes.

use std::arch::x86_64::*;

use forge_contract::{program::Segment, treaty::Proportion};

use super::vector::{
    MAX_FLOAT_PRODUCT_AMOUNT, QuantileTables, TWO_52, TableLookup, Vector, bucket_bias, look_up_amounts,
    proportion_of_each,
};

/// Eight lanes of a 512-bit register.
#[derive(Clone, Copy)]
pub(super) struct Avx512(__m512i);

// SAFETY of all intrinsics below: this type is used only where the features were detected
// (`InstructionSet::Avx512`).
macro_rules! avx512 {
    ($e:expr) => {
        // SAFETY: see above; loads and stores are within the slices, whose length is checked.
        unsafe { $e }
    };
}

impl Vector for Avx512 {
    const LANES: usize = 8;
    type Mask = __mmask8;

    #[inline(always)]
    fn splat(value: u64) -> Self {
        Self(avx512!(_mm512_set1_epi64(value as i64)))
    }

    #[inline(always)]
    fn splat32(value: u32) -> Self {
        Self(avx512!(_mm512_set1_epi32(value as i32)))
    }

    #[inline(always)]
    fn load(lanes: &[u64]) -> Self {
        assert!(lanes.len() >= Self::LANES);
        Self(avx512!(_mm512_loadu_si512(lanes.as_ptr().cast())))
    }

    #[inline(always)]
    fn store(self, lanes: &mut [u64]) {
        assert!(lanes.len() >= Self::LANES);
        avx512!(_mm512_storeu_si512(lanes.as_mut_ptr().cast(), self.0))
    }

    #[inline(always)]
    fn add32(self, other: Self) -> Self {
        Self(avx512!(_mm512_add_epi32(self.0, other.0)))
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(avx512!(_mm512_xor_si512(self.0, other.0)))
    }

    #[inline(always)]
    fn rotate_left32<const BITS: u32>(self) -> Self {
        avx512!(Self(match BITS {
            16 => _mm512_rol_epi32::<16>(self.0),
            12 => _mm512_rol_epi32::<12>(self.0),
            8 => _mm512_rol_epi32::<8>(self.0),
            7 => _mm512_rol_epi32::<7>(self.0),
            _ => unreachable!("ChaCha rotates by 16, 12, 8 and 7"),
        }))
    }

    #[inline(always)]
    fn pair(low: Self, high: Self) -> [Self; 2] {
        avx512!([Self(_mm512_unpacklo_epi32(low.0, high.0)), Self(_mm512_unpackhi_epi32(low.0, high.0))])
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(avx512!(_mm512_add_epi64(self.0, other.0)))
    }

    #[inline(always)]
    fn subtract(self, other: Self) -> Self {
        Self(avx512!(_mm512_sub_epi64(self.0, other.0)))
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Self(avx512!(_mm512_and_si512(self.0, other.0)))
    }

    #[inline(always)]
    fn shift_left<const BITS: u32>(self) -> Self {
        Self(avx512!(_mm512_slli_epi64::<BITS>(self.0)))
    }

    #[inline(always)]
    fn shift_right<const BITS: u32>(self) -> Self {
        Self(avx512!(_mm512_srli_epi64::<BITS>(self.0)))
    }

    #[inline(always)]
    fn multiply_u32(self, other: Self) -> Self {
        Self(avx512!(_mm512_mul_epu32(self.0, other.0)))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(avx512!(_mm512_min_epu64(self.0, other.0)))
    }

    #[inline(always)]
    fn max_signed(self, other: Self) -> Self {
        Self(avx512!(_mm512_max_epi64(self.0, other.0)))
    }

    #[inline(always)]
    fn greater_than(self, other: Self) -> Self::Mask {
        avx512!(_mm512_cmpgt_epi64_mask(self.0, other.0))
    }

    #[inline(always)]
    fn greater_equal_unsigned(self, other: Self) -> Self::Mask {
        avx512!(_mm512_cmpge_epu64_mask(self.0, other.0))
    }

    #[inline(always)]
    fn equal(self, other: Self) -> Self::Mask {
        avx512!(_mm512_cmpeq_epi64_mask(self.0, other.0))
    }

    #[inline(always)]
    fn increment(self, mask: Self::Mask) -> Self {
        Self(avx512!(_mm512_mask_sub_epi64(self.0, mask, self.0, _mm512_set1_epi64(-1))))
    }

    #[inline(always)]
    fn mask_and(a: Self::Mask, b: Self::Mask) -> Self::Mask {
        a & b
    }

    #[inline(always)]
    fn mask_and_not(a: Self::Mask, b: Self::Mask) -> Self::Mask {
        a & !b
    }

    #[inline(always)]
    fn any(mask: Self::Mask) -> bool {
        mask != 0
    }

    #[inline(always)]
    fn count_set(mask: Self::Mask) -> u32 {
        mask.count_ones()
    }

    #[inline(always)]
    fn select_or_zero(self, mask: Self::Mask) -> Self {
        Self(avx512!(_mm512_maskz_mov_epi64(mask, self.0)))
    }

    #[inline(always)]
    fn bits_of(mask: Self::Mask) -> u32 {
        mask.into()
    }

    #[inline(always)]
    fn proportion(self, proportion: Proportion) -> Self {
        if Self::any(Self::greater_than(self, Self::splat(MAX_FLOAT_PRODUCT_AMOUNT))) {
            return proportion_of_each(self, proportion);
        }
        avx512!({
            let (magic, million) = (_mm512_set1_pd(TWO_52), _mm512_set1_pd(1e6));
            let product = _mm512_mul_pd(_mm512_cvtepi64_pd(self.0), _mm512_set1_pd(proportion.0.into()));
            let product = _mm512_add_pd(product, _mm512_set1_pd(500_000.0));
            let nearest = _mm512_add_pd(_mm512_mul_pd(product, _mm512_set1_pd(1e-6)), magic);
            let quotient = _mm512_sub_pd(nearest, magic);
            let is_above = _mm512_cmp_pd_mask::<_CMP_LT_OQ>(product, _mm512_mul_pd(quotient, million));
            let quotient = Self(_mm512_xor_si512(_mm512_castpd_si512(nearest), _mm512_castpd_si512(magic)));
            Self(_mm512_mask_sub_epi64(quotient.0, is_above, quotient.0, _mm512_set1_epi64(1)))
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
        avx512!({
            let bits = _mm512_castpd_si512(_mm512_cvtepi64_pd(amounts.0));
            let bucket = _mm512_srl_epi64(bits, _mm_cvtsi32_si128(52 - BITS as i32));
            let bucket = _mm512_sub_epi64(bucket, _mm512_set1_epi64(bucket_bias(BITS) as i64));
            let small = _mm512_cmpgt_epi64_mask(_mm512_set1_epi64(1 << BITS), amounts.0);
            Self(_mm512_mask_mov_epi64(bucket, small, amounts.0))
        })
    }
}

impl TableLookup for Avx512 {
    #[inline(always)]
    fn multiply_i32(self, other: Self) -> Self {
        Self(avx512!(_mm512_mul_epi32(self.0, other.0)))
    }

    #[inline(always)]
    fn shift_right_by(self, counts: Self) -> Self {
        Self(avx512!(_mm512_srlv_epi64(self.0, counts.0)))
    }

    #[inline(always)]
    fn locate(draws: Self, bits: u32) -> (Self, Self) {
        avx512!({
            let upper = _mm512_srai_epi64::<63>(draws.0);
            let distance = _mm512_xor_si512(draws.0, upper);
            let w = _mm512_or_si512(_mm512_add_epi64(distance, distance), _mm512_set1_epi64(1));
            let zeros = _mm512_lzcnt_epi64(w);
            let n = _mm512_sllv_epi64(w, zeros);
            // The leading bit of n adds 2^bits, one octave, to the index, hence 62 instead of 63.
            let octave = _mm512_sub_epi64(_mm512_set1_epi64(62), zeros);
            let octave = _mm512_sll_epi64(octave, _mm_cvtsi32_si128((bits) as i32));
            let segment = _mm512_srl_epi64(n, _mm_cvtsi32_si128((63 - bits) as i32));
            let half = _mm512_and_si512(upper, _mm512_set1_epi64(64 << bits));
            let index = _mm512_add_epi64(_mm512_add_epi64(octave, segment), half);
            let position =
                _mm512_xor_si512(_mm512_srl_epi64(n, _mm_cvtsi32_si128((32 - bits) as i32)), upper);
            (Self(index), Self(_mm512_and_si512(position, _mm512_set1_epi64((1 << 31) - 1))))
        })
    }

    #[inline(always)]
    unsafe fn gather(table: &[Segment], indices: Self) -> (Self, Self) {
        let mut index = [0; Self::LANES];
        indices.store(&mut index);
        let base = table.as_ptr();
        // SAFETY: the caller guarantees the indices, and a segment is 16 bytes without padding.
        let entry = |lane: usize| unsafe { base.add(index[lane] as usize).cast() };
        avx512!({
            let mut even = _mm512_castsi128_si512(_mm_loadu_si128(entry(0)));
            even = _mm512_inserti64x2::<1>(even, _mm_loadu_si128(entry(2)));
            even = _mm512_inserti64x2::<2>(even, _mm_loadu_si128(entry(4)));
            even = _mm512_inserti64x2::<3>(even, _mm_loadu_si128(entry(6)));
            let mut odd = _mm512_castsi128_si512(_mm_loadu_si128(entry(1)));
            odd = _mm512_inserti64x2::<1>(odd, _mm_loadu_si128(entry(3)));
            odd = _mm512_inserti64x2::<2>(odd, _mm_loadu_si128(entry(5)));
            odd = _mm512_inserti64x2::<3>(odd, _mm_loadu_si128(entry(7)));
            (Self(_mm512_unpacklo_epi64(even, odd)), Self(_mm512_unpackhi_epi64(even, odd)))
        })
    }
}
