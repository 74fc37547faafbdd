//! Plain arrays, for CPUs without one of the other instruction sets (aarch64 among them). The compiler vectorises what
//! it can.

use forge_contract::{program::Segment, shard_result::bucket_of};

use super::vector::Vector;

const LANES: usize = 4;

/// Four lanes.
#[derive(Clone, Copy)]
pub(super) struct Portable([u64; LANES]);

impl Portable {
    /// The lanes as u32. Their order within a u64 is the machine's; lane-wise operations do not see it.
    #[inline(always)]
    fn words(self) -> [u32; 2 * LANES] {
        // SAFETY: both are plain integers of the same size.
        unsafe { std::mem::transmute(self.0) }
    }

    #[inline(always)]
    fn from_words(words: [u32; 2 * LANES]) -> Self {
        // SAFETY: both are plain integers of the same size.
        Self(unsafe { std::mem::transmute::<[u32; 2 * LANES], [u64; LANES]>(words) })
    }

    #[inline(always)]
    fn map(self, f: impl Fn(u64) -> u64) -> Self {
        Self(self.0.map(f))
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }

    #[inline(always)]
    fn compare(self, other: Self, f: impl Fn(u64, u64) -> bool) -> [bool; LANES] {
        std::array::from_fn(|i| f(self.0[i], other.0[i]))
    }
}

/// Both u32 halves of a u64 lane.
#[inline(always)]
fn halves(lane: u64) -> (u32, u32) {
    (lane as u32, (lane >> 32) as u32)
}

#[inline(always)]
fn join(low: u32, high: u32) -> u64 {
    (u64::from(high) << 32) | u64::from(low)
}

impl Vector for Portable {
    const LANES: usize = LANES;
    type Mask = [bool; LANES];

    #[inline(always)]
    fn splat(value: u64) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    fn splat32(value: u32) -> Self {
        Self::splat(join(value, value))
    }

    #[inline(always)]
    fn load(lanes: &[u64]) -> Self {
        Self(std::array::from_fn(|i| lanes[i]))
    }

    #[inline(always)]
    fn store(self, lanes: &mut [u64]) {
        lanes[..LANES].copy_from_slice(&self.0);
    }

    #[inline(always)]
    fn add32(self, other: Self) -> Self {
        let (mut a, b) = (self.words(), other.words());
        for i in 0..2 * LANES {
            a[i] = a[i].wrapping_add(b[i]);
        }
        Self::from_words(a)
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        self.zip(other, |a, b| a ^ b)
    }

    #[inline(always)]
    fn rotate_left32<const BITS: u32>(self) -> Self {
        let mut a = self.words();
        for word in &mut a {
            *word = word.rotate_left(BITS);
        }
        Self::from_words(a)
    }

    #[inline(always)]
    fn pair(low: Self, high: Self) -> [Self; 2] {
        let even = low.zip(high, |a, b| join(halves(a).0, halves(b).0));
        let odd = low.zip(high, |a, b| join(halves(a).1, halves(b).1));
        [even, odd]
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, u64::wrapping_add)
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    #[inline(always)]
    fn shift_left<const BITS: u32>(self) -> Self {
        self.map(|a| a << BITS)
    }

    #[inline(always)]
    fn shift_right<const BITS: u32>(self) -> Self {
        self.map(|a| a >> BITS)
    }

    #[inline(always)]
    fn shift_right_by(self, counts: Self) -> Self {
        self.zip(counts, |a, n| a >> n)
    }

    #[inline(always)]
    fn multiply_i32(self, other: Self) -> Self {
        self.zip(other, |a, b| (i64::from(a as i32) * i64::from(b as i32)) as u64)
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
    fn above(self, other: Self) -> Self::Mask {
        self.compare(other, |a, b| a as i64 > b as i64)
    }

    #[inline(always)]
    fn at_least_unsigned(self, other: Self) -> Self::Mask {
        self.compare(other, |a, b| a >= b)
    }

    #[inline(always)]
    fn equal(self, other: Self) -> Self::Mask {
        self.compare(other, |a, b| a == b)
    }

    #[inline(always)]
    fn keep(self, mask: Self::Mask) -> Self {
        Self(std::array::from_fn(|i| if mask[i] { self.0[i] } else { 0 }))
    }

    #[inline(always)]
    fn increment(self, mask: Self::Mask) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + u64::from(mask[i])))
    }

    #[inline(always)]
    fn both(a: Self::Mask, b: Self::Mask) -> Self::Mask {
        std::array::from_fn(|i| a[i] & b[i])
    }

    #[inline(always)]
    fn without(a: Self::Mask, b: Self::Mask) -> Self::Mask {
        std::array::from_fn(|i| a[i] & !b[i])
    }

    #[inline(always)]
    fn any(mask: Self::Mask) -> bool {
        mask.iter().any(|&set| set)
    }

    #[inline(always)]
    fn count(mask: Self::Mask) -> u32 {
        mask.iter().map(|&set| u32::from(set)).sum()
    }

    #[inline(always)]
    fn locate(draws: Self, bits: u32) -> (Self, Self) {
        let indices = draws.map(|draw| locate_draw(draw, bits).0);
        (indices, draws.map(|draw| locate_draw(draw, bits).1))
    }

    #[inline(always)]
    unsafe fn gather(table: &[Segment], indices: Self) -> (Self, Self) {
        // SAFETY: the caller vouches for the indices.
        let entries = indices.0.map(|index| unsafe { table.get_unchecked(index as usize) });
        let low = entries.map(|s| join(s.left as u32, s.slope as u32));
        (Self(low), Self(entries.map(|s| join(s.curve as u32, s.shift))))
    }

    #[inline(always)]
    fn buckets(amounts: Self) -> Self {
        amounts.map(|amount| bucket_of(amount) as u64)
    }
}

/// Index and place of one draw; also what other implementations do with the rare draws that they set aside.
#[inline(always)]
pub(super) fn locate_draw(draw: u64, bits: u32) -> (u64, u64) {
    let upper = draw >> 63;
    let flip = upper.wrapping_neg();
    let w = ((draw ^ flip) << 1) | 1;
    let zeros = u64::from(w.leading_zeros());
    let n = w << zeros;
    // n's leading bit adds 2^bits to the index: one octave too many.
    let index = ((63 - zeros) << bits) + (n >> (63 - bits)) - (1 << bits);
    let fraction = (n << 1 << bits) >> 33;
    (index + (upper << (6 + bits)), fraction ^ (flip >> 33))
}
