//! A histogram in rows of one width, for quantities without return periods.

use forge_contract::shard_result::{Distribution, bucket_bounds};

/// Rows at most, about.
const ROWS: u64 = 16;

/// Iterations whose amount lies in a range.
#[derive(Debug, PartialEq)]
pub struct Row {
    /// The amounts: from the first to below the second.
    pub range: (f64, f64),
    /// Their share of all iterations.
    pub share: f64,
}

/// A distribution in rows of one width; `units` are the program's. Buckets that lie across two rows are divided evenly.
pub fn rows(distribution: &Distribution, units: u32) -> Vec<Row> {
    let (min, max) = (distribution.min, distribution.max);
    let step = step(max.saturating_sub(min), ROWS);
    let first = min / step;
    let mut counts = vec![0.0; (max / step - first + 1) as usize];
    for &(bucket, count) in &distribution.histogram {
        let (low, high) = bucket_bounds(bucket as usize);
        let (low, high) = (low.max(min), high.min(max));
        for row in low / step..=high / step {
            let inside = high.min((row + 1) * step - 1) - low.max(row * step) + 1;
            counts[(row - first) as usize] += count as f64 * inside as f64 / (high - low + 1) as f64;
        }
    }
    let total: u64 = distribution.histogram.iter().map(|&(_, count)| count).sum();
    let amount = |row: u64| (row * step) as f64 / f64::from(units);
    let row = |(row, count): (u64, f64)| Row {
        range: (amount(row), amount(row + 1)),
        share: count / total.max(1) as f64,
    };
    (first..).zip(counts).map(row).collect()
}

/// The smallest of 1, 2, 5, 10, 20, … of which `rows` make up `range`.
fn step(range: u64, rows: u64) -> u64 {
    let mut step = 1;
    loop {
        for factor in [1, 2, 5] {
            if step * factor * rows >= range {
                return step * factor;
            }
        }
        step *= 10;
    }
}

#[cfg(test)]
mod tests {
    use forge_contract::{program::MAX_AMOUNT, shard_result::bucket_of};

    use super::*;

    fn distribution(amounts: impl Iterator<Item = u64> + Clone) -> Distribution {
        let mut histogram = std::collections::BTreeMap::new();
        amounts.clone().for_each(|amount| *histogram.entry(bucket_of(amount) as u32).or_insert(0) += 1);
        Distribution {
            min: amounts.clone().min().unwrap(),
            max: amounts.max().unwrap(),
            at_marks: Vec::new(),
            histogram: histogram.into_iter().collect(),
        }
    }

    #[test]
    fn rows_are_of_one_round_width_and_cover_everything() {
        let rows = rows(&distribution(1_800_000..4_200_000), 1000);
        assert_eq!(rows.first().map(|row| row.range), Some((1800.0, 2000.0)));
        assert_eq!(rows.last().map(|row| row.range), Some((4000.0, 4200.0)));
        // Evenly spread amounts, though buckets double in width at every octave.
        assert!(rows.iter().all(|row| (row.share * rows.len() as f64 - 1.0).abs() < 1e-3), "{rows:?}");
        assert!((rows.iter().map(|row| row.share).sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_single_amount_is_one_row() {
        assert_eq!(rows(&distribution([7, 7].into_iter()), 1), [Row { range: (7.0, 8.0), share: 1.0 }]);
        let largest = rows(&distribution([0, MAX_AMOUNT].into_iter()), 100);
        assert_eq!((largest[0].share, largest[largest.len() - 1].share), (0.5, 0.5));
    }
}
