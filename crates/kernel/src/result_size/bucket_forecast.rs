//! How many buckets of a histogram more iterations fill than a pilot did.
//!
//! Between two neighbouring amounts of n iterations lies about 1/n of the probability, so in
//! `scale` times as many iterations about `scale` amounts: they fill at most as many buckets, and
//! at most those that there are in between. Beyond the extremes the pilot's outer amounts tell how
//! fast the distribution ends.

/// Buckets with at most this many iterations of the pilot border on buckets that it left empty by
/// chance. Between two buckets with more lies nothing: they are atoms.
const SPARSE: u64 = 2;
/// Share of the amounts that tells how a distribution ends, and their number.
const OUTER_SHARE: u64 = 8;
const OUTER_AMOUNTS: std::ops::RangeInclusive<u64> = 4..=64;
/// Buckets that rare amounts fill of which the pilot has none: at most an octave of them.
const UNSEEN_BUCKETS: u64 = 256;

/// Non-empty buckets of a pilot in ascending order, and iterations in each.
pub(super) type PilotHistogram = [(u32, u64)];

/// For each non-empty bucket of a pilot, the number of buckets that are expected to be non-empty in
/// its place in `scale` times as many iterations. `all` is the number of buckets that there are.
pub(super) fn expected_buckets(pilot: &PilotHistogram, all: u64, scale: u64) -> Vec<u64> {
    let further = scale.saturating_sub(1);
    let mut expected = vec![1; pilot.len()];
    for (number, neighbours) in pilot.windows(2).enumerate() {
        let [(low, low_count), (high, high_count)] = [neighbours[0], neighbours[1]];
        if low_count.min(high_count) <= SPARSE {
            expected[number] += further.min(u64::from(high - low - 1));
        }
    }
    let (Some(&(first, _)), Some(&(last, _))) = (pilot.first(), pilot.last()) else { return expected };
    let amounts: Vec<u64> = pilot
        .iter()
        .filter(|&&(bucket, _)| bucket > 0)
        .flat_map(|&(bucket, count)| std::iter::repeat_n(u64::from(bucket), count as usize))
        .collect();
    let above = if last == 0 { further.min(UNSEEN_BUCKETS) } else { tail(amounts.iter().rev(), further) };
    let below = tail(amounts.iter(), further);
    expected[pilot.len() - 1] += above.min(all - 1 - u64::from(last));
    expected[0] += below.min(u64::from(first));
    expected
}

/// Buckets beyond an extreme, from the buckets of the amounts, the outermost first: of the
/// iterations beyond an amount, fewer than half are beyond it by more than the mean excess.
fn tail<'a>(amounts: impl ExactSizeIterator<Item = &'a u64>, further: u64) -> u64 {
    let length = amounts.len() as u64;
    let outer = (length / OUTER_SHARE)
        .clamp(*OUTER_AMOUNTS.start(), *OUTER_AMOUNTS.end())
        .min(length.saturating_sub(1));
    let amounts: Vec<u64> = amounts.copied().take(outer as usize + 1).collect();
    let Some(&inner) = amounts.last() else { return 0 };
    let excess: u64 = amounts.iter().map(|&amount| amount.abs_diff(inner)).sum();
    // The mean, and twice its standard error.
    let mean = excess.div_ceil(outer.max(1));
    let step = 1 + mean + (2 * mean).div_ceil(outer.isqrt().max(1));
    (0..64).map(|number| (further >> number).min(step)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(pilot: &PilotHistogram, scale: u64) -> u64 {
        expected_buckets(pilot, 11_776, scale).iter().sum()
    }

    #[test]
    fn atoms_stay_alone_and_sparse_buckets_are_filled_between() {
        let atoms: Vec<_> = (0..10).map(|number| (100 * number, 50)).collect();
        assert!(total(&atoms, 1) == 10 && total(&atoms[..1], 1) == 1);
        // Between atoms there is nothing, and little beyond them.
        assert!((10..800).contains(&total(&atoms, 64)), "{}", total(&atoms, 64));
        let sparse: Vec<_> = (0..100).map(|number| (3000 + 4 * number, 1)).collect();
        let filled = total(&sparse, 64);
        assert!((397..397 + 4 * 64).contains(&filled), "{filled}");
        // A wide gap takes no more than what falls into it.
        assert_eq!(expected_buckets(&[(0, 900), (5000, 1)], 11_776, 64)[0], 64);
    }

    #[test]
    fn rare_amounts_are_expected_where_all_are_zero() {
        assert_eq!([1, 64, 4096].map(|scale| total(&[(0, 1000)], scale)), [1, 64, 257]);
        assert_eq!(total(&[], 64), 0);
    }

    #[test]
    fn no_bucket_is_expected_beyond_those_that_there_are() {
        let pilot = [(1, 1), (11_770, 1)];
        assert_eq!(total(&pilot, 1 << 40), 11_776);
    }
}
