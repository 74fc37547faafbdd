//! Proves the tables of docs/determinism.md, section 5, entry by entry: the normal quantile at the
//! nodes, every entry of lognormal and normal quantile tables, every
//! threshold of the count laws, against arbitrary precision.
#![expect(clippy::print_stdout, reason = "figures for the documentation: cargo test -- --nocapture")]

mod common;

use std::sync::OnceLock;

use common::precise::{
    Ball, FRACTION, Real, floor_scaled, halves, lower_tail, magnitude, node_position, nodes, of_dd,
    power_of_two, quantile, real,
};
use dashu_int::{IBig, UBig};
use forge_contract::program::{CountTable, Segment};
use forge_kernel::{
    beta,
    counts::CountLaw,
    double_double::{DoubleDouble, power_of_two as two_to},
    gamma, inverse_gaussian, normal,
    severities::SeverityLaw,
    standard_quantiles::StandardQuantiles,
    tables,
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

/// The reference for a quantile table: V = Q + 1/2 at the nodes, ascending in t on the lower side,
/// then on the upper.
struct Values {
    lower: Vec<Ball>,
    upper: Vec<Ball>,
}

impl Values {
    /// V from Q at every node; `q(i, upper)` is Q at z of node i or at −z. `floor` is a number
    /// below which no Q lies.
    fn new(count: usize, floor: Option<IBig>, q: impl Fn(usize, bool) -> Ball + Sync) -> Self {
        let half = IBig::ONE << (FRACTION - 1);
        let limit = IBig::ONE << (FRACTION + 54);
        let value = |i, upper| {
            let mut ball = q(i, upper);
            if floor.as_ref().is_some_and(|floor| &ball.centre - &ball.radius < *floor) {
                // Q lies in the part of the interval above the floor, so it exceeds the floor by
                // less than 2·radius.
                ball.centre = floor.clone().expect("there is one") + &ball.radius;
            }
            ball.centre += &half;
            for limit in [limit.clone(), -limit.clone()] {
                if (limit > IBig::ZERO) == (ball.centre > IBig::ZERO) && beyond(&ball.centre, &limit) {
                    ball = Ball { centre: limit, radius: IBig::ZERO };
                }
            }
            ball
        };
        Self { lower: halves(count, |i| value(i, false)), upper: halves(count, |i| value(i, true)) }
    }

    /// The table's entries.
    fn table(&self) -> Vec<Segment> {
        let lower = self.lower.windows(3).step_by(2).map(|v| entry(&v[0], &v[1], &v[2]));
        let upper = self.upper.windows(3).step_by(2).map(|v| entry(&v[2], &v[1], &v[0]));
        lower.chain(upper).collect()
    }
}

fn absolute(x: &IBig) -> IBig {
    if *x < IBig::ZERO { -x } else { x.clone() }
}

fn beyond(x: &IBig, limit: &IBig) -> bool {
    absolute(x) > absolute(limit)
}

/// One entry, as section 5.2 defines it.
fn entry(left: &Ball, middle: &Ball, right: &Ball) -> Segment {
    let largest = absolute(&left.centre).max(absolute(&right.centre));
    let exponent =
        (-29..).find(|e| largest < IBig::ONE << (FRACTION as i32 + 29 + e) as usize).expect("a finite value");
    let [a, b, c] = [left, middle, right].map(|v| v.floor(exponent));
    let word = |x: IBig| i32::try_from(x).expect("an i32");
    Segment {
        left: word(a.clone()),
        slope: word(&b * 4 - &a * 3 - &c),
        curve: word((a - b * 2 + c) * 2),
        shift: (31 - exponent) as u32,
    }
}

fn assert_same(found: &[Segment], expected: &[Segment], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found, expected, "entry {i} of {what}");
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

/// Thresholds `⌊2^64 · CDF(k)⌋`, restricted to those that section 5.1 keeps.
fn count_table(thresholds: impl Iterator<Item = IBig>) -> CountTable {
    let end = (IBig::ONE << 64) - IBig::ONE;
    let kept: Vec<IBig> = thresholds.take_while(|t| *t < end).collect();
    let offset = kept.iter().filter(|t| t.is_zero()).count();
    let thresholds = kept[offset..].iter().map(|t| u64::try_from(t.clone()).expect("below 2^64"));
    CountTable { offset: offset as u32, thresholds: thresholds.collect() }
}

/// The exponential quantile at the nodes with 4 segment bits, of the lower and of the upper half.
fn exponential_nodes() -> &'static [Vec<Real>; 2] {
    static NODES: OnceLock<[Vec<Real>; 2]> = OnceLock::new();
    NODES.get_or_init(|| {
        let quantile = |i: usize, upper: bool| {
            let t = if i == 64 * 32 { real(0.5) } else { node_position(i, 32) };
            -(if upper { t } else { real(1.0) - t }).ln()
        };
        [false, true].map(|upper| halves(64 * 32 + 1, |i| quantile(i, upper)))
    })
}

