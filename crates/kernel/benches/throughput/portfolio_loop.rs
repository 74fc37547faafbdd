//! The example portfolio of `risk.compound.v1` (docs/benchmarks.md), written by hand: f64 amounts,
//! library samplers where they are fast, one random stream, and the same figures as a result holds.

use forge_contract::{distribution::Resolution, shard_result::HISTOGRAM_BUCKETS};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use rand_distr::{Distribution, Gamma, LogNormal, Pareto, StandardNormal};

/// The args of the portfolio.
pub(crate) const ENVELOPE: &str = include_str!("../../../../examples/portfolio.json");

const PROPERTY: usize = 0;
const MOTOR: usize = 1;
const LIABILITY: usize = 2;
const LINES: usize = 3;
const TREATIES: usize = 5;

/// The cumulative probabilities of a negative binomial law, of mean m and variance m·(1 + c·m).
fn negative_binomial(mean: f64, contagion: f64) -> Vec<f64> {
    let (r, beta) = (1.0 / contagion, contagion * mean);
    let mut probability = (1.0 + beta).powf(-r);
    let mut cumulative = vec![probability];
    while cumulative[cumulative.len() - 1] < 1.0 - 1e-15 {
        let k = cumulative.len() as f64;
        probability *= (r + k - 1.0) / k * beta / (1.0 + beta);
        cumulative.push(cumulative[cumulative.len() - 1] + probability);
    }
    cumulative
}

fn count(cumulative: &[f64], rng: &mut SmallRng) -> usize {
    let draw: f64 = rng.random();
    cumulative.partition_point(|&probability| probability <= draw)
}

/// The lognormal parameters of a mean and a coefficient of variation.
fn log_parameters(mean: f64, cv: f64) -> (f64, f64) {
    let variance = (cv * cv).ln_1p();
    (mean.ln() - variance / 2.0, variance.sqrt())
}

fn lognormal(mean: f64, cv: f64) -> LogNormal<f64> {
    let (mu, sigma) = log_parameters(mean, cv);
    LogNormal::new(mu, sigma).expect("valid parameters")
}

fn layer(amount: f64, limit: f64, attachment: f64) -> f64 {
    (amount - attachment).clamp(0.0, limit)
}

/// The sum, the sum of squares and the histogram of an amount.
struct Figures {
    sum: f64,
    squares: f64,
    histogram: Vec<u64>,
}

impl Figures {
    fn new(buckets: usize) -> Self {
        Self { sum: 0.0, squares: 0.0, histogram: vec![0; buckets] }
    }

    fn add(&mut self, amount: f64, resolution: Resolution) {
        self.sum += amount;
        self.squares += amount * amount;
        self.histogram[resolution.bucket_of((amount * 100.0) as u64)] += 1;
    }
}

/// What the treaties have paid for the occurrences of a year.
#[derive(Default)]
struct Recoveries {
    risk: f64,
    cat: [f64; 2],
}

