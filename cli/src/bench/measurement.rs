//! Measures contenders in turns, so that a disturbance of the machine affects all of them.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use forge_contract::{
    digest::Digest,
    program::Program,
    shard::{Shard, ShardId},
};
use forge_kernel::backend::{Backend, ExecutionError, simd::Simd};

use super::{
    execution_failed,
    report::{ContenderRate, GpuTimeBreakdown},
};
use crate::{
    engine::{default_threads, iterations_per_second, open_backend},
    error::CommandError,
    gpu,
};

/// Minimum duration of the call that sizes a measurement.
const CALIBRATION: Duration = Duration::from_millis(20);

/// A backend with the number of threads that use it.
pub(super) struct BenchContender {
    backend: Arc<dyn Backend>,
    threads: usize,
}

/// The best SIMD level on one thread and on all, then the named backends; without names, the first
/// hardware GPU if there is one.
pub(super) fn contenders(names: &[String]) -> Result<Vec<BenchContender>, CommandError> {
    let simd: Arc<dyn Backend> = Arc::new(Simd::new());
    let single_threaded = BenchContender { backend: Arc::clone(&simd), threads: 1 };
    let mut backends = vec![simd];
    for name in names {
        backends.push(open_backend(name)?);
    }
    if names.is_empty() {
        backends.extend(gpu::open_hardware());
    }
    let on_all_threads =
        |backend: Arc<dyn Backend>| BenchContender { threads: default_threads(backend.as_ref()), backend };
    Ok([single_threaded].into_iter().chain(backends.into_iter().map(on_all_threads)).collect())
}

/// The rate of each contender. One extra round warms up and is not counted.
pub(super) fn measure_rates(
    contenders: &[BenchContender],
    program: &Program,
    rounds: u16,
    seconds: f64,
) -> Result<Vec<ContenderRate>, CommandError> {
    let sizes = contenders.iter().map(|contender| size(contender.backend.as_ref(), program, seconds));
    let sizes = sizes.collect::<Result<Vec<_>, _>>()?;
    let mut rates = vec![Vec::new(); contenders.len()];
    for round in 0..=rounds {
        for ((contender, &size), rates) in contenders.iter().zip(&sizes).zip(&mut rates) {
            let rate = measure_once(contender, program, size).map_err(execution_failed)?;
            if round > 0 {
                rates.push(rate);
            }
        }
    }
    let summarise = |(contender, own): (&BenchContender, &Vec<f64>)| ContenderRate {
        backend: contender.backend.name().to_owned(),
        adapter: contender.backend.adapter().map(str::to_owned),
        threads: contender.threads,
        iterations_per_second: median(own.clone()),
        ratio: median(own.iter().zip(&rates[0]).map(|(own, first)| own / first).collect()),
    };
    Ok(contenders.iter().zip(&rates).map(summarise).collect())
}

/// Iterations per second of one measurement, in which each thread executes `iterations`.
fn measure_once(
    contender: &BenchContender,
    program: &Program,
    iterations: u64,
) -> Result<f64, ExecutionError> {
    let backend = contender.backend.as_ref();
    let start = Instant::now();
    let results = std::thread::scope(|scope| {
        let execute =
            |thread| scope.spawn(move || backend.execute(program, &shards(backend, thread, iterations), &()));
        let threads: Vec<_> = (0..contender.threads).map(execute).collect();
        let results = threads.into_iter().map(|thread| thread.join().expect("a backend does not panic"));
        results.collect::<Result<Vec<_>, _>>()
    })?;
    let executed: u64 = black_box(results).iter().flatten().map(|result| result.iterations).sum();
    Ok(executed as f64 / start.elapsed().as_secs_f64())
}

/// Where the time of each GPU among the contenders goes.
pub(super) fn gpu_breakdowns(
    contenders: &[BenchContender],
    title: &'static str,
    program: &Program,
    rounds: u16,
    seconds: f64,
) -> Result<Vec<GpuTimeBreakdown>, CommandError> {
    let gpus = contenders.iter().map(|contender| contender.backend.as_ref());
    let gpus = gpus.filter(|backend| backend.adapter().is_some());
    gpus.map(|gpu| {
        let shards = shards(gpu, 0, size(gpu, program, seconds)?);
        let iterations: u64 = shards.iter().map(|shard| shard.iterations).sum();
        let times = gpu::measure_stages(gpu.name(), program, &shards, usize::from(rounds))
            .map_err(|error| CommandError::Other(error.into()))?;
        let ns_per_iteration = |time: Duration| time.as_secs_f64() * 1e9 / iterations as f64;
        let all = ns_per_iteration(times.all);
        Ok(GpuTimeBreakdown {
            backend: gpu.name().to_owned(),
            title,
            keystream_ns: ns_per_iteration(times.keystream),
            amounts_ns: all - ns_per_iteration(times.without_amounts),
            histograms_ns: all - ns_per_iteration(times.without_histograms),
            all_ns: all,
            host_share: 1.0 - times.all.as_secs_f64() / times.call.as_secs_f64(),
        })
    })
    .collect()
}

/// Number of iterations that take a backend about `seconds`.
fn size(backend: &dyn Backend, program: &Program, seconds: f64) -> Result<u64, CommandError> {
    let rate = iterations_per_second(backend, program, CALIBRATION).map_err(execution_failed)?;
    Ok((rate * seconds) as u64)
}

/// `iterations` split into the shards of one call, with seeds of their own for each thread.
fn shards(backend: &dyn Backend, thread: usize, iterations: u64) -> Vec<Shard> {
    let count = backend.batch_size().min(8) as u64;
    let shard = |index: u64| {
        let id = ShardId { height: 12, index: 16 * thread as u64 + index };
        let seed = Digest::hash_parts(&[b"bench", id.to_string().as_bytes()]);
        Shard { id, iterations: (iterations / count).clamp(1, 1 << 28), seed }
    };
    (0..count).map(shard).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
