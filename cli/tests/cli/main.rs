//! Tests of the binary `forge`, as its users run it: in a directory of its own, with nothing but its output, its exit
//! code and the files it leaves behind. One crate, so that it is linked once.

mod bad_input;
mod common;
#[cfg(feature = "gpu")]
mod gpu;
mod memory;
mod round_trip;
mod schemas;
#[cfg(unix)]
mod stopping;
mod storage;
mod tampering;
mod text;
