//! Iterations per second on one core, side by side in one run: the scalar reference, each SIMD
//! level, a hand-written f64 loop, and the raw ChaCha8 keystream as the upper bound. Then a
//! breakdown of the time and the scaling over cores.
//!
//! `cargo bench -p forge-kernel`; `-- --quick` for a short run, `-- portfolio` for the portfolio
//! alone. Contenders take turns, so that a noisy neighbour affects all of them. Figures are medians
//! over the rounds, and ratios are medians of the rounds' ratios.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark prints its table and reads the clock"
)]

use std::{hint::black_box, time::Instant};

use forge_contract::{
    program::{CountTable, Program},
    shard::{Shard, ShardId},
    shard_result::{HISTOGRAM_BUCKETS, bucket_of},
};
use forge_kernel::{
    backend::{Backend, scalar::Scalar, simd::Simd},
    request::Request,
    seed_tree,
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rand_distr::{Bernoulli, Distribution, LogNormal, Poisson};

mod portfolio_loop;

const QUICKSTART: &str = r#"{"op": {"name": "mc", "version": 1, "profile": "insurance.v1"}, "args": {
    "iterations": 1000000000, "claim_freq": 2.0, "claim_severity_mu": 6.0, "claim_severity_sig": 1.0,
    "cat_prob": 0.02, "cat_mu": 10.0, "cat_sig": 1.5, "policy_limit": 50000, "aggregate_limit": 250000}}"#;

fn request(claim_freq: &str) -> Request {
    let json = QUICKSTART.replace("\"claim_freq\": 2.0", &format!("\"claim_freq\": {claim_freq}"));
    Request::from_json(json.as_bytes()).expect("the benchmark's envelope is valid")
}

/// A shard with this number of iterations.
fn shard(iterations: u64) -> Shard {
    let id = ShardId { height: 12, index: 0 };
    Shard { id, iterations, seed: seed_tree::shard_seed(seed_tree::explicit_root("benchmark"), id) }
}

/// The same model, written by hand: f64 arithmetic, library distributions and one random stream.
fn f64_loop(claim_freq: f64, iterations: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let claims = Poisson::new(claim_freq).expect("a valid rate");
    let severity = LogNormal::new(6.0, 1.0).expect("a valid sigma");
    let strikes = Bernoulli::new(0.02).expect("a valid probability");
    let catastrophe = LogNormal::new(10.0, 1.5).expect("a valid sigma");
    let mut histograms = vec![0u64; 2 * HISTOGRAM_BUCKETS];
    let (mut sum, mut squares) = (0.0, 0.0);
    for _ in 0..iterations {
        let (mut total, mut largest) = (0.0f64, 0.0f64);
        for _ in 0..claims.sample(&mut rng) as u64 {
            let claim: f64 = severity.sample(&mut rng);
            let claim = claim.min(50_000.0);
            total += claim;
            largest = largest.max(claim);
        }
        if strikes.sample(&mut rng) {
            let loss: f64 = catastrophe.sample(&mut rng);
            total += loss;
            largest = largest.max(loss);
        }
        let (total, largest) = (total.min(250_000.0), largest.min(250_000.0));
        sum += total;
        squares += total * total;
        histograms[bucket_of((total * 100.0) as u64)] += 1;
        histograms[HISTOGRAM_BUCKETS + bucket_of((largest * 100.0) as u64)] += 1;
    }
    black_box((sum, squares, histograms));
}

/// A contender: a name, and a function that executes a number of iterations.
struct Contender<'a> {
    name: String,
    iterations: u64,
    run: Box<dyn Fn(u64) + 'a>,
}

impl<'a> Contender<'a> {
    fn new(name: impl Into<String>, iterations: u64, run: impl Fn(u64) + 'a) -> Self {
        Self { name: name.into(), iterations, run: Box::new(run) }
    }

    fn backend(backend: &'a dyn Backend, program: &'a Program, iterations: u64) -> Self {
        Self::new(backend.name(), iterations, move |iterations| {
            black_box(
                backend.execute(program, &[shard(iterations)], &()).expect("the execution is not cancelled"),
            );
        })
    }
}

