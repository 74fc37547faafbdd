//! Sums over the years of a tail, from sums by class of the total: an amount, or a bucket. The
//! allocation of a result and the explanation of its tail have one rule: all years of the class
//! that holds the quantile count with the share of them that is above the level.

use crate::statistics::Level;

/// The years of one class.
#[derive(Debug, Clone, Copy)]
pub struct ClassSums<'a> {
    /// Number of these years.
    pub years: u64,
    /// Sums over them, of as many quantities in every class.
    pub sums: &'a [u128],
}

/// The years above a level.
#[derive(Debug, Clone, PartialEq)]
pub struct TailSums {
    /// Their number, which need not be a whole one.
    pub years: f64,
    /// Sums over them.
    pub sums: Vec<f64>,
    /// Position of the class that holds the quantile of the level.
    pub quantile: usize,
}

/// The sums over the years above a level. The classes ascend, at least one, and hold `iterations`
/// years in all.
pub fn sums_above(classes: &[ClassSums<'_>], iterations: u64, level: Level) -> TailSums {
    let tail = iterations as f64 * ((level.denominator - level.numerator) as f64 / level.denominator as f64);
    let mut sums = vec![0.0; classes[0].sums.len()];
    let mut left = tail;
    let mut quantile = classes.len() - 1;
    for (position, class) in classes.iter().enumerate().rev() {
        if left <= 0.0 {
            break;
        }
        let years = class.years as f64;
        let share = if years <= left { 1.0 } else { left / years };
        for (sum, &part) in sums.iter_mut().zip(class.sums) {
            *sum += share * part as f64;
        }
        left -= years;
        quantile = position;
    }
    TailSums { years: tail, sums, quantile }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn years_of_the_quantile_count_with_the_share_above_the_level() {
        let class = |years, sums| ClassSums { years, sums };
        let classes = [class(90, &[1000_u128, 0][..]), class(8, &[400, 80]), class(2, &[300, 6])];
        let above = |level| sums_above(&classes, 100, level);
        let expected = TailSums { years: 2.0, sums: vec![300.0, 6.0], quantile: 2 };
        assert_eq!(above(Level::new(98, 100)), expected);
        // Three of the eight years of the second class.
        let expected = TailSums { years: 5.0, sums: vec![450.0, 36.0], quantile: 1 };
        assert_eq!(above(Level::new(95, 100)), expected);
    }
}
