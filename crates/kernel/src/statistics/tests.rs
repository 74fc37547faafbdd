//! Order statistics, their bounds, and interval ranks of small distributions.

use super::*;

fn distribution(amounts: &[u64], marks: &[u64]) -> Distribution {
    let mut counts = std::collections::BTreeMap::new();
    for &amount in amounts {
        *counts.entry(forge_contract::shard_result::bucket_of(amount) as u32).or_insert(0) += 1;
    }
    Distribution {
        min: *amounts.iter().min().unwrap(),
        max: *amounts.iter().max().unwrap(),
        at_marks: marks.iter().map(|m| amounts.iter().filter(|a| *a == m).count() as u64).collect(),
        histogram: counts.into_iter().collect(),
        listed: Vec::new(),
    }
}

#[test]
fn order_statistics_of_small_amounts_are_exact() {
    let ordered = OrderStatistics::new(&distribution(&[5, 1, 3, 3, 900], &[]), &[]);
    assert_eq!((1..=5).map(|r| ordered.value_at_rank(r)).collect::<Vec<_>>(), [1.0, 3.0, 3.0, 5.0, 900.0]);
    assert_eq!(ordered.var(Level::new(1, 2)), 3.0);
    // Above 0.5: half of the third, then 5 and 900: (0.5·3 + 5 + 900) / 2.5.
    assert_eq!(ordered.tvar(Level::new(1, 2)), 362.6);
}

#[test]
fn quantiles_in_an_atom_on_a_mark_are_exact() {
    let mut amounts = vec![25_000_000; 50];
    amounts.extend((0..950).map(|i| 20_000_000 + i * 5_260));
    let marks = [5_000_000, 25_000_000];
    let ordered = OrderStatistics::new(&distribution(&amounts, &marks), &marks);
    for level in [Level::new(96, 100), Level::new(99, 100), Level::new(999, 1000)] {
        assert_eq!((ordered.var(level), ordered.tvar(level)), (25_000_000.0, 25_000_000.0));
    }
    assert!(ordered.var(Level::new(94, 100)) < 25_000_000.0);
}

#[test]
fn interpolation_error_is_below_a_tenth_of_a_percent() {
    let amounts: Vec<u64> = (0..10_000u64).map(|i| 3_000 + i * i).collect();
    let ordered = OrderStatistics::new(&distribution(&amounts, &[]), &[]);
    for (rank, &amount) in (1..).zip(&amounts) {
        assert!((ordered.value_at_rank(rank) / amount as f64 - 1.0).abs() < 1e-3);
    }
    let exact = amounts[9_900..].iter().sum::<u64>() as f64 / 100.0;
    assert!((ordered.tvar(Level::new(99, 100)) / exact - 1.0).abs() < 1e-5);
}

#[test]
fn single_iteration_is_every_quantile() {
    let ordered = OrderStatistics::new(&distribution(&[123_456_789], &[]), &[]);
    assert_eq!(ordered.var(Level::new(1, 1000)), 123_456_789.0);
    assert_eq!(ordered.tvar(Level::new(999, 1000)), 123_456_789.0);
    assert_eq!(ordered.var_interval(Level::new(1, 2), 0.95), (None, None));
}

#[test]
fn interval_ranks_match_published_tables() {
    // Median, n = 10: (2, 9) has coverage 97.85%, the usual table value; n = 100: (40, 61).
    assert_eq!(interval_ranks(10, Level::new(1, 2), 0.95), (Some(2), Some(9)));
    assert_eq!(interval_ranks(100, Level::new(1, 2), 0.95), (Some(40), Some(61)));
    // No upper bound for the 99.9% quantile from 1,000 iterations.
    assert_eq!(interval_ranks(1_000, Level::new(999, 1000), 0.95).1, None);
}

#[test]
fn binomial_and_normal_interval_ranks_agree() {
    // n·p·(1−p) = 10^6 on one side and just above it on the other.
    let level = Level::new(1, 2);
    let exact = interval_ranks(4_000_000, level, 0.95);
    let normal = interval_ranks(4_000_002, level, 0.95);
    assert!(exact.0.unwrap().abs_diff(normal.0.unwrap()) <= 2);
    assert!(exact.1.unwrap().abs_diff(normal.1.unwrap()) <= 2);
}

#[test]
fn conversion_to_f64_rounds_once() {
    assert_eq!(to_f64(U256::ZERO), 0.0);
    assert_eq!(to_f64(U256::from(u64::MAX)), u64::MAX as f64);
    let tie = (U256::ONE << 120u32) + (U256::ONE << 67u32);
    assert_eq!(to_f64(tie), power_of_two(120));
    assert_eq!(to_f64(tie + 1), power_of_two(120) + power_of_two(68));
}