/// Million iterations per second of each contender in each round.
fn race(contenders: &[Contender<'_>], rounds: usize) -> Vec<Vec<f64>> {
    let mut rates = vec![Vec::new(); contenders.len()];
    for round in 0..=rounds {
        for (contender, rates) in contenders.iter().zip(&mut rates) {
            let start = Instant::now();
            (contender.run)(contender.iterations);
            let rate = contender.iterations as f64 / start.elapsed().as_secs_f64() / 1e6;
            if round > 0 {
                rates.push(rate);
            }
        }
    }
    rates
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn ratio(rates: &[f64], to: &[f64]) -> f64 {
    median(rates.iter().zip(to).map(|(a, b)| a / b).collect())
}

fn compare(title: &str, claim_freq: &str, scale: u64, rounds: usize) {
    let request = request(claim_freq);
    let levels = Simd::supported();
    let frequency: f64 = claim_freq.parse().expect("a number");
    let mut contenders = vec![
        Contender::new("f64 loop (rand_distr, ChaCha8)", scale / 4, |n| f64_loop(frequency, n)),
        Contender::backend(&Scalar, &request.program, scale / 8),
    ];
    contenders.extend(levels.iter().rev().map(|simd| Contender::backend(simd, &request.program, scale)));
    for simd in levels.iter().rev() {
        let name = format!("ChaCha8 alone, one block an iteration, {}", simd.name());
        contenders.push(Contender::new(name, scale, |n| {
            black_box(simd.keystream(n));
        }));
    }
    let rates = race(&contenders, rounds);
    print_rates(title, &contenders, &rates);
    println!("\n  share of the keystream bound:");
    for (i, simd) in levels.iter().rev().enumerate() {
        let share = ratio(&rates[2 + i], &rates[2 + levels.len() + i]);
        println!("  {:<58} {:>8.0} %", simd.name(), 100.0 * share);
    }
}

/// Prints the rate of each contender, and its ratio to the first one's.
fn print_rates(title: &str, contenders: &[Contender<'_>], rates: &[Vec<f64>]) {
    println!("\n{title}: million iterations a second on one core, and ratio to the f64 loop\n");
    for (contender, own) in contenders.iter().zip(rates) {
        println!("  {:<58} {:>9.2} {:>8.2}x", contender.name, median(own.clone()), ratio(own, &rates[0]));
    }
}

/// Compares the backends with the f64 loop on the example portfolio.
fn portfolio(scale: u64, rounds: usize) {
    let request = Request::from_json(portfolio_loop::ENVELOPE.as_bytes()).expect("the example is valid");
    let levels = Simd::supported();
    let mut contenders = vec![
        Contender::new("f64 loop (rand_distr, SmallRng)", scale / 16, |n| {
            black_box(portfolio_loop::mean_net(n));
        }),
        Contender::backend(&Scalar, &request.program, scale / 64),
    ];
    contenders.extend(levels.iter().rev().map(|simd| Contender::backend(simd, &request.program, scale / 16)));
    let rates = race(&contenders, rounds);
    print_rates("Example portfolio, 16 losses a year", &contenders, &rates);
    let iterations = scale / 16;
    let result = Simd::new().execute(&request.program, &[shard(iterations)], &()).expect("not cancelled");
    let mean = result[0].sum as f64 / iterations as f64 / f64::from(request.program.units);
    println!("\n  mean net: {:.0} in the f64 loop, {mean:.0} here", portfolio_loop::mean_net(iterations));
}

/// Breaks down the time by removing one part of the work after another.
fn breakdown(scale: u64, rounds: usize) {
    let full = request("2.0").program;
    let never = |program: &Program| {
        let mut program = program.clone();
        let none = CountTable { offset: 0, thresholds: Vec::new() };
        program.groups.iter_mut().for_each(|group| group.counts = none.clone());
        program
    };
    let (counted, idle) = (request("0.000000000001").program, never(&full));
    println!("\nWhere the time goes, insurance quickstart, ns an iteration\n");
    for simd in Simd::supported() {
        let contenders = [
            Contender::new("keystream", scale, |n| {
                black_box(simd.keystream(n));
            }),
            Contender::backend(&simd, &idle, scale),
            Contender::backend(&simd, &counted, scale),
            Contender::backend(&simd, &full, scale),
        ];
        let rates = race(&contenders, rounds);
        let ns = |i: usize| median(rates[i].iter().map(|rate| 1e3 / rate).collect());
        println!(
            "  {:<14} keystream {:>6.2}   sums and histograms {:>6.2}   counts {:>6.2}   amounts {:>6.2}   all {:>6.2}",
            simd.name(),
            ns(0),
            ns(1) - ns(0),
            ns(2) - ns(1),
            ns(3) - ns(2),
            ns(3)
        );
    }
}

/// Measures how the best level scales over cores, each with its own shards, and, for comparison,
/// how the f64 loop and register-only arithmetic scale, since virtual cores may share a physical
/// core.
fn scaling(scale: u64, rounds: usize) {
    let request = request("2.0");
    let simd = Simd::new();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let execute = |iterations: u64| {
        black_box(
            simd.execute(&request.program, &[shard(iterations)], &())
                .expect("the execution is not cancelled"),
        );
    };
    let keystream = |iterations: u64| {
        black_box(simd.keystream(iterations));
    };
    let contenders = [
        Contender::new("1 thread", 4 * scale, |n| on_threads(1, n, &execute)),
        Contender::new(format!("{cores} threads"), 4 * scale, |n| on_threads(cores, n, &execute)),
        Contender::new("f64 loop, 1 thread", scale, |n| on_threads(1, n, &|n| f64_loop(2.0, n))),
        Contender::new(format!("f64 loop, {cores} threads"), scale, |n| {
            on_threads(cores, n, &|n| f64_loop(2.0, n));
        }),
        Contender::new("ChaCha8 alone, 1 thread", 16 * scale, |n| on_threads(1, n, &keystream)),
        Contender::new(format!("ChaCha8 alone, {cores} threads"), 16 * scale, |n| {
            on_threads(cores, n, &keystream);
        }),
    ];
    let rates = race(&contenders, rounds);
    println!("\nAll cores, {}\n", simd.name());
    for (i, (contender, own)) in contenders.iter().zip(&rates).enumerate() {
        let one = &rates[i / 2 * 2];
        println!("  {:<58} {:>9.2} {:>8.2}x", contender.name, median(own.clone()), ratio(own, one));
    }
}

/// Shares iterations among threads.
fn on_threads(threads: usize, iterations: u64, run: &(dyn Fn(u64) + Sync)) {
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| run(iterations / threads as u64));
        }
    });
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (scale, rounds) = if quick { (1 << 20, 3) } else { (1 << 23, 11) };
    portfolio(scale, rounds);
    if std::env::args().any(|argument| argument == "portfolio") {
        return;
    }
    compare("Insurance quickstart", "2.0", scale, rounds);
    compare("The same with 300 claims a year", "300", scale / 64, rounds);
    breakdown(scale, rounds);
    scaling(scale, rounds);
}