/// Executes `iterations` years, and returns the mean of the net total.
#[expect(clippy::too_many_lines, reason = "the loop reads like the model, from top to bottom")]
pub(crate) fn mean_net(iterations: u64) -> f64 {
    let mut rng = SmallRng::seed_from_u64(1);
    let annual_motor = lognormal(42e6, 0.06);
    let annual_property = Gamma::new(1.0 / 0.0081, 18e6 * 0.0081).expect("valid parameters");
    let annual_liability = lognormal(25e6, 0.12);
    let inflation = lognormal(1.0, 0.04);
    let large = negative_binomial(14.0, 0.08);
    let fire = Pareto::new(250e3, 1.6).expect("valid parameters");
    let crash = LogNormal::new(12.9, 1.1).expect("valid parameters");
    let storms = negative_binomial(1.8, 0.35);
    let (property_mu, property_sigma) = log_parameters(9e6, 2.8);
    let (motor_mu, motor_sigma) = log_parameters(1.2e6, 2.2);

    let mut total = Figures::new(HISTOGRAM_BUCKETS);
    let mut largest = Figures::new(HISTOGRAM_BUCKETS);
    let coarse = Resolution::COARSE;
    let mut quantities: Vec<_> = (0..3 + LINES + TREATIES).map(|_| Figures::new(coarse.buckets())).collect();
    let mut allocation = vec![[0.0; LINES + TREATIES]; coarse.buckets()];
    let mut groups = [[0.0; 4]; 3];
    let mut attached = [[0u64; 2]; 3];
    let mut reinstated = [[0.0; 4]; 2];
    for _ in 0..iterations {
        let counts = [count(&large, &mut rng), count(&storms, &mut rng)];
        let index = inflation.sample(&mut rng);
        let mut gross = [0.0; LINES];
        gross[MOTOR] = annual_motor.sample(&mut rng);
        gross[PROPERTY] = annual_property.sample(&mut rng);
        gross[LIABILITY] = annual_liability.sample(&mut rng);
        let annual = gross[MOTOR] + gross[PROPERTY] + gross[LIABILITY];
        let (mut worst, mut large_losses) = (0.0f64, 0.0);
        let mut year = Recoveries::default();
        for _ in 0..counts[0] {
            let pick: f64 = rng.random();
            let (line, loss): (usize, f64) = if pick < 0.5 {
                (PROPERTY, f64::min(fire.sample(&mut rng), 20e6))
            } else if pick < 0.8 {
                (MOTOR, crash.sample(&mut rng))
            } else {
                let u = 1.0 - rng.random::<f64>();
                let loss: f64 = (300e3 + 210e3 * (u.powf(-0.55) - 1.0) / 0.55) * index;
                (LIABILITY, (loss - 100e3).clamp(0.0, 15e6))
            };
            gross[line] += loss;
            large_losses += loss;
            worst = worst.max(loss);
            if line == PROPERTY {
                let part = layer(loss, 5e6, 2e6);
                attached[0][0] += u64::from(part > 0.0);
                attached[0][1] += u64::from(part == 5e6);
                year.risk += part;
            }
        }
        let mut storm_losses = 0.0;
        for _ in 0..counts[1] {
            let z: f64 = StandardNormal.sample(&mut rng);
            let property: f64 = (property_mu + property_sigma * z).exp();
            let motor: f64 = (motor_mu + motor_sigma * z).exp();
            gross[PROPERTY] += property;
            gross[MOTOR] += motor;
            storm_losses += property + motor;
            worst = worst.max(property + motor);
            let subject = property + 0.8 * motor;
            for (cat, (limit, attachment)) in [(20e6, 10e6), (40e6, 30e6)].into_iter().enumerate() {
                let part = layer(subject, limit, attachment);
                attached[1 + cat][0] += u64::from(part > 0.0);
                attached[1 + cat][1] += u64::from(part == limit);
                year.cat[cat] += part;
            }
        }
        let sum: f64 = gross.iter().sum();
        let paid = [year.cat[0].min(60e6), year.cat[1].min(80e6)];
        let mut ceded: [f64; TREATIES] =
            [0.2 * gross[MOTOR], (year.risk - 1e6).clamp(0.0, 15e6), 0.9 * paid[0], paid[1], 0.0];
        let after_first = sum - ceded[0] - ceded[1];
        let after_second = after_first - ceded[2] - ceded[3];
        ceded[4] = 0.85 * layer(after_second, 25e6, 135e6);
        let net = after_second - ceded[4];

        total.add(net, Resolution::FINE);
        largest.add(worst, Resolution::FINE);
        let amounts = [sum].into_iter().chain(gross).chain([after_first, after_second]).chain(ceded);
        for (figures, amount) in quantities.iter_mut().zip(amounts) {
            figures.add(amount, coarse);
        }
        let bucket = &mut allocation[coarse.bucket_of((net * 100.0) as u64)];
        for (part, amount) in bucket.iter_mut().zip(gross.iter().chain(&ceded)) {
            *part += amount;
        }
        let of_groups = [(0, annual), (counts[0], large_losses), (counts[1], storm_losses)];
        for (tally, (number, loss)) in groups.iter_mut().zip(of_groups) {
            let number = number as f64;
            let figures = [number, number * number, loss, loss * loss];
            tally.iter_mut().zip(figures).for_each(|(sum, figure)| *sum += figure);
        }
        for (cat, (limit, premium)) in [(20e6, 0.9 * 2.6e6), (40e6, 1.9e6)].into_iter().enumerate() {
            let first = paid[cat].min(limit);
            let second = if cat == 0 { (paid[0] - limit).clamp(0.0, limit) } else { 0.0 };
            let price = premium * (first + second) / limit;
            let figures = [first, second, price, price * price];
            reinstated[cat].iter_mut().zip(figures).for_each(|(sum, figure)| *sum += figure);
        }
    }
    std::hint::black_box((&largest.histogram, &quantities[0].squares, &quantities[10].histogram));
    std::hint::black_box((allocation, groups, attached, reinstated, total.squares, largest.sum));
    std::hint::black_box((total.histogram, quantities.iter().map(|figures| figures.sum).sum::<f64>()));
    total.sum / iterations as f64
}