/// Checks every entry of a law that is a function of the exponential quantile.
fn check_exponential(law: SeverityLaw, amount: impl Fn(&Real) -> Real + Sync) {
    let nodes = exponential_nodes();
    let q = |i: usize, upper: bool| Ball::near(&(amount(&nodes[usize::from(upper)][i]) * real(100.0)));
    let expected = Values::new(nodes[0].len(), Some(IBig::ZERO), q).table();
    assert_same(&law.table(100, 4).expect("every floor is decided"), &expected, &format!("{law:?}"));
}

#[test]
fn tables_of_exponential_and_weibull_laws_are_exact() {
    for mean in [0.03, 1e12] {
        check_exponential(SeverityLaw::Exponential { mean }, |e| e * real(mean));
    }
    for (shape, scale) in [(0.3, 10.0), (3.5, 1e6)] {
        let amount = |e: &Real| (e.ln() / real(shape)).exp() * real(scale);
        check_exponential(SeverityLaw::Weibull { shape, scale }, amount);
    }
}

#[test]
fn tables_of_pareto_laws_are_exact() {
    check_exponential(SeverityLaw::Pareto { threshold: 250_000.0, alpha: 1.6 }, |e| {
        (e / real(1.6)).exp() * real(250_000.0)
    });
    let lomax = SeverityLaw::Lomax { alpha: 0.9, scale: 1e4 };
    check_exponential(lomax, |e| ((e / real(0.9)).exp() - real(1.0)) * real(1e4));
    for (threshold, scale, xi) in [(300_000.0, 210_000.0, 0.55), (10.0, 7.0, 1e-9), (5.0, 1_000.0, -0.4)] {
        let excess = |e: &Real| ((e * real(xi)).exp() - real(1.0)) / real(xi);
        let law = SeverityLaw::Gpd { threshold, scale, xi };
        check_exponential(law, |e| real(threshold) + excess(e) * real(scale));
    }
    let without_shape = SeverityLaw::Gpd { threshold: 1.0, scale: 9.0, xi: 0.0 };
    check_exponential(without_shape, |e| real(1.0) + e * real(9.0));
    check_exponential(SeverityLaw::Burr { alpha: 1.2, scale: 5e4, gamma: 0.8 }, |e| {
        let excess = (e / real(1.2)).exp() - real(1.0);
        (excess.ln() / real(0.8)).exp() * real(5e4)
    });
}

/// Checks every entry of a law whose quantiles are rational at many nodes. `scaled` is
/// ⌊Q · 2^FRACTION⌋ at the survival probability n / 2^k.
fn check_rational(law: SeverityLaw, scaled: impl Fn(&UBig, usize) -> UBig + Sync) {
    let bits = 65 + 7;
    let q = |i: usize, upper: bool| {
        let (octave, place) = (i / 128, i % 128);
        let distance = UBig::from(128 + place as u64) << octave;
        let survival = if upper { distance } else { (UBig::ONE << bits) - distance };
        Ball { centre: scaled(&survival, bits).into(), radius: IBig::ZERO }
    };
    let expected = Values::new(64 * 128 + 1, None, q).table();
    assert_same(&law.table(100, 6).expect("every floor is decided"), &expected, &format!("{law:?}"));
}

