//! Proves the tables of docs/determinism.md, section 5, against arbitrary precision: the normal
//! quantile at the nodes, and every entry of lognormal and normal quantile tables. `severities` and
//! `counts` do so for the other laws.
#![expect(clippy::print_stdout, reason = "figures for the documentation: cargo test -- --nocapture")]

mod common;

use common::{
    exact_table::{Values, assert_same},
    precise::{
        Ball, FRACTION, Real, floor_scaled, halves, lower_tail, magnitude, node_position, nodes, of_dd,
        power_of_two, quantile, real,
    },
};
use dashu_int::IBig;
use forge_kernel::{
    double_double::{DoubleDouble, power_of_two as two_to},
    normal,
    severities::SeverityLaw,
};

/// Checks the kernel's node against Φ and returns its error in units of 2^-110.
fn node_error(segment_bits: u32, i: usize) -> f64 {
    let z = of_dd(normal::nodes(segment_bits)[i]);
    let (_, step) = quantile(&node_position(i, 2 << segment_bits), &z);
    assert!(magnitude(&step) < power_of_two(-90), "node {i} of {segment_bits} bits");
    (magnitude(&step) * power_of_two(110)).to_f64().value()
}

#[test]
fn nodes_are_quantiles_of_the_normal_law() {
    // Checks the reference itself against published digits of Φ: Abramowitz and Stegun, table 26.1.
    let one = lower_tail(&real(-1.0)).0.to_f64().value();
    let three = lower_tail(&real(-3.0)).0.to_f64().value();
    assert_eq!((one, three), (0.158_655_253_931_457_05, 0.001_349_898_031_630_094_5));

    let every = |bits: u32, stride: usize| {
        let nodes = normal::nodes(bits).len() - 1;
        let errors = halves(nodes.div_ceil(stride), |i| node_error(bits, i * stride));
        assert_eq!(normal::nodes(bits)[nodes], DoubleDouble::ZERO);
        errors.into_iter().fold(0.0, f64::max)
    };
    let worst = [every(4, 1), every(5, 7), every(6, 1), every(8, 13)];
    println!("largest error of a node, in 2^-110: {worst:?}");
    // With 7 bits every node is computed as the reference of the tables below.
    for (i, z) in nodes().iter().enumerate() {
        let error = magnitude(&(of_dd(normal::nodes(7)[i]) - z));
        assert!(error < power_of_two(-90), "node {i} of 7 bits");
    }
}

/// Pseudo-random double-doubles of both signs, from 2^-40 to 2^40.
fn double_doubles() -> impl Iterator<Item = DoubleDouble> {
    let part = |i: u64| {
        let mixed = (i ^ (i << 17)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let magnitude = (1.0 + (mixed >> 12) as f64 * two_to(-52)) * two_to((mixed % 80) as i32 - 40);
        if mixed & (1 << 40) == 0 { magnitude } else { -magnitude }
    };
    (1..).map(move |i| {
        DoubleDouble::from(part(2 * i))
            + DoubleDouble::from(part(2 * i + 1)) * DoubleDouble::from(two_to(-60))
    })
}

#[test]
fn double_double_arithmetic_keeps_its_bounds() {
    let relative = |found: DoubleDouble, exact: &Real| magnitude(&((of_dd(found) - exact) / exact));
    for (a, b) in double_doubles().zip(double_doubles().skip(1)).take(3000) {
        let (x, y) = (of_dd(a), of_dd(b));
        assert!(relative(a + b, &(&x + &y)) < power_of_two(-103), "{a:?} + {b:?}");
        assert!(relative(a - b, &(&x - &y)) < power_of_two(-103), "{a:?} - {b:?}");
        assert!(relative(a * b, &(&x * &y)) < power_of_two(-102), "{a:?} * {b:?}");
        assert!(relative(a / b, &(&x / &y)) < power_of_two(-100), "{a:?} / {b:?}");
    }
    let moderate = double_doubles().filter(|x| x.abs().is_less_than(DoubleDouble::from(600.0))).take(2000);
    for x in moderate.chain((-600..=600).step_by(25).map(|x| DoubleDouble::from(f64::from(x)))) {
        assert!(relative(x.exp(), &of_dd(x).exp()) < power_of_two(-95), "e^{x:?}");
    }
}

#[test]
fn quantiles_between_nodes_are_as_accurate_as_at_nodes() {
    let t = |i: u64| {
        let mantissa = 1.0 + (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12) as f64 / (1u64 << 52) as f64;
        mantissa * two_to(-(i as i32 % 64) - 2)
    };
    for t in (0..400).map(t).chain([0.025, 0.5 - two_to(-54), two_to(-65), 0.25]) {
        let (_, step) = quantile(&real(t), &of_dd(normal::quantile(t)));
        assert!(magnitude(&step) < power_of_two(-90), "{t}");
    }
    for t in [0.6, 0.75, 0.975, 1.0 - two_to(-53)] {
        assert_eq!(normal::quantile(t), -normal::quantile(1.0 - t));
    }
}

/// z at the nodes with 6 or 7 segment bits.
fn z_nodes(segment_bits: u32) -> Vec<&'static Real> {
    nodes().iter().step_by(if segment_bits == 6 { 2 } else { 1 }).collect()
}

