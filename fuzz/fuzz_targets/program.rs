//! Programs, as a worker gets them: decoding never panics, what decodes is canonical, and every backend executes it to
//! the same bytes.
#![no_main]

use forge_contract::program::Program;
use forge_fuzz as _;
use forge_kernel::{
    backend::simd::Simd,
    testing::{conformance::assert_agrees, sample_shard},
};
use libfuzzer_sys::fuzz_target;

/// More occurrences than this in an iteration take too long to execute thousands of times a second.
const MOST_OCCURRENCES: usize = 2000;

fuzz_target!(|data: &[u8]| {
    let Ok(program) = Program::decode(data) else { return };
    assert_eq!(program.encode(), data, "what decodes is canonical");
    assert_eq!(program.validate(), Ok(()));
    let most = |c: &forge_contract::program::Component| c.counts.offset as usize + c.counts.thresholds.len();
    if program.components.iter().map(most).sum::<usize>() <= MOST_OCCURRENCES {
        for backend in Simd::supported() {
            assert_agrees(&backend, &program, &[sample_shard(0, 0, 19)], "a decoded program");
        }
    }
});
