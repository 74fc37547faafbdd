//! Overhead of the services on this machine:
//! `cargo bench -p forge-cluster-tests [-- latency|shards|throughput|memory]`. Runs a real
//! nats-server with file storage and every service as a process. docs/benchmarks.md explains the
//! figures.

#[path = "../tests/cluster/support.rs"]
#[allow(dead_code, reason = "the benchmark uses a part of it")]
mod support;

use std::{
    fs,
    time::{Duration, Instant},
};

use bytes::Bytes;
use forge_bus::{
    Bus, Message,
    jetstream::{JetStreamBus, JetStreamOptions},
    topology::{self, Bucket},
};
use forge_contract::shard::Shard;
use forge_kernel::{
    backend::{Backend, simd::Simd},
    request::Request,
};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::support::{Cluster, insurance_envelope, with_field};

type Benchmark = fn(&Runtime) -> Result;
type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result {
    let selected: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let runtime = Runtime::new()?;
    let benchmarks: [(&str, Benchmark); 4] =
        [("latency", latency), ("shards", shards), ("throughput", throughput), ("memory", memory)];
    for (name, benchmark) in benchmarks {
        if selected.is_empty() || selected.iter().any(|selected| selected == name) {
            benchmark(&runtime)?;
        }
    }
    Ok(())
}