#[test]
fn tables_with_rational_quantiles_are_exact() {
    let unit = UBig::from(100u32) << FRACTION;
    let inverse = |n: &UBig, k: usize| ((&unit * 250u32) << k) / n;
    check_rational(SeverityLaw::Pareto { threshold: 250.0, alpha: 1.0 }, inverse);
    let square = |n: &UBig, k: usize| ((&unit * 3u32) << (2 * k)) / (n * n);
    check_rational(SeverityLaw::Pareto { threshold: 3.0, alpha: 0.5 }, square);
    let root = |n: &UBig, k: usize| (((&unit * &unit * 40_000u32) << k) / n).nth_root(2);
    check_rational(SeverityLaw::Pareto { threshold: 200.0, alpha: 2.0 }, root);
    // c / s − c, whose floor is that of c / s, less c.
    let excess = |n: &UBig, k: usize| ((&unit * 10u32) << k) / n - &unit * 10u32;
    check_rational(SeverityLaw::Lomax { alpha: 1.0, scale: 10.0 }, excess);
    check_rational(SeverityLaw::Gpd { threshold: 0.0, scale: 10.0, xi: 1.0 }, excess);
    check_rational(SeverityLaw::Burr { alpha: 1.0, scale: 10.0, gamma: 1.0 }, excess);
    // (1 − s) · c
    let bounded = |n: &UBig, k: usize| (&unit * 8u32 * ((UBig::ONE << k) - n)) >> k;
    check_rational(SeverityLaw::Gpd { threshold: 0.0, scale: 8.0, xi: -1.0 }, bounded);
    check_rational(SeverityLaw::Uniform { low: 0.0, high: 8.0 }, bounded);
    // 1 − √s, whose floor is that of the scale less the ceiling of the root.
    let beta = |n: &UBig, k: usize| {
        let root = (((&unit * &unit * 64u32) << k) * n) >> (2 * k);
        &unit * 8u32 - root.nth_root(2) - UBig::from(u8::from(root.nth_root(2).pow(2) != root))
    };
    check_rational(SeverityLaw::Beta { a: 1.0, b: 2.0, scale: 8.0 }, beta);
    // The medians of symmetric laws, and quantiles of polynomials: F(1/4) = 5/32.
    for (a, b) in [(0.5, 0.5), (2.0, 2.0), (3.0, 2.0), (1e5, 1e5)] {
        SeverityLaw::Beta { a, b, scale: 1_000.0 }.table(100, 6).expect("every floor is decided");
    }
    // The quantile is the scale where the inner power is 2, whatever the outer exponent is.
    for (alpha, gamma) in [(2.0, 3.3), (1.0, 0.7), (0.5, 2.0)] {
        SeverityLaw::Burr { alpha, scale: 1_000.0, gamma }.table(100, 6).expect("every floor is decided");
    }
}

#[test]
fn tables_of_uniform_laws_are_exact() {
    for (low, high) in [(0.0, 8.0), (1e6, 3e7), (0.1, 0.3)] {
        let q = |i: usize, upper: bool| {
            let t = if i == 64 * 128 { real(0.5) } else { node_position(i, 128) };
            let u = if upper { real(1.0) - t } else { t };
            Ball::exact(&((real(low) + u * (real(high) - real(low))) * real(100.0)))
        };
        let expected = Values::new(64 * 128 + 1, Some(IBig::ZERO), q).table();
        let law = SeverityLaw::Uniform { low, high };
        assert_same(&law.table(100, 6).expect("every floor is decided"), &expected, &format!("{law:?}"));
    }
}

/// Checks the nodes of a law, with 4 segment bits, by its distribution function: `beyond` is the
/// probability of the quantile's half beyond it, and `density` that of x.
fn check_nodes(
    quantiles: &StandardQuantiles,
    error: f64,
    beyond: impl Fn(bool, &Real) -> Real + Sync,
    density: impl Fn(&Real) -> Real + Sync,
) {
    for (upper, nodes) in [(false, &quantiles.lower), (true, &quantiles.upper)] {
        let errors = halves(nodes.len() / 5, |i| {
            let (t, x) = (real(quantiles.distances[5 * i]), of_dd(nodes[5 * i]));
            let step = (t - beyond(upper, &x)) / density(&x);
            (magnitude(&step) / x).to_f64().value()
        });
        let worst = errors.into_iter().fold(0.0, f64::max);
        assert!(
            worst < error,
            "relative error {worst:e} of the {} half",
            if upper { "upper" } else { "lower" }
        );
    }
}

