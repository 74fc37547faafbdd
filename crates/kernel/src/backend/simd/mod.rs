//! The SIMD backend: an iteration a lane, on the widest instruction set the CPU has. Proved equal to the scalar
//! reference by the conformance suite; nothing here is normative.

use std::sync::{Mutex, PoisonError};

use forge_contract::{
    program::Program,
    shard::{LEAF_ITERATIONS, Shard},
    shard_result::ShardResult,
};

use self::{portable::Portable, scratch::Scratch, vector::Vector};
use super::{Backend, ExecutionControl, ExecutionError, scalar};
use crate::seed_tree::leaf_seeds;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod chacha;
mod leaf;
mod portable;
mod scratch;
mod vector;

/// An instruction set this CPU has: only [`Simd::supported`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InstructionSet {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// Executes many iterations in the lanes of vector registers.
pub struct Simd {
    level: InstructionSet,
    /// Idle scratches, one for each thread that has executed at once.
    idle: Mutex<Vec<Scratch>>,
}

impl Simd {
    /// The backend for the best instruction set of this CPU.
    pub fn new() -> Self {
        Self::supported().remove(0)
    }

    /// One backend for each instruction set of this CPU, the best first.
    pub fn supported() -> Vec<Self> {
        let mut levels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("popcnt");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512cd")
                && is_x86_feature_detected!("avx512dq");
            if avx2 && avx512 {
                levels.push(InstructionSet::Avx512);
            }
            if avx2 {
                levels.push(InstructionSet::Avx2);
            }
        }
        levels.push(InstructionSet::Portable);
        levels.into_iter().map(|level| Self { level, idle: Mutex::default() }).collect()
    }

    /// Makes the first block of the keystream of so many iterations (rounded down to whole groups) and nothing else:
    /// what no executor that draws from ChaCha8 can be faster than. For benchmarks; the value has no meaning.
    #[cfg(feature = "testing")]
    pub fn keystream(&self, iterations: u64) -> u64 {
        let groups = iterations / self.level.iterations_at_once();
        match self.level {
            InstructionSet::Portable => leaf::keystream::<Portable>(groups),
            // SAFETY: a level exists only where its features were detected.
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => unsafe { keystream_avx2(groups) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => unsafe { keystream_avx512(groups) },
        }
    }

    fn execute_shard(
        &self,
        program: &Program,
        shard: &Shard,
        scratch: &mut Scratch,
        control: &dyn ExecutionControl,
    ) -> Result<ShardResult, ExecutionError> {
        scratch.begin(program);
        let lanes = self.level.iterations_at_once();
        let mut rest = None;
        let leaves = shard.iterations.div_ceil(LEAF_ITERATIONS);
        for (leaf, seed) in (0..).zip(leaf_seeds(shard.seed, shard.id.height, leaves)) {
            let iterations = LEAF_ITERATIONS.min(shard.iterations - leaf * LEAF_ITERATIONS);
            let groups = iterations / lanes;
            self.level.execute_leaf(program, &seed.0, groups, scratch);
            scratch.iterations += groups * lanes;
            if groups * lanes < iterations {
                // Fewer iterations than lanes at the very end of a run: the reference executes them.
                rest = Some(scalar::execute_range(program, seed, groups * lanes..iterations));
            }
            if control.advance(iterations).is_break() {
                scratch.take();
                return Err(ExecutionError::Cancelled);
            }
        }
        let result = scratch.take();
        Ok(match rest {
            Some(rest) => crate::reduction::merge_results(program, &[result, rest]),
            None => result,
        })
    }
}

impl Default for Simd {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for Simd {
    fn name(&self) -> &str {
        self.level.name()
    }

    fn execute(
        &self,
        program: &Program,
        shards: &[Shard],
        control: &dyn ExecutionControl,
    ) -> Result<Vec<ShardResult>, ExecutionError> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = idle().pop().unwrap_or_else(Scratch::new);
        let results =
            shards.iter().map(|shard| self.execute_shard(program, shard, &mut scratch, control)).collect();
        idle().push(scratch);
        results
    }
}

impl InstructionSet {
    fn name(self) -> &'static str {
        match self {
            Self::Portable => "simd-portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "simd-avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "simd-avx512",
        }
    }

    fn iterations_at_once(self) -> u64 {
        let lanes = match self {
            Self::Portable => Portable::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::Avx2::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::Avx512::LANES,
        };
        2 * lanes as u64
    }

    fn execute_leaf(self, program: &Program, seed: &[u8; 32], groups: u64, out: &mut Scratch) {
        match self {
            Self::Portable => leaf::execute::<Portable>(program, seed, groups, out),
            // SAFETY: a level exists only where its features were detected.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { execute_leaf_avx2(program, seed, groups, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { execute_leaf_avx512(program, seed, groups, out) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi2,lzcnt,popcnt")]
fn execute_leaf_avx2(program: &Program, seed: &[u8; 32], groups: u64, out: &mut Scratch) {
    leaf::execute::<avx2::Avx2>(program, seed, groups, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512cd,avx512dq,avx2,bmi2,lzcnt,popcnt")]
fn execute_leaf_avx512(program: &Program, seed: &[u8; 32], groups: u64, out: &mut Scratch) {
    leaf::execute::<avx512::Avx512>(program, seed, groups, out);
}

#[cfg(all(feature = "testing", target_arch = "x86_64"))]
#[target_feature(enable = "avx2,bmi2,lzcnt,popcnt")]
fn keystream_avx2(groups: u64) -> u64 {
    leaf::keystream::<avx2::Avx2>(groups)
}

#[cfg(all(feature = "testing", target_arch = "x86_64"))]
#[target_feature(enable = "avx512f,avx512cd,avx512dq,avx2,bmi2,lzcnt,popcnt")]
fn keystream_avx512(groups: u64) -> u64 {
    leaf::keystream::<avx512::Avx512>(groups)
}
