//! Measures how the time of a call divides among the parts of the shader, by timing variants of the
//! shader that omit parts. For benchmarks only: the results of the variants are discarded.

use std::time::{Duration, Instant};

use forge_contract::{plain_program::PlainProgram, program::Program, shard::Shard};
use forge_kernel::backend::ExecutionError;

use crate::backend::GpuBackend;

/// Execution times of the same shards with more and more of the shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallBreakdown {
    /// Time with nothing but one keystream block per iteration: a lower bound for any backend,
    /// since every one must generate the ChaCha8 keystream.
    pub keystream: Duration,
    /// Time without the quantile table lookup: amounts are taken from the bits of the draw instead.
    pub without_amounts: Duration,
    /// Time without counting into histograms.
    pub without_histograms: Duration,
    /// Time with the complete shader.
    pub all: Duration,
    /// Time of the whole call: `all`, and the work of the host before and after it.
    pub call: Duration,
}

/// Replacements within the source of the shader: old and new text.
type ShaderEdit = &'static [(&'static str, &'static str)];

const KEYSTREAM: ShaderEdit = &[
    (
        "simulate_iteration(slice.y + i);",
        "let rows = keystream_block(key_low, key_high, 0u, slice.y + i);\n        sum += (rows.a ^ rows.b ^ rows.c ^ rows.d).xy;",
    ),
    ("count_iteration(slice.w * 2u * BUCKETS);", ""),
];
const WITHOUT_AMOUNTS: ShaderEdit = &[("draw_to_amount(component, draw);", "U64(draw.x & 0xfffffu, 0u);")];
const WITHOUT_HISTOGRAMS: ShaderEdit = &[
    ("atomicAdd(&histograms[histogram + bucket(total)], 1u);", ""),
    ("atomicAdd(&histograms[histogram + BUCKETS + bucket(largest)], 1u);", ""),
];

/// Measures the times of `shards` as medians over `rounds` rounds. All variants take turns within a
/// round, so that a change of the clock rate affects all of them.
///
/// # Errors
/// [`ExecutionError::Device`].
///
/// # Panics
/// When the program is not plain.
pub fn measure_call(
    backend: &GpuBackend,
    program: &Program,
    shards: &[Shard],
    rounds: usize,
) -> Result<CallBreakdown, ExecutionError> {
    let program = PlainProgram::new(program).expect("the measured program is plain");
    let device = backend.open_device()?;
    let executor = &device.executor;
    let components = program.components.len();
    let edits: [ShaderEdit; 4] = [KEYSTREAM, WITHOUT_AMOUNTS, WITHOUT_HISTOGRAMS, &[]];
    let variants = edits.map(|edit| {
        device.compile_unverified(components, |source| {
            edit.iter().fold(source, |source, (old, new)| source.replace(old, new))
        })
    });
    device.check()?;
    let mut times = [const { (Vec::new(), Vec::new()) }; 4];
    for round in 0..=rounds {
        for (variant, (device_times, call_times)) in variants.iter().zip(&mut times) {
            let (start, waited) = (Instant::now(), executor.device.waited());
            executor.execute(variant, &program, shards, &())?;
            // Round 0 is not timed: it uploads the program and allocates buffers.
            if round > 0 {
                device_times.push(executor.device.waited() - waited);
                call_times.push(start.elapsed());
            }
        }
    }
    let [keystream, without_amounts, without_histograms, all] = times;
    Ok(CallBreakdown {
        keystream: median(keystream.0),
        without_amounts: median(without_amounts.0),
        without_histograms: median(without_histograms.0),
        all: median(all.0),
        call: median(all.1),
    })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shader::{self, ProductMethod};

    #[test]
    fn every_edit_matches_the_source_once() {
        let source = shader::execute_source(2, ProductMethod::Pairs);
        for (old, _) in [KEYSTREAM, WITHOUT_AMOUNTS, WITHOUT_HISTOGRAMS].concat() {
            assert_eq!(source.matches(old).count(), 1, "{old}");
        }
    }
}
