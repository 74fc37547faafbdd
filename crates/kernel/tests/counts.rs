//! Proves the count tables of docs/determinism.md, section 5.1: every threshold of the laws,
//! against arbitrary precision.

mod common;

use common::precise::{Real, floor_scaled, power_of_two, real};
use dashu_int::IBig;
use forge_contract::program::CountTable;
use forge_kernel::{counts::CountLaw, double_double::power_of_two as two_to};

/// Thresholds `⌊2^64 · CDF(k)⌋`, restricted to those that section 5.1 keeps.
fn count_table(thresholds: impl Iterator<Item = IBig>) -> CountTable {
    let end = (IBig::ONE << 64) - IBig::ONE;
    let kept: Vec<IBig> = thresholds.take_while(|t| *t < end).collect();
    let offset = kept.iter().filter(|t| t.is_zero()).count();
    let thresholds = kept[offset..].iter().map(|t| u64::try_from(t.clone()).expect("below 2^64"));
    CountTable { offset: offset as u32, thresholds: thresholds.collect() }
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
