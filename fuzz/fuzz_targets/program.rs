//! Programs as a worker receives them: decoding never panics, decoded programs are canonical, and
//! all backends produce the same bytes from them.
#![no_main]

use forge_contract::program::Program;
use forge_fuzz as _;
use forge_kernel::{
    backend::simd::Simd,
    testing::{conformance::assert_agrees, sample_shard},
};
use libfuzzer_sys::fuzz_target;

/// Upper bound on the occurrences of an iteration: larger programs execute too slowly for fuzzing.
const MAX_OCCURRENCES: u64 = 2000;

fuzz_target!(|data: &[u8]| {
    let Ok(program) = Program::decode(data) else { return };
    assert_eq!(program.encode(), data, "decoded programs are canonical");
    assert_eq!(program.validate(), Ok(()));
    if program.max_amounts() <= MAX_OCCURRENCES {
        for backend in Simd::supported() {
            assert_agrees(&backend, &program, &[sample_shard(0, 0, 19)], "a decoded program");
        }
    }
});