fn print_line(line: &str) {
    use std::io::Write;
    // An error means that standard output was closed: no reader is left.
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn client(runtime: &Runtime, cluster: &Cluster) -> Result<std::sync::Arc<JetStreamBus>> {
    Ok(runtime.block_on(JetStreamBus::connect(JetStreamOptions {
        manage_topology: false,
        ..JetStreamOptions::new(cluster.nats.url())
    }))?)
}

/// Publishes envelopes, waits until all their jobs have completed, and returns the elapsed time.
async fn run_jobs(bus: &JetStreamBus, envelopes: Vec<Value>) -> Result<Duration> {
    let mut records = bus.watch(&Bucket::default_jobs(), ">").await?;
    let mut unfinished: std::collections::BTreeSet<String> = envelopes
        .iter()
        .map(|envelope| envelope["ctx"]["job_id"].as_str().unwrap_or("").to_owned())
        .collect();
    let started = Instant::now();
    let messages = envelopes.into_iter().map(|envelope| {
        let id = format!("bench.{}", envelope["ctx"]["job_id"]);
        (Message::new(topology::SUBMIT_SUBJECT, Bytes::from(envelope.to_string())), id)
    });
    bus.publish_all(messages.collect()).await?;
    while !unfinished.is_empty() {
        let entry = records.next().await.ok_or("the watch ended")?;
        let record: Value = serde_json::from_slice(&entry.value.unwrap_or_default()).unwrap_or_default();
        match record["state"].as_str() {
            Some("completed") => {
                unfinished.remove(&entry.key);
            }
            Some("failed") => return Err(format!("{record:#}").into()),
            _ => {}
        }
    }
    Ok(started.elapsed())
}

/// A percentile in milliseconds; `fraction` is between 0 and 1. Sorts the times.
fn percentile(times: &mut [Duration], fraction: f64) -> f64 {
    times.sort();
    times[((times.len() - 1) as f64 * fraction) as usize].as_secs_f64() * 1e3
}

/// Time from submission to result of a job of one shard.
fn latency(runtime: &Runtime) -> Result {
    for persist in [false, true] {
        let cluster = Cluster::start();
        cluster.complete_warm_up();
        let bus = client(runtime, &cluster)?;
        let mut times = Vec::new();
        for number in 0..220 {
            let envelope = insurance_envelope(&format!("latency-{number}"), 1);
            let envelope = with_field(envelope, "/artifacts/persist", json!(persist));
            let time = runtime.block_on(run_jobs(&bus, vec![envelope]))?;
            if number >= 20 {
                times.push(time);
            }
        }
        let (p50, p99) = (percentile(&mut times, 0.5), percentile(&mut times, 0.99));
        let storage = if persist { "artifacts in a directory, synced" } else { "no artifacts" };
        print_line(&format!("one-shard job, {storage}: p50 {p50:.1} ms, p99 {p99:.1} ms"));
    }
    Ok(())
}

/// One-leaf shards per second when execution takes no time.
fn shards(runtime: &Runtime) -> Result {
    let mut cluster = Cluster::start_without("worker");
    cluster.spawn_faulty("trivial", "trivial");
    cluster.complete_trivial_warm_up();
    let bus = client(runtime, &cluster)?;
    let mut rates = Vec::new();
    for round in 0..3 {
        let jobs = 20;
        let envelope = |job: u64| {
            with_field(
                insurance_envelope(&format!("shards-{round}-{job}"), 1000),
                "/artifacts/persist",
                json!(false),
            )
        };
        let time = runtime.block_on(run_jobs(&bus, (0..jobs).map(envelope).collect()))?;
        rates.push(Duration::from_secs_f64(1.0 / (jobs as f64 * 1000.0 / time.as_secs_f64())));
    }
    print_line(&format!(
        "one-leaf shards dispatched and reduced: {:.0}/s (median of 3)",
        1e3 / percentile(&mut rates, 0.5)
    ));
    Ok(())
}

/// 10⁹ iterations through the services, compared with the kernel alone; two threads each.
fn throughput(runtime: &Runtime) -> Result {
    let cluster = Cluster::start();
    cluster.complete_warm_up();
    let bus = client(runtime, &cluster)?;
    let (mut services, mut kernel) = (Vec::new(), Vec::new());
    for round in 0..3 {
        let envelope = with_field(
            insurance_envelope(&format!("throughput-{round}"), 15_259),
            "/artifacts/persist",
            json!(false),
        );
        kernel.push(run_kernel_alone(&envelope)?);
        services.push(runtime.block_on(run_jobs(&bus, vec![envelope]))?);
    }
    let (services, kernel) = (percentile(&mut services, 0.5), percentile(&mut kernel, 0.5));
    print_line(&format!(
        "1e9 iterations: services {:.2} s, kernel alone {:.2} s, ratio {:.3} (medians of 3)",
        services / 1e3,
        kernel / 1e3,
        services / kernel
    ));
    Ok(())
}

/// Executes an envelope's shards on two threads without any service.
fn run_kernel_alone(envelope: &Value) -> Result<Duration> {
    let request = Request::from_json(envelope.to_string().as_bytes()).map_err(|errors| errors.to_string())?;
    let shards: Vec<Shard> = request.plan.shards().map(|id| request.shard(id)).collect();
    let (next, backend) = (std::sync::atomic::AtomicUsize::new(0), Simd::new());
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(shard) = shards.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    let result = backend.execute(&request.program, &[*shard], &());
                    std::hint::black_box(result.expect("the execution is never cancelled"));
                }
            });
        }
    });
    Ok(started.elapsed())
}

/// Memory of the aggregator after jobs of increasing size.
fn memory(runtime: &Runtime) -> Result {
    let cluster = Cluster::start();
    cluster.complete_warm_up();
    let bus = client(runtime, &cluster)?;
    for (name, leaves) in [("1e6", 16), ("1e8", 1_526), ("1e9", 15_259), ("1e10", 152_588)] {
        let envelope = with_field(
            insurance_envelope(&format!("memory-{name}"), leaves),
            "/artifacts/persist",
            json!(false),
        );
        let time = runtime.block_on(run_jobs(&bus, vec![envelope]))?;
        let status = fs::read_to_string(format!("/proc/{}/status", cluster.process_id("aggregator")))?;
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_whitespace().nth(1).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
        };
        print_line(&format!(
            "{name} iterations in {:.1} s: aggregator {:.1} MiB resident, {:.1} MiB peak so far",
            time.as_secs_f64(),
            field("VmRSS:"),
            field("VmHWM:")
        ));
    }
    Ok(())
}
