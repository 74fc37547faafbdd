//! Backends of simulated agents. Results are computed once per process of the test and remembered
//! for all seeds: they are a pure function of the shard.

use std::{
    collections::BTreeMap,
    slice,
    sync::{Arc, LazyLock},
};

use forge_contract::{
    digest::Digest,
    program::Program,
    shard::{Shard, ShardId},
    shard_result::ShardResult,
};
use forge_kernel::backend::{Backend, ExecutionControl, ExecutionError, simd::Simd};
use parking_lot::Mutex;

use crate::{options::WorkerConduct, world::World};

/// Share of shards for which a faulty backend fails, or lies.
const FAULT_SHARE: f64 = 0.3;

type ResultsByShard = BTreeMap<(Digest, ShardId, u64), ShardResult>;

static RESULTS: LazyLock<Mutex<ResultsByShard>> = LazyLock::new(Mutex::default);

/// The right result of a shard. Workloads derive their seeds, so a shard's seed identifies the
/// program too.
pub fn right_result(program: &Program, shard: &Shard) -> ShardResult {
    let key = (shard.seed, shard.id, shard.iterations);
    if let Some(result) = RESULTS.lock().get(&key) {
        return result.clone();
    }
    let mut results = Simd::new().execute(program, slice::from_ref(shard), &()).expect("nothing cancels it");
    let result = results.remove(0);
    RESULTS.lock().insert(key, result.clone());
    result
}

/// The backend of one simulated agent.
pub struct SimulatedBackend {
    pub name: &'static str,
    pub conduct: WorkerConduct,
    pub world: Arc<World>,
}

impl Backend for SimulatedBackend {
    fn name(&self) -> &str {
        self.name
    }

    fn execute(
        &self,
        program: &Program,
        shards: &[Shard],
        _: &dyn ExecutionControl,
    ) -> Result<Vec<ShardResult>, ExecutionError> {
        let is_faulty = || self.world.draw(fastrand::Rng::f64) < FAULT_SHARE;
        if self.conduct == WorkerConduct::Failing && !self.world.is_healed() && is_faulty() {
            return Err(ExecutionError::Device("the simulated device is lost".to_owned()));
        }
        let mut results: Vec<_> = shards.iter().map(|shard| right_result(program, shard)).collect();
        if self.conduct.is_dishonest() && is_faulty() {
            results.iter_mut().for_each(falsify);
        }
        Ok(results)
    }
}

/// Makes a result plausible and wrong.
fn falsify(result: &mut ShardResult) {
    result.components[0].occurrences += 1;
}