#[test]
fn nodes_of_gamma_laws_are_quantiles() {
    let one = || real(1.0);
    let error = tables::RELATIVE_ERROR;
    // 1 − (1 + x)·e^−x, by its series where x is small.
    let lower_of_2 = |x: &Real| {
        if *x > real(0.5) {
            return one() - (one() + x) * (-x.clone()).exp();
        }
        // Σ (−1)ⁿ·(n − 1)·xⁿ / n!
        let (mut power, mut sum) = (x.clone(), real(0.0));
        for n in 2..60 {
            power = -(power * x) / real(f64::from(n));
            sum -= &power * real(f64::from(n - 1));
        }
        sum
    };
    check_nodes(
        &gamma::quantiles(2.0, 4),
        error,
        |upper, x| if upper { (one() + x) * (-x.clone()).exp() } else { lower_of_2(x) },
        |x| x * (-x.clone()).exp(),
    );
    // Half the square of a standard normal variable. Its lower half needs a series of its own.
    let quantiles = gamma::quantiles(0.5, 4);
    for (i, &t) in quantiles.distances.iter().enumerate().step_by(7) {
        let root = (of_dd(quantiles.upper[i]) * real(2.0)).sqrt();
        let (tail, density) = lower_tail(&-root.clone());
        let step = (real(t) / real(2.0) - tail) / (density * root);
        assert!(magnitude(&step).to_f64().value() < error, "t = {t:e}");
    }
}

#[test]
fn nodes_of_inverse_gaussian_laws_are_quantiles() {
    let shape = real(1.0);
    let terms = |x: &Real| {
        let root = x.sqrt();
        let deviation = &root - real(1.0) / &root;
        (deviation, &root + real(1.0) / &root)
    };
    check_nodes(
        &inverse_gaussian::quantiles(1.0, 4),
        tables::RELATIVE_ERROR,
        |upper, x| {
            let (deviation, sum) = terms(x);
            let reflected = (real(2.0) * &shape).exp() * lower_tail(&-sum).0;
            let sign = if deviation < real(0.0) { real(-1.0) } else { real(1.0) };
            let outside = lower_tail(&-magnitude(&deviation)).0;
            // The first term is the probability outside of the deviation, or inside of it.
            match (upper, sign > real(0.0)) {
                (true, true) => outside - reflected,
                (true, false) => real(1.0) - outside - reflected,
                (false, false) => outside + reflected,
                (false, true) => real(1.0) - outside + reflected,
            }
        },
        |x| {
            let (deviation, _) = terms(x);
            lower_tail(&-magnitude(&deviation)).1 / (x * x.sqrt())
        },
    );
}

#[test]
fn nodes_of_beta_laws_are_quantiles() {
    let one = || real(1.0);
    // 3x² − 2x³, and 6x² − 8x³ + 3x⁴ with 1 − F = (1 − x)³·(1 + 3x).
    let square = |x: &Real| x * x * (real(3.0) - real(2.0) * x);
    check_nodes(
        &beta::quantiles(2.0, 2.0, 4),
        beta::RELATIVE_ERROR,
        |upper, x| if upper { square(&(one() - x)) } else { square(x) },
        |x| real(6.0) * x * (one() - x),
    );
    check_nodes(
        &beta::quantiles(2.0, 3.0, 4),
        beta::RELATIVE_ERROR,
        |upper, x| {
            let rest = one() - x;
            if upper {
                &rest * &rest * &rest * (one() + real(3.0) * x)
            } else {
                x * x * (real(6.0) - real(8.0) * x + real(3.0) * x * x)
            }
        },
        |x| real(12.0) * x * (one() - x) * (one() - x),
    );
}

