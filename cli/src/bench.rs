//! `forge bench`: iterations a second of this machine's backends, side by side in one run, and where a GPU's time goes.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use forge_contract::{
    digest::Digest,
    program::Program,
    shard::{Shard, ShardId},
};
use forge_kernel::{
    backend::{Backend, ExecutionError, simd::Simd},
    request::Request,
};
use serde::Serialize;

use crate::{
    engine,
    failure::Failure,
    gpu,
    output::{self, Style},
    text::table,
};

const EXAMPLES: &str = "\
Examples:
  forge bench
  forge bench --backend gpu
  forge bench --backend gpu --format json > bench.json

Contenders take turns within a round; figures are medians over the rounds, ratios are medians of the rounds' ratios.
Without --backend the best SIMD level is measured, and every GPU that is not a driver on the processor.";

/// Models that are measured: title, and claims a year.
const MODELS: [(&str, &str); 2] =
    [("Insurance quickstart", "2.0"), ("The same with 300 claims a year", "300")];

/// Measure iterations a second
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    /// What is measured beside the best SIMD level, by name as forge devices lists it
    #[arg(long, value_name = "NAME")]
    backend: Vec<String>,
    /// Rounds, of which one more is run and left out
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Seconds that one measurement takes, about
    #[arg(long, value_name = "SECONDS", default_value_t = 0.3)]
    seconds: f64,
    /// What is written to standard output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Tables
    Text,
    /// One JSON object
    Json,
}

/// What takes part.
struct Contender {
    backend: Arc<dyn Backend>,
    threads: usize,
}

/// What was measured.
#[derive(Serialize)]
struct Report {
    schema: &'static str,
    models: Vec<Model>,
    breakdowns: Vec<Breakdown>,
}

/// The contenders on one model.
#[derive(Serialize)]
struct Model {
    title: &'static str,
    claims_per_year: &'static str,
    contenders: Vec<Rate>,
}

/// One contender on one model.
#[derive(Serialize)]
struct Rate {
    backend: String,
    adapter: Option<String>,
    threads: usize,
    iterations_per_second: f64,
    /// To the first contender.
    ratio: f64,
}

/// Where a GPU's time goes, in nanoseconds an iteration.
#[derive(Serialize)]
struct Breakdown {
    backend: String,
    title: &'static str,
    keystream_ns: f64,
    amounts_ns: f64,
    histograms_ns: f64,
    all_ns: f64,
    /// Share of a call in which the host does not wait for the device: it prepares commands and reads results.
    host_share: f64,
}

/// Carries out the command.
///
/// # Errors
/// A backend cannot be used.
pub fn execute(args: &BenchArgs) -> Result<(), Failure> {
    let contenders = contenders(args)?;
    let mut report = Report { schema: "forge.bench.v1", models: Vec::new(), breakdowns: Vec::new() };
    for (title, claims_per_year) in MODELS {
        let program = program(claims_per_year);
        let rates = race(&contenders, &program, args)?;
        report.models.push(Model { title, claims_per_year, contenders: rates });
        report.breakdowns.extend(breakdowns(&contenders, title, &program, args)?);
    }
    match args.format {
        Format::Json => output::print(format!("{:#}\n", serde_json::json!(report)).as_bytes()),
        Format::Text => output::print(text(&report, Style::of_stdout()).as_bytes()),
    }
}

fn contenders(args: &BenchArgs) -> Result<Vec<Contender>, Failure> {
    let simd: Arc<dyn Backend> = Arc::new(Simd::new());
    let one = Contender { backend: Arc::clone(&simd), threads: 1 };
    let mut backends = vec![simd];
    for name in &args.backend {
        backends.push(engine::named(name)?);
    }
    if args.backend.is_empty() {
        backends.extend(gpu::open_real());
    }
    let all = |backend: Arc<dyn Backend>| Contender { threads: engine::threads(backend.as_ref()), backend };
    Ok([one].into_iter().chain(backends.into_iter().map(all)).collect())
}

fn program(claims: &str) -> Arc<Program> {
    let json = format!(
        r#"{{"op": {{"name": "mc", "version": 1, "profile": "insurance.v1"}}, "args": {{"iterations": 1000000000,
        "claim_freq": {claims}, "claim_severity_mu": 6.0, "claim_severity_sig": 1.0, "cat_prob": 0.02, "cat_mu": 10.0,
        "cat_sig": 1.5, "policy_limit": 50000, "aggregate_limit": 250000}}}}"#
    );
    Request::from_json(json.as_bytes()).expect("the benchmark's envelope is valid").program
}

/// So many iterations in shards that one thread is given at once.
fn shards(backend: &dyn Backend, thread: usize, iterations: u64) -> Vec<Shard> {
    let number = backend.batch_size().min(8) as u64;
    let shard = |index: u64| {
        let id = ShardId { height: 12, index: 16 * thread as u64 + index };
        let seed = Digest::hash_parts(&[b"bench", id.to_string().as_bytes()]);
        Shard { id, iterations: (iterations / number).clamp(1, 1 << 28), seed }
    };
    (0..number).map(shard).collect()
}