fn check_lognormals(segment_bits: u32, sigma: f64, mus: &[f64]) {
    let z = z_nodes(segment_bits);
    let down = halves(z.len(), |i| (z[i] * real(sigma)).exp());
    let up: Vec<Real> = down.iter().map(|x| real(1.0) / x).collect();
    for &mu in mus {
        let median = real(mu).exp() * real(100.0);
        let q = |i: usize, upper: bool| {
            let x = &median * if upper { &up[i] } else { &down[i] };
            // e^0 is exact: at z = 0 with μ = 0.
            if mu == 0.0 && i == z.len() - 1 { Ball::exact(&x) } else { Ball::near(&x) }
        };
        let expected = Values::new(z.len(), Some(IBig::ZERO), q).table();
        let law = SeverityLaw::Lognormal { mu, sigma };
        let found = law.table(100, segment_bits).expect("every floor is decided");
        assert_same(&found, &expected, &format!("lognormal({mu}, {sigma})"));
    }
}

#[test]
fn lognormal_tables_are_exact_with_6_bits() {
    for sigma in [0.1, 1.0, 1.5, 2.5, 3.0, 4.0] {
        check_lognormals(6, sigma, &[-3.0, 0.0, 6.0, 10.0, 25.0]);
    }
}

#[test]
fn lognormal_tables_are_exact_with_7_bits() {
    for sigma in [5.0, 8.0] {
        check_lognormals(7, sigma, &[-3.0, 0.0, 6.0, 10.0, 25.0]);
    }
}

#[test]
fn amounts_next_to_an_integer_are_floored_correctly() {
    // Whole numbers that V = Q + 1/2 nearly equals at a node of the upper tail: mu is the f64
    // nearest to the value for which it would equal them, so V lies within a relative distance of
    // 10^-15 of them, on either side. A node of the normal quantile with an error in its 15th
    // digit, which is common in the tails, gives a different floor.
    for (sigma, node, whole) in [(1.0, 0, 400_000_001.0), (1.0, 1, 536_870_911.0), (1.5, 200, 270_000_001.0)]
    {
        let z = nodes()[2 * node].clone();
        let meet = |whole: f64| ((real(whole) - real(0.5)) / real(100.0)).ln() + z.clone() * real(sigma);
        let mus: Vec<f64> = (0..6).map(|i| meet(whole + f64::from(i)).to_f64().value()).collect();
        check_lognormals(6, sigma, &mus);
    }
}

#[test]
fn normal_tables_are_exact_across_zero() {
    let z = z_nodes(6);
    for (mean, std) in [
        (0.0, 1.0),
        (1.0, 2.0),
        (8.0, 3.0),
        (300.0, 120.0),
        (1234.5678, 0.001),
        (0.001, 5e6),
        (1e9, 1e9),
        (1e9, 1e-6),
    ] {
        let q = |i: usize, upper: bool| {
            let bend = real(std) * z[i];
            let x = (real(mean) + if upper { -bend.clone() } else { bend.clone() }) * real(1000.0);
            if i == z.len() - 1 {
                // mean · 1000 is exact here; where mean and deviation cancel, the larger of the two
                // determines the error.
                return Ball::exact(&x);
            }
            let error = (real(mean) + magnitude(&bend)) * real(1000.0) * power_of_two(-150);
            Ball {
                centre: floor_scaled(&x, FRACTION),
                radius: floor_scaled(&error, FRACTION) + IBig::from(4),
            }
        };
        let expected = Values::new(z.len(), None, q).table();
        let law = SeverityLaw::Normal { mean, std_dev: std };
        let found = law.table(1000, 6).expect("every floor is decided");
        assert_same(&found, &expected, &format!("normal({mean}, {std})"));
    }
}
