//! Tests of the `forge` binary as its users run it: in a directory of its own, judged only by its
//! output, its exit code and the files that it writes. One test crate, so that it is linked once.

mod bad_input;
mod common;
#[cfg(unix)]
mod contexts;
mod diff;
mod explain;
mod export;
mod forged_bundles;
mod forgery;
mod formats;
#[cfg(feature = "gpu")]
mod gpu;
#[cfg(unix)]
mod hostile_files;
mod isolated_execution;
mod log_audit;
mod memory;
mod mutations;
mod report;
mod round_trip;
mod schemas;
mod settings;
mod signers;
#[cfg(unix)]
mod stopping;
mod storage;
mod tables;
mod tampering;
mod text;
mod verdicts;
mod years;
