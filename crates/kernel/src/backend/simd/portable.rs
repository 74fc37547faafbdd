//! The vector register of CPUs without AVX2, AVX-512 and NEON. The operations that take most of the
//! time use 128-bit registers through the `wide` crate (SSE2 or plain integers, for instance); the
//! others use plain integers.

use forge_contract::{distribution::Resolution, treaty::Proportion};

use wide::{u32x4, u64x2};

use super::vector::{QuantileTables, Vector};

const LANES: usize = 4;

/// Four lanes. Loops instead of [`std::array::from_fn`] and `map`, whose closures are not inlined.
#[derive(Clone, Copy)]
pub(super) struct Portable([u64x2; 2]);

impl Portable {
    /// The u32 lanes. Their order within a u64 depends on the byte order, which lane-wise
    /// operations do not notice.
    #[inline(always)]
    fn words(self) -> [u32x4; 2] {
        bytemuck::cast(self.0)
    }

    #[inline(always)]
    fn from_words(words: [u32x4; 2]) -> Self {
        Self(bytemuck::cast(words))
    }

    #[inline(always)]
    fn lanes(self) -> [u64; LANES] {
        bytemuck::cast(self.0)
    }

    #[inline(always)]
    fn from_lanes(lanes: [u64; LANES]) -> Self {
        Self(bytemuck::cast(lanes))
    }

    #[inline(always)]
    fn map(self, f: impl Fn(u64) -> u64) -> Self {
        let mut lanes = self.lanes();
        for lane in &mut lanes {
            *lane = f(*lane);
        }
        Self::from_lanes(lanes)
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        let (mut a, b) = (self.lanes(), other.lanes());
        for lane in 0..LANES {
            a[lane] = f(a[lane], b[lane]);
        }
        Self::from_lanes(a)
    }

    #[inline(always)]
    fn compare(self, other: Self, f: impl Fn(u64, u64) -> bool) -> [bool; LANES] {
        let (a, b) = (self.lanes(), other.lanes());
        let mut mask = [false; LANES];
        for lane in 0..LANES {
            mask[lane] = f(a[lane], b[lane]);
        }
        mask
    }
}

impl Vector for Portable {
    const LANES: usize = LANES;
    type Mask = [bool; LANES];

    #[inline(always)]
    fn splat(value: u64) -> Self {
        Self([u64x2::splat(value); 2])
    }

    #[inline(always)]
    fn splat32(value: u32) -> Self {
        Self::from_words([u32x4::splat(value); 2])
    }

    #[inline(always)]
    fn load(lanes: &[u64]) -> Self {
        Self::from_lanes([lanes[0], lanes[1], lanes[2], lanes[3]])
    }

    #[inline(always)]
    fn store(self, lanes: &mut [u64]) {
        lanes[..LANES].copy_from_slice(&self.lanes());
    }

    #[inline(always)]
    fn add32(self, other: Self) -> Self {
        let (a, b) = (self.words(), other.words());
        Self::from_words([a[0] + b[0], a[1] + b[1]])
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self([self.0[0] ^ other.0[0], self.0[1] ^ other.0[1]])
    }

    #[inline(always)]
    fn rotate_left32<const BITS: u32>(self) -> Self {
        let a = self.words();
        Self::from_words([(a[0] << BITS) | (a[0] >> (32 - BITS)), (a[1] << BITS) | (a[1] >> (32 - BITS))])
    }

    #[inline(always)]
    fn pair(low: Self, high: Self) -> [Self; 2] {
        // On machines of either byte order, `low` gives the low half of each u64.
        let (low, high) = if cfg!(target_endian = "little") { (low, high) } else { (high, low) };
        let (a, b) = (low.words(), high.words());
        [
            Self::from_words([a[0].unpack_lo(b[0]), a[1].unpack_lo(b[1])]),
            Self::from_words([a[0].unpack_hi(b[0]), a[1].unpack_hi(b[1])]),
        ]
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self([self.0[0] + other.0[0], self.0[1] + other.0[1]])
    }