/// Million iterations a second of each contender, in turns.
fn race(contenders: &[Contender], program: &Program, args: &BenchArgs) -> Result<Vec<Rate>, Failure> {
    let sizes = contenders.iter().map(|contender| size(contender.backend.as_ref(), program, args));
    let sizes = sizes.collect::<Result<Vec<_>, _>>()?;
    let mut rates = vec![Vec::new(); contenders.len()];
    for round in 0..=args.rounds {
        for ((contender, &size), rates) in contenders.iter().zip(&sizes).zip(&mut rates) {
            let rate = on_threads(contender, program, size).map_err(failed)?;
            if round > 0 {
                rates.push(rate);
            }
        }
    }
    let described = |(contender, own): (&Contender, &Vec<f64>)| Rate {
        backend: contender.backend.name().to_owned(),
        adapter: contender.backend.adapter().map(str::to_owned),
        threads: contender.threads,
        iterations_per_second: median(own.clone()),
        ratio: median(own.iter().zip(&rates[0]).map(|(own, first)| own / first).collect()),
    };
    Ok(contenders.iter().zip(&rates).map(described).collect())
}

/// Iterations a second when each thread executes so many.
fn on_threads(contender: &Contender, program: &Program, size: u64) -> Result<f64, ExecutionError> {
    let backend = contender.backend.as_ref();
    let start = Instant::now();
    let done = std::thread::scope(|scope| {
        let execute =
            |thread| scope.spawn(move || backend.execute(program, &shards(backend, thread, size), &()));
        let threads: Vec<_> = (0..contender.threads).map(execute).collect();
        let results = threads.into_iter().map(|thread| thread.join().expect("a backend does not panic"));
        results.collect::<Result<Vec<_>, _>>()
    })?;
    let iterations: u64 = black_box(done).iter().flatten().map(|result| result.iterations).sum();
    Ok(iterations as f64 / start.elapsed().as_secs_f64())
}

/// Where the time of each GPU among the contenders goes.
fn breakdowns(
    contenders: &[Contender],
    title: &'static str,
    program: &Program,
    args: &BenchArgs,
) -> Result<Vec<Breakdown>, Failure> {
    let gpus = contenders.iter().map(|contender| contender.backend.as_ref());
    let gpus = gpus.filter(|backend| backend.adapter().is_some());
    gpus.map(|gpu| {
        let shards = shards(gpu, 0, size(gpu, program, args)?);
        let iterations: u64 = shards.iter().map(|shard| shard.iterations).sum();
        let found = gpu::breakdown(gpu.name(), program, &shards, usize::from(args.rounds))
            .map_err(|reason| Failure::Other(anyhow::anyhow!(reason)))?;
        let ns = |time: Duration| time.as_secs_f64() * 1e9 / iterations as f64;
        Ok(Breakdown {
            backend: gpu.name().to_owned(),
            title,
            keystream_ns: ns(found.keystream),
            amounts_ns: ns(found.all) - ns(found.without_amounts),
            histograms_ns: ns(found.all) - ns(found.without_histograms),
            all_ns: ns(found.all),
            host_share: 1.0 - found.all.as_secs_f64() / found.call.as_secs_f64(),
        })
    })
    .collect()
}

/// Iterations that take a backend about as long as a measurement is to take.
fn size(backend: &dyn Backend, program: &Program, args: &BenchArgs) -> Result<u64, Failure> {
    let rate = engine::rate(backend, program, Duration::from_millis(20)).map_err(failed)?;
    Ok((rate * args.seconds) as u64)
}

fn failed(error: ExecutionError) -> Failure {
    Failure::Other(error.into())
}

fn text(report: &Report, style: Style) -> String {
    let mut lines = Vec::new();
    for model in &report.models {
        lines.push(style.heading(&format!("{}: million iterations a second", model.title)));
        let row = |rate: &Rate| {
            let threads =
                if rate.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", rate.threads) };
            let rates = [format!("{:.2}", rate.iterations_per_second / 1e6), format!("{:.2}x", rate.ratio)];
            [vec![format!("{}, {threads}", rate.backend)], rates.to_vec()].concat()
        };
        let rows: Vec<_> = model.contenders.iter().map(row).collect();
        let table = table::lines(&["Backend", "M/s", "Ratio"], &rows);
        let adapters = model.contenders.iter().map(|rate| rate.adapter.as_deref().unwrap_or_default());
        let adapters = [""].into_iter().chain(adapters);
        lines.extend(
            table.iter().zip(adapters).map(|(row, name)| format!("{row}   {name}").trim_end().to_owned()),
        );
        lines.push(String::new());
    }
    if !report.breakdowns.is_empty() {
        lines.push(style.heading("Where the time goes, ns an iteration"));
        let row = |part: &Breakdown| {
            let ns = [part.keystream_ns, part.amounts_ns, part.histograms_ns, part.all_ns];
            let ns = ns.map(|ns| if ns < 1.0 { format!("{ns:.4}") } else { format!("{ns:.2}") });
            let shares = [part.keystream_ns / part.all_ns, part.host_share];
            let shares = shares.map(|share| format!("{:.0}%", 100.0 * share));
            let name = format!("{}: {}", part.backend, part.title);
            [vec![name], ns.to_vec(), shares.to_vec()].concat()
        };
        let rows: Vec<_> = report.breakdowns.iter().map(row).collect();
        let header =
            ["", "Keystream", "Amounts", "Histograms", "All", "Of the keystream bound", "Host alone"];
        lines.extend(table::lines(&header, &rows));
    }
    format!("{}\n", lines.join("\n").trim_end())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
