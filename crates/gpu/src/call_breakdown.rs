//! Where a device's time goes: the shaders with parts left out, timed one after the other. For benchmarks; what such shaders
//! return is thrown away.

use std::time::{Duration, Instant};

use forge_contract::{program::Program, shard::Shard};
use forge_kernel::execute::ExecuteError;

use crate::{backend::GpuBackend, batch};

/// What a device needs for some shards, with less and less to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallBreakdown {
    /// One block of keystream an iteration, and nothing else: what no executor that draws from ChaCha8 can be faster than.
    pub keystream: Duration,
    /// All but the look-up of amounts, which are made up in place of it.
    pub without_amounts: Duration,
    /// All but counting into histograms.
    pub without_histograms: Duration,
    /// All of it.
    pub all: Duration,
    /// The whole call, in which the host prepares the commands and reads the results, too.
    pub call: Duration,
}

/// Replaces parts of a shader.
type Edit = &'static [(&'static str, &'static str)];

const KEYSTREAM: Edit = &[
    (
        "iterate(slice.y + i);",
        "let rows = keystream_block(key_low, key_high, 0u, slice.y + i);\n        sum += (rows.a ^ rows.b ^ rows.c ^ rows.d).xy;",
    ),
    ("account(slice.w * 2u * BUCKETS);", ""),
];
const WITHOUT_AMOUNTS: Edit = &[("amount(component, draw);", "U64(draw.x & 0xfffffu, 0u);")];
const WITHOUT_HISTOGRAMS: Edit = &[
    ("atomicAdd(&histograms[histogram + bucket(total)], 1u);", ""),
    ("atomicAdd(&histograms[histogram + BUCKETS + bucket(largest)], 1u);", ""),
];

/// Times shards on a device, with less and less to do; medians of some rounds, in which all take turns.
///
/// # Errors
/// [`ExecuteError::Device`].
pub fn measure_call(
    gpu: &GpuBackend,
    program: &Program,
    shards: &[Shard],
    rounds: usize,
) -> Result<CallBreakdown, ExecuteError> {
    let device = gpu.opened()?;
    let components = program.components.len();
    let whole: [Edit; 4] = [KEYSTREAM, WITHOUT_AMOUNTS, WITHOUT_HISTOGRAMS, &[]];
    let variants = whole.map(|edit| {
        device.variant(components, |source| {
            edit.iter().fold(source, |source, (old, new)| source.replace(old, new))
        })
    });
    device.check()?;
    let mut times = [const { (Vec::new(), Vec::new()) }; 4];
    for round in 0..=rounds {
        for (variant, (device_times, calls)) in variants.iter().zip(&mut times) {
            let (start, busy) = (Instant::now(), device.busy());
            batch::execute(&device, variant, program, shards, &())?;
            // The first round brings everything to the device.
            if round > 0 {
                device_times.push(device.busy() - busy);
                calls.push(start.elapsed());
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
    use crate::shader::{self, Product};

    #[test]
    fn edits_are_of_what_is_there() {
        let source = shader::execute(2, Product::Pairs);
        for (old, _) in [KEYSTREAM, WITHOUT_AMOUNTS, WITHOUT_HISTOGRAMS].concat() {
            assert_eq!(source.matches(old).count(), 1, "{old}");
        }
    }
}
