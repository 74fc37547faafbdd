//! Deterministic simulation of a whole cluster: planners, aggregators, verifiers and workers run in
//! one thread under tokio's paused time, on an in-process bus and store that misbehave. A seed
//! decides everything, so a run that fails can be repeated:
//!
//! - `cargo test -p forge-simulation` runs the first seeds.
//! - `SEED=7 cargo test -p forge-simulation -- --nocapture` runs one seed and prints its trace.
//! - `SEEDS=10000 cargo test -p forge-simulation` runs more; `FIRST_SEED` moves the start.
//! - `OFF=delay,crash` turns faults off, by their names in [`options`].
//!
//! Reading order: [`options`] → [`world`] → [`process`] → [`entry_history`] → [`traffic`] →
//! [`watch_gaps`] → [`message_mishaps`] → [`process_queue`] → [`process_bus`] → [`process_store`] →
//! [`backends`] → [`invalid_envelopes`] → [`workload`] → [`forger`] → [`garbage`] → [`cluster`] →
//! [`late_error`] → [`client`] → [`checker`] → [`submitted_jobs`] → [`record_changes`] → [`quotas`]
//! → [`failure_causes`] → [`executions`] → [`leftovers`] → [`cheats`] → [`simulation`] →
//! [`campaign`].

mod backends;
mod campaign;
mod cheats;
mod checker;
mod client;
mod cluster;
mod entry_history;
mod executions;
mod failure_causes;
mod forger;
mod garbage;
mod invalid_envelopes;
mod late_error;
mod leftovers;
mod message_mishaps;
mod options;
mod process;
mod process_bus;
mod process_queue;
mod process_store;
mod quotas;
mod record_changes;
mod simulation;
mod submitted_jobs;
mod traffic;
mod watch_gaps;
mod workload;
mod world;

use crate::{
    campaign::{describe, number, options, run_seeds},
    simulation::simulate,
};

/// Seeds of a run without `SEEDS`.
const DEFAULT_SEEDS: u64 = 500;
/// Seeds that are run twice without `REPEATED_SEEDS`.
const DEFAULT_REPEATED_SEEDS: u64 = 20;

#[test]
fn no_seed_violates_what_the_cluster_promises() {
    let Some(seed) = number("SEED") else {
        return run_seeds(number("FIRST_SEED").unwrap_or(0), number("SEEDS").unwrap_or(DEFAULT_SEEDS));
    };
    let report = simulate(options(seed), true);
    eprintln!("{}\n{:?} {:?}", report.trace.join("\n"), report.times, report.ends);
    assert!(report.violations.is_empty(), "{}", describe(report));
}

#[test]
fn a_seed_repeats_its_trace() {
    let first = number("FIRST_SEED").unwrap_or(0);
    for seed in first..first + number("REPEATED_SEEDS").unwrap_or(DEFAULT_REPEATED_SEEDS) {
        let (left, right) = (simulate(options(seed), true), simulate(options(seed), true));
        let difference = left.trace.iter().zip(&right.trace).find(|(left, right)| left != right);
        assert_eq!(difference, None, "seed {seed}");
        assert_eq!((left.trace_hash, left.violations), (right.trace_hash, right.violations), "seed {seed}");
    }
}