/// The table of a law by the probability of 0 and the ratio of the terms of k − 1 and k.
fn of_terms(zero: Real, ratio: impl Fn(Real) -> Real) -> CountTable {
    let (mut term, mut sum) = (zero, real(0.0));
    count_table((1..).map(|k| {
        sum += &term;
        term = &term * ratio(real(f64::from(k)));
        let scaled = sum.clone() * power_of_two(64);
        let (low, high) = (&scaled - power_of_two(-80), &scaled + power_of_two(-80));
        let floor = |x: &Real| floor_scaled(x, 0);
        // Two cases in which the floor is certain although an integer is near: the sum is above 0
        // and below 1.
        let near_end = scaled < real(0.5) || scaled > power_of_two(64) - real(0.5);
        assert!(near_end || floor(&low) == floor(&high), "the reference cannot decide a floor");
        if scaled < real(0.5) { IBig::ZERO } else { floor(&scaled) }
    }))
}

fn poisson(mean: f64) -> CountTable {
    of_terms((-real(mean)).exp(), |k| real(mean) / k)
}

/// From its form in Loss Models: P(0) = (1 + β)^-r, ratio (r + k − 1)·β / ((1 + β)·k).
fn negative_binomial(r: &Real, beta: &Real) -> CountTable {
    let base = real(1.0) + beta;
    let zero = (-r.clone() * base.ln()).exp();
    of_terms(zero, |k| (r + &k - real(1.0)) * beta / (&base * k))
}

#[test]
fn negative_binomial_thresholds_are_exact() {
    for (mean, contagion) in
        [(1.8, 0.35), (14.0, 0.08), (0.01, 7.3), (120.5, 1e-9), (300.0, 0.02), (1e-9, 3.0)]
    {
        let (r, beta) = (real(1.0) / real(contagion), real(mean) * real(contagion));
        let table = CountLaw::NegativeBinomial { mean, contagion }.table().unwrap();
        assert_eq!(table, negative_binomial(&r, &beta), "{mean} {contagion}");
    }
    for (r, beta) in [(6.0, 0.5), (1.0, 4.0), (16.0, 6.0), (0.013, 55.0), (2.3, 1e-7)] {
        let table = CountLaw::NegativeBinomialShape { r, beta }.table().unwrap();
        assert_eq!(table, negative_binomial(&real(r), &real(beta)), "{r} {beta}");
    }
}

#[test]
fn binomial_thresholds_are_exact() {
    for (trials, probability) in [(3, 0.4), (500, 0.02), (1_000, 0.999), (2, 0.3), (32_000, 0.01)] {
        let p = real(probability);
        let q = real(1.0) - &p;
        let zero = (real(f64::from(trials)) * q.ln()).exp();
        let expected = of_terms(zero, |k| (real(f64::from(trials) + 1.0) - &k) * &p / (&q * k));
        let table = CountLaw::Binomial { trials, probability }.table().unwrap();
        assert_eq!(table, expected, "{trials} {probability}");
    }
}

#[test]
fn poisson_thresholds_are_exact() {
    let means = [1e-6, 1e-4, 0.1, 0.5, 2.0, 3.7, 30.0, 300.0, 9999.75, 10_000.0, 1e-19, 1e-20, 5e-324];
    for mean in means {
        assert_eq!(CountLaw::Poisson(mean).table().unwrap(), poisson(mean), "λ = {mean}");
    }
    assert_eq!(CountLaw::Poisson(0.0).table().unwrap(), CountTable { offset: 0, thresholds: Vec::new() });
}

#[test]
fn bernoulli_thresholds_are_exact() {
    let powers = (1..70).map(|k| two_to(-k));
    let probabilities = [0.0, 1.0, 0.02, 1e-5, 1e-18, 1e-20, 0.999_999, 1.0 - two_to(-53), 5e-324];
    for probability in powers.chain(probabilities) {
        let none = (real(1.0).with_precision(1200).value() - real(probability)) * power_of_two(64);
        let expected = count_table([floor_scaled(&none, 0), IBig::ONE << 64].into_iter());
        assert_eq!(CountLaw::Bernoulli(probability).table().unwrap(), expected, "p = {probability}");
    }
}
