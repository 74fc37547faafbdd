//! Runs of many seeds, and what a developer gets to know about one that fails.

use std::{
    collections::BTreeMap,
    env,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    cheats::CheatTally,
    options::{FaultRates, SimulationOptions},
    simulation::{RunReport, simulate},
};

/// The value of a variable that is a number; `None` if it is not set.
pub fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

/// The faults that the variable `OFF` names.
fn faults_off() -> Vec<String> {
    let off = env::var("OFF").unwrap_or_default();
    let off: Vec<_> = off.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let mut faults = FaultRates::default();
    let known: Vec<_> = faults.by_name().into_iter().map(|(name, _)| name).collect();
    let unknown = off.iter().find(|name| !known.contains(&name.as_str()));
    assert!(unknown.is_none(), "OFF names {unknown:?}; the faults are {}", known.join(", "));
    off
}

/// The options of a seed, without the faults that the variable `OFF` names.
pub fn options(seed: u64) -> SimulationOptions {
    SimulationOptions::from_seed(seed).without(&faults_off())
}

/// Runs seeds on all processors, and panics if one fails. Ends with the first that does, unless the
/// variable `KEEP_GOING` is set.
pub fn run_seeds(first: u64, count: u64) {
    let (next, continues) = (AtomicU64::new(first), env::var("KEEP_GOING").is_ok());
    let (has_failed, failures) = (AtomicBool::new(false), Mutex::new(BTreeMap::<u64, RunReport>::new()));
    let (ends, longest) = (Mutex::new(BTreeMap::<String, u64>::new()), Mutex::new((Duration::ZERO, 0)));
    let (cheats, started) = (Mutex::new(CheatTally::default()), Instant::now());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count || (has_failed.load(Ordering::Relaxed) && !continues) {
                return;
            }
            let report = simulate(options(seed), false);
            report.ends.iter().for_each(|end| *ends.lock().entry(end.clone()).or_default() += 1);
            cheats.lock().merge(report.cheats);
            let mut longest = longest.lock();
            *longest = (*longest).max((report.times.1, seed));
            if !report.violations.is_empty() {
                has_failed.store(true, Ordering::Relaxed);
                eprintln!("seed {seed}: {}", report.violations.join("; "));
                failures.lock().entry(seed).or_insert(report);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    thread::scope(|scope| {
        (0..number("THREADS").unwrap_or(threads)).for_each(|_| drop(scope.spawn(work)));
    });
    let rate = count as f64 / started.elapsed().as_secs_f64() * 60.0;
    eprintln!("{count} seeds, {rate:.0} per minute; longest recovery and its seed: {:?}", longest.lock());
    eprintln!("ends of jobs: {:?}", ends.lock());
    let cheats = cheats.into_inner();
    let CheatTally { shipped, found_out, .. } = cheats;
    eprintln!("jobs verified in part, with lies: {shipped} shipped, {found_out} found out");
    if let Some(report) = failures.into_inner().into_values().next() {
        panic!("{}", describe(report));
    }
    assert!(!cheats.escapes_too_often(), "more lies ship than the draw lets escape: {cheats:?}");
}

/// What a developer needs in order to find the cause of a failure.
pub fn describe(report: RunReport) -> String {
    let seed = report.options.seed;
    let (report, needless) = shrink(report);
    let off = [faults_off(), needless].concat();
    let off = if off.is_empty() { String::new() } else { format!("OFF={} ", off.join(",")) };
    let RunReport { options, violations, trace, .. } = report;
    let commit = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    format!(
        "{}\n{options:#?}\nseed {seed} failed at commit {}; it fails with the faults {:?} alone:\n    \
         SEED={seed} {off}cargo test -p forge-simulation -- --nocapture no_seed\n{}",
        trace.join("\n"),
        commit.unwrap_or_default(),
        options.faults.names(),
        violations.join("\n"),
    )
}

/// Turns off the faults without which the run fails too, one after the other. Returns the report of
/// the last run that failed, and the names of these faults.
fn shrink(mut report: RunReport) -> (RunReport, Vec<String>) {
    let mut off = Vec::new();
    for name in report.options.faults.names() {
        let attempt = simulate(report.options.without(&[name.to_owned()]), false);
        if !attempt.violations.is_empty() {
            report = attempt;
            off.push(name.to_owned());
        }
    }
    (report, off)
}
