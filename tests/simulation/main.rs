//! Deterministic simulation of a whole cluster: planners, aggregators, verifiers and workers run in
//! one thread under tokio's paused time, on an in-process bus and store that misbehave. A seed
//! decides everything, so a run that fails can be repeated:
//!
//! - `cargo test -p forge-simulation` runs the first seeds.
//! - `SEED=7 cargo test -p forge-simulation -- --nocapture` runs one seed and prints its trace.
//! - `SEEDS=10000 cargo test -p forge-simulation` runs more; `FIRST_SEED` moves the start.
//!
//! Reading order: [`options`] → [`world`] → [`process`] → [`process_bus`] → [`process_store`] →
//! [`backends`] → [`workload`] → [`forger`] → [`cluster`] → [`client`] → [`checker`] →
//! [`simulation`].

mod backends;
mod checker;
mod client;
mod cluster;
mod forger;
mod options;
mod process;
mod process_bus;
mod process_store;
mod simulation;
mod workload;
mod world;

use std::{
    collections::BTreeMap,
    env,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::simulation::simulate;

/// Seeds of a run without `SEEDS`.
const DEFAULT_SEEDS: u64 = 150;
/// Seeds that are run twice without `REPEATED_SEEDS`.
const DEFAULT_REPEATED_SEEDS: u64 = 20;

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

#[test]
fn no_seed_violates_what_the_cluster_promises() {
    if let Some(seed) = number("SEED") {
        let report = simulate(seed, true);
        eprintln!("{}", report.trace.join("\n"));
        eprintln!("{:?} {:?} {:?}", report.trace_hash, report.times, report.ends);
        assert!(report.violations.is_empty(), "{}", report.describe());
        return;
    }
    let first = number("FIRST_SEED").unwrap_or(0);
    let count = number("SEEDS").unwrap_or(DEFAULT_SEEDS);
    let (next, has_failed) = (AtomicU64::new(first), AtomicBool::new(false));
    let (ends, longest) = (Mutex::new(BTreeMap::<String, u64>::new()), Mutex::new((Duration::ZERO, 0)));
    let started = Instant::now();
    let continues = env::var("KEEP_GOING").is_ok();
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count || (has_failed.load(Ordering::Relaxed) && !continues) {
                return;
            }
            let report = simulate(seed, false);
            report.ends.iter().for_each(|end| *ends.lock().entry(end.clone()).or_default() += 1);
            let mut longest = longest.lock();
            *longest = (*longest).max((report.times.1, seed));
            if !report.violations.is_empty() {
                has_failed.store(true, Ordering::Relaxed);
                match continues {
                    true => eprintln!("seed {seed}: {}", report.violations.join("; ")),
                    false => eprintln!("{}", report.describe()),
                }
            }
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    let rate = count as f64 / started.elapsed().as_secs_f64() * 60.0;
    eprintln!("{count} seeds, {rate:.0} per minute; longest recovery and its seed: {:?}", longest.lock());
    eprintln!("ends of jobs: {:?}", ends.lock());
    assert!(!has_failed.load(Ordering::Relaxed), "a seed has failed: see above");
}

#[test]
fn a_seed_repeats_its_trace() {
    let first = number("FIRST_SEED").unwrap_or(0);
    for seed in first..first + number("REPEATED_SEEDS").unwrap_or(DEFAULT_REPEATED_SEEDS) {
        let (left, right) = (simulate(seed, true), simulate(seed, true));
        let difference = left.trace.iter().zip(&right.trace).find(|(left, right)| left != right);
        assert_eq!(difference, None, "seed {seed}");
        assert_eq!((left.trace_hash, left.violations), (right.trace_hash, right.violations), "seed {seed}");
    }
}
