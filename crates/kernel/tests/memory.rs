//! The memory of an execution is bounded, whatever the portfolio. A file with one test, which reads
//! the peak of its own process.
#![cfg(target_os = "linux")]

use forge_kernel::{
    backend::{Backend, simd::Simd},
    testing::{portfolios::most_interleaved_occurrences, sample_shard},
};

/// The largest resident memory of this process so far, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the process has a status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    peak.trim().trim_end_matches("kB").trim().parse().expect("a number")
}

#[test]
fn most_occurrences_in_random_order_take_bounded_memory() {
    let program = most_interleaved_occurrences();
    assert!(program.interleaves());
    let before = peak_kib();
    Simd::new().execute(&program, &[sample_shard(0, 1, 64)], &()).unwrap();
    let grown = (peak_kib() - before) / 1024;
    assert!(grown <= 24, "the execution took {grown} MiB");
}