    #[inline(always)]
    fn subtract(self, other: Self) -> Self {
        Self([self.0[0] - other.0[0], self.0[1] - other.0[1]])
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Self([self.0[0] & other.0[0], self.0[1] & other.0[1]])
    }

    #[inline(always)]
    fn shift_left<const BITS: u32>(self) -> Self {
        Self([self.0[0] << BITS, self.0[1] << BITS])
    }

    #[inline(always)]
    fn shift_right<const BITS: u32>(self) -> Self {
        Self([self.0[0] >> BITS, self.0[1] >> BITS])
    }

    #[inline(always)]
    fn multiply_u32(self, other: Self) -> Self {
        self.zip(other, |a, b| u64::from(a as u32) * u64::from(b as u32))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, u64::min)
    }

    #[inline(always)]
    fn max_signed(self, other: Self) -> Self {
        self.zip(other, |a, b| (a as i64).max(b as i64) as u64)
    }

    #[inline(always)]
    fn greater_than(self, other: Self) -> Self::Mask {
        self.compare(other, |a, b| a as i64 > b as i64)
    }

    #[inline(always)]
    fn greater_equal_unsigned(self, other: Self) -> Self::Mask {
        self.compare(other, |a, b| a >= b)
    }

    #[inline(always)]
    fn equal(self, other: Self) -> Self::Mask {
        self.compare(other, |a, b| a == b)
    }

    #[inline(always)]
    fn increment(self, mask: Self::Mask) -> Self {
        let mut lanes = self.lanes();
        for lane in 0..LANES {
            lanes[lane] += u64::from(mask[lane]);
        }
        Self::from_lanes(lanes)
    }

    #[inline(always)]
    fn mask_and(a: Self::Mask, b: Self::Mask) -> Self::Mask {
        [a[0] & b[0], a[1] & b[1], a[2] & b[2], a[3] & b[3]]
    }

    #[inline(always)]
    fn mask_and_not(a: Self::Mask, b: Self::Mask) -> Self::Mask {
        [a[0] & !b[0], a[1] & !b[1], a[2] & !b[2], a[3] & !b[3]]
    }

    #[inline(always)]
    fn any(mask: Self::Mask) -> bool {
        mask[0] | mask[1] | mask[2] | mask[3]
    }

    #[inline(always)]
    fn count_set(mask: Self::Mask) -> u32 {
        u32::from(mask[0]) + u32::from(mask[1]) + u32::from(mask[2]) + u32::from(mask[3])
    }

    #[inline(always)]
    fn select_or_zero(self, mask: Self::Mask) -> Self {
        let mut lanes = self.lanes();
        for lane in 0..LANES {
            lanes[lane] = if mask[lane] { lanes[lane] } else { 0 };
        }
        Self::from_lanes(lanes)
    }

    #[inline(always)]
    fn bits_of(mask: Self::Mask) -> u32 {
        let mut bits = 0;
        for (lane, set) in mask.into_iter().enumerate() {
            bits |= u32::from(set) << lane;
        }
        bits
    }

    #[inline(always)]
    fn proportion(self, proportion: Proportion) -> Self {
        self.map(|amount| proportion.of(amount))
    }

    /// Looks up one lane after another: there is no gather instruction, and lanes outside the mask
    /// cost nothing.
    #[inline(always)]
    fn look_up_amounts(
        tables: QuantileTables<'_>,
        numbers: Option<Self>,
        draws: Self,
        mask: Self::Mask,
    ) -> Self {
        let (draws, numbers) = (draws.lanes(), numbers.map_or([0; LANES], Self::lanes));
        let mut amounts = [0; LANES];
        for lane in 0..LANES {
            if mask[lane] {
                amounts[lane] = tables.amount(numbers[lane] as usize, draws[lane]);
            }
        }
        Self::from_lanes(amounts)
    }

    #[inline(always)]
    fn buckets<const BITS: u32>(amounts: Self) -> Self {
        let resolution = if BITS == 10 { Resolution::FINE } else { Resolution::COARSE };
        amounts.map(|amount| resolution.bucket_of(amount) as u64)
    }
}
