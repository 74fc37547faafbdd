//! A histogram with rows of equal width, for profiles whose quantity has no return periods.

use forge_contract::shard_result::{Distribution, bucket_bounds};

/// Number of rows to aim for. There can be one more, because the first and the last row are
/// partial.
const TARGET_ROWS: u64 = 16;

/// The share of iterations whose amount lies in a range.
#[derive(Debug, PartialEq)]
pub struct HistogramRow {
    /// Range of amounts: inclusive lower end, exclusive upper end.
    pub range: (f64, f64),
    /// Share of all iterations, from 0 to 1.
    pub share: f64,
}

/// Regroups a distribution into rows of equal width. `units` is the number of minor units per unit
/// of the program. A bucket that spans several rows is divided among them in proportion to its
/// overlap with each.
pub fn histogram_rows(distribution: &Distribution, units: u32) -> Vec<HistogramRow> {
    let (min, max) = (distribution.min, distribution.max);
    let width = row_width(max.saturating_sub(min), TARGET_ROWS);
    let first = min / width;
    let mut counts = vec![0.0; (max / width - first + 1) as usize];
    for &(bucket, count) in &distribution.histogram {
        let (low, high) = bucket_bounds(bucket as usize);
        let (low, high) = (low.max(min), high.min(max));
        for row in low / width..=high / width {
            let overlap = high.min((row + 1) * width - 1) - low.max(row * width) + 1;
            counts[(row - first) as usize] += count as f64 * overlap as f64 / (high - low + 1) as f64;
        }
    }
    let total: u64 = distribution.histogram.iter().map(|&(_, count)| count).sum();
    let amount = |row: u64| (row * width) as f64 / f64::from(units);
    let row = |(row, count): (u64, f64)| HistogramRow {
        range: (amount(row), amount(row + 1)),
        share: count / total.max(1) as f64,
    };
    (first..).zip(counts).map(row).collect()
}

/// The smallest of 1, 2, 5, 10, 20, … such that `rows` rows of this width cover `range`.
fn row_width(range: u64, rows: u64) -> u64 {
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
            listed: Vec::new(),
        }
    }

    #[test]
    fn rows_have_a_round_width_and_cover_every_amount() {
        let rows = histogram_rows(&distribution(1_800_000..4_200_000), 1000);
        assert_eq!(rows.first().map(|row| row.range), Some((1800.0, 2000.0)));
        assert_eq!(rows.last().map(|row| row.range), Some((4000.0, 4200.0)));
        // The amounts are uniform, so every row has the same share, although bucket widths double
        // at every octave.
        assert!(rows.iter().all(|row| (row.share * rows.len() as f64 - 1.0).abs() < 1e-3), "{rows:?}");
        assert!((rows.iter().map(|row| row.share).sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_single_amount_yields_one_row() {
        assert_eq!(
            histogram_rows(&distribution([7, 7].into_iter()), 1),
            [HistogramRow { range: (7.0, 8.0), share: 1.0 }]
        );
        let largest = histogram_rows(&distribution([0, MAX_AMOUNT].into_iter()), 100);
        assert_eq!((largest[0].share, largest[largest.len() - 1].share), (0.5, 0.5));
    }
}
